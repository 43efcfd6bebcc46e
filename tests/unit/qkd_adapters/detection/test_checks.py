from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qkd_adapters.detection.alarms import AlarmKind, Severity
from qkd_adapters.detection.checks import check, single_photon_yield
from qkd_adapters.detection.telemetry import (
    BlockTelemetry,
    Classical,
    Level,
    Monitor,
    RandomnessHealth,
)
from tests.support.link_telemetry import Link, baseline, block

NORMAL = baseline()


def found(seen: BlockTelemetry) -> set[AlarmKind]:
    return {finding.kind for finding in check(seen, NORMAL)}


def good(**changes: object) -> BlockTelemetry:
    return block(5, np.random.default_rng(2), **changes)


def test_a_normal_block_has_no_findings() -> None:
    assert found(good()) == set()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"classical": Classical(auth_failures=1)}, AlarmKind.AUTH_FAILURE),
        ({"classical": Classical(unreachable=True)}, AlarmKind.CLASSICAL_DOWN),
        ({"classical": Classical(stall=30.0)}, AlarmKind.CLASSICAL_DOWN),
        ({"classical": Classical(verification_failures=1)}, AlarmKind.KEY_MISMATCH),
        ({"classical": Classical(efficiency=1.4)}, AlarmKind.EC_INEFFICIENT),
        ({"secret_bits": 0}, AlarmKind.SECRET_ZERO),
        ({"secret_bits": -5}, AlarmKind.SECRET_ZERO),
        ({"receiver": Monitor(photocurrent=20.0)}, AlarmKind.BLINDING),
        ({"receiver": Monitor(efficiency_check=0.98)}, AlarmKind.BLINDING),
        ({"receiver": Monitor(efficiency_check=0.02)}, AlarmKind.BLINDING),
        ({"receiver": Monitor(input_power=1.5)}, AlarmKind.INPUT_POWER),
        ({"sender": Monitor(input_power=1.5)}, AlarmKind.INPUT_POWER),
        ({"sender": Monitor(source_power=1.2)}, AlarmKind.SOURCE_POWER),
        ({"sender": Monitor(source_power=0.8)}, AlarmKind.SOURCE_POWER),
        ({"receiver": Monitor(shot_noise=1.05)}, AlarmKind.SOURCE_POWER),
        ({"sender": Monitor(temperature=45.0)}, AlarmKind.DEVICE),
        ({"receiver": Monitor(sync_offset=-400.0)}, AlarmKind.DEVICE),
        ({"receiver": Monitor(visibility=0.5)}, AlarmKind.DEVICE),
        ({"randomness": RandomnessHealth(sender_ok=False)}, AlarmKind.RNG_HEALTH),
        ({"randomness": RandomnessHealth(receiver_ok=False)}, AlarmKind.RNG_HEALTH),
        ({"randomness": RandomnessHealth(bias=-9.0)}, AlarmKind.RNG_HEALTH),
    ],
)
def test_what_is_forbidden_is_found(changes: dict[str, object], kind: AlarmKind) -> None:
    assert found(good(**changes)) == {kind}


@pytest.mark.parametrize(
    "changes",
    [
        {"secret_bits": None},
        {"classical": Classical(efficiency=1.16, retries=2, stall=1.0)},
        {"receiver": Monitor(efficiency_check=0.46, temperature=39.0, sync_offset=20.0)},
        {"randomness": RandomnessHealth(bias=3.5)},
    ],
)
def test_what_is_allowed_is_not(changes: dict[str, object]) -> None:
    assert found(good(**changes)) == set()


def test_a_cut_is_critical_and_takes_its_consequences_with_it() -> None:
    rng = np.random.default_rng(3)
    seen = block(0, rng, Link(eta=1e-9), receiver=Monitor(sync_offset=4000.0, visibility=0.0))
    (finding,) = check(seen, NORMAL)
    assert finding.kind is AlarmKind.LOSS
    assert finding.severity is Severity.CRITICAL


def test_without_the_peer_nothing_is_said_about_the_fibre() -> None:
    seen = good(classical=Classical(unreachable=True))
    levels = tuple(replace(level, clicks=0) for level in seen.levels)
    assert found(replace(seen, levels=levels)) == {AlarmKind.CLASSICAL_DOWN}


def test_a_self_test_of_few_clicks_is_not_taken_at_its_word() -> None:
    rng = np.random.default_rng(3)
    seen = block(0, rng, Link(eta=1e-4), receiver=Monitor(efficiency_check=0.85))
    assert AlarmKind.BLINDING not in {finding.kind for finding in check(seen, None)}


def test_suspicion_reaches_back_one_block() -> None:
    (finding,) = check(good(receiver=Monitor(photocurrent=20.0)), NORMAL)
    assert finding.since_block == 4


def level(mean: float, sent: int, clicks: int) -> Level:
    return Level(
        name="x",
        mean_photons=mean,
        sent=sent,
        clicks=clicks,
        tested_z=0,
        errors_z=0,
        tested_x=0,
        errors_x=0,
    )


def test_single_photon_yield_is_the_weak_decoy_bound() -> None:
    # GYS at 0 km (Ma, Qi, Zhao, Lo 2005): eta 0.045, Y0 1.7e-6; Y1 = Y0 + eta.
    gains = {mean: 1 - (1 - 1.7e-6) * np.exp(-0.045 * mean) for mean in (0.48, 0.05)}
    sent = 10**12
    value, sigma = single_photon_yield(
        level(0.48, sent, round(gains[0.48] * sent)),
        level(0.05, sent, round(gains[0.05] * sent)),
        1.7e-6,
    )
    assert 0.97 * 0.045 < value < 0.045
    assert sigma < 2e-6


def test_gains_without_single_photons_are_splitting() -> None:
    seen = good()
    signal, weak, vacuum = seen.levels
    split = replace(weak, clicks=weak.clicks // 10)
    assert found(replace(seen, levels=(signal, split, vacuum))) == {AlarmKind.DECOY_RATIO}


def test_more_than_a_click_per_photon_is_no_physics() -> None:
    seen = good()
    signal, weak, vacuum = seen.levels
    bright = replace(weak, clicks=weak.sent // 3)
    assert AlarmKind.UNEXPLAINED in found(replace(seen, levels=(signal, bright, vacuum)))
