"""When the quantum side counts as healthy, lost or suspect."""

from __future__ import annotations

from typing import Any

from gateway.protection.health import HealthMonitor, HealthSettings, Observation
from gateway.protection.inputs import Health, KeyStock, QuantumHealth


class Watch:
    def __init__(self, loss_after: float = 30.0) -> None:
        self.monitor = HealthMonitor(HealthSettings(loss_after=loss_after))

    def see(self, at: float, ready: int = 4, **fields: Any) -> Health:
        fields = {"target": 4, "rate": 1.0} | fields
        self.inputs = self.monitor.observe(Observation(at=at, ready=ready, **fields))
        return self.monitor.state

    @property
    def change(self) -> QuantumHealth | None:
        return next((item for item in self.inputs if isinstance(item, QuantumHealth)), None)


def test_the_stock_is_reported_each_time_and_the_health_when_it_changes() -> None:
    watch = Watch()
    watch.see(0.0)
    assert watch.inputs[0] == KeyStock(ready=4, rate=1.0)
    assert watch.change is not None
    watch.see(1.0)
    assert watch.inputs == (KeyStock(ready=4, rate=1.0),)


def test_a_full_pool_is_healthy_however_long_nothing_came() -> None:
    watch = Watch()
    assert watch.see(0.0, last_delivery=0.0) is Health.HEALTHY
    assert watch.see(86400.0, last_delivery=0.0) is Health.HEALTHY
    assert watch.see(86401.0, ready=3, last_delivery=0.0) is Health.HEALTHY, "only just hungry"


def test_hungry_without_a_delivery_is_loss_after_the_patience() -> None:
    watch = Watch(loss_after=30.0)
    watch.see(0.0, last_delivery=0.0)
    watch.see(10.0, ready=3, last_delivery=0.0)
    assert watch.see(39.9, ready=3, last_delivery=0.0) is Health.HEALTHY
    assert watch.see(40.0, ready=3, last_delivery=0.0) is Health.LOST
    assert watch.see(41.0, ready=4, last_delivery=41.0) is Health.HEALTHY


def test_patience_grows_with_the_usual_gap_of_a_slow_link() -> None:
    watch = Watch(loss_after=30.0)
    watch.see(0.0, ready=1, rate=1 / 20, last_delivery=0.0)
    assert watch.see(59.0, ready=1, rate=1 / 60, last_delivery=0.0) is Health.HEALTHY
    assert watch.see(60.0, ready=1, rate=1 / 60, last_delivery=0.0) is Health.LOST


def test_an_unreachable_kme_is_loss_only_when_the_pool_is_empty() -> None:
    watch = Watch()
    assert watch.see(0.0, ready=1, last_error="refused") is Health.HEALTHY
    assert watch.see(1.0, ready=0, last_error="refused") is Health.HEALTHY, "not at once"
    assert watch.see(3.9, ready=0, last_error="refused") is Health.HEALTHY
    assert watch.see(4.0, ready=0, last_error="refused") is Health.LOST
    assert watch.change is not None
    assert "refused" in watch.change.reason


def test_a_slow_link_whose_kme_is_empty_between_keys_is_not_lost() -> None:
    watch = Watch()
    watch.see(0.0, ready=1, rate=1 / 20, last_delivery=0.0)
    for at in range(1, 21):
        assert watch.see(at, ready=0, rate=1 / 20, last_delivery=0.0, last_error="503")
        assert watch.monitor.state is Health.HEALTHY
    watch.see(21.0, ready=1, rate=1 / 20, last_delivery=21.0)
    assert watch.see(60.9, ready=0, rate=1 / 20, last_delivery=21.0, last_error="503")
    assert watch.see(101.0, ready=0, rate=1 / 20, last_delivery=21.0, last_error="503") is (
        Health.LOST
    )


def test_a_link_reported_down_is_loss_at_once() -> None:
    watch = Watch()
    assert watch.see(0.0, link_state="up") is Health.HEALTHY
    assert watch.see(1.0, link_state="down", link_reason="fibre cut") is Health.LOST
    assert watch.monitor.reason == "quantum link down: fibre cut"


def test_suspicion_comes_before_loss_and_carries_the_last_good_moment() -> None:
    watch = Watch()
    watch.see(5.0, link_state="up")
    watch.see(6.0, ready=0, last_error="503", link_state="suspect", link_reason="QBER 9 %")
    assert watch.change == QuantumHealth(
        state=Health.SUSPECT, reason="quantum link suspect: QBER 9 %", last_good=5.0
    )
