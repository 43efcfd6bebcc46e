"""Keys of an IKE SA come out of the core on the lab's switch alone, and in Secrets alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway
from gateway.ike.commands import RecordIkeKeys
from tests.support.ike_pair import Pair

SOURCE = Path(gateway.__file__).parent


def live(pair: Pair) -> Pair:
    pair.initiate()
    pair.rekey()
    pair.rekey(side=pair.sun, ppk=False)
    pair.initiate(side=pair.sun)
    pair.run(31)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    return pair


def test_without_the_switch_no_key_leaves_the_core() -> None:
    pair = live(Pair(witnessed=False))
    assert len(pair.moon.ups) >= 4
    assert [side.recorded for side in pair.sides] == [[], []]


def test_without_the_switch_none_leaves_it_with_a_peer_of_rfc_8784(rfc8784_only) -> None:
    pair = live(Pair(witnessed=False))
    assert [side.recorded for side in pair.sides] == [[], []]


def test_one_place_makes_the_command_and_asks_for_the_switch() -> None:
    made = [
        (path.relative_to(SOURCE), node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "RecordIkeKeys"
    ]
    ((path, made_here),) = made
    guards = [
        node
        for node in ast.walk(ast.parse((SOURCE / path).read_bytes()))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "self.env.record_keys"
    ]
    ((guard),) = guards
    assert guard.lineno < made_here.lineno <= guard.end_lineno


@pytest.mark.parametrize("ppk", [True, False])
def test_with_it_both_ends_tell_of_every_generation(ppk: bool) -> None:
    pair = live(Pair(ppk="prefer" if ppk else "off"))
    told = [
        {(one.spi_i, one.spi_r, one.generation): (one.sk_ei, one.sk_er) for one in side.recorded}
        for side in pair.sides
    ]
    assert told[0] == told[1]
    assert len(told[0]) == len(pair.moon.recorded)
    assert {generation for _, _, generation in told[0]} == {0, 1}  # ML-KEM and PPK change it once
    assert len({keys[0].expose() for keys in told[0].values()}) == len(told[0])


def test_what_comes_out_shows_nothing_and_outlives_the_sa() -> None:
    pair = live(Pair())
    for one in pair.moon.recorded:
        assert isinstance(one, RecordIkeKeys)
        assert one.sk_ei.expose().hex() not in repr(one)
        assert not one.sk_ei.wiped  # a copy of its own; the SA's are gone
