"""``qsgw`` as a user and a script see it."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.control import cli
from gateway.control.finding import Finding, State
from gateway.model import Protection, QkdPolicy, Severity
from tests.support.snapshots import (
    KEY_ID,
    alarm,
    child_view,
    event,
    ike_view,
    snapshot,
    tunnel_view,
)

HEAVY = ("asyncio", "msgspec", "aiohttp", "cryptography", "pyroute2", "tomllib", "aiomqtt")


# --- quick to start --------------------------------------------------------------------------


def test_status_imports_nothing_heavy() -> None:
    code = f"import sys, gateway.control.cli; print([m for m in {HEAVY} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert output.stdout.strip() == b"[]"


# --- status ----------------------------------------------------------------------------------


async def test_status_shows_protection_first_and_what_was_mixed(qsgw: Any, path: Path) -> None:
    result = await qsgw("--socket", path, "status")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "gateway moon, qsgw 0.1.0, up 2h, 1 tunnel"
    assert lines[2] == "HYBRID    sun: for 1m, qkd prefer"
    assert "X25519/KE1_ML-KEM-768/PPK" in result.out
    assert "HYBRID: AES_GCM_16-256/X25519/KE1_ML-KEM-768/ESN/PPK" in result.out
    assert "installed 30s ago, rekeying in 30s" in result.out
    assert "in 1.5 KiB, 12 packets; out 20 B, 1 packet" in result.out
    assert "4 of 4 ready, 120 at the KME, 0.50/s; 21 used, 1 burned" in result.out
    assert "\x1b" not in result.out  # not a terminal


async def test_no_verb_is_status(qsgw: Any, path: Path) -> None:
    assert (await qsgw("--socket", path)).out == (await qsgw("status", "--socket", path)).out


async def test_warnings_come_first(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(alarms=(alarm(severity=Severity.CRITICAL),))
    first = (await qsgw("--socket", path, "status")).out.splitlines()[0]
    assert first == "! critical: sun: no QKD keys since 5 s (qkd-loss, since 5s)"


async def test_an_alarm_that_names_its_subject_is_not_given_it_again(
    qsgw: Any, path: Path, daemon: Any
) -> None:
    named = alarm(subject="primary", text="KME primary: does not answer", id="kme-unreachable")
    daemon.current = snapshot(alarms=(named,))
    first = (await qsgw("--socket", path, "status")).out.splitlines()[0]
    assert first.startswith("! warning: KME primary: does not answer (")


async def test_an_exchange_under_way_shows_its_state(qsgw: Any, path: Path, daemon: Any) -> None:
    begun = ike_view(state="init-sent", proposal="", established_at=None, key_id=None)
    daemon.current = snapshot(tunnels=(tunnel_view(ike=begun, children=()),))
    assert "  ike     init-sent\n" in (await qsgw("--socket", path, "status")).out
    assert not re.search(r" +$", (await qsgw("--socket", path, "sas")).out, re.MULTILINE)


async def test_one_tunnel(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(tunnels=(tunnel_view("sun"), tunnel_view("venus")))
    result = await qsgw("--socket", path, "--json", "status", "venus")
    assert [tunnel["name"] for tunnel in result.json["tunnels"]] == ["venus"]
    missing = await qsgw("--socket", path, "status", "mars")
    assert missing.code == 4
    assert missing.err == 'qsgw: no tunnel "mars" (configured: sun, venus)\n'


async def test_text_from_outside_cannot_drive_the_terminal(
    qsgw: Any, path: Path, daemon: Any
) -> None:
    evil = "\x1b[2J\r\nHYBRID \x9b31m\u202e"
    daemon.current = snapshot(
        tunnels=(tunnel_view(reason=evil, last_error=evil, remote_id=evil),),
        alarms=(alarm(text=evil),),
    )
    out = (await qsgw("--socket", path, "status")).out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"protection": Protection.PQC_ONLY}, 5),
        ({"protection": Protection.PQC_ONLY, "qkd": QkdPolicy.OFF}, 0),
        ({"protection": Protection.CLASSICAL, "qkd": QkdPolicy.OFF}, 5),
        ({"protection": Protection.BLOCKED}, 5),
        ({"protection": Protection.DOWN}, 5),
    ],
)
async def test_check(
    qsgw: Any, path: Path, daemon: Any, changes: dict[str, Any], code: int
) -> None:
    daemon.current = snapshot(tunnels=(tunnel_view(reason="why", **changes),))
    result = await qsgw("--socket", path, "status", "--check")
    assert result.code == code
    assert result.out.startswith("DEGRADED: sun is" if code else "OK: sun")
    assert (await qsgw("--socket", path, "--json", "status", "--check")).code == code
    assert (await qsgw("--socket", path, "status")).code == 0


async def test_check_counts_critical_alarms_only(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(alarms=(alarm(severity=Severity.WARNING),))
    assert (await qsgw("--socket", path, "status", "--check")).code == 0
    daemon.current = snapshot(alarms=(alarm(severity=Severity.CRITICAL),))
    assert (await qsgw("--socket", path, "status", "--check")).code == 5


# --- sas, keys, monitor ----------------------------------------------------------------------


async def test_sas(qsgw: Any, path: Path, daemon: Any) -> None:
    out = (await qsgw("--socket", path, "sas")).out
    assert "00112233445566aa_i* 8899aabbccddeeff_r" in out
    assert "child   in c1000001 out c2000002, carries traffic, in the kernel" in out
    assert f"QKD key {KEY_ID[:8]}… by RFC9867" in out
    assert KEY_ID not in out
    daemon.current = snapshot(
        tunnels=(tunnel_view(protection=Protection.DOWN, ike=None, children=()),)
    )
    assert "no IKE SA" in (await qsgw("--socket", path, "sas")).out


async def test_tunnels_that_share_an_ike_sa(qsgw: Any, path: Path, daemon: Any) -> None:
    child = child_view(key_shared=True, ppk_method="RFC8784")
    scada = tunnel_view("scada", connection="sun", children=(child,))
    daemon.current = snapshot(tunnels=(tunnel_view(), scada))
    sas = await qsgw("--socket", path, "sas")
    assert sas.out.count("IKEv2") == 1  # one IKE SA
    assert "the IKE SA of sun, established" in sas.out
    assert "shared with others in the IKE SA" in sas.out
    status = await qsgw("--socket", path, "status")
    assert status.out.count("the IKE SA of sun, ") == 1


async def test_sas_as_json(qsgw: Any, path: Path) -> None:
    result = (await qsgw("--socket", path, "sas", "--json")).json
    assert result["schema"] == 1
    assert set(result["tunnels"][0]) == {"name", "protection", "ike", "children"}


async def test_keys(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(tunnels=(tunnel_view(), tunnel_view("venus", keys=None)))
    out = (await qsgw("--socket", path, "keys")).out
    assert re.search(r"^sun +sun +4/4 +120 +0\.50 +21 +1 +0$", out, re.MULTILINE)
    assert re.search(r"^venus +- ", out, re.MULTILINE)
    assert re.search(r"^primary +https://10\.9\.1\.2:8443 +in use", out, re.MULTILINE)
    result = (await qsgw("--socket", path, "keys", "--json")).json
    assert result["kmes"][0]["name"] == "primary"


@pytest.mark.parametrize("as_json", [True, False])
async def test_monitor(qsgw: Any, path: Path, server: Any, daemon: Any, as_json: bool) -> None:
    words = ["--socket", path, "monitor", *(["--json"] if as_json else [])]
    running = asyncio.create_task(qsgw(*words))
    async with asyncio.timeout(10):
        while not daemon.subscribers:
            await asyncio.sleep(0.005)
    daemon.publish(event())
    daemon.publish(event(type="child-down", tunnel=None))
    async with asyncio.timeout(10):
        while not all(queue.empty() for queue in daemon.subscribers):
            await asyncio.sleep(0)
    await asyncio.sleep(0)  # what was taken from the queue is written in the next step
    await server.stop()
    result = await running
    assert result.code == 3  # the daemon went away
    lines = result.out.splitlines()
    if as_json:
        assert [json.loads(line)["type"] for line in lines[:2]] == ["child-up", "child-down"]
        assert json.loads(lines[0])["schema"] == 1
        assert json.loads(lines[2])["exit_code"] == 3
    else:
        assert lines[0].startswith("2026-11-21T10:00:00.000Z child-up         sun: rekeyed")
        assert "hung up" in result.err


# --- verbs that change something -------------------------------------------------------------


async def test_rekey(qsgw: Any, path: Path, daemon: Any) -> None:
    result = await qsgw("--socket", path, "rekey", "sun")
    assert (result.code, result.out) == (0, "sun: rekeying\n")
    result = await qsgw("--socket", path, "--json", "rekey", "sun")
    assert result.json == {"schema": 1, "result": "sun: rekeying"}
    assert daemon.calls == ["rekey sun"] * 2


async def test_daemons_errors_keep_their_exit_code(qsgw: Any, path: Path) -> None:
    result = await qsgw("--socket", path, "initiate", "mars")
    assert (result.code, result.err) == (4, "qsgw: no tunnel named mars\n")
    result = await qsgw("--socket", path, "reload", "--json")
    assert result.code == 1
    assert "psk: is empty" in result.json["error"]
    assert (result.json["schema"], result.json["exit_code"]) == (1, 1)


# --- no daemon, wrong usage ------------------------------------------------------------------


async def test_no_daemon(qsgw: Any, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    result = await qsgw("--socket", path, "status")
    assert result.code == 3
    assert result.err == f"qsgw: qsgwd is not running: there is no {path}\n"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    result = await qsgw("--socket", path, "status", "--json")
    assert result.code == 3
    assert "nobody listens" in result.json["error"]


async def test_something_else_answers(qsgw: Any, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\n")

    async with await asyncio.start_unix_server(serve, path):
        result = await qsgw("--socket", path, "status")
    assert result.code == 1
    assert result.err.endswith("what answers there is not qsgwd\n")


async def test_another_schema(qsgw: Any, path: Path, daemon: Any) -> None:
    daemon.current = snapshot(schema=2)
    result = await qsgw("--socket", path, "status")
    assert "not of schema 1" in result.err


@pytest.mark.parametrize("words", [("dance",), ("rekey",), ("status", "--depth"), ("config",)])
async def test_wrong_usage(qsgw: Any, words: tuple[str, ...]) -> None:
    result = await qsgw(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("qsgw: ")
    as_json = await qsgw("--json", *words)
    assert as_json.code == 2
    assert as_json.json["exit_code"] == 2


async def test_a_bug_is_one_line(qsgw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("gateway.control.client.ControlClient.__enter__", broken)
    result = await qsgw("status")
    assert result.code == 1
    assert result.err == "qsgw: internal error: ZeroDivisionError('oops')\n"


async def test_version_needs_no_daemon(qsgw: Any, path: Path, tmp_path: Path) -> None:
    result = await qsgw("--socket", tmp_path / "none", "version", "--json")
    assert (result.code, result.json["daemon"]) == (0, None)
    assert "qsgwd 0.1.0" in (await qsgw("--socket", path, "version")).out


# --- config check, doctor --------------------------------------------------------------------


async def test_config_check(qsgw: Any, tmp_path: Path) -> None:
    file = tmp_path / "qsgw.toml"
    file.write_text("[gateway]\nnam = 1\n")
    result = await qsgw("config", "check", file)
    assert result.code == 1
    assert f'{file}: [gateway] nam: unknown key; did you mean "name"?' in result.out
    as_json = (await qsgw("config", "check", file, "--json")).json
    assert as_json["valid"] is False
    assert {"table": "gateway", "key": "listen", "message": "this key is missing"} in as_json[
        "errors"
    ]
    file.write_text('[gateway]\nname = "moon"\nlisten = ["127.0.0.1"]\nsae_id = "moon"\n')
    result = await qsgw("config", "check", file)
    assert result.code == 0
    assert result.out.splitlines()[-1] == f"{file}: good"


@pytest.mark.parametrize(("state", "code"), [(State.WARNING, 0), (State.FAILED, 1)])
async def test_doctor(qsgw: Any, monkeypatch: pytest.MonkeyPatch, state: State, code: int) -> None:
    finding = Finding(check="kernel", state=state, text="no ESP", advice="modprobe esp4")
    monkeypatch.setattr("gateway.control.doctor.examine", lambda **_: [finding])
    result = await qsgw("doctor")
    assert result.code == code
    assert result.out == f"{state:<8} kernel: no ESP - modprobe esp4\n"
    as_json = (await qsgw("doctor", "--json")).json
    assert as_json["findings"] == [
        {"check": "kernel", "state": state.value, "text": "no ESP", "advice": "modprobe esp4"}
    ]


def test_a_terminal_that_is_not_utf8() -> None:
    code = (
        "from gateway.control import cli, commands\n"
        "commands.version = lambda _: print('\\u2026') or 0\n"
        "cli.main(['version'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": "ascii"},
        cwd=Path(cli.__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"?\n", b"")
