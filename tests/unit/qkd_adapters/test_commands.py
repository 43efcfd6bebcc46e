"""The command line of the key side: what is typed is what the processes are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from qkd_adapters import control
from qkd_adapters.cli import GROUPS, build_parser, main

STATUS = {
    "name": "moon-sun",
    "state": "suspect",
    "since": "2026-11-21T10:00:00+00:00",
    "key_rate": 0.0,
    "alarms": ["QBER 8 %"],
    "suspect_age": 61.25,
    "quarantined": 17,
    "sides": {},
    "directions": [],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    requests: list[list[str]] = []

    def request(_: str, words: Sequence[str]) -> Any:
        requests.append(list(words))
        return STATUS

    monkeypatch.setattr(control, "request", request)
    return requests


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["suspect"], ["suspect"]),
        (["suspect", "QBER", "8 %"], ["suspect", "QBER", "8 %"]),
        (["suspect", "--since", "60", "QBER"], ["suspect", "--since", "60", "QBER"]),
        (["rate", "5"], ["rate", "5"]),
        (["cut"], ["cut"]),
    ],
)
def test_linkctl_asks_what_was_typed(
    asked: list[list[str]], typed: list[str], words: list[str]
) -> None:
    assert main(["linkctl", "--socket", "x", *typed]) == 0
    assert asked == [words]


def test_linkctl_shows_since_when_a_link_is_suspect(
    asked: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["linkctl", "--socket", "x", "status"]) == 0
    shown = capsys.readouterr().out
    assert "alarm: QBER 8 %" in shown
    assert "last good 61.2 s ago" in shown
    assert "keys quarantined so far: 17" in shown


def test_every_group_has_a_command_and_help() -> None:
    usage = build_parser().format_help()
    for group in GROUPS:
        assert group.__name__.rpartition(".")[2] in usage
    with pytest.raises(SystemExit) as caught:
        main(["linkctl"])
    assert caught.value.code == 2
