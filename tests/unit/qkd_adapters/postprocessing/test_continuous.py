"""CV-QKD: slices, sparse codes, and a whole block between two ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qkd_adapters.postprocessing import ldpc
from qkd_adapters.postprocessing.settings import ContinuousVariable, Settings
from qkd_adapters.postprocessing.slices import Slicer, entropy_of
from tests.support.postprocessing import Raw, carry, ends

SCHEME = ContinuousVariable(modulation=10.0, efficiency=0.9, electronic_noise=0.01, slices=4)


def records(count: int, *, transmittance: float, excess: float) -> tuple[Raw, Raw]:
    random = np.random.default_rng(4)
    gain = SCHEME.efficiency * transmittance
    noise = 1 + SCHEME.electronic_noise + gain * excess
    index = np.arange(count, dtype=np.uint64)
    basis = random.integers(0, 2, count, dtype=np.uint8)
    sent, seen = {"index": index}, {"index": index, "basis": basis}
    for number, name in enumerate(("x", "p")):
        values = random.standard_normal(count) * math.sqrt(SCHEME.modulation)
        received = math.sqrt(gain) * values + random.standard_normal(count) * math.sqrt(noise)
        received[basis != number] = 0
        sent[name], seen[name] = values.astype(np.float32), received.astype(np.float32)
    alice, bob = (
        Raw(block=0, pulses=count, columns=columns, totals={}) for columns in (sent, seen)
    )
    return alice, bob


def test_a_short_link_gives_the_same_keys_at_both_ends() -> None:
    pair = ends(Settings(link="cv", scheme=SCHEME))
    raw = records(300_000, transmittance=0.95, excess=0.001)
    sender, receiver = pair[0].block(raw[0]), pair[1].block(raw[1])
    carry(sender, receiver)
    assert sender.outcome is not None
    assert receiver.outcome is not None
    assert sender.outcome.keys
    assert [key.key_id for key in sender.outcome.keys] == [
        key.key_id for key in receiver.outcome.keys
    ]
    assert all(
        a.key == b.key for a, b in zip(sender.outcome.keys, receiver.outcome.keys, strict=True)
    )
    assert 0.6 < sender.outcome.efficiency < 1
    assert sender.outcome.estimate.transmittance == pytest.approx(0.95, abs=0.02)
    assert pair[0].ledger.balanced


@pytest.mark.parametrize(("transmittance", "excess"), [(0.95, 2.0), (0.0, 0.0)])
def test_intercept_resend_and_a_cut_fibre_leave_nothing(
    transmittance: float, excess: float
) -> None:
    pair = ends(Settings(link="cv", scheme=SCHEME))
    raw = records(50_000, transmittance=transmittance, excess=excess)
    sender, receiver = pair[0].block(raw[0]), pair[1].block(raw[1])
    carry(sender, receiver)
    assert sender.outcome is not None
    assert receiver.outcome is not None
    assert not sender.outcome.keys
    assert receiver.outcome.estimate.reason
    assert sender.outcome.auth_bits_used == 0


def test_what_is_uncertain_in_slices_is_what_they_hold_less_what_is_shared() -> None:
    gain, noise, modulation = 0.5, 1.0, 8.0
    slicer = Slicer(count=5, slope=math.sqrt(gain), noise=noise, spread=gain * modulation + noise)
    random = np.random.default_rng(1)
    sent = random.standard_normal(100_000) * math.sqrt(modulation)
    values = math.sqrt(gain) * sent + random.standard_normal(100_000)
    held = entropy_of(slicer.cut(values))
    shared = 0.5 * math.log2(1 + gain * modulation / noise)
    assert held - sum(slicer.uncertainties()) == pytest.approx(shared, rel=0.03)


@pytest.mark.parametrize(("rows", "flip"), [(32, 0.06), (16, 0.015)])
def test_a_code_finds_the_string_from_its_syndrome(rows: int, flip: float) -> None:
    random = np.random.default_rng(3)
    count = ldpc.COLUMNS * 128
    right = random.integers(0, 2, count, dtype=np.uint8)
    guess = right ^ (random.random(count) < flip)
    trust = math.log((1 - flip) / flip)
    likelihood = np.where(guess == 0, trust, -trust).astype(np.float32)
    wanted = ldpc.syndrome(right, rows)
    assert len(wanted) == count * rows // ldpc.COLUMNS
    found = ldpc.decode(likelihood, wanted)
    assert found is not None
    assert (found == right).all()


def test_a_hopeless_guess_is_not_taken_for_the_string() -> None:
    random = np.random.default_rng(3)
    count = ldpc.COLUMNS * 16
    right = random.integers(0, 2, count, dtype=np.uint8)
    noise = random.standard_normal(count).astype(np.float32)
    assert ldpc.decode(noise, ldpc.syndrome(right, 16)) is None
