"""Keys reach both KMEs or neither, key bytes never go from Alice to Bob."""

from __future__ import annotations

import msgspec
import pytest

from kms_client.secret import Secret
from qkd_adapters.device.delivery import MAX_WAITING, Delivery, WaitingKey
from qkd_adapters.device.messages import Forget, KmeLost, KmeSaid, Message, TellKme
from qkd_adapters.device.relay import Relay
from qkd_adapters.link.messages import (
    Accepted,
    FromKme,
    FromLink,
    Hello,
    Inventory,
    LinkState,
    Offer,
    Quarantine,
    Rejected,
    Room,
    Settle,
    Survey,
)

MOON, SUN = "kme-moon", "kme-sun"


class Kme:
    """The KME's end of the protocol, as little of it as is needed here."""

    def __init__(self, name: str, peer: str, sae: str, remote: str) -> None:
        self.hello = Hello(kme=name, peer=peer, pairs=((sae, remote),))
        self.got: list[FromLink] = []
        self.pending: dict[str, bytes] = {}
        self.available: dict[str, bytes] = {}
        self.room = 100

    def answer(self, message: FromLink) -> list[FromKme]:
        self.got.append(message)
        match message:
            case Survey():
                return [
                    Inventory(
                        available=tuple(self.available), pending=tuple(self.pending), delivered=()
                    )
                ]
            case Offer():
                self.pending[message.key_id] = message.key
                return [Accepted(key_id=message.key_id, ok=True)]
            case Settle():
                for key_id in message.commit:
                    self.available[key_id] = self.pending.pop(key_id)
                for key_id in message.discard:
                    self.pending.pop(key_id, None)
                    self.available.pop(key_id, None)
                if message.final:
                    return [Room(master="moon", slave="sun", more=self.room)]
            case Quarantine():
                for key_id in message.key_ids:
                    self.pending.pop(key_id, None)
                    self.available.pop(key_id, None)
            case _:
                pass
        return []


class Link:
    """Alice's delivery and Bob's relay with their KMEs; ``wire`` is all that goes between them."""

    def __init__(self, buffer: int = MAX_WAITING) -> None:
        self.moon, self.sun = Kme(MOON, SUN, "moon", "sun"), Kme(SUN, MOON, "sun", "moon")
        self.wire: list[Message] = []
        self._queue: list[tuple[str, object]] = []
        self.delivery = Delivery(
            own=MOON,
            peer=SUN,
            tell_kme=lambda message: self._queue.append(("moon", message)),
            tell_bob=lambda message: self._say("bob", message),
            buffer=buffer,
        )
        self.relay = Relay(
            tell_kme=lambda message: self._queue.append(("sun", message)),
            tell_alice=lambda message: self._say("alice", message),
        )

    def _say(self, to: str, message: Message) -> None:
        self.wire.append(message)
        self._queue.append((to, message))

    def run(self) -> None:
        while self._queue:
            match self._queue.pop(0):
                case ("moon", message):
                    for answer in self.moon.answer(message):
                        self.delivery.own_said(answer, 0.0)
                case ("sun", message):
                    for answer in self.sun.answer(message):
                        self.relay.kme_said(answer)
                case ("alice", KmeSaid(body=body)):
                    self.delivery.peer_said(body, 0.0)
                case ("alice", KmeLost()):
                    self.delivery.peer_lost()
                case ("bob", TellKme(body=body)):
                    self.relay.alice_said(body)
                case ("bob", Forget(key_ids=key_ids)):
                    self.relay.forget(key_ids)

    def connect(self) -> None:
        self.delivery.own_said(self.moon.hello, 0.0)
        self.relay.kme_said(self.sun.hello)
        self.run()

    def block(self, number: int, count: int = 2, *, at_bob: bool = True) -> list[str]:
        """Both ends distilled these keys."""
        keys = {f"key-{number}-{index}": bytes([number, index] * 16) for index in range(count)}
        if at_bob:
            self.relay.hold(number, [(key_id, Secret(key)) for key_id, key in keys.items()])
        self.delivery.add(
            WaitingKey(key_id=key_id, key=Secret(key), block=number) for key_id, key in keys.items()
        )
        self.delivery.hand_over(0.0)
        self.run()
        return list(keys)


