"""Every attack moves the read-outs it must move, and leaves the others alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qkd_adapters.optics.attacks import ATTACKS, attack, parameters_of, parse
from qkd_adapters.optics.conditions import NEUTRAL, Conditions
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.presets import preset
from qkd_adapters.optics.pulses import levels, split_share
from qkd_adapters.optics.sampler import Exposure, expose
from qkd_adapters.records import Protocol

LINK = preset("tokyo-nec-nict").with_loss(12.0)
PLAIN = preset("metro-plain")
SECONDS = 2.0


def features(seen: Exposure) -> dict[str, float]:
    levels_ = seen.levels()
    signal = levels_[0]
    z0, z1, x0, x1 = seen.detector_clicks
    found = {
        "gain": signal.clicks / signal.sent,
        "qber_z": signal.errors_z / max(signal.sifted_z, 1),
        "qber_x": signal.errors_x / max(signal.sifted_x, 1),
        "double": seen.double_clicks / max(seen.clicks, 1),
        "balance": (z0 + x0) / max(z0 + z1 + x0 + x1, 1),
        "basis": (z0 + z1) / max(z0 + z1 + x0 + x1, 1),
        "arrival": seen.arrival_mean,
        "width": seen.arrival_std,
        "photocurrent": seen.bob.photocurrent,
        "check": seen.bob.efficiency_check,
        "input": seen.alice.input_power,
        "source": seen.alice.source_power,
        "temperature": seen.bob.temperature,
        "sync": seen.bob.sync_offset,
        "visibility": seen.bob.visibility,
    }
    if len(levels_) > 1:
        found["decoy ratio"] = levels_[1].clicks / levels_[1].sent / found["gain"]
        found["vacuum"] = levels_[-1].clicks / levels_[-1].sent
    return found


def moved(model: LinkModel, conditions: Conditions) -> dict[str, float]:
    """z-score of every feature of one block against 300 undisturbed ones."""
    rng = np.random.default_rng(5)
    rows = [features(expose(model, NEUTRAL, SECONDS, rng)) for _ in range(300)]
    now = features(expose(model, conditions, SECONDS, rng))
    found = {}
    for name, value in now.items():
        calm = np.array([row[name] for row in rows])
        found[name] = float((value - calm.mean()) / max(calm.std(), 1e-12))
    return found


GAIN_DOWN = {"gain": -1, "double": 0}
SIGNATURES: tuple[tuple[str, dict[str, float | bool | str], dict[str, int]], ...] = (
    ("intercept-resend", {"fraction": 0.05}, {"qber_z": 1, "qber_x": 1}),
    ("photon-number-splitting", {"fraction": 0.5}, {"decoy ratio": -1, "vacuum": 0}),
    (
        "blinding",
        {},
        {"qber_z": -1, "qber_x": -1, "double": -1, "vacuum": 0, "photocurrent": 1, "check": 1},
    ),
    ("time-shift", {}, {"balance": 1, "arrival": 1, "width": 0, **GAIN_DOWN}),
    ("time-shift", {"alternating": True}, {"width": 1, **GAIN_DOWN}),
    ("trojan-horse", {}, {"input": 1}),
    (
        "source-power",
        {"factor": 1.2},
        {"gain": 1, "vacuum": 1, "source": 1, "decoy ratio": 0, "double": 0},
    ),
    ("tap", {"db": 0.5}, GAIN_DOWN),
    (
        "noise",
        {"photons": 3e-4},
        {
            "vacuum": 1,
            "qber_z": 1,
            "qber_x": 1,
            "gain": 1,
            "double": 1,
            "decoy ratio": 1,
            "width": 1,
        },
    ),
    ("rng-bias", {"bias": 0.05}, {"balance": 1}),
    ("rng-bias", {"bias": 0.05, "end": "bob"}, {"basis": 1, "double": 0}),
    ("trojan-horse", {"power": 0.0}, {}),
)


@pytest.mark.parametrize(("name", "parameters", "expected"), SIGNATURES)
def test_signature(
    name: str, parameters: dict[str, float | bool | str], expected: dict[str, int]
) -> None:
    """1 up, -1 down, both by more than five sigma; 0 may move; all others stay within four."""
    z = moved(LINK, attack(name, **parameters).apply(LINK, NEUTRAL))
    for feature, score in z.items():
        match expected.get(feature):
            case 1:
                assert score > 5, (feature, z)
            case -1:
                assert score < -5, (feature, z)
            case 0:
                pass
            case _:
                assert abs(score) < 4, (feature, z)


def test_a_cut_leaves_nothing_of_the_link() -> None:
    z = moved(LINK, attack("cut").apply(LINK, NEUTRAL))
    assert z["gain"] < -100
    assert z["qber_z"] > 5
    assert abs(z["sync"]) > 5
    assert z["visibility"] < -100


def test_splitting_goes_unseen_without_decoys() -> None:
    # At a mean photon number as high as on the decoy link, so that there is much to split.
    link = replace(PLAIN.with_loss(12.0), intensities=(0.5,))
    conditions = attack("photon-number-splitting", fraction=1.0).apply(link, NEUTRAL)
    assert split_share(link, conditions) > 0.5
    z = moved(link, conditions)
    assert all(abs(score) < 4 for score in z.values()), z


def test_splitting_holds_the_signal_and_not_the_decoy() -> None:
    calm = levels(LINK, NEUTRAL)
    for fraction in (0.1, 0.5, 1.0):
        hit = levels(
            LINK, attack("photon-number-splitting", fraction=fraction).apply(LINK, NEUTRAL)
        )
        assert hit[0].gain == pytest.approx(calm[0].gain, rel=1e-9)
        assert hit[1].gain < calm[1].gain


def test_splitting_is_bounded_by_what_can_be_made_up_for() -> None:
    near = LINK.with_loss(0.5)
    conditions = Conditions(pns=1.0)
    assert split_share(near, conditions) < 0.2
    assert levels(near, conditions)[0].gain == pytest.approx(levels(near, NEUTRAL)[0].gain)


def test_intercepting_all_makes_a_quarter_of_errors() -> None:
    calm = levels(LINK, NEUTRAL)[0]
    hit = levels(LINK, Conditions(intercept=1.0))[0]
    assert hit.gain == calm.gain
    assert hit.wrong_z / hit.gain == pytest.approx(0.25 + calm.wrong_z / calm.gain / 2)


def test_slow_changes_of_the_environment() -> None:
    drift = levels(LINK, attack("clock-drift", offset_ps=250.0).apply(LINK, NEUTRAL))[0]
    warm = levels(LINK, attack("temperature", kelvin=16.0).apply(LINK, NEUTRAL))
    aged = levels(LINK, attack("dark-counts", factor=4.0).apply(LINK, NEUTRAL))
    calm = levels(LINK, NEUTRAL)
    assert drift.gain < 0.6 * calm[0].gain
    assert drift.wrong_z / drift.gain > calm[0].wrong_z / calm[0].gain
    assert warm[2].gain > calm[2].gain
    assert aged[2].gain > calm[2].gain


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_describes_itself(name: str) -> None:
    kind = ATTACKS[name]
    assert kind.name == name
    assert kind.help
    assert kind.moves
    for parameter in parameters_of(name):
        assert parameter.help
        assert parameter.words or isinstance(parameter.default, bool) or parameter.high > 0


@pytest.mark.parametrize(
    ("name", "words", "text"),
    [
        ("intercept-resend", ["fraction=1.5"], "0 to 1"),
        ("intercept-resend", ["fraction=nan"], "0 to 1"),
        ("intercept-resend", ["fraction=much"], "number"),
        ("intercept-resend", ["share=0.1"], "no parameter"),
        ("intercept-resend", ["0.1"], "NAME=VALUE"),
        ("tap", ["db=-1"], "dB"),
        ("time-shift", ["alternating=perhaps"], "true or false"),
        ("rng-stuck", ["end=eve"], "alice, bob"),
        ("cut", ["db=3"], "no parameters"),
        ("magic", [], "no attack"),
    ],
)
def test_what_cannot_be_is_refused(name: str, words: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse(name, words)


def test_words_become_parameters() -> None:
    assert parse("time-shift", ["ratio=2", "alternating=yes"]) == attack(
        "time-shift", ratio=2.0, alternating=True
    )


def test_an_attack_on_another_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="not against"):
        attack("local-oscillator").apply(LINK, NEUTRAL)
    assert LINK.protocol is Protocol.DECOY_BB84


def test_two_attacks_at_once() -> None:
    both = attack("tap", db=1.0).apply(
        LINK, attack("intercept-resend", fraction=0.1).apply(LINK, NEUTRAL)
    )
    assert (both.loss_db, both.intercept) == (1.0, pytest.approx(0.1))
