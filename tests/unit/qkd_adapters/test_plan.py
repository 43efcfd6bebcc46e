"""Plans: rates that hang together, and the command that prints them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qkd_adapters.cli import main
from qkd_adapters.optics.presets import preset, presets
from qkd_adapters.plan import plan, reach
from qkd_adapters.records import Protocol


@pytest.mark.parametrize("name", presets())
def test_a_plan_hangs_together(name: str) -> None:
    point = plan(preset(name))[-1]
    assert 0 <= point.secret_rate_finite <= point.secret_rate_asymptotic * 1.001
    assert point.secret_rate_asymptotic < point.sifted_rate
    if point.secret_rate_finite > 0:
        assert point.key_seconds == pytest.approx(256 / point.secret_rate_finite)
    else:
        assert point.key_seconds is None


@pytest.mark.parametrize(
    "name",
    ["gig-apd", "gig-apd-1decoy", "metro-10us", "metro-plain", "lab-decoy", "lab-plain",
     "pairs-metro", "tf-300km", "cv-metro"],
)  # fmt: skip
def test_generic_devices_make_key_from_finite_blocks(name: str) -> None:
    assert plan(preset(name))[0].secret_rate_finite > 0


@pytest.mark.parametrize("name", ["lab-decoy", "lab-plain"])
def test_lab_devices_make_key_from_one_second(name: str) -> None:
    model = preset(name)
    sifted = plan(model)[0].sifted_rate
    point = plan(model, block_bits=int(sifted))[0]
    assert point.block_seconds == pytest.approx(1.0, rel=1e-3)
    assert point.secret_rate_finite > 256


def test_larger_blocks_cost_less() -> None:
    model = preset("lab-decoy")
    rates = [plan(model, block_bits=bits)[0].secret_rate_finite for bits in (10**5, 10**6, 10**7)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_distance_and_loss_say_the_same() -> None:
    model = preset("gig-apd")
    assert plan(model, distances=[50.0]) == plan(model, losses=[10.0])


def test_a_link_without_decoys_is_tuned_to_its_loss() -> None:
    model = preset("lab-plain")
    tuned = plan(model, losses=[15.0])[0]
    fixed = plan(replace(model, channel=replace(model.channel, length_km=75.0)))[0]
    assert tuned.secret_rate_asymptotic == fixed.secret_rate_asymptotic > 0


def test_beyond_the_reach_there_is_no_key() -> None:
    model = preset("lab-decoy")
    edge = reach(model)
    near, far = plan(model, losses=[edge - 0.2, edge + 0.2])
    assert near.secret_rate_finite > 0
    assert far.secret_rate_finite == 0
    assert far.key_seconds is None


def test_a_satellite_is_planned_along_its_pass() -> None:
    points = plan(preset("micius-like"))
    assert [p.loss_db for p in points] == sorted((p.loss_db for p in points), reverse=True)
    assert points[-1].distance_km == pytest.approx(645, abs=2)
    with pytest.raises(ValueError, match="no fibre"):
        plan(preset("micius-like"), distances=[10.0])


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "gig-apd", "lab-plain", "--loss", "5", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["preset"] for each in found] == ["gig-apd", "lab-plain"]
    assert [point["loss_db"] for point in found[0]["points"]] == [5.0, 10.0]
    assert found[0]["provenance"].startswith("modelled")


def test_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "gig-apd", "--distance", "50", "150"]) == 0
    out = capsys.readouterr().out
    assert "50.0 km" in out
    assert "no key" in out


def test_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plan.svg"
    assert main(["plan", "lab-decoy", "micius-like", "--picture", str(picture)]) == 0
    assert b"<svg" in picture.read_bytes()[:2000]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["plan", "unknown"], "no preset"),
        (["plan", "gig-apd", "--loss", "-3"], "loss of -3 dB"),
        (["plan", "micius-like", "--distance", "10"], "no fibre"),
        (["plan", *["gig-apd"] * 8, "--picture", "x.png"], "more than 7"),
        (["plan", "lab-plain", "--picture", "/nowhere/x.png"], "No such file"),
    ],
)
def test_command_refuses(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["protocol"] for row in rows} == {each.value for each in Protocol}
    assert main(["presets"]) == 0
    assert "modelled" in capsys.readouterr().out
