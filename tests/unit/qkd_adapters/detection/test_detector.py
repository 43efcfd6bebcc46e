from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qkd_adapters.detection.alarms import AlarmKind
from qkd_adapters.detection.detector import LinkDetector, LinkState, Verdict
from qkd_adapters.detection.errors import BaselineError
from qkd_adapters.detection.telemetry import Classical, Monitor
from tests.support.link_telemetry import Link, baseline, block

GOOD = 30  # blocks before anything happens
PLAIN = Link(decoys=False)


class Watched:
    """A detector and the link it watches."""

    def __init__(self, link: Link | None = None, *, seed: int = 11) -> None:
        self.link = link or Link()
        self.detector = LinkDetector(baseline(replace(self.link)))
        self.rng = np.random.default_rng(seed)
        self.block = 0
        self.last: Verdict | None = None

    def run(self, count: int, link: Link | None = None, **changes: Any) -> list[Verdict]:
        found = []
        for _ in range(count):
            seen = block(self.block, self.rng, link or self.link, **changes)
            found.append(self.detector.observe(seen))
            self.block += 1
        self.last = found[-1]
        return found


def raised(verdicts: list[Verdict]) -> list[AlarmKind]:
    return [alarm.kind for verdict in verdicts for alarm in verdict.raised]


@pytest.fixture
def watched() -> Watched:
    link = Watched()
    assert raised(link.run(GOOD)) == []
    return link


def test_a_healthy_link_is_up(watched: Watched) -> None:
    verdicts = watched.run(200)
    assert raised(verdicts) == []
    assert {verdict.state for verdict in verdicts} == {LinkState.UP}
    assert verdicts[-1].suspect_since_block is None
    assert set(verdicts[-1].values) == set(verdicts[-1].scores)


CAUSES = [
    (Link(error=0.025), AlarmKind.INTERCEPT),
    (Link(error=0.10), AlarmKind.INTERCEPT),
    (Link(weak=0.93), AlarmKind.DECOY_RATIO),
    (Link(eta=0.009), AlarmKind.LOSS),
    (Link(eta=0.009, error=0.025), AlarmKind.QBER_DEGRADED),
    (Link(eta=0.009, error=0.05), AlarmKind.INTERCEPT),
    (Link(dark=4e-5), AlarmKind.DARK_COUNTS),
    (Link(balance=0.47), AlarmKind.DETECTOR_SHIFT),
    (Link(balance=0.47, eta=0.009), AlarmKind.DETECTOR_SHIFT),
    (Link(error=0.012, doubles=0.0), AlarmKind.BLINDING),
    (Link(mean=1.05), AlarmKind.SOURCE_POWER),
    (Link(doubles=2.0), AlarmKind.UNEXPLAINED),
]


@pytest.mark.parametrize(("link", "kind"), CAUSES)
def test_one_cause_is_one_alarm(watched: Watched, link: Link, kind: AlarmKind) -> None:
    verdicts = watched.run(60, link)
    assert raised(verdicts) == [kind]
    assert [alarm.kind for alarm in verdicts[-1].active] == [kind]


@pytest.mark.parametrize("error", [0.0206, 0.021, 0.025, 0.25])
def test_suspicion_covers_the_attack_from_its_start(watched: Watched, error: float) -> None:
    verdicts = watched.run(150, Link(error=error))
    first = next(verdict for verdict in verdicts if verdict.raised)
    assert first.state is LinkState.SUSPECT
    assert first.suspect_since_block is not None
    assert first.suspect_since_block <= GOOD
    assert all(v.suspect_since_block is not None for v in verdicts[verdicts.index(first) :])


def test_suspicion_ends_some_good_blocks_after_the_attack(watched: Watched) -> None:
    watched.run(20, Link(error=0.03))
    after = watched.run(80)
    cleared = next(i for i, verdict in enumerate(after) if verdict.cleared)
    assert 20 <= cleared < 60
    assert after[cleared].state is LinkState.UP
    assert after[cleared].suspect_since_block is None
    assert raised(after) == []


def test_splitting_is_not_seen_without_decoys() -> None:
    # The same attack keeps the signal's gain and error rate; there is nothing else to look at.
    link = Watched(PLAIN)
    verdicts = link.run(GOOD) + link.run(200, replace(PLAIN, weak=0.5))
    assert raised(verdicts) == []


