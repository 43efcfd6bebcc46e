"""What a pair is shipped with, and what Alice makes of her blocks with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qkd_adapters.detection.telemetry import Protocol as Kind
from qkd_adapters.device.alice import MAX_STRIDE, _Thrift
from qkd_adapters.device.datasheet import level_names, load_datasheet
from qkd_adapters.device.observe import bits_unlike
from qkd_adapters.errors import FactoryError, KmeConfigError, KmeStartupError
from qkd_adapters.factory import Order, calibration, datasheet, ordered_model, ship
from qkd_adapters.optics.presets import presets
from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing.estimate import Estimate
from qkd_adapters.postprocessing.outcome import Outcome
from qkd_adapters.records import Monitor, Record


@pytest.mark.parametrize("name", presets())
def test_every_preset_has_a_datasheet(name: str, tmp_path: Path) -> None:
    model = ordered_model(Order(preset=name))
    path = tmp_path / "pair.toml"
    path.write_text(datasheet(model))
    sheet = load_datasheet(path)
    assert sheet.protocol is model.protocol
    assert sheet.intensities == model.intensities
    # It says what the devices do, not what the fibre between them loses.
    assert "loss" not in path.read_text().partition("[pair]")[2]


def test_levels_have_the_detections_names() -> None:
    assert level_names((0.5, 0.1, 0.0007)) == ("signal", "decoy", "vacuum")
    assert level_names((0.5, 0.1)) == ("signal", "decoy")
    assert level_names(()) == ()


def test_a_pair_is_shipped_once(tmp_path: Path) -> None:
    order = Order(preset="lab-plain", block=0.1, blocks=50)
    sheet, baseline, psk = ship(order, tmp_path, regions=2)
    assert (sheet.name, baseline.name, psk.name) == ("pair.toml", "baseline.json", "pair.psk")
    assert psk.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KmeStartupError, match="exists"):
        ship(order, tmp_path, regions=2)


@pytest.mark.parametrize("order", [Order(preset="none"), Order(preset="lab-plain", loss_db=-1.0)])
def test_a_pair_nobody_makes(order: Order, tmp_path: Path) -> None:
    with pytest.raises(FactoryError):
        ship(order, tmp_path, regions=1)


def test_the_bench_calibrates_what_counts_alone_do_not_tell(tmp_path: Path) -> None:
    order = Order(preset="pairs-metro", block=0.02, blocks=40)
    path = tmp_path / "pair.toml"
    path.write_text(datasheet(ordered_model(order)))
    baseline = calibration(order, load_datasheet(path), np.random.default_rng(1))
    assert baseline.protocol is Kind.BBM92
    assert baseline.features["qber"].mean == pytest.approx(0.019, abs=0.006)


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.5, 0.1", "0.5"), ('"decoy-bb84"', '"bb85"'), ("intensities", "brightness")],
)
def test_a_datasheet_that_is_none(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "pair.toml"
    text = '[pair]\nmodel = "x"\nprotocol = "decoy-bb84"\nintensities = [0.5, 0.1]\n'
    path.write_text((text + "probabilities = [0.5, 0.5]\n").replace(old, new))
    with pytest.raises(KmeConfigError, match=r"pair\.toml"):
        load_datasheet(path)


def test_bits_where_the_bases_differed() -> None:
    record = Record(
        block=1,
        start=0.0,
        seconds=1.0,
        pulses=100,
        columns={
            "index": np.array([3, 5, 8, 9], dtype=np.uint64),
            "basis": np.array([0, 1, 0, 1], dtype=np.uint8),
            "bit": np.array([1, 0, 1, 1], dtype=np.uint8),
        },
        totals={},
        monitor=Monitor(),
    )
    none = np.empty(0, dtype=np.uint8)
    message = wire.Detections(
        block=1,
        pulses=100,
        indices=np.array([3, 5, 9, 50], dtype=np.int64),
        basis=np.array([1, 1, 0, 0], dtype=np.uint8),
        detector=none,
        intensity=none,
    )
    assert bits_unlike(record, wire.encode(message)).tolist() == [1, 1]
    assert not len(bits_unlike(record, b"garbage"))
    assert not len(bits_unlike(replace(record, columns={}), wire.encode(message)))


def test_blocks_that_only_cost_are_worked_on_less_and_less() -> None:
    thrift = _Thrift()
    costs = Outcome(
        block=1, keys=(), estimate=Estimate(secret_bits=0), counts=None, auth_bits_used=768
    )
    for _ in range(10):
        thrift.learn(costs)
    assert [thrift.spare() for _ in range(MAX_STRIDE)].count(False) == 1
    thrift.learn(replace(costs, estimate=Estimate(secret_bits=5000)))
    assert not thrift.spare()
    # A block that is refused before its first tag costs nothing.
    thrift.learn(replace(costs, auth_bits_used=0))
    assert not thrift.spare()
