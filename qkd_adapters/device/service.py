"""``qsgw-kme device``: one QKD device as a process, Alice or Bob."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from qkd_adapters.control import Command, ControlServer
from qkd_adapters.device.alice import Alice
from qkd_adapters.device.bob import Bob
from qkd_adapters.device.config import DeviceSettings
from qkd_adapters.device.device import Device
from qkd_adapters.link.messages import LinkState
from qkd_adapters.link.recorder import KeyRecorder
from qkd_adapters.logs import EventLog
from qkd_adapters.records import Role

_log = EventLog("qsgw_kme.device")


def status(device: Device) -> dict[str, object]:
    """For ``devicectl status``; JSON-ready, no key bytes."""
    common = {
        "role": device.role.value,
        "link": device.settings.link,
        "model": device.settings.datasheet.model,
        "protocol": device.settings.datasheet.protocol.value,
        "light": {
            "connected": device.light.connected,
            "records": device.light.records,
            "skipped": device.skipped,
        },
        "classical": {
            "up": device.ready,
            "epoch": device.channel.epoch,
            "round_trip_ms": round(1000 * device.channel.round_trip, 3),
            "trouble": "" if device.ready else device.channel.last_error,
        },
        "authentication": _authentication(device),
        "kme_connected": device.port.connected,
    }
    match device:
        case Alice():
            return {**common, **_alice(device)}
        case Bob():
            return {**common, **_bob(device)}
        case _:
            raise TypeError(type(device).__name__)


def _authentication(device: Device) -> dict[str, object]:
    """The stock in bits: to send with, to receive with; and what became of all there was."""
    end = device.end
    stock = end.authenticator.left if end is not None else (0, 0)
    return {
        "left_send": stock[0],
        "left_receive": stock[1],
        "account": asdict(end.authenticator.account) if end is not None else {},
        "bootstrap_regions_left": device.bootstrap.left,
    }


def _state(state: LinkState) -> dict[str, object]:
    return {
        "state": state.state,
        "since": state.since,
        "alarms": list(state.alarms),
        "key_rate": round(state.key_rate, 3),
        "suspect_age": state.suspect_age,
    }


def _alice(alice: Alice) -> dict[str, object]:
    verdict = alice.link.verdict
    return {
        **_state(alice.link.state(alice.channel)),
        "blocks": {"worked": alice.progress.worked, "lost": alice.progress.lost},
        "last": alice.link.history.last,
        "rates": alice.link.history.rates(),
        "ledger": asdict(alice.end.ledger) if alice.end is not None else {},
        "delivery": alice.delivery.status(),
        "calibrating": verdict is None or verdict.calibrating,
        "active": [
            {
                "id": alarm.kind.value,
                "name": alarm.name,
                "severity": alarm.severity.name.lower(),
                "secrecy": alarm.secrecy,
                "text": alarm.text,
                "raised_block": alarm.raised_block,
                "since_block": alarm.since_block,
                "contributions": dict(alarm.contributions),
            }
            for alarm in (verdict.active if verdict is not None else ())
        ],
        "history": alice.link.history.shown(),
    }


def _bob(bob: Bob) -> dict[str, object]:
    return {
        **_state(bob.state()),
        "blocks": {"worked": bob.blocks},
        "ledger": asdict(bob.end.ledger) if bob.end is not None else {},
        "delivery": {
            "waiting": bob.relay.held,
            "handed_over": bob.relay.handed_over,
            "dropped": bob.relay.dropped,
        },
    }


def commands(device: Device) -> dict[str, Command]:
    """What ``devicectl`` can ask."""

    def recalibrate(_: Sequence[str]) -> object:
        assert isinstance(device, Alice)
        device.link.recalibrate()
        _log.info("calibration-begun", link=device.settings.link)
        return status(device)

    table: dict[str, Command] = {"status": lambda _: status(device)}
    if isinstance(device, Alice):
        table["calibrate"] = recalibrate
    return table


async def run_device(
    settings: DeviceSettings,
    *,
    record_keys: Path | None,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Serve until ``stop``. Raises KmeStartupError."""
    recorder = KeyRecorder(record_keys) if record_keys is not None else None
    device: Device
    device = Alice(settings, recorder) if settings.role is Role.ALICE else Bob(settings)
    control = ControlServer(settings.control_socket, commands(device))
    try:
        await device.start()
        await control.start()
        _log.info("device-ready", link=settings.link, role=settings.role)
        ready.set()
        await device.serve_until(stop)
    finally:
        await control.stop()
        await device.stop()
        if recorder is not None:
            recorder.close()
