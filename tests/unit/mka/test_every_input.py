"""A port with one other member: every input in every state the two can get it into.

States are found by walking: from each new one every input is tried. What must hold after each is
asserted in ``Walk.check``, and by the SecY: no AN taken twice, no packet number twice under a SAK.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from gateway.crypto.secret import Secret
from gateway.mka import limits
from gateway.mka.commands import Answer, Done, Failed
from gateway.mka.events import Dropped
from gateway.mka.identifiers import KeyIdentifier, MemberId
from gateway.mka.keys import MkaKeys
from gateway.mka.mkpdu import Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.participant import Participant
from gateway.mka.port import Port
from gateway.mka.registry import CipherSuite
from gateway.mka.sets import DistributedSak, KeyUse, ListedPeer, ParameterSet, PeerList, SakUse
from gateway.mka.states import State
from gateway.model import PortState
from tests.support.mka_lan import Secy, SeededRng, cak, sci_of, settings_of
from tests.unit.mka.test_mkpdu import BASIC

CKNS = (b"one", b"two")
KEYS = {ckn: MkaKeys(cak(number, ckn)) for number, ckn in enumerate(CKNS, 1)}
OURS = replace(settings_of(1), suite=CipherSuite.GCM_AES_256)
SERVER, CLIENT = 0, 200  # priorities of the other one
EVENTS_MAX, COMMANDS_MAX = 16, 12  # of one input


class Walk:
    """The port, its SecY, and the other member as far as it has got."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.port = Port(OURS, rng=SeededRng("walk"))
        self.secy = Secy(OURS.sci, set())
        self.answers: list[Answer] = []
        self.other = MemberId(b"other one 00")
        self.others = 0
        self.mn = 0
        self.kn = 0
        self.last: bytes | None = None
        self.mns: dict[MemberId, int] = {}
        self.add_cak()
        self.collect()

    # --- the other member ----------------------------------------------------------------------

    def participant(self) -> Participant | None:
        """The newest of ours: the other one has all CAKs."""
        return next(reversed(self.port._participants.values()), None)

    def say(
        self, *sets: ParameterSet, priority: int = CLIENT, lists: bool = True, **basic: object
    ) -> None:
        ours = self.participant()
        ckn = CKNS[0] if ours is None else ours.ckn
        self.mn += 1
        listed: tuple[ParameterSet, ...] = ()
        if ours is not None and lists:
            listed = (PeerList(live=True, peers=(ListedPeer(ours.mi, ours.mn),)),)
        said = replace(BASIC, priority=priority, sci=sci_of(0), mi=self.other, mn=self.mn, ckn=ckn)
        mkpdu = Mkpdu(basic=replace(said, **basic), sets=(*listed, *sets))
        self.last = encode_mkpdu(mkpdu, sci_of(0).mac, KEYS[ckn])
        self.port.receive_frame(self.last, self.now)

    def use(self, *, transmits: bool) -> SakUse | None:
        newest = self.port._cp.latest or self.port._cp.old
        if newest is None:
            return None
        key = KeyUse(ki=newest.ki, an=newest.an, transmits=transmits, receives=True, lowest_pn=1)
        return SakUse(latest=key, old=None)

    def heard(self) -> None:
        self.say(lists=False)

    def proven(self) -> None:
        self.say()

    def receives(self) -> None:
        use = self.use(transmits=False)
        self.say(*([use] if use else []))

    def transmits(self) -> None:
        use = self.use(transmits=True)
        self.say(*([use] if use else []))

    def serves(self) -> None:
        self.kn += 1
        self._distribute(self.kn)

    def serves_the_same(self) -> None:
        self._distribute(max(1, self.kn))

    def serves_and_transmits(self) -> None:
        use = self.use(transmits=True)
        self.say(*([use] if use else []), priority=SERVER)

    def serves_another_suite(self) -> None:
        self.kn += 1
        self._distribute(self.kn, suite=CipherSuite.GCM_AES_128, size=16)

    def _distribute(
        self, kn: int, suite: CipherSuite = CipherSuite.GCM_AES_256, size: int = 32
    ) -> None:
        ours = self.participant()
        keys = KEYS[CKNS[0] if ours is None else ours.ckn]
        taken = {sak.an for sak in self.port._cp.saks() if sak.ki != KeyIdentifier(self.other, kn)}
        an = min(set(range(4)) - taken)
        key = Secret((self.other + bytes((kn % 256,)) * 20)[:size])
        wrapped = keys.wrap(key)
        item = DistributedSak(an=an, confidentiality=1, kn=kn, suite=suite, wrapped=wrapped)
        self.say(item, priority=SERVER)

    def declines(self) -> None:
        self.say(DistributedSak(), priority=SERVER)

    def is_unwilling(self) -> None:
        self.say(macsec_desired=False)

    def never_serves(self) -> None:
        self.say(priority=limits.PRIORITY_NEVER, key_server=False)

    def begins_anew(self) -> None:
        self.others += 1
        self.other = MemberId(b"other one %02d" % (self.others % 100))
        self.mn = self.kn = 0
        self.say(lists=False)

    def has_our_mi(self) -> None:
        ours = self.participant()
        self.say(mi=BASIC.mi if ours is None else ours.mi)

    def has_our_sci(self) -> None:
        self.say(sci=OURS.sci)

    def says_it_again(self) -> None:
        if self.last is not None:
            self.port.receive_frame(self.last, self.now)

    def says_nonsense(self) -> None:
        self.port.receive_frame((self.last or b"")[:-1] + b"?", self.now)

    # --- the SecY, time, wishes ----------------------------------------------------------------

    def done(self) -> None:
        self._answer(lambda answer: answer)

    def failed(self) -> None:
        """It was not carried out."""
        self._answer(lambda answer: Failed(token=answer.token, reason="busy"))

    def stale(self) -> None:
        self.port.answer(Done(token=-1), self.now)

    def _answer(self, made: Callable[[Answer], Answer]) -> None:
        answer = self.answers.pop() if self.answers else Done(token=0)
        self.answers.clear()
        self.port.answer(made(answer), self.now)

    def second(self) -> None:
        self._pass(1.0)

    def life_time(self) -> None:
        self._pass(limits.LIFE_TIME + 0.1)

    def _pass(self, seconds: float) -> None:
        """As a driver does it."""
        end = self.now + seconds
        while (deadline := self.port.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.port.handle_timer(self.now)
            after = self.port.next_deadline()
            assert after is None or after > self.now, "a deadline that does not pass"
            self.collect()
        self.now = end

    def add_cak(self) -> None:
        for number, ckn in enumerate(CKNS, 1):
            if ckn not in self.port._participants:
                self.port.add_cak(cak(number, ckn), self.now)
                return

    def remove_newest_cak(self) -> None:
        ours = self.participant()
        if ours is not None:
            self.port.remove_cak(ours.ckn, "removed", self.now)

    def remove_oldest_cak(self) -> None:
        ours = next(iter(self.port._participants), None)
        if ours is not None:
            self.port.remove_cak(ours, "removed", self.now)

    def request(self) -> None:
        self.port.request_sak("asked", self.now)

    def numbers_end(self) -> None:
        for sak in self.port.view().saks:
            self.port.transmit_pn(sak.an, limits.PN_PENDING_EXHAUSTION, self.now)

    def messages_end(self) -> None:
        ours = self.participant()
        if ours is not None:
            ours.mn = limits.MN_MAX
            self.port.handle_timer(self.now)

    def close(self) -> None:
        self.port.close("closed", self.now)

    # --- what must hold --------------------------------------------------------------------------

    def do(self, what: str) -> None:
        getattr(self, what)()
        self.collect()

    def collect(self) -> None:
        port = self.port
        events, commands = port.take_events(), port.take_commands()
        assert len(events) <= EVENTS_MAX
        assert len(commands) <= COMMANDS_MAX
        assert all(event.text for event in events if isinstance(event, Dropped))
        for command in commands:
            answer = self.secy.run(command)
            if answer is not None:
                self.answers.append(answer)
        for frame in port.take_frames():
            envelope = parse_frame(frame)
            basic = envelope.open(KEYS[envelope.basic.ckn]).basic
            assert basic.mn > self.mns.get(basic.mi, 0) or basic.mn == limits.MN_MAX
            self.mns[basic.mi] = basic.mn
        self.check()

    def check(self) -> None:
        port, view = self.port, self.port.view()
        deadline = port.next_deadline()
        assert (deadline is None) == (not view.participants)
        assert self.secy.port is view.port
        assert view.port in (PortState.BLOCKED, PortState.SECURED)
        assert set(self.secy.transmit) == {sak.an for sak in view.saks}
        if view.port is PortState.SECURED:
            assert self.secy.sak is not None
        assert sum(sak.transmits for sak in view.saks) <= 1
        kept = [sak.key for sak in port._cp.saks()]
        assert not any(key.wiped for key in kept)
        if not view.participants:
            assert view.rollover is State.CHANGE

    @property
    def shape(self) -> tuple[object, ...]:
        cp = self.port._cp
        newest = self.participant()
        return (
            cp.state,
            cp.old is None,
            cp.held is None,
            cp.port,
            len(self.port._participants),
            None if newest is None else self.kind_of(newest),
            self.port._principal is newest,
        )

    def kind_of(self, item: Participant) -> str:
        peer = item.peers.get(self.other)
        life = "none" if peer is None else "live" if peer.live else "potential"
        server = "ours" if item.is_key_server else "theirs" if item.key_server else "none"
        return f"peer {life}, key server {server}"


INPUTS = tuple(
    name
    for name, value in vars(Walk).items()
    if callable(value)
    and not name.startswith("_")
    and name not in ("participant", "say", "use", "do", "collect", "check", "kind_of")
)
STATES_MAX = 2000


def second_secret(secret: Secret, memo: object) -> Secret:
    """Secrets are not copied but here."""
    del memo
    if secret.wiped:
        return secret
    return Secret(secret.expose())


@pytest.fixture(scope="module")
def walked() -> set[tuple[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Secret, "__deepcopy__", second_secret, raising=False)
        return every_input()


def every_input() -> set[tuple[str, str]]:
    """Pairs of what a state is like and the input tried in it."""
    begun = Walk()
    found = {begun.shape}
    todo = [begun]
    pairs: set[tuple[str, str]] = set()
    while todo:
        origin = todo.pop(0)
        shape = origin.shape
        item = origin.participant()
        kinds = [f"rollover {shape[0]}"]
        if item is not None:
            kinds.append(origin.kind_of(item))
        for what in INPUTS:
            walk = copy.deepcopy(origin)
            walk.do(what)
            pairs.update((kind, what) for kind in kinds)
            if walk.shape not in found:
                found.add(walk.shape)
                todo.append(walk)
        assert len(found) < STATES_MAX
    return pairs


def test_every_input_in_every_state_of_the_rollover(walked):
    tried = {pair for pair in walked if pair[0].startswith("rollover")}
    assert tried == set(product((f"rollover {state}" for state in State), INPUTS))


PARTICIPANTS = (
    *("peer none, key server none", "peer potential, key server none"),
    *("peer live, key server ours", "peer live, key server theirs"),
)
"""With a live peer one of the two is key server: we want to be."""


def test_every_input_in_every_state_of_a_participant(walked):
    assert set(product(PARTICIPANTS, INPUTS)) <= walked
