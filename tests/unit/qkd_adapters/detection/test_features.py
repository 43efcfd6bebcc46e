from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qkd_adapters.detection.features import Receiver, Sample, measure
from qkd_adapters.detection.telemetry import BlockTelemetry, Level, Protocol
from tests.support.link_telemetry import DARK, Link, block


def level(name: str = "signal", **changes: float) -> Level:
    plain = Level(
        name=name,
        mean_photons=0.5,
        sent=1_000_000,
        clicks=10_000,
        tested_z=6_000,
        errors_z=120,
        tested_x=400,
        errors_x=8,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def telemetry(*levels: Level, **changes: object) -> BlockTelemetry:
    plain = BlockTelemetry(
        block=0,
        seconds=1.0,
        pulses=2_000_000,
        protocol=Protocol.DECOY_BB84,
        levels=levels,
        detector_clicks=(5000, 4000, 1200, 1000),
        double_clicks=12,
        arrival_mean=3.0,
        arrival_std=60.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def features(
    seen: BlockTelemetry, receiver: Receiver | None = None
) -> dict[str, tuple[float, float]]:
    layout, sample = measure(seen, receiver or Receiver())
    pairs = zip(sample.values.tolist(), sample.variances.tolist(), strict=True)
    return dict(zip(layout.names, pairs, strict=True))


def test_values_follow_from_the_counts() -> None:
    found = features(telemetry(level(), level("decoy", clicks=2_000)))
    assert found["loss"][0] == pytest.approx(20.0)  # 1 % of the pulses
    assert found["qber"][0] == pytest.approx(128 / 6400)
    assert found["qber_split"][0] == pytest.approx(0.0)
    assert found["decoy_ratio"][0] == pytest.approx(math.log(0.2))
    assert found["balance_z"][0] == pytest.approx(math.log(5 / 4))
    assert found["basis"][0] == pytest.approx(math.log(9000 / 2200))


def test_variances_are_binomial() -> None:
    found = features(telemetry(level(), level("decoy", clicks=2_000)))
    assert found["qber"][1] == pytest.approx(0.02 * 0.98 / 6400, rel=0.02)
    assert found["decoy_ratio"][1] == pytest.approx(1 / 2_000 + 1 / 10_000)
    assert found["balance_z"][1] == pytest.approx(1 / 5000 + 1 / 4000)
    assert found["arrival_mean"][1] == pytest.approx(60**2 / 11_200)


@pytest.mark.parametrize("name", ["qber", "decoy_ratio", "decoy_gap", "vacuum_yield"])
def test_noise_of_the_counts_is_the_variance_stated(name: str) -> None:
    rng = np.random.default_rng(5)
    receiver = Receiver(dark_yield=DARK)
    drawn = [features(block(i, rng), receiver)[name] for i in range(400)]
    values = np.array([value for value, _ in drawn])
    stated = float(np.mean([variance for _, variance in drawn]))
    assert values.var() == pytest.approx(stated, rel=0.25)


@pytest.mark.parametrize("name", ["qber", "decoy_ratio", "decoy_gap", "vacuum_yield"])
def test_more_loss_moves_the_loss_alone(name: str) -> None:
    # 6 dB more: the dark clicks' share is four times what it was.
    receiver = Receiver(dark_yield=DARK)

    def mean(link: Link) -> tuple[float, float]:
        rng = np.random.default_rng(6)
        drawn = [features(block(i, rng, link), receiver)[name] for i in range(100)]
        return (
            float(np.mean([value for value, _ in drawn])),
            math.sqrt(float(np.mean([variance for _, variance in drawn])) / 100),
        )

    near, near_sigma = mean(Link(eta=0.01))
    far, far_sigma = mean(Link(eta=0.0025))
    assert abs(near - far) < 5 * math.hypot(near_sigma, far_sigma) + 1e-3


def test_dark_counts_that_are_not_known_stay_in_the_error_rate() -> None:
    rng = np.random.default_rng(7)
    seen = block(0, rng, Link(eta=0.0005))
    assert features(seen)["qber"][0] > features(seen, Receiver(dark_yield=DARK))["qber"][0] + 0.01


def test_too_few_counts_say_nothing() -> None:
    found = features(
        telemetry(level(clicks=3, tested_z=2, errors_z=0), detector_clicks=(2, 1, 0, 0))
    )
    for name in ("loss", "qber", "balance_z", "arrival_mean", "double_clicks"):
        assert math.isnan(found[name][0]), name


def test_a_twin_field_link_has_no_dark_level() -> None:
    names = features(
        telemetry(level(), level("decoy3", mean_photons=0.0), protocol=Protocol.TWIN_FIELD)
    )
    assert "decoy3_ratio" in names
    assert "decoy3_gap" not in names


def test_cv_has_its_own_features() -> None:
    seen = telemetry(protocol=Protocol.CV, samples=1_000_000, excess_noise=0.01, transmittance=0.5)
    found = features(seen)
    assert found["loss"][0] == pytest.approx(3.0103, abs=1e-3)
    assert found["excess_noise"][0] == 0.01
    assert "qber" not in found


def test_a_sample_is_in_the_layouts_order() -> None:
    layout, sample = measure(telemetry(level()), Receiver())
    assert isinstance(sample, Sample)
    assert len(layout.names) == len(layout.groups) == len(sample.values) == len(sample.variances)
