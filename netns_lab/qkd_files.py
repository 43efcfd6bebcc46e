"""The configuration files of a QKD link that devices feed. Text only, no I/O.

A link is three processes: the channel that plays the optics and Alice beside kme-moon, Bob
beside kme-sun. If wanted, a wiretap stands between Alice and Bob and passes everything on until
it is told to meddle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netns_lab.toml import Table, toml

if TYPE_CHECKING:
    from netns_lab.site_files import Kme

BOB_HOST = "10.9.0.2"  # kme-sun, from kme-moon
_PORTS = {"link": 7400, "link-twin": 7401}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLink:
    """A pair of devices and the fibre between them. Durations as in the file.

    ``block``: light of one block; one is played every ``interval``. With a longer block than
    interval the light runs faster than the clock on the wall.
    """

    preset: str = "lab-decoy"
    loss_db: float | None = None
    block: str = "300ms"
    interval: str = "2s"
    drift: str = "stationary"
    calibration_blocks: int = 300
    buffer: int = 64  # keys that wait for the KMEs; with many the keys in use are old ones
    tap: bool = False  # somebody in the middle of the classical channel, for attacks on it


def pair_command(link: DeviceLink, folder: Path) -> list[str]:
    """What their maker ships: ``pair.toml``, ``baseline.json`` and ``pair.psk``."""
    command = ["qsgw-kme", "pair", "--preset", link.preset, "--out", str(folder)]
    command += ["--block", link.block, "--blocks", str(link.calibration_blocks)]
    command += ["--drift", link.drift]
    if link.loss_db is not None:
        command += ["--loss", str(link.loss_db)]
    return command


def channel_file(link: DeviceLink, name: str, folder: Path) -> str:
    channel: dict[str, str | float] = {
        "name": name,
        "preset": link.preset,
        "block": link.block,
        "interval": link.interval,
        "drift": link.drift,
        "control_socket": str(folder / "channel.sock"),
    }
    if link.loss_db is not None:
        channel["loss_db"] = link.loss_db
    return toml(
        {
            "channel": channel,
            "device.alice": {"listen": f"unix:{folder / 'alice.light'}"},
            "device.bob": {"listen": f"unix:{folder / 'bob.light'}"},
        }
    )


def device_file(link: DeviceLink, name: str, folder: Path, kme: Kme) -> str:
    """``alice.toml`` for the KME at moon's site, ``bob.toml`` for that at sun's."""
    alice = kme.gateway == "moon"
    role = "alice" if alice else "bob"
    device: dict[str, str | int] = {
        "role": role,
        "link": name,
        "datasheet": "pair.toml",
        "optics": f"unix:{folder / f'{role}.light'}",
        "control_socket": str(folder / f"{role}.sock"),
    }
    if alice:
        device |= {
            "baseline": "baseline.json",
            "telemetry": "telemetry.jsonl",
            "buffer": link.buffer,
        }
    address = f"tcp:{BOB_HOST}:{_PORTS[name]}"
    if alice and link.tap:
        address = f"unix:{folder / 'tap.light'}"
    tables: dict[str, Table] = {
        "device": device,
        "classical": {
            "connect" if alice else "listen": address,
            "psk": "pair.psk",
            "state": f"{role}.state",
        },
        "kme": {
            "listen": f"unix:{folder / kme.name}.sock",
            "own": kme.name,
            "peer": kme.peer,
        },
    }
    return toml(tables)


def wiretap_words(name: str, folder: Path) -> list[str]:
    """Arguments of ``netns_lab.wiretap`` between Alice and Bob."""
    return [
        *("--listen", str(folder / "tap.light")),
        *("--connect", f"{BOB_HOST}:{_PORTS[name]}"),
        *("--control", str(folder / "tap.sock")),
    ]
