"""A whole block: two ends, from records to keys, over messages."""

from __future__ import annotations

import pytest

from qkd_adapters.postprocessing import messages
from qkd_adapters.postprocessing.authentication import TAG_BITS
from qkd_adapters.postprocessing.blocks import COST, Block, End, LinkEnd, Outcome
from qkd_adapters.postprocessing.errors import (
    AuthenticationError,
    OutOfAuthKeyError,
    PeerMessageError,
    PostprocessingError,
)
from qkd_adapters.postprocessing.settings import Bbm92, DecoyBb84, PlainBb84, Scheme, Settings
from tests.support.postprocessing import Raw, carry, decoy_records, ends

ONE_DECOY = DecoyBb84(intensities=(0.5, 0.1), probabilities=(0.7, 0.3))
TWO_DECOYS = DecoyBb84(intensities=(0.5, 0.1, 0.0002), probabilities=(0.6, 0.3, 0.1))


def settings(scheme: Scheme = ONE_DECOY) -> Settings:
    return Settings(link="moon-sun", scheme=scheme)


def records(**changes: object) -> tuple[Raw, Raw]:
    given = {"clicks": 400_000, "qber": 0.01, "p_z": 0.6} | changes
    return decoy_records(**given)  # type: ignore[arg-type]


def run(
    link: tuple[LinkEnd, LinkEnd], raw: tuple[Raw, Raw], **kwargs: object
) -> tuple[Outcome, Outcome]:
    sender, receiver = link[0].block(raw[0]), link[1].block(raw[1])
    carry(sender, receiver, **kwargs)  # type: ignore[arg-type]
    assert sender.outcome is not None
    assert receiver.outcome is not None
    return sender.outcome, receiver.outcome


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [
        (ONE_DECOY, {}),
        (
            TWO_DECOYS,
            {
                "clicks": 800_000,
                "intensities": TWO_DECOYS.intensities,
                "probabilities": TWO_DECOYS.probabilities,
            },
        ),
        (Bbm92(), {"clicks": 60_000, "intensities": (1.0,), "probabilities": (1.0,)}),
        (
            PlainBb84(mu=0.0005, receiver_z=0.6),
            {
                "clicks": 60_000,
                "pulses": 120_000_000,
                "intensities": (0.0005,),
                "probabilities": (1.0,),
            },
        ),
    ],
    ids=["one decoy", "two decoys", "pairs", "no decoy"],
)
def test_both_ends_make_the_same_keys(scheme: Scheme, changes: dict[str, object]) -> None:
    link = ends(settings(scheme))
    sender, receiver = run(link, records(**changes))
    assert sender.keys
    assert [key.key_id for key in sender.keys] == [key.key_id for key in receiver.keys]
    assert all(a.key == b.key for a, b in zip(sender.keys, receiver.keys, strict=True))
    assert sender.estimate == receiver.estimate
    assert sender.counts == receiver.counts
    assert sender.verified
    assert 1.0 < sender.efficiency < 1.15
    assert len({key.key.expose() for key in sender.keys}) == len(sender.keys)
    for end in link:
        assert end.ledger.balanced
        assert end.ledger.pool == 256 * len(sender.keys)


def test_every_tag_is_paid_for_and_the_reserve_is_filled() -> None:
    link = ends(settings())
    before = [end.authenticator.left for end in link]
    outcomes = run(link, records())
    for end, left, outcome in zip(link, before, outcomes, strict=True):
        account = end.authenticator.account
        assert outcome.auth_bits_used == COST == 6 * TAG_BITS
        assert outcome.auth_bits_added > 0
        assert sum(end.authenticator.left) == sum(left) - COST + outcome.auth_bits_added
        assert account.supplied == account.used + account.lost + sum(end.authenticator.left)
        assert min(end.authenticator.left) >= end.settings.auth_reserve
    second = run(link, records(block=1, seed=1))
    assert second[0].keys
    assert second[0].keys[0].key_id == second[1].keys[0].key_id


