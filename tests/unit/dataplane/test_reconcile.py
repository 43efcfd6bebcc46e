"""Policies of a tunnel and the planner: what must hold whatever the kernel holds."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.reconcile import (
    Layer,
    is_our_priority,
    is_our_reqid,
    is_pin,
    outbound_pins,
    plan,
    policy_key,
    priority_for,
    reqid_for,
)
from gateway.model import Direction, KernelSnapshot, PolicyAction, SaId, SaState
from tests.support.policies import tunnel_policies

MOON, SUN = ip_address("10.0.12.1"), ip_address("10.0.23.3")
LOCAL, REMOTE = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")
REQID = reqid_for("sun")
SPI = 0xC0001234


def policies(spi=None, tunnel="sun", local=(LOCAL,), remote=(REMOTE,)):
    return tunnel_policies(
        tunnel,
        local,
        remote,
        local_addr=MOON,
        remote_addr=SUN,
        reqid=reqid_for(tunnel),
        spi=spi,
    )


def sa(spi, *, destination=SUN, source=MOON, reqid=REQID, larval=False):
    return SaState(
        sa_id=SaId(destination, spi),
        source=source,
        reqid=reqid,
        larval=larval,
        esn=True,
        bytes=0,
        packets=0,
        replay_drops=0,
        integrity_failures=0,
        added_at=0,
    )


def idle(todo):
    """Whether a plan leaves the kernel as it is."""
    return not (todo.to_set or todo.to_remove or todo.sas_to_remove or todo.missing_sas)


def kernel(present=(), sas=()):
    """As the kernel gives it back: without names of tunnels."""
    return KernelSnapshot(
        sas=tuple(sas), policies=tuple(replace(policy, tunnel="") for policy in present)
    )


# --- policies --------------------------------------------------------------------------------


def test_reqid_is_stable_and_recognisable():
    # First 24 bits of SHA-256("sun"), as sha256sum prints it.
    assert reqid_for("sun") == 0x5127756F
    assert is_our_reqid(reqid_for("any other"))
    assert not is_our_reqid(0x5200_0000)
    assert not is_our_reqid(1)


def test_every_direction_has_a_guard_below_and_a_protect_above():
    made = policies(spi=SPI)
    for direction in Direction:
        guard, protect = (policy for policy in made if policy.direction is direction)
        assert guard.action is PolicyAction.BLOCK
        assert protect.action is PolicyAction.PROTECT
        assert protect.priority < guard.priority
        outbound = direction is Direction.OUTBOUND
        assert (protect.source, protect.destination) == (
            (LOCAL, REMOTE) if outbound else (REMOTE, LOCAL)
        )
        assert (protect.tunnel_source, protect.tunnel_destination) == (
            (MOON, SUN) if outbound else (SUN, MOON)
        )
        assert protect.outbound_spi == (SPI if outbound else 0)
        assert protect.reqid == REQID
        assert guard.reqid == 0


def test_blocks_come_before_what_lets_traffic_through():
    actions = [policy.action for policy in policies()]
    assert actions == sorted(actions)  # "block" < "protect"
    assert len(actions) == 6


def test_pairs_of_different_ip_versions_are_left_out():
    made = policies(local=(LOCAL, ip_network("fd01::/64")), remote=(REMOTE,))
    assert {policy.source.version for policy in made} == {4}
    assert len(made) == 6


def test_networks_may_come_from_iterators():
    made = policies(
        local=iter((LOCAL, ip_network("10.3.0.0/24"))),
        remote=iter((REMOTE, ip_network("10.4.0.0/24"))),
    )
    assert len({(policy.source, policy.destination) for policy in made}) == 8  # both ways


def test_outbound_pins_are_the_only_thing_a_rekey_changes():
    made = policies(spi=SPI)
    pinned = outbound_pins(made, SPI + 1)
    assert [policy.direction for policy in pinned] == [Direction.OUTBOUND]
    assert pinned[0] == replace(next(p for p in made if is_pin(p)), outbound_spi=SPI + 1)


@given(
    wide=st.integers(0, 31),
    source=st.integers(0, 32),
    layer=st.sampled_from(list(Layer)),
    other=st.sampled_from(list(Layer)),
)
def test_a_more_specific_pair_wins_with_every_layer(wide, source, layer, other):
    near = ip_network((0, source))
    broad, narrow = ip_network((0, wide)), ip_network((0, wide + 1))
    assert priority_for(layer, near, narrow) < priority_for(other, near, broad)
    assert is_our_priority(priority_for(layer, near, narrow))


@given(bits=st.tuples(st.integers(0, 128), st.integers(0, 128)), layer=st.sampled_from(list(Layer)))
def test_priorities_fit_the_port_that_carries_them(bits, layer):
    networks = [ip_network((0, prefix)) for prefix in bits if prefix > 32]
    if len(networks) == 2:
        priority = priority_for(layer, *networks)
        assert 0 < priority <= 0xFFFF
        assert is_our_priority(priority)


# --- planner ---------------------------------------------------------------------------------


def test_an_empty_kernel_gets_everything_in_order():
    desired = policies()
    todo = plan(desired, kernel())
    assert todo.to_set == desired
    assert todo.to_remove == todo.sas_to_remove == todo.missing_sas == ()
    assert not idle(todo)


def test_what_is_right_is_left_alone():
    assert idle(plan(policies(), kernel(policies())))


def test_a_restart_keeps_pin_and_orphans():
    inbound = sa(0xC0000001, destination=MOON, source=SUN)
    outbound = sa(SPI)
    todo = plan(policies(spi=None), kernel(policies(spi=SPI), [inbound, outbound]))
    assert idle(todo)


def test_a_pin_to_an_sa_that_is_gone_is_taken_off():
    for sas in ([], [sa(SPI, larval=True)], [sa(SPI, destination=MOON, source=SUN)]):
        todo = plan(policies(), kernel(policies(spi=SPI), sas))
        assert [policy.outbound_spi for policy in todo.to_set] == [0]
        assert is_pin(todo.to_set[0])


def test_a_pin_is_not_kept_when_the_peer_moved():
    elsewhere = tuple(
        replace(policy, tunnel_destination=ip_address("10.0.99.9")) if is_pin(policy) else policy
        for policy in policies(spi=SPI)
    )
    todo = plan(policies(), kernel(elsewhere, [sa(SPI, destination=ip_address("10.0.99.9"))]))
    assert [(p.tunnel_destination, p.outbound_spi) for p in todo.to_set] == [(SUN, 0)]


def test_a_wanted_pin_beats_the_one_in_the_kernel():
    todo = plan(policies(spi=SPI + 1), kernel(policies(spi=SPI), [sa(SPI), sa(SPI + 1)]))
    assert [policy.outbound_spi for policy in todo.to_set] == [SPI + 1]


def test_a_tunnel_out_of_the_configuration_goes_blocks_last():
    gone = policies(tunnel="old", local=(ip_network("10.9.0.0/24"),))
    left = sa(5, reqid=reqid_for("old"))
    todo = plan(policies(), kernel((*gone, *policies()), [left]))
    assert {policy_key(policy) for policy in todo.to_remove} == {policy_key(p) for p in gone}
    assert [policy.action for policy in todo.to_remove] == [
        *[PolicyAction.PROTECT] * 3,
        *[PolicyAction.BLOCK] * 3,
    ]
    assert todo.sas_to_remove == (left.sa_id,)
    assert todo.to_set == ()


def test_after_lost_events_live_sas_are_neither_orphans_nor_leftovers():
    live, reserved, stranger = sa(1), sa(2, larval=True), sa(3, larval=True)
    lost = SaId(SUN, 4)
    known = frozenset({live.sa_id, reserved.sa_id, lost})
    todo = plan(policies(), kernel(policies(), [live, reserved, stranger]), known)
    assert todo.sas_to_remove == (stranger.sa_id,)
    assert todo.missing_sas == (lost,)


@given(
    kept=st.sets(st.integers(0, 5)),
    extra=st.sets(st.integers(0, 5)),
    spi=st.sampled_from([None, SPI]),
    pinned=st.sampled_from([None, SPI, SPI + 1]),
)
def test_a_plan_carried_out_reaches_what_was_desired(kept, extra, spi, pinned):
    before = policies(spi=pinned)
    others = policies(tunnel="old", local=(ip_network("10.9.0.0/24"),))
    present = [before[index] for index in kept] + [others[index] for index in extra]
    sas = [sa(SPI), sa(SPI + 1)]
    desired = policies(spi=spi)

    todo = plan(desired, kernel(present, sas))
    state = {policy_key(policy): policy for policy in present}
    state |= {policy_key(policy): policy for policy in todo.to_set}
    for policy in todo.to_remove:
        del state[policy_key(policy)]

    assert set(state) == {policy_key(policy) for policy in desired}
    assert idle(plan(desired, kernel(state.values(), sas)))
