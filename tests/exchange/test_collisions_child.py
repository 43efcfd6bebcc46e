"""Both ends do something to the same Child SA at the same time (RFC 7296 2.8.1, 2.25.1).

A case is drawn with moon on the left. Each runs with the lowest nonce in every place, so that
each side wins, with IKE_FOLLOWUP_KE (RFC 9370 2.2.4) and without.
"""

from __future__ import annotations

import pytest

from gateway.ike import limits
from gateway.ike.registry import ExchangeType as X
from tests.support.collisions import (
    BARE,
    HYBRID,
    LOWEST,
    PLAIN,
    QUIET,
    Collision,
    Rule,
    downs,
    other,
    winner,
)

C, F, I = X.CREATE_CHILD_SA, X.IKE_FOLLOWUP_KE, X.INFORMATIONAL  # noqa: E741 - as in the pictures
REKEY = "rekey child"
ESPS = pytest.mark.parametrize("esp", [HYBRID, PLAIN, BARE], ids=["ADDKE", "KE", "no KE"])
EACH = pytest.mark.parametrize("lowest", LOWEST)
SIDES = pytest.mark.parametrize("name", ["moon", "sun"])


def check_rekeyed_once(pair: Collision, by: str | None = None) -> None:
    """The child was replaced once, by ``by``'s exchange; nobody counts a failure."""
    pair.check_rest()
    for side in pair.sides:
        made = side.ups[1:]
        assert len(made) == 1, side.name
        assert made[0].replaces == side.ups[0].spi_in
        assert [one.rekeyed for one in downs(side)] == [True]
        assert all(one.yielded for one in side.failures if one.what == "rekey")
    if by is not None:
        assert pair.side(by).ups[-1].role == "initiator"


@ESPS
@EACH
def test_both_rekey(esp, lowest):
    """
    rekey ------.  .------ rekey
          <-----'--'----->            both answer, both know all four nonces
    the winner goes on and deletes the old one, the loser deletes what it made
    """
    pair = Collision(esp=esp)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, winner(lowest))


@EACH
def test_only_one_has_additional_key_exchanges(lowest):
    """moon's exchange ends with CREATE_CHILD_SA, sun's goes on with IKE_FOLLOWUP_KE."""
    pair = Collision(moon={"esp": HYBRID + PLAIN}, sun={"esp": PLAIN + HYBRID})
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, winner(lowest))


@pytest.mark.parametrize("late", ["", "moon", "sun"])
@EACH
def test_both_guess_the_wrong_key_exchange(lowest, late):
    """
    rekey ------.  .------ rekey
          <-----'--'----->            N(INVALID_KE_PAYLOAD) both ways, both begin anew
    retry ------.  .------ retry      (one of them later)
    """
    pair = Collision(
        moon={"esp": ("aes256gcm16-x25519-ecp384-esn",)},
        sun={"esp": ("aes256gcm16-ecp384-x25519-esn",)},
    )
    rules = [Rule(late, C, 2, delay=0.3)] if late else []
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, *rules, lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair)


@pytest.mark.parametrize("delay", [0.08, 0.3, 3.0])
@SIDES
@ESPS
@EACH
def test_a_response_is_late(esp, lowest, name, delay):
    """
    rekey ------.  .------ rekey
          <-----'--'----->
          ------------.               the answer to one of them comes after the other was
          <-------------- F, Delete   completed, or even after the old one was deleted
          <-----------'
    """
    pair = Collision(esp=esp)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, C, response=True, delay=delay), lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, winner(lowest))


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("delay", [0.06, 0.11, 0.16, 0.22, 0.4])
@SIDES
@ESPS
def test_a_request_is_late_or_lost(esp, name, delay, lost):
    """
    rekey ----------.
          <------------- rekey        the other one does not see that both are at it:
          ---------------------->     it may have committed itself, sent IKE_FOLLOWUP_KE, or
          <------------- Delete       deleted the old one when the request comes
                      '----->         TEMPORARY_FAILURE, CHILD_SA_NOT_FOUND, or too late
    """
    pair = Collision(esp=esp)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, C, delay=delay, lost=lost))
    pair.run(QUIET)
    check_rekeyed_once(pair)


