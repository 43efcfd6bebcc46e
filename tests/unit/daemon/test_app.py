"""The whole daemon but for its kernel: configuration file, sockets on loopback, control socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_config
from gateway.daemon import app, udp
from gateway.daemon.app import Gateway
from gateway.daemon.macsec.link import MacsecLink
from gateway.dataplane.memory import MemoryDataPlane
from gateway.errors import StartupError
from gateway.ike import limits
from gateway.model import PolicyAction
from tests.support.memory_lan import MemoryLan

FILE = """
[gateway]
name = "{name}"
listen = ["{local}"]
sae_id = "{name}"
control_socket = "{folder}/{name}.sock"
on_stop = "{on_stop}"

[tunnel.{peer}]
local = "{local}"
remote = "{remote}"
local_id = "{name}.example"
remote_id = "{peer}.example"
psk = "psk"
local_subnets = ["{inner}"]
remote_subnets = ["{outer}"]
qkd = "off"
start = "{start}"
"""

LINK = """
[macsec.metro]
interface = "eth1"
connection = "{peer}"
"""


class Daemon:
    """One Gateway in this process, with the memory kernel it was given."""

    def __init__(self, folder: Path, name: str, *, on_stop: str = "keep", file: str = FILE) -> None:
        moon = name == "moon"
        sites = ("127.0.0.1", "10.1.0.0/24"), ("127.0.0.2", "10.2.0.0/24")
        ours, theirs = sites if moon else sites[::-1]
        self.path = folder / f"{name}.toml"
        self.socket = folder / f"{name}.sock"
        text = file.format(
            name=name,
            peer="sun" if moon else "moon",
            folder=folder,
            on_stop=on_stop,
            local=ours[0],
            inner=ours[1],
            remote=theirs[0],
            outer=theirs[1],
            start="initiate" if moon else "respond",
        )
        self.path.write_text(text)
        self.gateway = Gateway(load_config(self.path).config, self.path, None)
        self.kernel: Any = self.gateway._dataplane

    def run(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.gateway.run())

    async def ask(self, verb: str, **arguments: str) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.socket, limit=1 << 20)
        writer.write(json.dumps({"schema": 1, "verb": verb, **arguments}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        return answer


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for files, with a kernel in memory and ports that are free."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in held:
        sock.bind(("127.0.0.1", 0))
    ike, natt = (sock.getsockname()[1] for sock in held)
    for sock in held:
        sock.close()
    for module, name, port in (
        (udp, "IKE_PORT", ike),
        (udp, "NATT_PORT", natt),
        (limits, "IKE_PORT", ike),
        (limits, "NAT_PORT", natt),
    ):
        monkeypatch.setattr(module, name, port)
    monkeypatch.setattr(udp, "exempt_ike_socket", lambda _: None)
    monkeypatch.setattr(udp, "enable_udp_encap", lambda _: None)
    monkeypatch.setattr(app, "XfrmDataPlane", lambda ipv6: MemoryDataPlane())
    lan = MemoryLan()
    planes = cycle(("moon", "sun"))
    monkeypatch.setattr(app, "MacsecNetlink", lambda: lan.plane(next(planes)))
    monkeypatch.setattr(app, "EapolSocket", lan.open_any)
    monkeypatch.setattr(app, "CLOSE_TIMEOUT", 0.5)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    (tmp_path / "psk").write_bytes(b"0123456789abcdef0123456789abcdef\n")
    (tmp_path / "psk").chmod(0o600)
    return tmp_path


async def test_two_daemons_from_start_to_stop(folder: Path) -> None:
    before = asyncio.all_tasks()
    moon, sun = Daemon(folder, "moon", on_stop="close"), Daemon(folder, "sun")
    running = [sun.run(), moon.run()]
    await until(lambda: len(moon.kernel.sas) == 2 and len(sun.kernel.sas) == 2)

    answer = await moon.ask("snapshot")
    (tunnel,) = answer["result"]["tunnels"]
    assert tunnel["protection"] == "PQC_ONLY"
    assert tunnel["children"][0]["in_kernel"] is True

    assert (await moon.ask("rekey", tunnel="sun"))["result"] == "sun: rekeying"
    await until(lambda: moon.gateway.roster.tunnels["sun"].tally.rekeys == 1)

    moon.path.write_text(moon.path.read_text() + 'rekey_max = "7m"\n')
    spis = {sa.spi for sa in moon.kernel.sas}
    assert "1 tunnels new or changed, 0 removed" in (await moon.ask("reload"))["result"]
    assert {sa.spi for sa in moon.kernel.sas} <= spis  # an old one may have lingered
    good = moon.path.read_text()
    moon.path.write_text(good.replace("10.2.0.0/24", "nonsense"))
    wrong = await moon.ask("reload")
    assert "remote_subnets" in wrong["error"]
    assert moon.kernel.pins("sun") <= {sa.spi for sa in moon.kernel.sas}
    assert moon.kernel.pins("sun")

    os.kill(os.getpid(), signal.SIGTERM)  # the handler of whoever started last: moon
    await running[1]
    assert moon.kernel.sas == ()
    assert {policy.action for policy in moon.kernel.policies} == {PolicyAction.BLOCK}
    assert not moon.socket.exists()
    await until(lambda: not sun.kernel.pins("moon"))  # our deletes reached the peer

    running[0].cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert asyncio.all_tasks() <= before


async def test_a_macsec_link_from_start_to_stop(folder: Path) -> None:
    before = asyncio.all_tasks()
    text = "\n".join(line for line in FILE.splitlines() if "subnets" not in line)
    text = text.replace("tunnel.", "connection.") + LINK
    moon = Daemon(folder, "moon", on_stop="close", file=text)
    sun = Daemon(folder, "sun", file=text)
    links = [daemon.gateway.links.links for daemon in (moon, sun)]
    running = [sun.run(), moon.run()]
    await until(lambda: all(each and _shown(each) == "PQC_ONLY" for each in links))

    (link,) = (await moon.ask("snapshot"))["result"]["macsec"]
    assert link["protection"] == "PQC_ONLY"
    assert link["saks"][0]["in_kernel"] is True
    assert link["caks"][0]["live_peers"] == 1
    assert (await moon.ask("rekey", tunnel="metro"))["result"] == "sun: rekeying"
    await until(lambda: links[0]["metro"].events.tally.cak_rollovers == 1)
    moon.path.write_text(moon.path.read_text() + "priority = 8\n")
    assert "1 MACsec links new or changed" in (await moon.ask("reload"))["result"]
    assert _shown(links[0]) == "PQC_ONLY"

    os.kill(os.getpid(), signal.SIGTERM)
    await running[1]
    await until(lambda: _shown(links[1]) == "DOWN")  # our deletes reached the peer
    running[0].cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert asyncio.all_tasks() <= before


async def test_a_link_that_the_kernel_cannot_have_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = "\n".join(line for line in FILE.splitlines() if "subnets" not in line)
    moon = Daemon(folder, "moon", file=text.replace("tunnel.", "connection."))
    running = moon.run()
    await until(moon.socket.exists)
    moon.path.write_text(moon.path.read_text() + LINK.format(peer="sun"))
    with monkeypatch.context() as lacking:

        async def refuse(_: object) -> None:
            raise StartupError("no MACsec in this kernel")

        lacking.setattr(moon.gateway.links, "open", refuse)
        assert "no MACsec" in (await moon.ask("reload"))["error"]
        assert "not reloaded: no MACsec in this kernel" in caplog.text
        assert (await moon.ask("snapshot"))["result"]["macsec"] == []
    assert "1 MACsec links new" in (await moon.ask("reload"))["result"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _shown(links: dict[str, MacsecLink]) -> str:
    return links["metro"].protection.value


async def test_keep_leaves_the_sas_where_they_are(folder: Path) -> None:
    moon, sun = Daemon(folder, "moon"), Daemon(folder, "sun")
    running = [sun.run(), moon.run()]
    await until(lambda: len(moon.kernel.sas) == 2 and len(sun.kernel.sas) == 2)
    sas = moon.kernel.sas
    os.kill(os.getpid(), signal.SIGTERM)
    await running[1]
    assert moon.kernel.sas == sas
    assert moon.kernel.pins("sun") == {sas[1].spi}
    running[0].cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_second_daemon_is_refused_and_the_first_goes_on(folder: Path) -> None:
    before = asyncio.all_tasks()
    first = Daemon(folder, "moon")
    running = first.run()
    await until(first.socket.exists)
    await until(lambda: bool(first.kernel.policies))
    guard = first.kernel.policies

    with pytest.raises(StartupError, match=r"moon\.sock"):
        await Daemon(folder, "moon").run()
    assert (await first.ask("snapshot"))["result"]["gateway"] == "moon"

    second = Daemon(folder, "moon")
    text = second.path.read_text().replace("moon.sock", "other.sock")
    second.path.write_text(text)
    second = Gateway(load_config(second.path).config, second.path, None)
    with pytest.raises(StartupError, match=r"in use: is another IKE daemon running"):
        await second.run()
    assert second._dataplane.policies == ()  # it has touched no kernel
    assert not (folder / "other.sock").exists()
    assert first.kernel.policies == guard

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() <= before


async def test_a_worker_that_dies_ends_the_daemon_and_says_why(folder: Path) -> None:
    moon = Daemon(folder, "moon", on_stop="close")
    running = moon.run()
    await until(moon.socket.exists)

    async def explode() -> None:
        raise ZeroDivisionError

    moon.gateway._enqueue(explode)
    with pytest.raises(StartupError, match="kernel-worker failed"):
        async with asyncio.timeout(10):
            await running
    assert {policy.action for policy in moon.kernel.policies} == {PolicyAction.BLOCK}
