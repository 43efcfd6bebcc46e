"""The table of limits in docs/macsec.md is gateway/mka/limits.py."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.mka import limits

DOCUMENT = Path(__file__).parents[3] / "docs" / "macsec.md"
ROW = re.compile(r"^\| ([A-Z_]+) \| ([0-9.]+) \|", re.MULTILINE)


def test_every_timer_and_count_is_documented_with_its_value():
    documented = dict(ROW.findall(DOCUMENT.read_text()))
    sizes = re.compile(r"SIZE|_BODY|ALIGNMENT|OVERHEAD|EXHAUSTION|_MAX$|NEVER")
    real = {
        name: str(value)
        for name, value in vars(limits).items()
        if name.isupper() and (not sizes.search(name) or name in ("PEERS_MAX", "PARTICIPANTS_MAX"))
    }
    assert documented == real