@pytest.mark.parametrize("delay", [0.3, 1.5])
@SIDES
def test_the_delete_overtakes_the_refusal(name, delay):
    """The TEMPORARY_FAILURE for the late request comes after the old one's Delete."""
    pair = Collision(esp=PLAIN)
    pair.watch_traffic()
    pair.meet(
        REKEY,
        REKEY,
        Rule(name, C, delay=0.07),
        Rule(other(name), C, response=True, delay=delay),
    )
    pair.run(QUIET)
    check_rekeyed_once(pair)


@SIDES
@EACH
def test_new_child_deleted_before_the_late_response(name, lowest):
    """
    rekey ------.  .------ rekey
          <-----'--'----->
          <-------------- Delete old, Delete new      by its operator or kernel
          <-------------- response, long after        what it makes is not wanted any more
    """
    pair = Collision(esp=PLAIN)
    pair.meet(REKEY, REKEY, Rule(name, C, response=True, delay=2.0), lowest=lowest)
    pair.run(0.5)
    pair.do(name, "delete child")
    pair.run(QUIET)
    pair.check_one_ike_sa()
    pair.check_settled()
    if pair.moon.facts.children:
        pair.check_mirrored()
    else:
        pair.check_empty()


@SIDES
@ESPS
@pytest.mark.parametrize("apart", [0.0, 0.04, 0.06, 0.11, 0.16, 0.22])
def test_rekey_against_delete(esp, name, apart):
    """
    rekey ------.  .------ Delete
          <-----'--'----->            CHILD_SA_NOT_FOUND, or the Delete of the old one comes
                                      between the steps of the rekey, or after it
    """
    pair = Collision(esp=esp)
    pair.arrange("moon Ni")
    pair.fault = pair.wire()
    pair.do(other(name), REKEY)
    pair.run(apart)
    pair.do(name, "delete child")
    pair.run(QUIET)
    pair.check_one_ike_sa()
    pair.check_settled()
    assert not pair.moon.closed
    if pair.moon.facts.children:
        pair.check_mirrored()
    else:
        pair.check_empty()
        pair.rekey(side=pair.side(name))  # and a new one can be made
        pair.run(10)
        pair.check_mirrored()


@SIDES
@pytest.mark.parametrize("rule", [{"lost": 2}, {"delay": 0.5}])
@pytest.mark.parametrize("exchange", [C, I])
def test_rekey_against_delete_and_one_of_them_is_late(name, rule, exchange):
    pair = Collision(esp=PLAIN)
    sender = name if exchange is I else other(name)
    pair.meet("nothing", "nothing", Rule(sender, exchange, **rule))
    pair.do(other(name), REKEY)
    pair.do(name, "delete child")
    pair.run(QUIET)
    pair.check_one_ike_sa()
    pair.check_settled()
    assert len(pair.moon.facts.children) == len(pair.sun.facts.children)


@pytest.mark.parametrize("rule", [{}, {"lost": 1}, {"delay": 1.2}, {"again": (0.1, 3.0)}])
@SIDES
def test_delete_against_delete(rule, name):
    """
    Delete -----.  .------ Delete
          <-----'--'----->            answered without a Delete payload (RFC 7296 1.4.1)
    """
    pair = Collision()
    pair.meet("delete child", "delete child", Rule(name, I, **rule))
    pair.run(QUIET)
    pair.check_one_ike_sa()
    pair.check_empty()
    pair.check_settled()


@SIDES
def test_peer_deletes_the_redundant_one_late(name):
    """The loser's Delete for what it made is lost for a while: it is in nobody's way."""
    lowest = f"{name} Ni"  # so ``name`` loses
    pair = Collision(esp=PLAIN)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, I, lost=3), lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, other(name))


# --- one side alone, and what the other end does meanwhile ------------------------------------


