"""How many MKPDUs may get lost one after the other (Table 9-3)."""

from __future__ import annotations

import pytest

from gateway.mka.events import PeerLost
from tests.support.mka_lan import lan


@pytest.mark.parametrize("seed", range(6))  # of how long frames take
@pytest.mark.parametrize(("lost", "survives"), [(1, True), (2, True), (3, False)])
def test_one_hello_of_three_is_enough(seed: int, lost: int, survives: bool) -> None:
    one = lan(seed=seed)
    one.run(20.0)
    left = lost

    def cut(source: int, _target: int) -> bool:
        nonlocal left
        left -= source == 0
        return source == 0 and left >= 0

    one.cut = cut
    one.run(15.0)
    assert left < 0
    assert (not one.members[1].saw(PeerLost)) is survives
    assert one.one_sak()
