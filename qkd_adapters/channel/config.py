"""Configuration of the process that plays the optics (``qsgw-kme channel --config``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd_adapters.address import Address
from qkd_adapters.config_file import ConfigFile, Table
from qkd_adapters.records import Role

# Shorter and the processes do nothing but pass blocks; longer and nothing is seen in time.
_BLOCK = (0.001, 3600.0)  # seconds
_INTERVAL = (0.01, 3600.0)  # seconds


class _ChannelTable(Table, frozen=True, kw_only=True):
    name: str
    preset: str
    control_socket: str
    loss_db: float | None = None
    block: str = "1s"
    interval: str | None = None
    drift: str = "stationary"
    seed: int | None = None


class _DeviceTable(Table, frozen=True, kw_only=True):
    listen: str


class _ChannelFile(Table, frozen=True, kw_only=True):
    channel: _ChannelTable
    device: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """``block`` seconds of light are played every ``interval`` seconds.

    ``loss_db`` overrides the preset's fibre. ``seed`` makes a run repeatable; without one the
    system's randomness starts the generator.
    """

    name: str
    preset: str
    control_socket: Path
    loss_db: float | None
    block: float
    interval: float
    drift: str
    seed: int | None
    feeds: tuple[tuple[Role, Address], ...]


def load_channel(path: Path) -> ChannelSettings:
    """Raises KmeConfigError."""
    file = ConfigFile(path)
    raw = file.read(_ChannelFile)
    devices = file.tables("device", raw.device, _DeviceTable)
    if set(devices) != set(Role):
        raise file.error("device", "", "the ends are [device.alice] and [device.bob]")
    block = file.seconds("channel", "block", raw.channel.block)
    file.between("channel", "block", block, *_BLOCK)
    interval = block
    if raw.channel.interval is not None:
        interval = file.seconds("channel", "interval", raw.channel.interval)
    file.between("channel", "interval", interval, *_INTERVAL)
    if raw.channel.loss_db is not None:
        file.between("channel", "loss_db", raw.channel.loss_db, 0.0, 100.0)
    return ChannelSettings(
        name=raw.channel.name,
        preset=raw.channel.preset,
        control_socket=file.file(raw.channel.control_socket),
        loss_db=raw.channel.loss_db,
        block=block,
        interval=interval,
        drift=raw.channel.drift,
        seed=raw.channel.seed,
        feeds=tuple(
            (role, file.address(f"device.{role}", "listen", devices[role].listen)) for role in Role
        ),
    )