@SIDES
@ESPS
def test_responder_loses_the_new_child_before_the_old_one_is_deleted(name, esp):
    """
    rekey ----------------->
          <----------------- response
          <----------------- Delete new          before the Delete of the old one
    """
    pair = Collision(esp=esp)
    pair.meet("nothing", "nothing", Rule(name, I, delay=1.0))
    pair.do(name, REKEY)
    side = pair.side(other(name))
    pair.until(lambda: len(side.kernel.inbound()) == 2)
    pair.lose_child(side)
    pair.run(QUIET)
    pair.check_one_ike_sa()
    pair.check_settled()
    assert len(pair.moon.facts.children) == len(pair.sun.facts.children)


@SIDES
def test_responder_loses_the_new_child_before_the_response_is_there(name):
    """
    rekey ----------------->
          <----------. .---- Delete new          a Delete for a child we do not have yet
          <----------'------ response
    """
    pair = Collision(esp=PLAIN)
    pair.meet("nothing", "nothing", Rule(other(name), C, response=True, delay=1.0))
    pair.do(name, REKEY)
    side = pair.side(other(name))
    pair.until(lambda: len(side.kernel.inbound()) == 2)
    pair.lose_child(side)
    pair.run(QUIET)
    pair.check_rest()
    assert "before it was in use" in pair.side(name).failures[0].reason


@SIDES
def test_responder_deletes_the_old_one_although_it_is_not_its_to_delete(name):
    """Some do. The rekey goes on, and one child is there in the end."""
    pair = Collision(esp=PLAIN)
    pair.meet("nothing", "nothing", Rule(other(name), C, response=True, delay=0.5))
    pair.do(name, REKEY)
    side = pair.side(other(name))
    pair.until(lambda: len(side.kernel.inbound()) == 2)
    old = side.kernel.inbound()[0].sa_id
    side.endpoint.sa_expired(old, hard=True, now=pair.now)
    pair.run(QUIET)
    pair.check_rest()
    assert len(pair.side(name).ups) == 2


@SIDES
def test_hard_expiry_of_the_old_one_while_its_delete_is_awaited(name):
    pair = Collision(esp=PLAIN)
    pair.watch_traffic()
    pair.meet("nothing", "nothing", Rule(name, I, delay=2.0))
    pair.do(name, REKEY)
    side = pair.side(other(name))
    pair.until(lambda: len(side.ups) == 2)
    old = side.kernel.inbound()[0].sa_id
    side.endpoint.sa_expired(old, hard=False, now=pair.now)  # soft: policy's business
    side.endpoint.sa_expired(old, hard=True, now=pair.now)
    pair.run(QUIET)
    pair.check_rest()
    assert len(downs(side)) == 1


@SIDES
def test_peer_that_does_not_know_the_child(name):
    pair = Collision()
    side = pair.side(other(name))
    side.endpoint._sessions.all()[0].sa.children[0].spi_out ^= 1
    pair.meet("nothing", "nothing")
    pair.do(name, REKEY)
    pair.run(1)
    assert pair.side(name).failures[0].notify == "CHILD_SA_NOT_FOUND"
    assert not pair.side(name).failures[0].yielded
    pair.check_settled()


def test_delete_that_is_never_answered_ends_the_ike_sa_once():
    pair = Collision(esp=PLAIN)
    pair.meet("nothing", "nothing", Rule("sun", I, response=True, lost=99))
    pair.do("moon", REKEY)
    pair.run(QUIET + 100)
    assert len([one for one in downs(pair.moon) if one.rekeyed]) <= 1
    assert len(downs(pair.moon)) == 2
    pair.check_settled()


def test_grace_is_longer_than_an_unanswered_delete_takes():
    """Else the two ends would force each other's hand for no reason."""
    wait, total = limits.RETRANSMIT_BASE, 0.0
    for _ in range(limits.CLOSE_TRIES + 1):
        total, wait = total + wait, wait * limits.RETRANSMIT_FACTOR
    assert total < limits.REPLACED_GRACE
