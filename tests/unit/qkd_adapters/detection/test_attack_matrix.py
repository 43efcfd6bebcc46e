"""A short attack matrix; the whole one is ``make attack-matrix``."""

from __future__ import annotations

import pytest

from tests.validate import attack_runs, attacks
from tests.validate.attack_cases import Case, cases
from tests.validate.attack_runs import run_case, run_quiet

SHORT = {
    ("intercept-resend", "5 %", "2 decoys"),
    ("photon-number splitting", "20 %", "2 decoys"),
    ("photon-number splitting", "20 %", "no decoys"),
    ("blinding", "plain", "no decoys"),
    ("time-shift", "efficiency 1:1.6, 150 ps", "no decoys"),
    ("Trojan horse", "3 x threshold", "CV"),
    ("tap", "0.5 dB", "no decoys"),
    ("fibre cut", "", "no decoys"),
    ("intercept-resend", "10 %", "CV"),
    ("intercept-resend", "10 %", "pairs"),
}
CASES = [case for case in cases() if (case.title, case.strength, case.link) in SHORT]


@pytest.fixture(autouse=True)
def short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_runs, "CALIBRATION", 300)
    monkeypatch.setattr(attack_runs, "LONGEST", 60)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.title}-{case.link}")
def test_an_attack_raises_its_alarm_and_no_other(case: Case) -> None:
    outcome = run_case(case, 1)
    assert outcome.ok, outcome


def test_every_case_was_found() -> None:
    assert len(CASES) == len(SHORT)


@pytest.mark.parametrize("profile", attacks.PROFILES)
def test_a_benign_hour_is_quiet(profile: str) -> None:
    assert run_quiet(profile, "no decoys", 400, hours=0.2).alarms == ()
