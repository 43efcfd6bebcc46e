"""Since when delivered keys are tainted: from the last good report of the link on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protection.decisions import QuarantineKeys
from gateway.protection.health import HealthMonitor, Observation
from gateway.protection.inputs import Health, QuantumHealth
from tests.support.protection import Bench


def test_when_the_alarm_clears_all_that_came_since_the_last_good_report_is_dropped() -> None:
    bench = Bench("prefer")
    bench.keys(4)
    bench.up("HYBRID")
    bench.suspect()  # last good at 990
    cleared = bench.healthy()  # and seen good now
    assert [d.since for d in cleared if isinstance(d, QuarantineKeys)] == [990.0]


def seen(at: float, state: str, link_at: float) -> Observation:
    return Observation(
        at=at, ready=4, target=3, rate=0.1, last_delivery=at, link_state=state, link_at=link_at
    )


def test_a_good_report_vouches_only_for_what_came_before_it_was_asked_for() -> None:
    monitor = HealthMonitor()
    monitor.observe(seen(100.0, "up", 99.9))
    for at in (101.0, 102.0, 104.8):  # no new report
        monitor.observe(seen(at, "up", 99.9))
    (_, change) = monitor.observe(seen(105.0, "suspect", 104.9))
    assert change == QuantumHealth(state=Health.SUSPECT, reason=change.reason, last_good=99.9)


def test_a_kme_that_does_not_report_the_link_is_judged_by_what_it_delivers() -> None:
    monitor = HealthMonitor()
    monitor.observe(Observation(at=100.0, ready=4, target=3, rate=0.1, last_delivery=99.0))
    assert monitor.last_good == 100.0


# --- the KME's own account of the last good moment -------------------------------------------


def suspect(at: float, link_at: float, age: float | None) -> Observation:
    return replace(seen(at, "suspect", link_at), link_age=age)


def told(monitor: HealthMonitor, observation: Observation) -> float | None:
    (_, change) = monitor.observe(observation)
    assert isinstance(change, QuantumHealth)
    return change.last_good


def test_a_detector_that_noticed_late_taints_what_came_while_it_still_said_good() -> None:
    """Seen good at 100; but by the KME's account it was last good 40 s before 104.9."""
    monitor = HealthMonitor()
    monitor.observe(seen(100.0, "up", 99.9))
    assert told(monitor, suspect(105.0, 104.9, 40.0)) == 64.9


def test_a_suspicion_of_now_does_not_vouch_for_the_time_we_did_not_look() -> None:
    """Another one may have come and gone in between, and nobody would have told us."""
    monitor = HealthMonitor()
    monitor.observe(seen(100.0, "up", 99.9))
    assert told(monitor, suspect(400.0, 399.9, 2.0)) == 99.9


def test_without_the_kmes_account_our_own_look_decides() -> None:
    monitor = HealthMonitor()
    monitor.observe(seen(100.0, "up", 99.9))
    assert told(monitor, suspect(105.0, 104.9, None)) == 99.9


def test_a_link_never_seen_good_has_no_good_moment_whatever_the_kme_says() -> None:
    assert told(HealthMonitor(), suspect(105.0, 104.9, 2.0)) is None


def test_a_suspicion_found_to_be_older_is_told_again_and_a_jitter_is_not() -> None:
    monitor = HealthMonitor()
    monitor.observe(seen(100.0, "up", 99.9))
    assert told(monitor, suspect(105.0, 104.9, 40.0)) == 64.9
    for at in (110.0, 115.0):  # the same moment, as seen through answers of varying delay
        assert len(monitor.observe(suspect(at, at - 0.3, at - 0.3 - 64.8))) == 1
    assert told(monitor, suspect(120.0, 119.9, 90.0)) == pytest.approx(29.9)
    assert len(monitor.observe(suspect(125.0, 124.9, 5.0))) == 1, "it never moves forward"


def test_keys_kept_at_first_go_when_the_suspicion_that_grew_older_is_over() -> None:
    bench = Bench("prefer")
    bench.keys(4)
    bench.up("HYBRID")
    first = bench.suspect()  # last good at 990
    assert [d.since for d in first if isinstance(d, QuarantineKeys)] == [990.0]
    older = QuantumHealth(state=Health.SUSPECT, reason="QBER", last_good=950.0)
    later = QuantumHealth(state=Health.SUSPECT, reason="QBER, again", last_good=980.0)
    for change in (older, later):
        assert not [d for d in bench.put(change) if isinstance(d, QuarantineKeys)]
    cleared = bench.healthy()
    assert [d.since for d in cleared if isinstance(d, QuarantineKeys)] == [950.0]
    again = bench.suspect()
    assert [d.since for d in again if isinstance(d, QuarantineKeys)] == [990.0], "a new one"
