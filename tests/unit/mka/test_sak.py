"""Association numbers and SSCIs."""

from __future__ import annotations

import pytest

from gateway.mka.identifiers import MemberId
from gateway.mka.sak import free_an, sscis_by_list, sscis_by_sci
from tests.support.mka_lan import sci_of

A, B, C = (MemberId(bytes((number,)) * 12) for number in range(3))


@pytest.mark.parametrize(
    ("last", "taken", "an"),
    [
        (None, [], 0),
        (0, [0], 1),
        (3, [3], 0),
        (3, [3, 0], 1),
        (1, [2, 3], 0),
        (2, [0, 1, 2, 3], None),
    ],
)
def test_association_numbers_go_round(last, taken, an):
    assert free_an(last, taken) == an


def test_the_greatest_sci_is_the_first():
    assert sscis_by_sci({A: sci_of(1), B: sci_of(3), C: sci_of(2)}) == {B: 1, C: 2, A: 3}


@pytest.mark.parametrize(
    ("ssci", "expected"),
    [(1, {A: 1, B: 2, C: 3}), (2, {A: 2, B: 1, C: 3}), (3, {A: 3, B: 1, C: 2}), (0, {}), (4, {})],
)
def test_the_list_of_the_key_server_is_in_order(ssci, expected):
    assert sscis_by_list(A, ssci, [B, C]) == expected
