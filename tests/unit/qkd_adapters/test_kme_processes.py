"""The commands as an operator starts them: own processes, systemd's notify, SIGTERM, exit codes."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from qkd_adapters.cli import main
from qkd_adapters.control import request

KME_TOML = """
[kme]
id = "kme-{own}"
listen = ["127.0.0.1:0"]
ca = "pki/ca.pem"
certificate = "pki/kme-{own}.pem"
key = "pki/kme-{own}.key"
control_socket = "kme-{own}.ctl"

[link]
connect = "unix:{directory}/{own}.link"
peer_kme = "kme-{other}"

[keys]
max_count = 4

[sae.{own}]
peers = ["{other}"]
"""
LINK_TOML = """
[link]
name = "moon-sun"
rate = 500.0
control_socket = "link.ctl"

[side.kme-moon]
listen = "unix:{directory}/moon.link"

[side.kme-sun]
listen = "unix:{directory}/sun.link"
"""


class Processes:
    """Starts commands and waits for their READY=1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._notify.settimeout(20)

    def start(self, name: str, *words: str) -> None:
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            "QSGW_LAB": "1",
        }
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "qkd_adapters", *words], env=environment, stderr=log
            )
        assert self._notify.recv(100) == b"READY=1"

    def stop(self, name: str) -> int:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)
        assert self._notify.recv(100) == b"STOPPING=1"
        return code

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self._notify.close()

    def port(self, name: str) -> int:
        lines = [json.loads(line) for line in (self.directory / f"{name}.log").open()]
        return int(next(line["port"] for line in lines[::-1] if line["event"] == "kme-ready"))

    def ask(self, sae: str, path: str) -> dict[str, list[dict[str, str]]]:
        context = ssl.create_default_context(cafile=self.directory / "pki/ca.pem")
        pki = self.directory / "pki"
        context.load_cert_chain(pki / f"{sae}.pem", pki / f"{sae}.key")
        url = f"https://127.0.0.1:{self.port(sae)}/api/v1/keys/{path}"
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The commands run in this process set up logging to a stderr that pytest then closes."""
    before = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers, level = before
    logging.root.setLevel(level)


@pytest.fixture
def processes(short_dir: Path) -> Iterator[Processes]:
    processes = Processes(short_dir)
    yield processes
    processes.close()


@pytest.mark.slow
def test_a_link_and_two_kmes(processes: Processes, capsys: pytest.CaptureFixture[str]) -> None:
    directory = processes.directory
    assert main(["pki", "--out", str(directory / "pki"), "--kme", "kme-moon:127.0.0.1",
                 "--kme", "kme-sun:127.0.0.1", "--sae", "moon", "sun"]) == 0  # fmt: skip
    for own, other in (("moon", "sun"), ("sun", "moon")):
        text = KME_TOML.format(own=own, other=other, directory=directory)
        (directory / f"{own}.toml").write_text(text)
    (directory / "link.toml").write_text(LINK_TOML.format(directory=directory))
    # The KMEs come first: they must be ready without the link.
    processes.start("moon", "serve", "--config", str(directory / "moon.toml"))
    processes.start("sun", "serve", "--config", str(directory / "sun.toml"))
    record = directory / "keys"
    processes.start(
        "link", "link", "--config", str(directory / "link.toml"), "--record-keys", str(record)
    )
    while any(
        entry["stored"] < 4
        for name in ("moon", "sun")
        for entry in request(str(directory / f"kme-{name}.ctl"), ["status"])["directions"]
    ):
        pass
    sent = processes.ask("moon", "sun/enc_keys?number=2")["keys"]
    for entry in sent:
        received = processes.ask("sun", f"moon/dec_keys?key_ID={entry['key_ID']}")["keys"]
        assert received == [entry]

    link_socket = str(directory / "link.ctl")
    assert main(["linkctl", "--socket", link_socket, "suspect", "QBER", "9 %"]) == 0
    assert "alarm: QBER 9 %" in capsys.readouterr().out
    assert main(["linkctl", "--socket", link_socket, "cut"]) == 0
    assert main(["linkctl", "--socket", link_socket, "rate", "0"]) == 1
    assert capsys.readouterr().err.startswith("qsgw-kme: rate: ")
    assert main(["linkctl", "--socket", link_socket, "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "down"
    kme_socket = str(directory / "kme-moon.ctl")
    assert main(["kmectl", "--socket", kme_socket, "fault", "garbage", "on"]) == 0
    assert main(["kmectl", "--socket", kme_socket, "status"]) == 0
    assert "faults on: garbage" in capsys.readouterr().out

    assert [processes.stop(name) for name in ("sun", "link", "moon")] == [0, 0, 0]
    assert not list(directory.glob("*.ctl"))
    assert not list(directory.glob("*.link"))
    _no_key_in_logs(directory, record)


def _no_key_in_logs(directory: Path, record: Path) -> None:
    """Neither the octets nor their text forms stand in a log; each line is a JSON object."""
    import base64

    keys = [bytes.fromhex(line.split()[1]) for line in record.read_text().splitlines()]
    assert len(keys) >= 8
    assert record.stat().st_mode & 0o777 == 0o600
    for log in directory.glob("*.log"):
        data = log.read_bytes()
        for key in keys:
            assert key not in data
            assert key.hex().encode() not in data
            assert base64.b64encode(key) not in data
        for line in data.splitlines():
            assert {"time", "level", "event"} <= json.loads(line).keys()


# --- command line ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["serve"],
        ["linkctl", "--socket", "x", "explode"],
        ["linkctl", "--socket", "x", "rate"],
        ["kmectl", "--socket", "x", "fault", "no-such", "on"],
        ["pki", "--out", "x", "--kme", "no-address"],
    ],
)
def test_usage_errors_exit_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--config", "/nonexistent.toml"],
        ["link", "--config", "/nonexistent.toml"],
        ["linkctl", "--socket", "/nonexistent.sock", "status"],
        ["kmectl", "--socket", "/nonexistent.sock", "status"],
        ["pki", "--out", "/dev/null/x", "--sae", "moon"],
    ],
)
def test_failures_are_one_line_and_exit_with_1(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("qsgw-kme: ")
    assert error.count("\n") == 1


def _serve_config(directory: Path, pki: str, port: int) -> list[str]:
    text = KME_TOML.format(own="moon", other="sun", directory=directory)
    text = text.replace("127.0.0.1:0", f"127.0.0.1:{port}").replace('"pki/', f'"{pki}/')
    (directory / "moon.toml").write_text(text)
    return ["serve", "--config", str(directory / "moon.toml")]


def test_certificate_problems_name_the_file(
    short_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_serve_config(short_dir, "nowhere", 0)) == 1
    assert "nowhere/ca.pem: No such file" in capsys.readouterr().err
    main(["pki", "--out", str(short_dir / "pki"), "--kme", "kme-moon:127.0.0.1"])
    (short_dir / "pki/kme-moon.key").write_text("not a key")
    assert main(_serve_config(short_dir, "pki", 0)) == 1
    error = capsys.readouterr().err
    assert "kme-moon.key" in error
    assert "not a key" not in error


def test_port_in_use_is_said_plainly(short_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["pki", "--out", str(short_dir / "pki"), "--kme", "kme-moon:127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(_serve_config(short_dir, "pki", port)) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
