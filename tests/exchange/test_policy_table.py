"""Who insists on what, and who has the key: the table of docs/ikev2.md, row by row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.ike.config import PpkMode
from gateway.model import Ppk
from tests.support.ike_pair import Pair

DOCUMENT = Path(__file__).parents[2] / "docs" / "ikev2.md"
ROW = re.compile(r"\| (require|prefer|off) \| (require|prefer|off) \| (\S+) \| (\S+) \|")
TABLE = ROW.findall(DOCUMENT.read_text())


def offered(pair: Pair, kind: str) -> Ppk | None:
    match kind:
        case "both":
            return pair.key()
        case "differs":
            return pair.key(at_peer=bytes(32))
        case "missing":
            return pair.key(at_peer=None)
        case _:
            return None


def test_every_pair_of_modes_is_documented():
    assert {(ours, theirs) for ours, theirs, *_ in TABLE} == {
        (ours, theirs) for ours in PpkMode for theirs in PpkMode
    }
    assert len(TABLE) == 9


@pytest.mark.parametrize("kind", ["both", "missing", "differs", "none"])
@pytest.mark.parametrize("act", ["initiate", "rekey_child"])
@pytest.mark.parametrize("row", TABLE, ids="-".join)
def test_outcome(row, act, kind):
    ours, theirs, with_key, without = row
    pair = Pair(toy_kex=True)
    if act == "rekey_child":
        pair.initiate()
    before = [len(side.ups) for side in pair.sides]
    for side, mode in zip(pair.sides, (ours, theirs), strict=True):
        side.endpoint.set_ppk_mode("net", PpkMode(mode), pair.now)
    getattr(pair.moon.endpoint, act)("net", ppk=offered(pair, kind), now=pair.now)
    pair.run(8)
    expected = with_key if kind == "both" else without
    for side, count in zip(pair.sides, before, strict=True):
        new = [up.mixed.protection.name for up in side.ups[count:]]
        assert new == ([] if expected == "none" else [expected])
    if expected == "none":
        assert pair.moon.failures[-1].ppk_missing
    pair.check_settled()


@pytest.mark.parametrize("act", ["initiate", "rekey_child"])
def test_required_while_an_attempt_without_a_key_is_under_way(act):
    """What counts is the mode when the peer's answer is here."""
    pair = Pair(toy_kex=True, fault=lambda flight: [(0.05, flight.data)])
    if act == "rekey_child":
        pair.initiate()
        pair.run(1)
    before = len(pair.moon.ups)
    getattr(pair.moon.endpoint, act)("net", ppk=None, now=pair.now)
    pair.run(0.07)
    pair.moon.endpoint.set_ppk_mode("net", PpkMode.REQUIRE, pair.now)
    pair.run(10)
    assert len(pair.moon.ups) == before
    assert pair.moon.failures[-1].ppk_missing