def test_a_fault_is_no_suspicion(watched: Watched) -> None:
    watched.run(30, Link(eta=0.009))
    assert watched.last is not None
    assert watched.last.state is LinkState.DEGRADED
    assert watched.last.suspect_since_block is None


def test_a_cut_is_down_and_comes_back(watched: Watched) -> None:
    verdicts = watched.run(10, Link(eta=1e-9))
    assert raised(verdicts) == [AlarmKind.LOSS]
    assert {verdict.state for verdict in verdicts} == {LinkState.DOWN}
    assert raised(watched.run(60)) == []
    assert watched.last is not None
    assert watched.last.state is LinkState.UP


def test_a_second_cause_is_a_second_alarm(watched: Watched) -> None:
    watched.run(30, Link(eta=0.009))
    assert raised(watched.run(30, Link(eta=0.009, weak=0.9))) == [AlarmKind.DECOY_RATIO]
    assert watched.last is not None
    assert watched.last.state is LinkState.SUSPECT


def test_no_key_is_a_consequence_where_there_is_a_cause(watched: Watched) -> None:
    verdicts = watched.run(30, Link(error=0.2), secret_bits=0)
    assert raised(verdicts) == [AlarmKind.INTERCEPT]


def test_no_key_without_a_cause_is_an_alarm(watched: Watched) -> None:
    verdicts = watched.run(10, secret_bits=0)
    assert raised(verdicts) == [AlarmKind.SECRET_ZERO]
    assert verdicts[-1].state is LinkState.DOWN


def test_a_check_takes_its_features_with_it(watched: Watched) -> None:
    blinded = Link(error=0.005, doubles=0.0, dark=1e-9)
    verdicts = watched.run(40, blinded, receiver=Monitor(photocurrent=50.0))
    assert raised(verdicts) == [AlarmKind.BLINDING]
    assert "bright light" in verdicts[-1].active[0].text


def test_while_the_peer_is_away_nothing_is_judged(watched: Watched) -> None:
    verdicts = watched.run(30, Link(eta=1e-9), classical=Classical(unreachable=True))
    assert raised(verdicts) == [AlarmKind.CLASSICAL_DOWN]
    assert raised(watched.run(50)) == []


def test_who_ramps_up_slowly_does_not_become_the_baseline(watched: Watched) -> None:
    found: list[AlarmKind] = []
    for step in range(100):
        found += raised(watched.run(20, Link(error=0.02 + step * 1e-4)))
    assert AlarmKind.INTERCEPT in found
    assert set(found) <= {AlarmKind.INTERCEPT, AlarmKind.QBER_DEGRADED}


def test_a_days_drift_is_followed(watched: Watched) -> None:
    found: list[AlarmKind] = []
    for step in range(60):
        found += raised(watched.run(20, Link(error=0.02 + step * 1.5e-5)))
    assert found == []


def test_without_a_baseline_the_first_good_blocks_are_it() -> None:
    rng = np.random.default_rng(1)
    detector = LinkDetector(calibration_blocks=60)
    bad = detector.observe(block(0, rng, receiver=Monitor(photocurrent=50.0)))
    assert bad.calibrating
    assert [alarm.kind for alarm in bad.raised] == [AlarmKind.BLINDING]
    for number in range(1, 61):
        assert detector.observe(block(number, rng)).calibrating
    assert detector.baseline is not None
    assert detector.baseline.blocks == 60
    assert not detector.observe(block(61, rng)).calibrating


def test_the_operator_may_take_a_change_for_normal(watched: Watched) -> None:
    repaired = Link(eta=0.008)
    assert raised(watched.run(30, repaired)) == [AlarmKind.LOSS]
    watched.detector.accept(baseline(repaired))
    assert raised(watched.run(60, repaired)) == []
    assert watched.last is not None
    assert watched.last.state is LinkState.UP


def test_a_baseline_of_another_link_is_refused() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(BaselineError, match="baseline of"):
        LinkDetector(baseline()).observe(block(0, rng, PLAIN))
    short = block(0, rng)
    with pytest.raises(BaselineError, match="telemetry has"):
        LinkDetector(baseline()).observe(replace(short, levels=short.levels[:2]))
