"""Key lengths: as published where there are figures, falling with noise, nothing for nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from qkd_adapters.postprocessing import continuous, decoy, single_photon, twin_field
from qkd_adapters.postprocessing.estimate import Counts, Level, Moments, entropy
from qkd_adapters.postprocessing.settings import (
    ContinuousVariable,
    DecoyBb84,
    Detection,
    PlainBb84,
    TwinField,
)

EPS = {"eps_sec": 1e-9, "eps_cor": 2.0**-63}
ONE = DecoyBb84(intensities=(0.5, 0.1), probabilities=(0.7, 0.3))
TWO = DecoyBb84(intensities=(0.5, 0.1, 0.0002), probabilities=(0.6, 0.3, 0.1))


def counts(
    scheme: DecoyBb84, *, pulses: float = 1e11, qber: float = 0.01, eta: float = 1e-3
) -> Counts:
    """Of a link with that error rate and half of the pulses in each basis."""
    levels = []
    for mu, p in zip(scheme.intensities, scheme.probabilities, strict=True):
        n = round(pulses * p / 4 * (1 - math.exp(-eta * mu) + 1e-6))
        m = round(pulses * p / 4 * (qber * (1 - math.exp(-eta * mu)) + 0.5e-6))
        levels.append(Level(tested_z=n, tested_x=n, errors_z=m, errors_x=m))
    made = Counts(pulses=int(pulses), levels=tuple(levels), leak=0)
    leak = 1.08 * made.sifted_z * entropy(made.errors_z / made.sifted_z)
    return replace(made, leak=round(leak))


@pytest.mark.parametrize("scheme", [ONE, TWO], ids=["one decoy", "two decoys"])
def test_decoy_length_falls_with_noise_and_rises_with_statistics(scheme: DecoyBb84) -> None:
    by_noise = [
        decoy.estimate(scheme, counts(scheme, qber=q), **EPS).secret_bits
        for q in (0.005, 0.02, 0.04, 0.06)
    ]
    assert by_noise == sorted(by_noise, reverse=True)
    assert by_noise[0] > 0
    rates = [
        decoy.estimate(scheme, counts(scheme, pulses=n), **EPS).secret_bits / n
        for n in (3e10, 1e11, 1e12)
    ]
    assert 0 < rates[0] < rates[1] < rates[2]


@pytest.mark.parametrize("scheme", [ONE, TWO], ids=["one decoy", "two decoys"])
@pytest.mark.parametrize("qber", [0.11, 0.25, 0.5])
def test_decoy_length_is_zero_above_the_threshold_and_says_why(
    scheme: DecoyBb84, qber: float
) -> None:
    estimate = decoy.estimate(scheme, counts(scheme, qber=qber), **EPS)
    assert estimate.secret_bits == 0
    assert estimate.reason


def test_splitting_photon_numbers_leaves_a_decoy_link_nothing() -> None:
    """Multi-photon pulses are forwarded, single photons blocked: signal gain as before."""
    honest = counts(ONE)
    signal, weak = honest.levels
    starved = replace(weak, tested_z=weak.tested_z // 4, tested_x=weak.tested_x // 4)
    attacked = replace(honest, levels=(signal, starved))
    assert decoy.estimate(ONE, honest, **EPS).secret_bits > 0
    assert decoy.estimate(ONE, attacked, **EPS).secret_bits == 0


def test_bounds_hold_for_a_known_channel() -> None:
    """Without margins: at most the true number of single photons, at least the true error rate."""
    for scheme, bound in ((ONE, decoy.one_decoy), (TWO, decoy.two_decoys)):
        known = counts(scheme, pulses=1e15)
        found = bound(scheme, known, None)
        true = sum(
            1e15 * p / 4 * mu * math.exp(-mu) * (1e-3 + 1e-6)
            for mu, p in zip(scheme.intensities, scheme.probabilities, strict=True)
        )
        assert 0.8 * true < found.single_z <= true * (1 + 1e-6)
        assert found.phase_error >= 0.01


@pytest.mark.parametrize(
    "scheme",
    [
        DecoyBb84(intensities=(0.1, 0.5), probabilities=(0.5, 0.5)),
        DecoyBb84(intensities=(0.5,), probabilities=(1.0,)),
    ],
)
def test_intensities_that_make_no_decoys_are_refused(scheme: DecoyBb84) -> None:
    with pytest.raises(ValueError, match="intensities"):
        decoy.estimate(scheme, Counts(pulses=1, levels=(), leak=0), **EPS)


def test_pairs_follow_the_published_formula() -> None:
    n = k = 100_000
    level = Level(tested_z=n, tested_x=k, errors_z=2_000, errors_x=2_000)
    given = Counts(pulses=0, levels=(level,), leak=15_000)
    margin = math.sqrt((n + k) * (k + 1) / (n * k * k) * math.log(2 / 1e-9))
    expected = n * (1 - entropy(0.02 + margin)) - 15_000 - 2 * math.log2(1e9) - 64
    assert single_photon.estimate_pairs(given, **EPS).secret_bits == math.floor(expected)


def test_without_decoys_only_weak_pulses_give_key() -> None:
    def bits(mu: float) -> int:
        eta, pulses = 0.05, 1e10
        n = round(pulses / 4 * eta * mu)
        level = Level(
            sent_z=round(pulses / 2),
            sent_x=round(pulses / 2),
            tested_z=n,
            tested_x=n,
            errors_z=n // 100,
            errors_x=n // 100,
        )
        leak = round(1.08 * n * entropy(0.01))
        given = Counts(pulses=int(pulses), levels=(level,), leak=leak)
        return single_photon.estimate_plain(PlainBb84(mu=mu), given, **EPS).secret_bits

    assert bits(0.03) > 0
    assert bits(0.2) == 0


def twin_counts(pulses: float, extra: float = 1.0) -> tuple[TwinField, Counts]:
    """Of a link with 2 % misalignment; ``extra`` multiplies clicks of one end's bright pulses."""
    scheme = TwinField(intensities=(0.02, 0.2, 0.02, 0.0), probabilities=(0.7, 0.1, 0.1, 0.1))
    arm, dark = 0.01, 1e-9
    key = 2 * (arm * 0.02 + dark)  # one of two detectors, to first order
    sifted = round(pulses * 0.49 * key)
    test = scheme.intensities[1:]
    pairs = tuple(
        tuple(
            round(pulses * 0.01 * (arm * (a + b) + 2 * dark) * (extra if abs(a - b) > 0.1 else 1))
            for b in test
        )
        for a in test
    )
    level = Level(tested_z=sifted, errors_z=round(0.02 * sifted))
    leak = round(1.1 * sifted * entropy(0.02))
    return scheme, Counts(pulses=int(pulses), levels=(level,), leak=leak, pairs=pairs)


