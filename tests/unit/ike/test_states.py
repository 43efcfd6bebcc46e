"""The state tables: every pair of state and input is either in them or an error."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.registry import ExchangeType
from gateway.ike.states import (
    ACCEPTED,
    CARRYING,
    CHILD_TRANSITIONS,
    IKE_TRANSITIONS,
    USABLE,
    ChildInput,
    ChildState,
    IkeInput,
    IkeState,
    TransitionError,
    step,
)
from gateway.model import Role

TABLES = [
    (IKE_TRANSITIONS, IkeState, IkeInput, IkeState.CLOSED),
    (CHILD_TRANSITIONS, ChildState, ChildInput, ChildState.GONE),
]


@pytest.mark.parametrize(("table", "states", "inputs", "final"), TABLES)
def test_the_whole_product(table, states, inputs, final):
    for state, happened in itertools.product(states, inputs):
        if (state, happened) in table:
            assert step(table, state, happened) in states
        else:
            with pytest.raises(TransitionError):
                step(table, state, happened)


@pytest.mark.parametrize(("table", "states", "inputs", "final"), TABLES)
def test_the_final_state_is_final_and_always_near(table, states, inputs, final):
    """One input ends it from wherever it is, so nothing can get stuck."""
    assert not any(state is final for state, _ in table)
    for state in states:
        if state is not final:
            assert any(table.get((state, happened)) is final for happened in inputs), state


@given(inputs=st.lists(st.sampled_from(IkeInput), max_size=30))
def test_nobody_is_established_without_authentication(inputs):
    state, seen = IkeState.INIT_SENT, []
    for happened in inputs:
        if (state, happened) in IKE_TRANSITIONS:
            state = step(IKE_TRANSITIONS, state, happened)
            seen.append(happened)
        if state is IkeState.ESTABLISHED:
            assert seen[:3] == [IkeInput.KEYS, IkeInput.AUTH, IkeInput.AUTHENTICATED]
            assert set(seen[3:]) <= {IkeInput.REKEY, IkeInput.RESTORE}


@given(inputs=st.lists(st.sampled_from(ChildInput), max_size=30))
def test_traffic_only_through_what_is_installed(inputs):
    state, installed = ChildState.INSTALLING, False
    for happened in inputs:
        if (state, happened) in CHILD_TRANSITIONS:
            state = step(CHILD_TRANSITIONS, state, happened)
            installed = installed or happened is ChildInput.INSTALL
        if state in USABLE:
            assert installed
    assert CARRYING <= USABLE


def test_child_exchanges_only_when_established_or_closing():
    for state, _, exchange in ACCEPTED:
        if exchange in (ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_FOLLOWUP_KE):
            assert state in (IkeState.ESTABLISHED, IkeState.REKEYED, IkeState.DELETING)


def test_initial_exchanges_are_for_responders():
    for state, role, exchange in ACCEPTED:
        if exchange in (ExchangeType.IKE_INTERMEDIATE, ExchangeType.IKE_AUTH):
            assert state is IkeState.KEYED
            assert role is Role.RESPONDER


def test_nothing_is_accepted_when_closed():
    assert not any(state is IkeState.CLOSED for state, _, _ in ACCEPTED)
