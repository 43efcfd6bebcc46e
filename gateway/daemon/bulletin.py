"""What happened and what is wrong now: status events to subscribers, and the alarms that hold."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from gateway.model import Alarm, Severity, StatusEvent

log = logging.getLogger("qsgw.event")

MONITOR_QUEUE = 256  # events a slow ``qsgw monitor`` may lag behind before it loses some

REPEAT_AFTER = 3600.0  # seconds until a line that says the same again is logged again
LINES_KEPT = 32  # per subject; what a peer says may differ each time
_HEX = re.compile(r"[0-9a-f]{8}[0-9a-f-]*")  # SPIs and key_IDs differ where nothing else does

Fields = dict[str, str | int | float | bool | None]


def timestamp(wall: float | None = None) -> str:
    """RFC 3339 in UTC with milliseconds; ``wall`` in Unix seconds, default now."""
    moment = datetime.now(UTC) if wall is None else datetime.fromtimestamp(wall, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Bulletin:
    """Fans events out to the log, ``qsgw monitor`` and MQTT; keeps the standing alarms.

    The log gets a line that repeats an earlier one only when something changed in between: a
    tunnel that fails to come up every minute says why once. The other readers get every event.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, dict[str, float]] = {}  # subject -> line -> when it was logged
        self._alarms: dict[tuple[str, str], Alarm] = {}
        self._queues: set[asyncio.Queue[StatusEvent]] = set()
        self._listeners: list[Callable[[StatusEvent], None]] = []

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        return tuple(sorted(self._alarms.values(), key=lambda alarm: (alarm.subject, alarm.id)))

    def listen(self, listener: Callable[[StatusEvent], None]) -> None:
        """Call ``listener`` with every event; it must return at once."""
        self._listeners.append(listener)

    def publish(
        self,
        event_type: str,
        text: str,
        *,
        tunnel: str | None = None,
        level: int = logging.INFO,
        **fields: str | float | bool | None,
    ) -> None:
        """Tell everybody that something happened."""
        event = StatusEvent(
            time=timestamp(), type=event_type, tunnel=tunnel, text=text, fields=dict(fields)
        )
        if tunnel and not self._is_news(tunnel, text, level):
            level = logging.DEBUG
        prefix = f"{tunnel}: "
        # The alarm of a KME or a broker names it.
        if tunnel is None or f"KME {prefix}" in text or f"broker {prefix}" in text:
            prefix = ""
        log.log(level, "%s%s", prefix, text, extra={"tunnel": tunnel})
        for listener in self._listeners:
            listener(event)
        for queue in self._queues:
            if not queue.full():  # a slow reader loses events, never delays a tunnel
                queue.put_nowait(event)

    def forget(self, subject: str) -> None:
        """Things changed for ``subject``: what was logged before may be logged again."""
        self._said.pop(subject, None)

    def _is_news(self, subject: str, text: str, level: int) -> bool:
        said = self._said.setdefault(subject, {})
        now, line = self._clock(), text if level < logging.WARNING else _HEX.sub("#", text)
        if now - said.get(line, -REPEAT_AFTER) < REPEAT_AFTER:
            return False
        said.pop(line, None)
        said[line] = now
        while len(said) > LINES_KEPT:
            del said[next(iter(said))]
        return True

    def raise_alarm(self, alarm_id: str, severity: Severity, subject: str, text: str) -> None:
        """Note that a condition holds. One that already does keeps its first moment."""
        standing = self._alarms.get((subject, alarm_id))
        if standing is not None and (standing.text, standing.severity) == (text, severity):
            return
        since = timestamp() if standing is None else standing.since
        self._alarms[subject, alarm_id] = Alarm(
            id=alarm_id, severity=severity, subject=subject, text=text, since=since
        )
        level = logging.WARNING if severity is Severity.WARNING else logging.ERROR
        self.publish(
            "alarm-raised", f"{alarm_id}: {text}", tunnel=subject, level=level, alarm=alarm_id
        )

    def clear_alarm(self, alarm_id: str, subject: str) -> None:
        if self._alarms.pop((subject, alarm_id), None) is not None:
            self.forget(subject)
            self.publish("alarm-cleared", f"{alarm_id}: over", tunnel=subject, alarm=alarm_id)

    def clear_subject(self, subject: str) -> None:
        """Forget all about a tunnel or KME that is gone from the configuration."""
        self.forget(subject)
        for key in [key for key in self._alarms if key[0] == subject]:
            del self._alarms[key]

    async def subscribe(self) -> AsyncIterator[StatusEvent]:
        """Every event from now on, until the reader stops."""
        queue: asyncio.Queue[StatusEvent] = asyncio.Queue(MONITOR_QUEUE)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