def test_twin_field_gives_key_only_where_the_test_states_vouch_for_it() -> None:
    scheme, given = twin_counts(1e13)
    good = twin_field.estimate(scheme, given, **EPS)
    assert good.secret_bits > 0
    assert good.phase_error < 0.25
    scheme, attacked = twin_counts(1e13, extra=8.0)
    assert twin_field.estimate(scheme, attacked, **EPS).secret_bits < good.secret_bits
    bare = replace(given, pairs=())
    assert twin_field.estimate(scheme, bare, **EPS).secret_bits == 0
    scheme, few = twin_counts(1e9)
    assert twin_field.estimate(scheme, few, **EPS).secret_bits == 0


def cv_moments(scheme: ContinuousVariable, t: float, xi: float, count: int) -> Moments:
    split = 2 if scheme.detection is Detection.HETERODYNE else 1
    gain = scheme.efficiency * t / split
    noise = 1 + scheme.electronic_noise + gain * xi
    xx = scheme.modulation * count
    return Moments(
        count=count,
        xx=xx,
        xy=math.sqrt(gain) * xx,
        yy=gain * xx + noise * count,
        quadratures=count,
        entropy=3.2,
        leak=round(count * 2.25),
    )


@pytest.mark.parametrize("detection", list(Detection))
def test_cv_sees_the_channel_and_an_eavesdropper(detection: Detection) -> None:
    scheme = ContinuousVariable(
        modulation=10.0, efficiency=0.6, electronic_noise=0.05, detection=detection, slices=4
    )
    quiet = cv_moments(scheme, 0.8, 0.01, 10**7)
    t_low, xi_high, t_seen, xi_seen = continuous.channel(scheme, quiet, 1e-10)
    assert t_low < t_seen == pytest.approx(0.8)
    assert xi_high > xi_seen == pytest.approx(0.01, abs=1e-6)
    attacked = cv_moments(scheme, 0.8, 2.0, 10**7)  # intercept-resend: two shot-noise units
    assert continuous.estimate(scheme, attacked, **EPS).secret_bits == 0


def test_cv_holevo_bound_at_a_published_point() -> None:
    """Lodewyck et al., PRA 76, 042305: T 0.302, V_A 18.5, beta 0.898: 0.035 bit per symbol."""
    scheme = ContinuousVariable(modulation=18.5, efficiency=0.606, electronic_noise=0.041)
    secret = 0.898 * continuous.mutual_information(scheme, 0.302, 0.005) - continuous.holevo(
        scheme, 0.302, 0.005
    )
    assert secret == pytest.approx(0.035, abs=0.01)
