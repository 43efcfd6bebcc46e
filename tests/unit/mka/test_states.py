"""The table of a SAK rollover, and the machine that runs it: every state x every input."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from gateway.crypto.secret import Secret
from gateway.mka.commands import DeleteSas, Done, EnableTransmitSa, Failed, InstallSas
from gateway.mka.controlled_port import ControlledPort
from gateway.mka.events import SakRetired
from gateway.mka.identifiers import KeyIdentifier, MemberId
from gateway.mka.outbox import Outbox
from gateway.mka.peers import Peer
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.sak import Sak
from gateway.mka.sets import KeyUse, SakUse
from gateway.mka.states import TABLE, Action, State, Trigger
from gateway.model import PortState
from tests.support.mka_lan import sci_of, settings_of
from tests.unit.mka.test_mkpdu import BASIC

SERVER = MemberId(b"S" * 12)

NEVER = {
    *product((State.CHANGE, State.RETIRE), set(Trigger) - {Trigger.NEW_SAK, Trigger.LOST}),
    *product((State.RECEIVE,), (Trigger.MAY_TRANSMIT, Trigger.ENABLED, Trigger.RETIRE_DUE)),
    *product(
        (State.RECEIVING,),
        set(Trigger) - {Trigger.NEW_SAK, Trigger.MAY_TRANSMIT, Trigger.LOST},
    ),
    *product((State.TRANSMIT,), (Trigger.INSTALLED, Trigger.MAY_TRANSMIT, Trigger.RETIRE_DUE)),
    *product(
        (State.TRANSMITTING,),
        set(Trigger) - {Trigger.NEW_SAK, Trigger.RETIRE_DUE, Trigger.LOST},
    ),
}
"""Nothing is asked of the SecY that could end so, or nothing is waited for."""


def test_a_row_for_every_pair_that_can_happen():
    assert set(TABLE) == set(product(State, Trigger)) - NEVER


def test_every_state_is_reached_and_left():
    seen, todo = {State.CHANGE}, [State.CHANGE]
    while todo:
        state = todo.pop()
        for (origin, _), row in TABLE.items():
            if origin is state and row.state not in seen:
                seen.add(row.state)
                todo.append(row.state)
    assert seen == set(State)
    for state in State:
        assert TABLE[state, Trigger.LOST].state is State.CHANGE


def test_traffic_is_never_moved_to_a_sak_that_others_may_not_have():
    """Only what the members or the key server allowed is enabled, and only that opens the port."""
    enabling = {pair for pair, row in TABLE.items() if Action.ENABLE in row.actions}
    opening = {pair for pair, row in TABLE.items() if Action.IN_USE in row.actions}
    assert enabling == {(State.RECEIVING, Trigger.MAY_TRANSMIT)}
    assert opening == {(State.TRANSMIT, Trigger.ENABLED)}


# --- the machine -----------------------------------------------------------------------------


class Machine:
    """A controlled port as a member that is not key server; what it knows at one moment."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.cp = ControlledPort(settings_of(0), self.outbox)
        self.now = 0.0
        self.kn = 0
        self.server = Peer(
            basic=replace(BASIC, mi=SERVER, sci=sci_of(1)),
            live=True,
            heard_at=0.0,
            expires_at=1e9,
        )
        self.installed: dict[int, Secret] = {}
        self.keys: list[Secret] = []

    def do(self, what: str) -> None:
        getattr(self, what)()
        self.check()

    def new_sak(self) -> None:
        self.kn += 1
        key = Secret(bytes((self.kn % 256,)) * 32)
        self.keys.append(key)
        taken = {sak.an for sak in self.cp.saks()}
        sak = Sak(
            ckn=b"x",
            ki=KeyIdentifier(SERVER, self.kn),
            an=min(set(range(4)) - taken),
            suite=CipherSuite.GCM_AES_256,
            confidentiality=Confidentiality.OFFSET_0,
            key=key,
            members=set(),
            sscis={},
            own_ssci=None,
        )
        self.cp.offer(sak, [self.server], self.now)

    def _answer(self, kind) -> None:
        pending = self.cp._pending
        token = pending[0] if pending else 0
        self.cp.answer(kind(token), self.now)

    def done(self) -> None:
        self._answer(lambda token: Done(token=token))

    def failed(self) -> None:
        self._answer(lambda token: Failed(token=token, reason="busy"))

    def stale(self) -> None:
        self.cp.answer(Done(token=-1), self.now)

    def server_transmits(self) -> None:
        newest = self.cp.latest
        if newest is not None:
            use = KeyUse(ki=newest.ki, an=newest.an, transmits=True, receives=True, lowest_pn=1)
            self.server.sak_use = SakUse(latest=use, old=None)
        self._judge()

    def hurry(self) -> None:
        self._judge(hurry=True)

    def second(self) -> None:
        self.now += 1.0
        self._judge()

    def retire_time(self) -> None:
        self.now += 3.0
        self._judge()

    def lost(self) -> None:
        self.cp.lose("no live peer", self.now)

    def _judge(self, *, hurry: bool = False) -> None:
        latest = self.cp.latest
        self.cp.judge(
            key_server=False,
            peers=[self.server],
            server_transmits=latest is not None and self.server.transmits(latest.ki),
            hurry=hurry,
            now=self.now,
        )

    def check(self) -> None:
        cp = self.cp
        for command in self.outbox.commands:
            match command:
                case InstallSas(key=key):
                    assert key.an not in self.installed
                    assert len(self.installed) < 2
                    self.installed[key.an] = key.key
                case DeleteSas(an=an):
                    del self.installed[an]
                case EnableTransmitSa(an=an):
                    assert an in self.installed
        assert set(self.installed) == {sak.an for sak in (cp.latest, cp.old) if sak}
        # Keys that are not installed or waiting are wiped.
        kept = [sak.key for sak in cp.saks()]
        assert all(key.wiped or any(key is one for one in kept) for key in self.keys)
        assert not any(key.wiped for key in kept)
        retired = [event for event in self.outbox.events if isinstance(event, SakRetired)]
        assert len(retired) + len(kept) == len(self.keys)
        self.outbox.commands.clear()
        secured = cp.port is PortState.SECURED
        assert secured <= (cp.in_use is not None or cp.state is not State.CHANGE)
        assert (cp.state is State.CHANGE) == (cp.latest is None and cp.old is None)
        assert cp.held is None or cp.state in (State.TRANSMIT, State.TRANSMITTING)
        use = cp.sak_use()
        assert (use is None) == (cp.state is State.CHANGE)
        if use is not None:
            assert sum(key.transmits for key in (use.latest, use.old) if key) <= 1

    @property
    def shape(self) -> tuple[object, ...]:
        cp = self.cp
        return (
            cp.state,
            cp.old is None,
            cp.held is None,
            cp.port,
            cp.latest is not None and self.server.transmits(cp.latest.ki),
        )


INPUTS = (
    *("new_sak", "done", "failed", "stale", "server_transmits", "second", "retire_time", "lost"),
    "hurry",
)


def replayed(inputs: tuple[str, ...]) -> Machine:
    machine = Machine()
    machine.check()
    for what in inputs:
        machine.do(what)
    return machine


def test_every_input_in_every_state_the_machine_can_be_in():
    found = {replayed(()).shape: ()}
    todo = [()]
    pairs = set()
    while todo:
        path = todo.pop(0)
        for what in INPUTS:
            before = replayed(path)
            origin = before.shape
            before.do(what)
            pairs.add((origin[0], what))
            if before.shape not in found:
                found[before.shape] = (*path, what)
                todo.append((*path, what))
    assert {shape[0] for shape in found} == set(State)
    assert pairs == set(product(State, INPUTS))
    assert len(found) < 60


@pytest.mark.parametrize("path", [(), ("new_sak", "done", "server_transmits", "done")])
def test_no_answer_counts_as_failed(path):
    machine = replayed((*path, *(("retire_time",) if path else ()), "new_sak"))
    rest = State.RETIRE if path else State.CHANGE
    for _ in range(5):
        assert machine.cp.state is State.RECEIVE
        machine.do("second")
    assert machine.cp.state is rest
