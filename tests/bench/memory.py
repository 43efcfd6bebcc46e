"""Resident memory of an idle daemon, and of each further tunnel. Runs inside the lab's kernel."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.figures import BIN, REPOSITORY, Figure

TUNNELS = 40
READY_TIMEOUT = 60.0  # seconds


def _config(directory: Path, tunnels: int) -> Path:
    (directory / "psk").write_text(secrets.token_hex(32))
    (directory / "psk").chmod(0o600)
    text = [
        "[gateway]",
        'name = "moon"',
        'listen = ["127.0.0.1"]',
        'sae_id = "moon"',
        f'control_socket = "{directory}/control.sock"',
    ]
    for number in range(1, tunnels + 1):
        text += [
            f"[tunnel.peer{number}]",
            'local = "127.0.0.1"',
            f'remote = "127.0.1.{number}"',
            'local_id = "moon.example"',
            f'remote_id = "peer{number}.example"',
            'psk = "psk"',
            f'local_subnets = ["10.1.{number}.0/24"]',
            f'remote_subnets = ["10.2.{number}.0/24"]',
            'start = "respond"',
            'qkd = "off"',
        ]
    path = directory / "qsgw.toml"
    path.write_text("\n".join(text) + "\n")
    return path


def _resident(tunnels: int) -> float:
    """MiB of a daemon with this many tunnels, none of them up."""
    with tempfile.TemporaryDirectory(prefix="qb") as name:
        directory = Path(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(directory / "notify"))
            notify.settimeout(READY_TIMEOUT)
            daemon = subprocess.Popen(
                [BIN / "qsgwd", "--config", _config(directory, tunnels)],
                env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")},
            )
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
                status = Path(f"/proc/{daemon.pid}/status").read_text()
            finally:
                daemon.terminate()
                daemon.wait(10)
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) / 1024


def _inside() -> None:
    """In the lab: print both sizes for the process outside."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    json.dump({"one": _resident(1), "many": _resident(1 + TUNNELS)}, sys.stdout)


def run() -> list[Figure]:
    """A daemon needs a kernel with ESP, so this part runs where the lab runs."""
    done = subprocess.run(
        [BIN / "qsgw-lab", "run", "--", sys.executable, "-m", "tests.bench.memory"],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    sizes = json.loads(done.stdout[done.stdout.index("{") :])
    return [
        Figure(name="idle daemon, resident", value=sizes["one"], unit="MiB", aim=80.0),
        Figure(
            name="each further tunnel",
            value=(sizes["many"] - sizes["one"]) / TUNNELS * 1024,
            unit="KiB",
            note=f"measured with {TUNNELS}",
        ),
    ]


if __name__ == "__main__":
    _inside()
