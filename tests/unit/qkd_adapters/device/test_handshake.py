"""Two devices come to a session, pads are never used twice, and strangers cost nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kms_client.secret import Secret
from qkd_adapters.device.bootstrap import HANDSHAKE_KEY, REGION, Bootstrap, make_psk
from qkd_adapters.device.handshake import Handshake, SessionKeys
from qkd_adapters.device.messages import Done, Ping
from qkd_adapters.device.session import Session
from qkd_adapters.errors import (
    BootstrapError,
    ChannelTamperedError,
    HandshakeError,
    KmeStartupError,
)
from qkd_adapters.records import Role


class Pair:
    """Both ends of a link, with their files."""

    def __init__(self, directory: Path, regions: int = 8) -> None:
        self.directory = directory
        self.psk = directory / "psk"
        make_psk(self.psk, regions)
        self.alice = self.restart("alice")
        self.bob = self.restart("bob")

    def restart(self, end: str) -> Bootstrap:
        return Bootstrap(self.psk, self.directory / f"{end}.state")

    def hands(self, alice_epoch: str = "", bob_epoch: str = "") -> tuple[Handshake, Handshake]:
        return (
            Handshake(link="l", role=Role.ALICE, epoch=alice_epoch, bootstrap=self.alice),
            Handshake(link="l", role=Role.BOB, epoch=bob_epoch, bootstrap=self.bob),
        )

    def meet(self, alice_epoch: str = "", bob_epoch: str = "") -> tuple[SessionKeys, SessionKeys]:
        alice, bob = self.hands(alice_epoch, bob_epoch)
        last, for_alice = alice.finish(bob.answer(alice.hello()))
        return for_alice, bob.check(last)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def octets(secret: Secret | None) -> bytes:
    assert secret is not None
    return secret.expose()


def test_both_ends_get_the_same(pair: Pair) -> None:
    alice, bob = pair.meet()
    assert alice.sign == bob.sign
    assert alice.epoch == bob.epoch != ""
    assert octets(alice.region) == octets(bob.region)
    assert len(octets(alice.region)) == REGION


def test_a_lost_connection_costs_no_pad(pair: Pair) -> None:
    first, _ = pair.meet()
    again, other = pair.meet(first.epoch, first.epoch)
    assert again.region is other.region is None
    assert again.epoch == first.epoch
    assert again.sign != first.sign
    assert pair.alice.next_region == pair.bob.next_region == 1


@pytest.mark.parametrize("restarted", ["alice", "bob", "both"])
def test_a_restart_gets_pad_that_was_never_used(pair: Pair, restarted: str) -> None:
    first, _ = pair.meet()
    if restarted != "bob":
        pair.alice = pair.restart("alice")
    if restarted != "alice":
        pair.bob = pair.restart("bob")
    epochs = (
        "" if restarted != "bob" else first.epoch,
        "" if restarted != "alice" else first.epoch,
    )
    alice, bob = pair.meet(*epochs)
    assert octets(alice.region) == octets(bob.region) != octets(first.region)
    assert alice.epoch == bob.epoch != first.epoch


def test_an_end_that_lost_its_account_follows_the_other(pair: Pair) -> None:
    used = {octets(pair.meet()[0].region) for _ in range(3)}
    (pair.directory / "bob.state").unlink()
    pair.bob = pair.restart("bob")
    assert pair.bob.next_region == 0
    alice, bob = pair.meet()
    assert octets(alice.region) == octets(bob.region)
    assert octets(alice.region) not in used


def test_a_crash_between_the_ends_never_gives_a_region_twice(pair: Pair) -> None:
    alice, bob = pair.hands()
    _, keys = alice.finish(bob.answer(alice.hello()))  # Bob never gets the last message
    pair.alice, pair.bob = pair.restart("alice"), pair.restart("bob")
    after, other = pair.meet()
    assert octets(after.region) == octets(other.region) != octets(keys.region)


def test_the_number_is_on_the_disk_before_the_pad_is_out(pair: Pair) -> None:
    pair.alice.claim(2)
    assert pair.restart("alice").next_region == 3
    with pytest.raises(BootstrapError, match="used before"):
        pair.alice.claim(2)


def test_a_secret_that_is_used_up_gives_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path, regions=1)
    pair.meet()
    assert pair.alice.left == 0
    with pytest.raises(BootstrapError, match="used up"):
        pair.meet()


def test_a_new_secret_starts_from_its_own_beginning(pair: Pair) -> None:
    pair.meet()
    pair.psk.unlink()
    make_psk(pair.psk, 2)
    assert pair.restart("alice").next_region == 0


def test_a_damaged_account_stops_the_device(pair: Pair) -> None:
    (pair.directory / "alice.state").write_text("{")
    with pytest.raises(KmeStartupError, match=r"alice\.state"):
        pair.restart("alice")


def test_the_secret_must_be_ours_alone_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "psk"
    make_psk(path, 1)
    with pytest.raises(KmeStartupError, match="exists"):
        make_psk(path, 1)
    path.chmod(0o640)
    with pytest.raises(KmeStartupError, match="0600"):
        Bootstrap(path, tmp_path / "state")
    short = tmp_path / "short"
    short.touch(0o600)
    short.write_bytes(bytes(HANDSHAKE_KEY + REGION - 1))
    with pytest.raises(KmeStartupError, match="multiple"):
        Bootstrap(short, tmp_path / "state")


# --- strangers -------------------------------------------------------------------------------


def test_without_the_secret_there_is_no_session_and_no_pad_is_spent(
    pair: Pair, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = Pair(other)
    alice, _ = pair.hands()
    _, false_bob = stranger.hands()
    with pytest.raises(HandshakeError, match="bootstrap secret"):
        alice.finish(false_bob.answer(alice.hello()))
    false_alice, _ = stranger.hands()
    _, bob = pair.hands()
    bob.answer(false_alice.hello())
    with pytest.raises(HandshakeError, match="bootstrap secret"):
        bob.check(bytes(32))
    assert pair.alice.next_region == pair.bob.next_region == 0


def test_what_was_said_before_is_worth_nothing(pair: Pair) -> None:
    alice, bob = pair.hands()
    hello = alice.hello()
    answer = bob.answer(hello)
    last, _ = alice.finish(answer)
    bob.check(last)
    alice, bob = pair.hands()
    with pytest.raises(HandshakeError):
        alice.finish(answer)
    bob.answer(hello)
    with pytest.raises(HandshakeError):
        bob.check(last)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"link": "m"}, {"role": "bob"}, {"next_region": -1}, {"epoch": "x" * 17}],
)
def test_a_hello_that_does_not_fit_is_refused(pair: Pair, change: dict[str, object]) -> None:
    alice, bob = pair.hands()
    hello = {**msgspec.msgpack.decode(alice.hello()), **change}
    with pytest.raises(HandshakeError):
        bob.answer(msgspec.msgpack.encode(hello))


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x90", bytes(4000)])
def test_garbage_is_refused(pair: Pair, garbage: bytes) -> None:
    alice, bob = pair.hands()
    with pytest.raises(HandshakeError):
        bob.answer(garbage)
    with pytest.raises(HandshakeError):
        alice.finish(garbage)


# --- messages of a session ----------------------------------------------------------------------


def sessions(pair: Pair) -> tuple[Session, Session]:
    alice, bob = pair.meet()
    return Session(Role.ALICE, alice), Session(Role.BOB, bob)


def test_signed_messages_arrive(pair: Pair) -> None:
    alice, bob = sessions(pair)
    for number in range(3):
        assert bob.open(alice.sign(Done(number=number))) == Done(number=number)
        assert alice.open(bob.sign(Ping(at=1.5))) == Ping(at=1.5)


def test_any_changed_octet_is_noticed(pair: Pair) -> None:
    alice, bob = sessions(pair)
    body = alice.sign(Done(number=1))
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises(ChannelTamperedError):
            bob.open(changed)
    assert bob.open(body) == Done(number=1)


def test_repeated_reordered_and_reflected_messages_are_noticed(pair: Pair) -> None:
    alice, bob = sessions(pair)
    first, second = alice.sign(Done(number=1)), alice.sign(Done(number=2))
    with pytest.raises(ChannelTamperedError):
        bob.open(second)
    bob.open(first)
    with pytest.raises(ChannelTamperedError):
        bob.open(first)
    with pytest.raises(ChannelTamperedError):
        alice.open(second)
