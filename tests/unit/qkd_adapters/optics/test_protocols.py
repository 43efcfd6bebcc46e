"""Entangled pairs, twin-field and CV: samples follow the formulas, records have their form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qkd_adapters.optics import continuous, entangled, twin_field
from qkd_adapters.optics.attacks import ATTACKS, attack
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.model import Gaussian
from qkd_adapters.optics.presets import preset, presets
from qkd_adapters.optics.rates import rates
from qkd_adapters.optics.sampler import detections, expose
from qkd_adapters.records import Protocol, decode, encode

PAIRS = preset("pairs-metro")
TWIN = preset("tf-300km")
CV = preset("cv-metro")


def _rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_pairs_agree_with_the_formula() -> None:
    exposure = expose(PAIRS, NEUTRAL, 10.0, _rng())
    level, found = exposure.levels()[0], entangled.pairs(PAIRS, NEUTRAL)
    assert level.clicks / exposure.pulses == pytest.approx(found.gain, rel=5e-3)
    assert level.errors_z / level.sifted_z == pytest.approx(found.wrong_z / found.gain, rel=3e-2)


def test_pairs_arrive_at_both_ends() -> None:
    rng = _rng(2)
    alice, bob = detections(expose(PAIRS, NEUTRAL, 0.1, rng), rng)
    assert set(alice.columns) == set(bob.columns) == {"index", "basis", "bit", "arrival"}
    assert sum(alice.totals["clicks"]) == sum(bob.totals["clicks"]) == alice.detections
    matched = alice.columns["basis"] == bob.columns["basis"]
    wrong = (alice.columns["bit"] != bob.columns["bit"])[matched]
    assert 0 < wrong.mean() < 0.05
    assert (alice.columns["bit"] != bob.columns["bit"])[~matched].mean() > 0.4


def test_twin_field_agrees_with_the_formula() -> None:
    exposure = expose(TWIN, NEUTRAL, 20.0, _rng(3))
    key = exposure.levels()[0]
    gamma = twin_field.arm(TWIN, NEUTRAL) * TWIN.intensities[0]
    gain = 2 * twin_field.key_gain(gamma, TWIN.detector.dark, TWIN.ed)
    both = exposure.pulses * TWIN.probabilities[0] ** 2
    assert key.sifted_z / both == pytest.approx(gain, rel=1e-2)
    error = twin_field.key_error(gamma, TWIN.detector.dark, TWIN.ed)
    assert key.errors_z / key.sifted_z == pytest.approx(error, rel=3e-2)


def test_twin_field_ends_both_send_and_hear_the_announcement() -> None:
    rng = _rng(4)
    exposure = expose(TWIN, NEUTRAL, 2.0, rng)
    alice, bob = detections(exposure, rng)
    assert set(alice.columns) == {"index", "basis", "bit", "intensity", "detector"}
    assert set(bob.columns) == set(alice.columns)
    assert np.array_equal(alice.columns["detector"], bob.columns["detector"])
    for record in (alice, bob):
        assert sum(record.totals["sent_z"]) + sum(record.totals["sent_x"]) == exposure.pulses
        assert len(record.totals["sent_x"]) == 3
        assert record.columns["intensity"].max() == 2
    key = (alice.columns["basis"] == 0) & (bob.columns["basis"] == 0)
    wrong = (alice.columns["bit"] ^ bob.columns["bit"] ^ alice.columns["detector"])[key]
    assert wrong.mean() < 0.05
    mixed = alice.columns["basis"] != bob.columns["basis"]
    assert 0.3 < (alice.columns["bit"] ^ bob.columns["bit"])[mixed].mean() < 0.7


def test_twin_field_test_pulses_of_no_photon_do_not_click() -> None:
    rng = _rng(5)
    alice, bob = detections(expose(TWIN, NEUTRAL, 2.0, rng), rng)
    empty = (alice.columns["basis"] == 1) & (alice.columns["intensity"] == 2)
    empty &= (bob.columns["basis"] == 1) & (bob.columns["intensity"] == 2)
    assert empty.sum() < 20


@pytest.mark.parametrize("heterodyne", [False, True])
def test_quadratures_have_transmittance_and_noise_of_the_channel(*, heterodyne: bool) -> None:
    source = replace(continuous.gaussian_of(CV), heterodyne=heterodyne)
    model = replace(CV, gaussian=source)
    rng = _rng(6)
    alice, bob = detections(expose(model, Conditions(excess_noise=0.2), 0.5, rng), rng)
    shares = 0.5 if heterodyne else 1.0
    gain = 10 ** (-CV.loss_db / 10) * CV.eta_det * shares
    for number, name in enumerate(("x", "p")):
        measured = np.ones(len(alice.columns["x"]), dtype=bool)
        if not heterodyne:
            measured = bob.columns["basis"] == number
            assert not bob.columns[name][~measured].any()
        sent = alice.columns[name][measured].astype(float)
        seen = bob.columns[name][measured].astype(float)
        assert sent.var() == pytest.approx(source.modulation, rel=0.02)
        slope = (sent @ seen) / (sent @ sent)
        assert slope**2 == pytest.approx(gain, rel=0.02)
        noise = (seen - slope * sent).var()
        expected = 1 + source.electronic_noise + gain * (source.excess_noise + 0.2)
        assert noise == pytest.approx(expected, rel=0.01)


def test_intercepted_quadratures_have_two_units_of_excess_noise() -> None:
    assert attack("intercept-resend", fraction=1.0).apply(CV, NEUTRAL).excess_noise == 2.0


def test_a_false_shot_noise_hides_excess_noise_and_shows_in_its_own_monitor() -> None:
    fooled = attack("local-oscillator", factor=1.1).apply(CV, Conditions(excess_noise=0.2))
    exposure = expose(CV, fooled, 0.1, _rng(7))
    assert exposure.quadratures is not None
    honest = expose(CV, Conditions(excess_noise=0.2), 0.1, _rng(7)).quadratures
    assert honest is not None
    assert exposure.quadratures.noise == pytest.approx(honest.noise / 1.1)
    assert exposure.bob.shot_noise == pytest.approx(1.1, abs=0.01)


def test_no_cv_source_no_quadratures() -> None:
    with pytest.raises(ValueError, match="no CV-QKD link"):
        continuous.rates(PAIRS)
    bare = Gaussian(modulation=5.0, excess_noise=3.0, electronic_noise=0.05)
    assert continuous.secret_fraction(bare, 0.3, 0.6) < 0


@pytest.mark.parametrize("name", [n for n, m in presets().items() if m.clock_hz < 2e9])
def test_every_preset_plays(name: str) -> None:
    model, rng = preset(name), _rng(8)
    seconds = 0.01 if model.protocol is Protocol.CV and model.clock_hz < 1e7 else 1e-4
    alice, bob = detections(expose(model, NEUTRAL, seconds, rng), rng)
    assert decode(encode(alice)).detections == decode(encode(bob)).detections
    found = rates(model)
    assert found.secret > 0
    assert model.provenance.startswith(("published:", "modelled"))
    assert (model.published.secret_rate is None) or model.provenance.startswith("published:")


def test_unknown_preset_names_the_known() -> None:
    with pytest.raises(ValueError, match="gig-apd"):
        preset("cerberus")


def test_more_loss_less_key() -> None:
    for name in ("gig-apd", "metro-plain", "pairs-metro", "tf-300km", "cv-metro"):
        model = preset(name)
        near, far = (rates(model.with_loss(model.loss_db + more)).secret for more in (0.0, 3.0))
        assert near > far, name


def test_loss_and_distance_are_one_thing() -> None:
    model = preset("tokyo-trel")
    assert model.with_distance(22.5).loss_db == pytest.approx(7.25)
    assert model.with_loss(7.25).channel.length_km == pytest.approx(22.5)
    with pytest.raises(ValueError, match="loss"):
        model.with_loss(-1.0)


def test_presets_and_attacks_stand_in_the_documentation() -> None:
    text = (Path(__file__).parents[4] / "docs" / "qkd.md").read_text()
    assert [name for name in (*presets(), *ATTACKS) if f"`{name}`" not in text] == []
