"""Tags: paid for one by one, never with the same pad, and any change is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kms_client.secret import Secret
from qkd_adapters.postprocessing.authentication import MIN_PSK, TAG_BITS, Authenticator, Tag
from qkd_adapters.postprocessing.errors import (
    AuthenticationError,
    AuthSyncError,
    OutOfAuthKeyError,
    PeerMessageError,
)


def pair(octets: int = 512) -> tuple[Authenticator, Authenticator]:
    key = bytes(at * 7 % 256 for at in range(octets))
    return Authenticator(first=True, psk=Secret(key)), Authenticator(first=False, psk=Secret(key))


def balanced(end: Authenticator) -> bool:
    account = end.account
    return account.supplied == account.used + account.lost + sum(end.left)


def test_a_tag_is_right_once() -> None:
    alice, bob = pair()
    tag = alice.tag(b"message")
    bob.check(b"message", tag)
    with pytest.raises(AuthSyncError):
        bob.check(b"message", tag)
    assert balanced(alice)
    assert balanced(bob)


def test_each_tag_costs_its_bits_at_both_ends() -> None:
    alice, bob = pair()
    before = alice.left[0], bob.left[1]
    for number in range(3):
        bob.check(b"%d" % number, alice.tag(b"%d" % number))
    assert (alice.left[0], bob.left[1]) == tuple(left - 3 * TAG_BITS for left in before)
    assert alice.left[1] == bob.left[0]


@pytest.mark.parametrize("place", range(0, 8 * 40, 37))
def test_a_single_changed_bit_is_refused_and_the_genuine_message_still_taken(place: int) -> None:
    alice, bob = pair()
    message = bytes(range(40))
    tag = alice.tag(message)
    changed = bytearray(message)
    changed[place // 8] ^= 1 << place % 8
    with pytest.raises(AuthenticationError):
        bob.check(bytes(changed), tag)
    with pytest.raises(AuthenticationError):
        bob.check(message, replace(tag, tag=bytes([tag.tag[0] ^ 1]) + tag.tag[1:]))
    bob.check(message, tag)


def test_directions_do_not_share_pads() -> None:
    alice, bob = pair()
    assert alice.tag(b"x").tag != bob.tag(b"x").tag
    with pytest.raises(AuthenticationError):
        alice.check(b"y", alice.tag(b"y"))


def test_lost_tags_are_skipped_and_accounted_for() -> None:
    alice, bob = pair()
    alice.tag(b"lost")
    alice.tag(b"lost")
    bob.check(b"seen", alice.tag(b"seen"))
    assert bob.account.lost == 2 * TAG_BITS
    assert balanced(bob)
    with pytest.raises(AuthSyncError):
        bob.check(b"old", Tag(chunk=0, number=1, tag=bytes(16)))


def test_it_runs_dry_with_an_error_of_its_own_and_goes_on_with_new_key() -> None:
    alice, bob = pair(MIN_PSK)
    for _ in range(alice.left[0] // TAG_BITS):
        bob.check(b"", alice.tag(b""))
    with pytest.raises(OutOfAuthKeyError):
        alice.tag(b"")
    with pytest.raises(OutOfAuthKeyError):
        alice.require(1)
    for end in (alice, bob):
        end.replenish(5, bytes(range(64)))
    bob.check(b"again", alice.tag(b"again"))
    assert balanced(alice)
    assert balanced(bob)


def test_a_chunk_that_only_one_end_has_is_forgotten() -> None:
    alice, bob = pair()
    alice.replenish(4, bytes(64))
    ours, theirs = alice.inventory(), bob.inventory()
    assert alice.align(theirs) == (4,)
    assert bob.align(ours) == ()
    assert alice.left == bob.left[::-1]
    assert balanced(alice)


def test_tags_that_were_lost_with_the_connection_are_made_up_for() -> None:
    alice, bob = pair()
    alice.tag(b"lost")
    bob.align(alice.inventory())
    assert alice.left[0] == bob.left[1]
    assert balanced(bob)
    bob.check(b"next", alice.tag(b"next"))


def test_a_forged_inventory_cannot_take_everything() -> None:
    alice, bob = pair()
    for _ in range(10):
        alice.tag(b"")
    with pytest.raises(AuthSyncError):
        bob.align(alice.inventory())  # too far ahead to come of one lost block
    with pytest.raises(PeerMessageError):
        bob.align(b"\x00")
    with pytest.raises(AuthSyncError):
        bob.align(bytes(4))  # "I have nothing"
    assert bob.account.lost == 0


def test_a_short_pre_shared_key_is_refused_and_a_taken_one_wiped() -> None:
    with pytest.raises(ValueError, match="pre-shared"):
        Authenticator(first=True, psk=Secret(bytes(MIN_PSK - 1)))
    psk = Secret(bytes(MIN_PSK))
    Authenticator(first=True, psk=psk)
    assert psk.wiped
