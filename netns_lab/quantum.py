"""Inside the lab that is up: ``qsgw-lab link`` and ``qsgw-lab attack`` run this beside Alice.

``python -m netns_lab.quantum --link NAME link|attack WORDS...``. A link that ``qsgw-kme link``
feeds is steered with ``linkctl``, one that devices feed with ``channelctl`` and ``devicectl``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netns_lab import control
from netns_lab.errors import LabError
from netns_lab.lab import RUNS
from netns_lab.qkd_link import CLASSICAL, DOS, MITM

WATCH_SECONDS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="qsgw-lab")
    parser.add_argument("--link", default="link")
    parser.add_argument("verb", choices=("link", "attack"))
    parser.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        folder = _folder(arguments.link)
        if arguments.verb == "link":
            return _link(folder, arguments.words)
        return _attack(folder, arguments.words)
    except LabError as error:
        print(f"qsgw-lab: {error}", file=sys.stderr)
        return 1


def _folder(link: str) -> Path:
    found = sorted(RUNS.glob(f"*/{link}"))
    if not found:
        raise LabError(f"the lab that is up has no link {link!r}")
    return found[-1]


def _kme(*words: str) -> int:
    return subprocess.run(["qsgw-kme", *words], check=False).returncode


# --- link ---------------------------------------------------------------------------------------


def _link(folder: Path, words: Sequence[str]) -> int:
    words = list(words) or ["status"]
    devices = (folder / "channel.toml").exists()
    if words == ["watch"]:
        return _watch(folder, devices=devices)
    if not devices:
        return _kme("linkctl", "--socket", str(folder / "control.sock"), *words)
    if words[0] == "status":
        return max(
            _kme("devicectl", "--socket", str(folder / f"{role}.sock"), *words)
            for role in ("alice", "bob")
        )
    if words[0] == "calibrate":
        return _kme("devicectl", "--socket", str(folder / "alice.sock"), *words)
    return _kme("channelctl", "--socket", str(folder / "channel.sock"), *words)


def _watch(folder: Path, *, devices: bool) -> int:
    """One line a second, or one per block, until interrupted."""
    socket = folder / ("alice.sock" if devices else "control.sock")
    shown: Any = None
    while True:
        status = asyncio.run(control.key_side(socket, "status"))
        last = status.get("last") or {}
        mark = last.get("block") if devices else time.monotonic()
        if mark != shown:
            shown = mark
            print(watch_line(status), flush=True)
        time.sleep(WATCH_SECONDS / 4 if devices else WATCH_SECONDS)


def watch_line(status: dict[str, Any]) -> str:
    """A link in one line."""
    alarms = "; ".join(status["alarms"]) or "no alarm"
    last = status.get("last")
    if last is None:
        return f"{status['state']:<8} {status['key_rate']:.1f} keys/s  {alarms}"
    qber = f"{last['qber_z']:.2%}" if last.get("sifted") else "-"
    gains = " ".join(f"{name} {gain:.3g}" for name, gain in last["gains"].items())
    delivery = status["delivery"]
    return (
        f"block {last['block']:<6} {status['state']:<8} QBER {qber:<7} gain {gains}  "
        f"secret {last.get('secret_bits') or 0} bit  keys {delivery['handed_over']} out, "
        f"{delivery['waiting']} waiting, {delivery['quarantined']} quarantined  {alarms}"
    )


# --- attack ---------------------------------------------------------------------------------------


def _attack(folder: Path, words: Sequence[str]) -> int:
    if list(words) == ["list"]:
        code = _kme("channelctl", "list")
        for name, text in CLASSICAL.items():
            print(f"{name}: {text}")
        return code
    if not (folder / "channel.toml").exists():
        raise LabError(f"no devices feed {folder.name}: qsgw-lab up --devices PRESET")
    channel = ["channelctl", "--socket", str(folder / "channel.sock")]
    match list(words):
        case [] | ["status"]:
            return _kme(*channel, "status")
        case ["stop"]:
            _tap(folder, "pass")
            return _kme(*channel, "stop")
        case ["stop", name] if name in CLASSICAL:
            return _tap(folder, "pass")
        case ["stop" | "script" | "drift" | "loss", *_]:
            return _kme(*channel, *words)
        case [name, *rest] if name == MITM:
            return _tap(folder, "flip", *rest)
        case [name, *rest] if name == DOS:
            seconds = [word.removeprefix("seconds=") for word in rest]
            return _tap(folder, *(["delay", *seconds] if seconds else ["stall"]))
        case _:
            return _kme(*channel, "attack", *words)


def _tap(folder: Path, *words: str) -> int:
    answer = asyncio.run(control.key_side(folder / "tap.sock", *words))
    print(f"classical channel: {json.dumps(answer)}")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
