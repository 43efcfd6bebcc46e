"""Whatever both ends want at the same time, and whatever one message suffers: the end is the same.

moon: rekey child | rekey ike | delete child | delete ike | initiate
sun:  the same, begun at the same moment
one message of either, by exchange and number: delayed a little or for long, lost once or
several times, or repeated up to half a minute later
"""

from __future__ import annotations

from itertools import product

import pytest

from gateway.ike.registry import ExchangeType as X
from tests.support.collisions import (
    HYBRID,
    IKE_HYBRID,
    IKE_PLAIN,
    LOWEST,
    PLAIN,
    QUIET,
    Collision,
    Rule,
    ike_rekeys,
    winner,
)

ACTIONS = ("rekey child", "rekey ike", "delete child", "delete ike")
KINDS = [
    (exchange, response)
    for exchange in (X.CREATE_CHILD_SA, X.IKE_FOLLOWUP_KE, X.INFORMATIONAL)
    for response in (False, True)
]
FATES: tuple[dict[str, object], ...] = (
    {"delay": 0.12},
    {"delay": 0.7},
    {"lost": 1},
    {"lost": 3},
    {"again": (0.2, 2.0, 30.0)},
)
RULES = [
    Rule(sender, exchange, nth, response, **fate)  # type: ignore[arg-type]
    for sender in ("moon", "sun")
    for exchange, response in KINDS
    for nth in (1, 2)
    for fate in FATES
]


def check_end(pair: Collision, moon: str, sun: str) -> None:
    both = (moon, sun)
    if "delete ike" in both:
        pair.check_gone()
    elif "delete child" in both:
        pair.check_one_ike_sa()
        pair.check_settled()
        if any(side.facts.children for side in pair.sides):
            pair.check_mirrored()
        else:
            pair.check_empty()
    else:
        pair.check_rest()


@pytest.mark.parametrize("esp", [HYBRID, PLAIN], ids=["ADDKE", "plain"])
@pytest.mark.parametrize(("moon", "sun"), list(product(ACTIONS, ACTIONS)))
def test_both_at_once(moon, sun, esp):
    for lowest in LOWEST:
        pair = Collision(esp=esp, ike=IKE_HYBRID if esp is HYBRID else IKE_PLAIN)
        if "delete" not in moon + sun:
            pair.watch_traffic()
        pair.meet(moon, sun, lowest=lowest)
        pair.run(QUIET)
        check_end(pair, moon, sun)


@pytest.mark.parametrize("esp", [HYBRID, PLAIN], ids=["ADDKE", "plain"])
@pytest.mark.parametrize(("moon", "sun"), list(product(ACTIONS, ACTIONS)))
def test_one_message_suffers(moon, sun, esp):
    """Every seventh of the cases, another seventh for each pair of actions."""
    offset = ACTIONS.index(moon) * 4 + ACTIONS.index(sun) + len(esp[0])
    for number, (rule, lowest) in enumerate(product(RULES, LOWEST)):
        if (number + offset) % 7:
            continue
        pair = Collision(esp=esp, ike=IKE_HYBRID if esp is HYBRID else IKE_PLAIN)
        if "delete" not in moon + sun:
            pair.watch_traffic()
        pair.meet(moon, sun, rule, lowest=lowest)
        pair.run(QUIET)
        check_end(pair, moon, sun)


@pytest.mark.parametrize("lowest", LOWEST)
@pytest.mark.parametrize("esp", [HYBRID, PLAIN], ids=["ADDKE", "plain"])
@pytest.mark.parametrize("action", ["rekey child", "rekey ike"])
def test_the_lowest_nonce_is_the_redundant_ones(action, esp, lowest):
    pair = Collision(esp=esp, ike=IKE_HYBRID if esp is HYBRID else IKE_PLAIN)
    pair.meet(action, action, lowest=lowest)
    pair.run(QUIET)
    for side in pair.sides:
        made = ike_rekeys(side) if action == "rekey ike" else side.ups[1:]
        assert len(made) == 1
        assert made[0].role == ("initiator" if side.name == winner(lowest) else "responder")
        yielded = [one.yielded for one in side.failures]
        assert yielded == ([] if side.name == winner(lowest) else [True])
