"""Configuration of one QKD device (``qsgw-kme device --config``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qkd_adapters.address import Address
from qkd_adapters.config_file import ConfigFile, Table
from qkd_adapters.detection.baseline import MIN_BLOCKS
from qkd_adapters.detection.detector import CALIBRATION_BLOCKS
from qkd_adapters.device.datasheet import Datasheet, load_datasheet
from qkd_adapters.device.delivery import MAX_WAITING
from qkd_adapters.records import Role


class _DeviceTable(Table, frozen=True, kw_only=True):
    role: Role
    link: str
    datasheet: str
    optics: str
    control_socket: str
    baseline: str | None = None
    calibration_blocks: int = CALIBRATION_BLOCKS
    telemetry: str | None = None
    buffer: int = MAX_WAITING


class _ClassicalTable(Table, frozen=True, kw_only=True):
    psk: str
    state: str
    listen: str | None = None
    connect: str | None = None


class _KmeTable(Table, frozen=True, kw_only=True):
    listen: str
    own: str
    peer: str


class _DeviceFile(Table, frozen=True, kw_only=True):
    device: _DeviceTable
    classical: _ClassicalTable
    kme: _KmeTable


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """``optics``: where records come from; ``classical``: Bob listens there, Alice connects.

    ``psk`` is the bootstrap secret, ``state`` the account of what was used of it. ``baseline``
    and ``telemetry`` are Alice's: the calibration to judge by (where there is none, the first
    ``calibration_blocks`` good ones become it), and a file that gets one JSON line per block.
    ``buffer`` is the limit of keys that wait for the KMEs to have room.
    """

    role: Role
    link: str
    datasheet: Datasheet
    optics: Address
    control_socket: Path
    baseline: Path | None
    calibration_blocks: int
    telemetry: Path | None
    buffer: int
    classical: Address
    psk: Path
    state: Path
    kme_listen: Address
    own_kme: str
    peer_kme: str


def load_device(path: Path) -> DeviceSettings:
    """Raises KmeConfigError."""
    file = ConfigFile(path)
    raw = file.read(_DeviceFile)
    alice = raw.device.role is Role.ALICE
    key, other = ("connect", "listen") if alice else ("listen", "connect")
    address = raw.classical.connect if alice else raw.classical.listen
    if address is None:
        raise file.error("classical", key, "missing")
    if (raw.classical.listen if alice else raw.classical.connect) is not None:
        raise file.error("classical", other, f"{raw.device.role} uses {key}")
    for name in ("baseline", "telemetry"):
        if not alice and getattr(raw.device, name) is not None:
            raise file.error("device", name, "only alice has it")
    blocks = raw.device.calibration_blocks
    file.between("device", "calibration_blocks", blocks, MIN_BLOCKS, 100_000)
    file.between("device", "buffer", raw.device.buffer, 1, MAX_WAITING)
    return DeviceSettings(
        role=raw.device.role,
        link=raw.device.link,
        datasheet=load_datasheet(file.file(raw.device.datasheet)),
        optics=file.address("device", "optics", raw.device.optics),
        control_socket=file.file(raw.device.control_socket),
        baseline=None if raw.device.baseline is None else file.file(raw.device.baseline),
        calibration_blocks=raw.device.calibration_blocks,
        buffer=raw.device.buffer,
        telemetry=None if raw.device.telemetry is None else file.file(raw.device.telemetry),
        classical=file.address("classical", key, address),
        psk=file.file(raw.classical.psk),
        state=file.file(raw.classical.state),
        kme_listen=file.address("kme", "listen", raw.kme.listen),
        own_kme=raw.kme.own,
        peer_kme=raw.kme.peer,
    )
