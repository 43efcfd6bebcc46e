"""Fibre, detectors, weak pulses: each correction is one parameter and one thing to see."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from qkd_adapters.optics import weak_coherent as wc
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.detector import Detector, yield_of_dark
from qkd_adapters.optics.fibre import Fibre, Raman, db, transmittance
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.pulses import levels
from qkd_adapters.optics.rates import rates

LINK = preset("gig-apd")


def test_loss_of_a_fibre_is_length_and_splices() -> None:
    assert Fibre(length_km=50.0, db_per_km=0.2, extra_db=1.5).loss_db == pytest.approx(11.5)
    assert db(transmittance(11.5)) == pytest.approx(11.5)
    assert db(0.0) == math.inf


def test_raman_noise_rises_with_launch_power_and_falls_far_out() -> None:
    def noise(km: float, milliwatts: float) -> float:
        return Raman(launch_mw=milliwatts).photons(Fibre(length_km=km), 1e-9)

    assert noise(20.0, 2.0) == pytest.approx(2 * noise(20.0, 1.0))
    # L exp(-aL) is highest at 1/a = 21.7 km for 0.2 dB/km.
    assert noise(10.0, 1.0) < noise(21.7, 1.0) > noise(80.0, 1.0)
    assert 1e-3 < noise(20.0, 1.0) < 0.1  # some 1e7 photons per second and mW in 0.2 nm


def test_classical_light_in_the_fibre_costs_key_and_makes_errors() -> None:
    quiet, shared = rates(LINK), rates(replace(LINK, raman=Raman(launch_mw=0.1)))
    loud = rates(replace(LINK, raman=Raman(launch_mw=10.0)))
    assert quiet.secret > shared.secret > loud.secret
    assert quiet.qber < shared.qber < loud.qber


def test_dead_time_saturates_the_click_rate() -> None:
    slow = Detector(efficiency=0.1, dark_hz=0.0, gate_ps=1000.0, dead_time_s=1e-5)
    counted = [rate * slow.live_fraction(rate) for rate in (1e3, 1e5, 1e9)]
    assert counted[0] == pytest.approx(1e3, rel=0.02)
    assert counted[1] == pytest.approx(5e4)
    assert counted[2] == pytest.approx(1e5, rel=0.01)


def test_electronics_take_no_more_than_they_can() -> None:
    model = replace(LINK, detector=replace(LINK.detector, max_click_rate=1e5))
    assert rates(model).sifted == pytest.approx(1e5 * model.p_z**2)
    assert rates(model).sifted == pytest.approx(rates(model.with_loss(5.0)).sifted)


def test_afterpulses_raise_the_floor_of_errors_by_half_of_them() -> None:
    def floor(afterpulse: float) -> float:
        model = replace(LINK, detector=replace(LINK.detector, afterpulse=afterpulse, dark_hz=0.0))
        return rates(model.with_loss(0.0)).qber

    assert floor(0.04) - floor(0.0) == pytest.approx(0.02, rel=0.1)


def test_a_gate_lets_only_what_arrives_in_it_count() -> None:
    gated = Detector(efficiency=0.2, dark_hz=1e4, gate_ps=400.0, jitter_ps=50.0)
    assert gated.in_gate(0.0) > 0.999
    assert gated.in_gate(200.0) == pytest.approx(0.5, abs=0.01)
    assert gated.in_gate(-200.0) == pytest.approx(gated.in_gate(200.0))
    assert gated.dark == pytest.approx(4e-6)
    assert yield_of_dark(1e-6) == pytest.approx(2e-6, rel=1e-5)


def test_golden_vector_of_gobby_yuan_shields() -> None:
    single = wc.infinite_decoys(0.045, 1.7e-6, 0.033)
    q, e = wc.gain(0.48, 0.045, 1.7e-6), wc.qber(0.48, 0.045, 1.7e-6, 0.033)
    assert q == pytest.approx(2.137e-2, rel=1e-3)
    assert e == pytest.approx(3.304e-2, rel=1e-3)
    assert wc.gllp(0.48, q, e, single, f=1.22) == pytest.approx(2.555e-3, rel=1e-3)


@pytest.mark.parametrize("eta", [1e-1, 1e-3, 1e-5])
def test_decoy_bounds_bound(eta: float) -> None:
    truth = wc.infinite_decoys(eta, 1e-6, 0.02)
    mus = (0.5, 0.1, 0.0)
    gains = tuple(wc.gain(mu, eta, 1e-6) for mu in mus)
    wrongs = tuple(wc.errors(mu, eta, 1e-6, 0.02) for mu in mus)
    two = wc.two_decoys(mus, (gains[0], gains[1], gains[2]), (wrongs[0], wrongs[1], wrongs[2]))
    one = wc.one_decoy((0.5, 0.1), (gains[0], gains[1]), (wrongs[0], wrongs[1]))
    for bound in (two, one):
        assert bound.y1 <= truth.y1 * (1 + 1e-9)
        assert bound.e1 >= truth.e1 * (1 - 1e-9)
    assert one.y1 <= two.y1 * (1 + 1e-9)


def test_the_best_mean_photon_number_is_about_the_transmittance() -> None:
    for eta in (1e-1, 1e-2, 1e-3):
        assert 0.3 * eta < wc.best_mu(eta, 1e-8, 0.01, f=1.16) < 1.5 * eta


def test_misalignment_of_one_basis_is_seen_in_that_basis() -> None:
    calm, turned = levels(LINK, NEUTRAL)[0], levels(LINK, Conditions(ed_add_x=0.02))[0]
    assert turned.wrong_z == calm.wrong_z
    assert turned.wrong_x > 1.5 * calm.wrong_x


@pytest.mark.parametrize(
    "change",
    [
        {"intensities": (0.5,)},
        {"probabilities": (0.5, 0.3, 0.1)},
        {"p_z": 1.0},
        {"ed": 0.6},
        {"clock_hz": 0.0},
    ],
)
def test_what_no_link_can_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="gig-apd"):
        replace(LINK, **change)  # type: ignore[arg-type]
