"""Both ends do something to the same IKE SA at the same time (RFC 7296 2.8.2, 2.25.2).

A case is drawn with moon on the left. Each runs with the lowest nonce in every place, so that
each side wins, with IKE_FOLLOWUP_KE (RFC 9370 2.2.4) and without.
"""

from __future__ import annotations

import pytest

from gateway.ike import limits
from gateway.ike.registry import ExchangeType as X
from tests.support.collisions import (
    IKE_HYBRID,
    IKE_PLAIN,
    LOWEST,
    QUIET,
    Collision,
    Rule,
    downs,
    ike_rekeys,
    other,
    winner,
)

C, F, I = X.CREATE_CHILD_SA, X.IKE_FOLLOWUP_KE, X.INFORMATIONAL  # noqa: E741 - as in the pictures
REKEY = "rekey ike"
IKES = pytest.mark.parametrize("ike", [IKE_HYBRID, IKE_PLAIN], ids=["ADDKE", "KE"])
EACH = pytest.mark.parametrize("lowest", LOWEST)
SIDES = pytest.mark.parametrize("name", ["moon", "sun"])


def check_rekeyed_once(pair: Collision, by: str | None = None) -> None:
    """One new IKE SA with the child that was there; nobody counts a failure."""
    pair.check_rest()
    for side in pair.sides:
        made = ike_rekeys(side)
        assert len(made) == 1, side.name
        assert len(side.ups) == 1
        assert not downs(side)
        assert len(side.closed) == 1
        assert all(one.yielded for one in side.failures if one.what == "rekey-ike")
        if by is not None:
            assert made[0].role == ("initiator" if side.name == by else "responder")


@IKES
@EACH
def test_both_rekey(ike, lowest):
    """
    rekey ------.  .------ rekey
          <-----'--'----->            both answer, both know all four nonces
    the winner's takes the children and the winner deletes the old one; the loser deletes
    what it made, or makes nothing where IKE_FOLLOWUP_KE would be next
    """
    pair = Collision(ike=ike)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, winner(lowest))


@EACH
def test_only_one_has_additional_key_exchanges(lowest):
    short = ("aes256gcm16-prfsha512-x25519",)
    pair = Collision(
        moon={"ike": IKE_HYBRID + short}, sun={"ike": short + IKE_HYBRID}, allow_classical=True
    )
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, winner(lowest))


@pytest.mark.parametrize("late", ["", "moon", "sun"])
@pytest.mark.parametrize("more", ["", "-ke1_mlkem768"])
@EACH
def test_both_guess_the_wrong_key_exchange(lowest, late, more):
    """
    rekey ------.  .------ rekey
          <-----'--'----->            N(INVALID_KE_PAYLOAD) both ways, both begin anew
    retry ------.  .------ retry      (one of them later)
    """
    pair = Collision(
        moon={"ike": (f"aes256gcm16-prfsha512-x25519-ecp384{more}",)},
        sun={"ike": (f"aes256gcm16-prfsha512-ecp384-x25519{more}",)},
        allow_classical=True,
    )
    rules = [Rule(late, C, 2, delay=0.3)] if late else []
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, *rules, lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair)


@pytest.mark.parametrize("delay", [0.08, 0.12, 0.3, 3.0])
@SIDES
@IKES
@EACH
def test_a_response_is_late(ike, lowest, name, delay):
    """
    rekey ------.  .------ rekey
          <-----'--'----->
          ------------.               the answer to one of them comes after the redundant one
          <-------------- F, Delete   or the old one was deleted: the peer's stands, or ours
          <-----------'               once the answer is there; retransmission finds out
    """
    pair = Collision(ike=ike)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, C, response=True, delay=delay), lowest=lowest)
    pair.run(QUIET)
    check_rekeyed_once(pair, winner(lowest))


@pytest.mark.parametrize("lost", [0, 2])
@pytest.mark.parametrize("delay", [0.06, 0.11, 0.16, 0.22, 0.4])
@SIDES
@IKES
def test_a_request_is_late_or_lost(ike, name, delay, lost):
    """
    rekey ----------.
          <------------- rekey        the other one does not see that both are at it
          ---------------------->
          <------------- F, Delete    the old one goes, and our request with it, or
                      '----->         TEMPORARY_FAILURE where it still is; before or after
                                      the Delete
    """
    pair = Collision(ike=ike)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, C, delay=delay, lost=lost))
    pair.run(QUIET)
    check_rekeyed_once(pair)