@pytest.fixture
def link() -> Link:
    link = Link()
    link.connect()
    return link


def test_both_kmes_get_the_same_keys(link: Link) -> None:
    named = link.block(1)
    assert link.moon.available == link.sun.available
    assert list(link.moon.available) == named
    assert link.delivery.waiting == link.relay.held == 0


def test_no_key_byte_goes_between_the_devices(link: Link) -> None:
    link.block(1)
    link.block(2)
    said = b"".join(msgspec.msgpack.encode(message) for message in link.wire)
    assert b"key-1-0" in said
    for key in (*link.moon.available.values(), *link.sun.available.values()):
        assert key not in said
        assert key[:8] not in said


def test_a_key_bob_does_not_have_reaches_neither_kme(link: Link) -> None:
    link.block(1, at_bob=False)
    assert not link.moon.available
    assert not link.moon.pending
    assert not link.sun.available


def test_keys_wait_for_the_kmes(link: Link) -> None:
    link.relay.kme_lost()
    link.run()
    named = link.block(1)
    assert not link.moon.available
    assert link.delivery.waiting == 2
    link.relay.kme_said(link.sun.hello)
    link.run()
    assert list(link.sun.available) == list(link.moon.available) == named


def test_a_new_session_takes_stock_again(link: Link) -> None:
    link.block(1)
    link.delivery.peer_lost()
    link.relay.session_ended()
    link.sun.available.popitem()  # expired meanwhile, say
    link.relay.session_began()
    link.run()
    assert link.moon.available == link.sun.available != {}


def test_keys_of_suspect_blocks_leave_both_kmes_and_the_queue(link: Link) -> None:
    for number in (1, 2, 3):
        link.block(number)
    link.relay.hold(4, [("key-4-0", Secret(bytes(32)))])
    link.delivery.add([WaitingKey(key_id="key-4-0", key=Secret(bytes(32)), block=4)])
    assert link.delivery.quarantine(2) == 5
    link.run()
    assert link.moon.available == link.sun.available
    assert set(link.moon.available) == {"key-1-0", "key-1-1"}
    assert link.delivery.waiting == link.relay.held == 0
    assert link.delivery.quarantine(2) == 0


def test_keys_of_blocks_the_peer_lacks_are_dropped(link: Link) -> None:
    link.moon.room = link.sun.room = 0
    link.delivery.own_lost()
    link.block(1)
    link.block(2)
    link.delivery.drop_blocks([2])
    link.relay.forget_blocks([1])
    link.run()
    assert link.delivery.waiting == 2
    assert link.relay.held == 0


def test_a_full_queue_drops_the_oldest_at_both_ends() -> None:
    link = Link(buffer=3)
    link.connect()
    link.delivery.own_lost()
    link.block(1)
    link.block(2)
    assert link.delivery.waiting == link.relay.held == 3
    assert link.delivery.overflow == 1


def test_a_kme_that_does_not_belong_here_is_rejected(link: Link) -> None:
    link.relay.kme_lost()
    link.relay.kme_said(Hello(kme="kme-mars", peer=MOON, pairs=()))
    link.run()
    assert isinstance(link.sun.got[-1], Rejected)
    assert not link.delivery.status()["kmes"][SUN]  # type: ignore[index]


def test_both_kmes_hear_how_the_link_is(link: Link) -> None:
    state = LinkState(
        state="suspect",
        since="2030-01-01T00:00:00+00:00",
        alarms=("QKD-SEC-021",),
        key_rate=0.0,
        peer_connected=False,
        suspect_age=3.5,
    )
    link.delivery.announce(state)
    link.run()
    for kme in (link.moon, link.sun):
        assert kme.got[-1] == msgspec.structs.replace(state, peer_connected=True)
    assert link.relay.state is not None
    link.relay.session_ended()
    assert link.relay.state is None
