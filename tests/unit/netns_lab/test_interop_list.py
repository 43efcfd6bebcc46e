"""The list of interoperability scenarios, its shares and its table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from netns_lab.interop import catalogue, front, report
from netns_lab.peers.fetch import BUNDLES


def test_every_scenario_has_a_name_of_its_own_a_description_and_known_peers() -> None:
    parts = catalogue.parts()
    labels = [part.label for part in parts]
    assert len(labels) == len(set(labels))
    assert all(part.scenario.what.endswith(".") for part in parts)
    assert {part.peer for part in parts} <= set(BUNDLES)


def test_words_choose_by_any_part_of_the_label() -> None:
    assert [part.label for part in catalogue.choose(["hybrid/strongswan/initiator"])] == [
        "hybrid/strongswan/initiator"
    ]
    assert {part.role for part in catalogue.choose(["/responder"])} == {"responder"}
    assert catalogue.choose([]) == catalogue.parts()
    assert catalogue.choose(["no such thing"]) == []


def test_shares_hold_every_scenario_once_and_none_is_empty() -> None:
    parts = catalogue.parts()
    shares = front.shared_out(parts, 3)
    assert sorted(part.label for share in shares for part in share) == sorted(
        part.label for part in parts
    )
    assert front.shared_out(parts[:1], 4) == [[parts[0]]]


def test_row_survives_its_file_and_line_tells_all(tmp_path: Path) -> None:
    part = catalogue.parts()[0]
    row = part.row("fail", version="6.1.0", negotiated="A | B", detail="why", seconds=1.5)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([asdict(row)]))
    assert report.load(file) == [row]
    assert report.load(tmp_path / "none.json") == []
    text = report.line(row)
    assert all(word in text for word in ("fail", row.peer, row.role, row.scenario, "A | B", "why"))


def test_totals_name_only_what_there_was() -> None:
    part = catalogue.parts()[0]
    assert report.totals([part.row("pass"), part.row("pass"), part.row("skip")]) == "2 pass, 1 skip"
