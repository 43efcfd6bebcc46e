"""Where status goes by itself: MQTT and Prometheus. Neither can disturb a tunnel.

Their libraries are some megabytes, so they are imported only where they are configured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.config.schema import GatewayConfig
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.supervise import Supervisor
from gateway.model import Severity, Snapshot

if TYPE_CHECKING:
    from gateway.telemetry.metrics import MetricsServer
    from gateway.telemetry.mqtt import MqttPublisher, MqttState


class Outlets:
    """The configured ones; with neither table in the configuration it does nothing."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        snapshot: Callable[[], Awaitable[Snapshot]],
        bulletin: Bulletin,
    ) -> None:
        self._bulletin = bulletin
        self._mqtt: MqttPublisher | None = None
        self._metrics: MetricsServer | None = None
        if config.mqtt is not None:
            from gateway.telemetry.mqtt import MqttPublisher  # noqa: PLC0415  see above

            self._broker = f"{config.mqtt.host}:{config.mqtt.port}"
            self._mqtt = MqttPublisher(
                config.mqtt, config.gateway.name, snapshot, on_state=self._mqtt_state
            )
            bulletin.listen(self._mqtt.publish_event)
        if config.metrics is not None:
            from gateway.telemetry.metrics import MetricsServer  # noqa: PLC0415  see above

            self._metrics = MetricsServer(
                address=str(config.metrics.address),
                port=config.metrics.port,
                snapshot=snapshot,
                mqtt_state=lambda: self._mqtt.state if self._mqtt is not None else None,
            )

    async def start(self, supervisor: Supervisor) -> None:
        """Raises StartupError when the metrics port cannot be had."""
        if self._metrics is not None:
            await self._metrics.start()
        if self._mqtt is not None:
            supervisor.start("mqtt", self._mqtt.run(), vital=False)

    def changed(self) -> None:
        """Something a snapshot shows has changed."""
        if self._mqtt is not None:
            self._mqtt.changed()

    async def stop(self) -> None:
        if self._metrics is not None:
            await self._metrics.stop()

    def _mqtt_state(self, state: MqttState) -> None:
        if state.connected:
            self._bulletin.clear_alarm("mqtt-down", self._broker)
        elif state.last_error:
            text = f"MQTT broker {self._broker}: {state.last_error}"
            self._bulletin.raise_alarm("mqtt-down", Severity.WARNING, self._broker, text)
