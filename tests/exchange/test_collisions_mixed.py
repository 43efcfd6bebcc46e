"""One end does something to a Child SA, the other to the IKE SA (RFC 7296 2.25.1, 2.25.2).

rekey child -----.  .------ rekey IKE
          <------'--'----->               TEMPORARY_FAILURE both ways, both try again
delete child ----.  .------ rekey IKE
          <------'--'----->               the child goes, the rekey is tried again
rekey child -----.  .------ delete IKE
          <------'--'----->               TEMPORARY_FAILURE, and all is gone
delete child ----.  .------ delete IKE
          <------'--'----->               all is gone
"""

from __future__ import annotations

import pytest

from gateway.ike.registry import ExchangeType as X
from tests.support.collisions import (
    HYBRID,
    IKE_HYBRID,
    IKE_PLAIN,
    PLAIN,
    QUIET,
    Collision,
    Rule,
    ike_rekeys,
    other,
)

BOTH = pytest.mark.parametrize(
    ("esp", "ike"), [(HYBRID, IKE_HYBRID), (PLAIN, IKE_PLAIN)], ids=["ADDKE", "KE"]
)
SIDES = pytest.mark.parametrize("name", ["moon", "sun"])
APART = pytest.mark.parametrize("apart", [0.0, 0.04, 0.06, 0.11, 0.16, 0.22])


@BOTH
@SIDES
@pytest.mark.parametrize("first", ["child", "ike"])
@APART
def test_rekey_of_the_child_against_rekey_of_the_ike_sa(esp, ike, name, first, apart):
    """Whoever is first may go on; nobody's traffic suffers, and both succeed in the end."""
    pair = Collision(esp=esp, ike=ike)
    pair.watch_traffic()
    pair.arrange("moon Ni")
    pair.fault = pair.wire()
    wishes = [(name, "rekey child"), (other(name), "rekey ike")]
    if first == "ike":
        wishes.reverse()
    pair.do(*wishes[0])
    pair.run(apart)
    pair.do(*wishes[1])
    pair.run(QUIET)
    pair.check_rest()
    for who, wish in wishes:  # again, for those that had to give way
        if [one for one in pair.side(who).failures if one.what != "respond"]:
            pair.do(who, wish)
            pair.run(10)
    pair.check_rest()
    assert len(ike_rekeys(pair.moon)) == len(ike_rekeys(pair.sun)) == 1
    assert len(pair.moon.ups) == len(pair.sun.ups) == 2


@BOTH
@SIDES
@APART
def test_delete_of_the_child_against_rekey_of_the_ike_sa(esp, ike, name, apart):
    """The Delete is sent in the old IKE SA and names a child that may be in the new one."""
    for first in ("delete child", "rekey ike"):
        pair = Collision(esp=esp, ike=ike)
        pair.arrange("moon Ni")
        pair.fault = pair.wire()
        wishes = [(name, "delete child"), (other(name), "rekey ike")]
        if first == "rekey ike":
            wishes.reverse()
        pair.do(*wishes[0])
        pair.run(apart)
        pair.do(*wishes[1])
        pair.run(QUIET)
        pair.check_one_ike_sa()
        pair.check_empty()
        pair.check_settled()


@BOTH
@SIDES
@APART
@pytest.mark.parametrize("wish", ["rekey child", "delete child"])
def test_child_against_the_end_of_the_ike_sa(esp, ike, name, wish, apart):
    for first in (wish, "delete ike"):
        pair = Collision(esp=esp, ike=ike)
        pair.arrange("moon Ni")
        pair.fault = pair.wire()
        wishes = [(name, wish), (other(name), "delete ike")]
        if first == "delete ike":
            wishes.reverse()
        pair.do(*wishes[0])
        pair.run(apart)
        pair.do(*wishes[1])
        pair.run(QUIET)
        pair.check_gone()


@SIDES
@pytest.mark.parametrize("fate", [{"lost": 2}, {"delay": 0.5}, {"again": (0.2, 3.0, 20.0)}])
@pytest.mark.parametrize("response", [False, True])
def test_refusals_that_suffer(name, fate, response):
    """Both get TEMPORARY_FAILURE, one of them late or by a retransmission."""
    pair = Collision()
    pair.watch_traffic()
    rule = Rule(name, X.CREATE_CHILD_SA, response=response, **fate)
    pair.meet("rekey child", "rekey ike", rule)
    pair.run(QUIET)
    pair.check_rest()
