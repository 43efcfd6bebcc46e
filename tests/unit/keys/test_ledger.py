"""One QKD key, one use."""

from __future__ import annotations

import pytest

from gateway.errors import KeyReusedError
from gateway.keys.ledger import MAX_OPEN, ClaimedKeys, KeyLedger
from gateway.model import KeyId

A, B, C = (KeyId(f"6a1c1c9e-0a36-4b1e-9d5c-0f1c6f0c2a0{n}") for n in range(3))


def counts(ledger: KeyLedger) -> tuple[int, int, int]:
    return ledger.used, ledger.burned, ledger.reused


@pytest.mark.parametrize("outcome", [None, True, False])
def test_a_second_claim_is_refused_whatever_became_of_the_first(outcome):
    ledger = KeyLedger()
    ledger.claim(A)
    ledger.claim(B)
    if outcome is not None:
        ledger.settle(A, used=outcome)
    with pytest.raises(KeyReusedError, match=A):
        ledger.claim(A)
    assert ledger.reused == 1


def test_each_key_is_counted_once_as_used_or_burned():
    ledger = KeyLedger()
    for key_id in (A, B):
        ledger.claim(key_id)
    ledger.settle(A, used=True)
    ledger.settle(A, used=False)
    ledger.settle(B, used=False)
    ledger.settle(B, used=False)
    ledger.settle(C, used=True)  # never claimed
    assert counts(ledger) == (1, 1, 0)


def test_a_claim_that_came_to_nothing_can_be_made_again_but_not_a_settled_one():
    ledger = KeyLedger()
    ledger.claim(A)
    ledger.release(A)
    ledger.claim(A)
    ledger.settle(A, used=True)
    ledger.release(A)
    ledger.release(B)
    with pytest.raises(KeyReusedError):
        ledger.claim(A)


def test_what_one_tunnel_claimed_is_refused_in_another_and_after_a_reload():
    claimed = ClaimedKeys()
    KeyLedger(claimed).claim(A)
    other = KeyLedger(claimed)
    with pytest.raises(KeyReusedError):
        other.claim(A)
    other.release(A)  # not its own claim
    other.settle(A, used=True)
    with pytest.raises(KeyReusedError):
        other.claim(A)
    assert counts(other) == (0, 0, 2)


def test_memory_is_bounded_and_the_oldest_goes_first():
    claimed = ClaimedKeys(size=2)
    assert [claimed.add(key_id) for key_id in (A, B, C)] == [True] * 3
    assert [claimed.add(key_id) for key_id in (B, C)] == [False] * 2
    assert claimed.add(A)


def test_keys_that_nobody_settles_do_not_pile_up():
    ledger = KeyLedger()
    many = [KeyId(f"6a1c1c9e-0a36-4b1e-9d5c-{number:012x}") for number in range(MAX_OPEN + 1)]
    for key_id in many:
        ledger.claim(key_id)
    for key_id in many:
        ledger.settle(key_id, used=True)
    assert ledger.used == MAX_OPEN
    with pytest.raises(KeyReusedError):
        ledger.claim(many[0])