@pytest.mark.parametrize("qber", [0.11, 0.25])
def test_no_key_at_and_above_the_zero_key_error_rate(qber: float) -> None:
    link = ends(settings())
    sender, receiver = run(link, records(qber=qber))
    assert not sender.keys
    assert not receiver.keys
    assert sender.estimate.reason == receiver.estimate.reason != ""
    assert sender.auth_bits_used == receiver.auth_bits_used == 0  # nothing to protect
    assert link[0].ledger.generated == 0


def test_a_dark_fibre_is_an_empty_block_not_an_error() -> None:
    sender, receiver = run(ends(settings()), records(clicks=0))
    assert not sender.keys
    assert "no sifted bits" in receiver.estimate.reason


def test_any_single_changed_bit_is_refused() -> None:
    """One bit of each kind of message, each in a fresh exchange."""
    raw = records(clicks=60_000, p_z=0.5)
    link = ends(settings(Bbm92()))
    kinds: list[tuple[End, int]] = []

    def listen(end: End, number: int, data: bytes) -> bytes:
        kinds.append((end, data[0]))
        return data

    assert run(link, raw, tamper=listen)[0].keys
    first = {kind: number for number, kind in reversed(list(enumerate(kinds)))}
    assert len(first) >= 10
    for number in first.values():

        def flip(end: End, at: int, data: bytes, number: int = number) -> bytes:
            if at != number:
                return data
            place = len(data) * 2 // 3
            return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]

        fresh = ends(settings(Bbm92()))
        with pytest.raises(PostprocessingError):
            _run_or_refuse(fresh, raw, flip)


def _run_or_refuse(link: tuple[LinkEnd, LinkEnd], raw: tuple[Raw, Raw], tamper: object) -> None:
    """A change that leads to a block without key, by agreement, is as good as a refusal."""
    sender, receiver = run(link, raw, tamper=tamper)
    if not sender.keys and not receiver.keys:
        raise AuthenticationError("no key was made")


def test_a_lost_last_message_leaves_no_key_at_one_end_only() -> None:
    link = ends(settings())
    raw = records()
    sender, receiver = link[0].block(raw[0]), link[1].block(raw[1])

    class LostError(Exception):
        pass

    def lose(end: End, number: int, data: bytes) -> bytes:
        if data[0] == messages.Confirmed.TYPE:
            raise LostError
        return data

    with pytest.raises(LostError):
        carry(sender, receiver, lose)
    assert receiver.outcome is not None
    assert receiver.outcome.keys
    assert not sender.abandon("connection lost").keys
    ours, theirs = link[0].inventory(), link[1].inventory()
    assert link[1].align(ours) == (0,)
    assert link[0].align(theirs) == ()
    assert run(link, records(block=1, seed=1))[0].keys


def test_a_block_that_was_abandoned_is_wiped_and_says_why() -> None:
    link = ends(settings())
    block: Block = link[1].block(records()[1])
    block.start()
    outcome = block.abandon("fibre cut")
    assert outcome.failure == "fibre cut"
    with pytest.raises(PeerMessageError):
        block.handle(b"")


def test_without_authentication_key_there_is_no_block() -> None:
    scheme = settings()
    link = ends(scheme, psk=bytes(256))
    raw = records()
    for number in range(2):  # lost at the end: tags are paid for, nothing comes back
        sender, receiver = link[0].block(raw[0]), link[1].block(raw[1])

        def spoil(end: End, at: int, data: bytes) -> bytes:
            return data if data[0] != messages.Amplify.TYPE else data[:-2]

        with pytest.raises(PeerMessageError):
            carry(sender, receiver, spoil)
        sender.abandon(f"test {number}")
        receiver.abandon(f"test {number}")
        link[0].align(link[1].inventory())
        link[1].align(link[0].inventory())
    with pytest.raises(OutOfAuthKeyError):
        run(link, raw)