@pytest.mark.parametrize("delay", [0.3, 1.5])
@SIDES
@IKES
def test_the_refusal_and_the_delete_change_places(ike, name, delay):
    pair = Collision(ike=ike)
    pair.watch_traffic()
    pair.meet(
        REKEY,
        REKEY,
        Rule(name, C, delay=0.07),
        Rule(other(name), C, response=True, delay=delay),
        Rule(other(name), I, delay=0.4),
    )
    pair.run(QUIET)
    check_rekeyed_once(pair)


@SIDES
@IKES
@pytest.mark.parametrize("apart", [0.0, 0.04, 0.06, 0.11, 0.16, 0.22])
def test_rekey_against_delete(ike, name, apart):
    """
    rekey ------.  .------ Delete
          <-----'--'----->            TEMPORARY_FAILURE, and the rekey is forgotten; or the
          F ----.  .------ Delete     Delete comes between the steps of the rekey; or after it,
          <-----'--'----->            and then both IKE SAs go
    """
    pair = Collision(ike=ike)
    pair.arrange("moon Ni")
    pair.fault = pair.wire()
    pair.do(other(name), REKEY)
    pair.run(apart)
    pair.do(name, "delete ike")
    pair.run(QUIET)
    pair.check_gone()


@SIDES
@pytest.mark.parametrize("rule", [{"lost": 2}, {"delay": 0.5}, {"again": (0.2, 4.0)}])
@pytest.mark.parametrize("exchange", [C, I])
@pytest.mark.parametrize("response", [False, True])
def test_rekey_against_delete_and_one_message_suffers(name, rule, exchange, response):
    """
    rekey ------.  .------ Delete     (late or lost)
          <-----'-------->            TEMPORARY_FAILURE
    """
    for sender in ("moon", "sun"):
        pair = Collision(ike=IKE_PLAIN)
        pair.meet("nothing", "nothing", Rule(sender, exchange, response=response, **rule))
        pair.do(other(name), REKEY)
        pair.do(name, "delete ike")
        pair.run(QUIET)
        pair.check_gone()


@pytest.mark.parametrize("rule", [{}, {"lost": 1}, {"lost": 9}, {"delay": 1.2}, {"again": (3.0,)}])
@pytest.mark.parametrize("response", [False, True])
@SIDES
def test_delete_against_delete(rule, response, name):
    """
    Delete -----.  .------ Delete
          <-----'--'----->            each answers, each ends
    """
    pair = Collision()
    pair.meet("delete ike", "delete ike", Rule(name, I, response=response, **rule))
    pair.run(QUIET)
    pair.check_gone()


@SIDES
def test_the_redundant_one_is_never_deleted_by_its_maker(name):
    """The loser's Delete is lost for good: the winner forgets the redundant one after a while."""
    pair = Collision(ike=IKE_PLAIN)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, I, lost=99), lowest=f"{name} Ni")
    pair.run(QUIET)
    check_rekeyed_once(pair, other(name))


@SIDES
@IKES
def test_the_old_one_is_never_deleted_by_the_winner(name, ike):
    """Forced by the other end after a grace."""
    lowest = "sun Ni" if name == "moon" else "moon Ni"  # so ``name`` wins
    pair = Collision(ike=ike)
    pair.watch_traffic()
    pair.meet(REKEY, REKEY, Rule(name, I, lost=99), lowest=lowest)
    pair.run(limits.REPLACED_GRACE - 5)
    pair.run(QUIET)
    check_rekeyed_once(pair, name)


@SIDES
@IKES
def test_after_temporary_failure_another_attempt_succeeds(name, ike):
    """
    rekey IKE ------------> while a child is being rekeyed: TEMPORARY_FAILURE
    rekey IKE ------------> later
    """
    pair = Collision(ike=ike)
    pair.watch_traffic()
    pair.meet("nothing", "nothing")
    pair.do(other(name), "rekey child")
    pair.run(0.02)
    pair.do(name, REKEY)
    pair.run(5)
    side = pair.side(name)
    refused = [one.notify for one in side.failures if one.what == "rekey-ike"]
    assert refused == ["TEMPORARY_FAILURE"]
    pair.do(name, REKEY)
    pair.run(QUIET)
    pair.check_rest()
    assert len(ike_rekeys(side)) == 1
