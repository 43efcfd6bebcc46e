"""The table of limits in docs/ikev2.md is gateway/ike/limits.py."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.ike import limits

DOCUMENT = Path(__file__).parents[3] / "docs" / "ikev2.md"
ROW = re.compile(r"^\| ([A-Z_0-9]+) \| ([0-9.]+) \|", re.MULTILINE)


def test_every_limit_is_documented_with_its_value():
    documented = dict(ROW.findall(DOCUMENT.read_text()))
    real = {name: str(value) for name, value in vars(limits).items() if name.isupper()}
    assert documented == real


def test_time_until_a_peer_counts_as_lost():
    waits = [
        limits.RETRANSMIT_BASE * limits.RETRANSMIT_FACTOR**sent
        for sent in range(limits.RETRANSMIT_TRIES + 1)
    ]
    assert f"lost after {sum(waits):.0f} s" in DOCUMENT.read_text()
