"""Channel, Alice, Bob and two KMEs as the processes an operator starts, on loopback.

with DeviceLab(short_dir) as lab:
    lab.start_all()
    lab.until(lambda: lab.stored() >= 4)
    lab.channel("attack", "intercept-resend", "fraction=0.2")
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from qkd_adapters.control import request
from qkd_adapters.factory import Order, ship
from qkd_adapters.pki import KmeName, make_pki

PATIENCE = 120.0  # seconds until what must come about has failed; the machine may be busy
SITES = {"moon": "sun", "sun": "moon"}
ROLES = {"alice": "moon", "bob": "sun"}

CHANNEL = """
[channel]
name = "moon-sun"
preset = "{preset}"
block = "{block}"
interval = "{interval}"
control_socket = "channel.ctl"
seed = 7
[device.alice]
listen = "unix:{directory}/alice.light"
[device.bob]
listen = "unix:{directory}/bob.light"
"""
DEVICE = """
[device]
role = "{role}"
link = "moon-sun"
datasheet = "pair.toml"
optics = "unix:{directory}/{role}.light"
control_socket = "{role}.ctl"
{alice_only}
[classical]
{way} = "unix:{directory}/{address}"
psk = "pair.psk"
state = "{role}.state"
[kme]
listen = "unix:{directory}/{site}.link"
own = "kme-{site}"
peer = "kme-{other}"
"""
KME = """
[kme]
id = "kme-{site}"
listen = ["127.0.0.1:0"]
ca = "pki/ca.pem"
certificate = "pki/kme-{site}.pem"
key = "pki/kme-{site}.key"
control_socket = "kme-{site}.ctl"
[link]
connect = "unix:{directory}/{site}.link"
peer_kme = "kme-{other}"
[keys]
max_count = 40
[sae.{site}]
peers = ["{other}"]
"""


class DeviceLab:
    """``tap``: a netns_lab.wiretap between Alice and Bob."""

    def __init__(
        self,
        directory: Path,
        *,
        preset: str = "lab-decoy",
        block: str = "300ms",
        interval: str = "100ms",
        tap: bool = False,
    ) -> None:
        self.directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._tap = tap
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._notify.settimeout(PATIENCE)
        seconds = float(block.removesuffix("ms")) / 1000
        ship(Order(preset=preset, block=seconds, blocks=100), directory, regions=16)
        self._write("channel", CHANNEL.format(
            directory=directory, preset=preset, block=block, interval=interval
        ))  # fmt: skip
        for role, site in ROLES.items():
            alice = role == "alice"
            self._write(role, DEVICE.format(
                directory=directory, role=role, site=site, other=SITES[site],
                way="connect" if alice else "listen",
                address="tap" if alice and tap else "classical",
                alice_only='baseline = "baseline.json"\ntelemetry = "telemetry.jsonl"'
                if alice else "",
            ))  # fmt: skip
        for site, other in SITES.items():
            text = KME.format(directory=directory, site=site, other=other)
            self._write(f"kme-{site}", text)
        kmes = [KmeName(name=f"kme-{site}", addresses=("127.0.0.1",)) for site in SITES]
        make_pki(directory / "pki", kmes=kmes, saes=list(SITES), force=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self._notify.close()

    def _write(self, name: str, text: str) -> None:
        (self.directory / f"{name}.toml").write_text(text)

    # --- processes ---

    def start_all(self) -> None:
        """Side by side; returns when all are ready."""
        names = ["channel", "bob", "alice", "kme-moon", "kme-sun", *(["tap"] if self._tap else [])]
        for name in names:
            self._popen(name)
        for _ in names:
            assert self._notify.recv(100) == b"READY=1"

    def start(self, name: str) -> None:
        self._popen(name)
        assert self._notify.recv(100) == b"READY=1"

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> int:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE)

    def _popen(self, name: str) -> None:
        config = str(self.directory / f"{name}.toml")
        command = {
            "channel": ["-m", "qkd_adapters", "channel", "--config", config],
            "alice": ["-m", "qkd_adapters", "device", "--config", config,
                      "--record-keys", str(self.directory / "keys")],
            "bob": ["-m", "qkd_adapters", "device", "--config", config],
            "tap": ["-m", "netns_lab.wiretap", "--listen", str(self.directory / "tap"),
                    "--connect", f"unix:{self.directory}/classical",
                    "--control", str(self.directory / "tap.ctl")],
        }.get(name, ["-m", "qkd_adapters", "serve", "--config", config])  # fmt: skip
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            "QSGW_LAB": "1",
        }
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *command], env=environment, stderr=log
            )

    # --- asking and acting ---

    def ask(self, name: str, *words: str) -> Any:
        return request(str(self.directory / f"{name}.ctl"), words)

    def channel(self, *words: str) -> Any:
        return self.ask("channel", *words)

    def status(self, role: str = "alice") -> dict[str, Any]:
        answer: dict[str, Any] = self.ask(role, "status")
        return answer

    def stored(self) -> int:
        """Keys for moon as master, at the KME that has the fewer of them."""
        return min(
            sum(
                entry["stored"]
                for entry in self.ask(f"kme-{site}", "status")["directions"]
                if entry["master"] == "moon"
            )
            for site in SITES
        )

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.why()
            time.sleep(0.01)

    def state(self, wanted: str) -> None:
        """Until the link is in this state at both KMEs."""
        self.until(
            lambda: all(
                self.ask(f"kme-{site}", "status")["link"]["state"] == wanted for site in SITES
            )
        )

    def why(self) -> str:
        tails = {path.name: path.read_text()[-600:] for path in self.directory.glob("*.log")}
        return json.dumps(tails, indent=1)

    def telemetry(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "telemetry.jsonl").open()]

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.directory / f"{name}.log").open()]
        return [line for line in lines if line["event"] == event]

    # --- the KMEs' own interface ---

    def etsi(self, site: str, path: str) -> dict[str, list[dict[str, str]]]:
        """ETSI 014 request of this site's SAE to its KME."""
        pki = self.directory / "pki"
        context = ssl.create_default_context(cafile=pki / "ca.pem")
        context.load_cert_chain(pki / f"{site}.pem", pki / f"{site}.key")
        port = self.events(f"kme-{site}", "kme-ready")[-1]["port"]
        url = f"https://127.0.0.1:{port}/api/v1/keys/{path}"
        with urllib.request.urlopen(url, context=context, timeout=PATIENCE) as answer:
            found: dict[str, list[dict[str, str]]] = json.load(answer)
            return found

    def take(self, number: int = 2) -> list[dict[str, str]]:
        """Keys for moon that sun gets too; both have the same."""
        sent = self.etsi("moon", f"sun/enc_keys?number={number}")["keys"]
        for entry in sent:
            assert self.etsi("sun", f"moon/dec_keys?key_ID={entry['key_ID']}")["keys"] == [entry]
        return sent


def smooth(keys: list[bytes]) -> float:
    """Standard deviations by which the ones in ``keys`` differ from half."""
    bits = np.unpackbits(np.frombuffer(b"".join(keys), dtype=np.uint8))
    return float(abs(2 * int(bits.sum()) - len(bits)) / np.sqrt(len(bits)))
