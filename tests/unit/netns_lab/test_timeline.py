"""The picture of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns_lab.timeline import Timeline, bands, draw, load

LINE = Timeline(
    end=60.0,
    protection={
        "moon": [(0.0, "DOWN"), (5.0, "HYBRID"), (30.0, "PQC_ONLY"), (45.0, "HYBRID")],
        "sun": [(0.0, "DOWN"), (5.1, "HYBRID")],
    },
    pool={"moon": [(1.0, 0, None), (2.0, 2, 4)], "sun": []},
    rekeys=[(10.0, "HYBRID"), (30.0, "PQC_ONLY")],
    traffic=(6.0, 55.0),
    bin_seconds=0.1,
    loss={"alice to bob": [0, 3, 0], "bob to alice": [0, 0, 0]},
    marks=[(20.0, "quantum link cut"), (40.0, "healed")],
)


def test_equal_neighbours_are_one_band_and_the_last_lasts_to_the_end() -> None:
    changes = [(0.0, "DOWN"), (5.0, "HYBRID"), (7.0, "HYBRID"), (9.0, "BLOCKED")]
    assert bands(changes, 20.0) == [
        (0.0, 5.0, "DOWN"),
        (5.0, 9.0, "HYBRID"),
        (9.0, 20.0, "BLOCKED"),
    ]
    assert bands([], 20.0) == []


def test_a_saved_run_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    LINE.save(tmp_path / "timeline.json")
    draw(load(tmp_path / "timeline.json"), tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
