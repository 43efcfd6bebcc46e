"""Since when delivered keys are tainted: from the last good report of the link on."""

from __future__ import annotations

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
