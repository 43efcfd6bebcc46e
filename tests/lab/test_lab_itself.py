"""The lab does what it says: who reaches whom, what its faults do, what it leaves behind."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from netns_lab import doctor, paths
from netns_lab.errors import LabError, NotReadyError
from netns_lab.lab import RUNS, Lab
from netns_lab.net import Impairment
from netns_lab.readiness import Listening

pytestmark = pytest.mark.lab

NOTIFY = """\
import os, signal, socket, sys
print("hello from", os.environ["COLOUR"], flush=True)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"STATUS=warming up\\nREADY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""
KEY = "ab" * 36


async def reaches(lab: Lab, host: str, address: str) -> bool:
    done = await lab.run(host, ["ping", "-n", "-c", "1", "-W", "1", address])
    return done.code == 0


def test_every_feature_the_lab_needs_works_here(lab_name: str) -> None:
    lacking = {item.name: item.answer for item in doctor.probe() if not item.works}
    assert not lacking


async def test_neighbours_reach_each_other_and_isp_knows_no_site(lab_name: str) -> None:
    reachable = [
        ("alice", "10.1.0.1"),
        ("alice", "fd01::1"),
        ("bob", "10.2.0.1"),
        ("moon", "10.0.23.3"),
        ("moon", "fd23::3"),
        ("sun", "10.0.12.1"),
        ("moon", "10.9.1.2"),
        ("sun", "10.9.2.2"),
        ("kme-moon", "10.9.0.2"),
    ]
    unreachable = [("alice", "10.2.0.10"), ("bob", "fd01::10"), ("isp", "10.1.0.10")]
    async with Lab.up(lab_name) as lab:
        answers = await asyncio.gather(*(reaches(lab, *way) for way in reachable + unreachable))
    assert dict(zip(reachable + unreachable, answers, strict=True)) == {
        **dict.fromkeys(reachable, True),
        **dict.fromkeys(unreachable, False),
    }


async def test_a_cut_link_loses_everything_until_it_is_healed(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        await lab.cut("isp", "moon")  # the order of the ends does not matter
        assert not await reaches(lab, "moon", "10.0.23.3")
        await lab.heal("moon", "isp")
        await lab.heal("moon", "isp")  # healing what is whole is no error
        assert await reaches(lab, "moon", "10.0.23.3")


async def test_an_unplugged_link_comes_back_with_addresses_and_routes(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        await lab.network.unplug("moon", "isp")
        assert not await reaches(lab, "moon", "10.0.12.2")
        await lab.network.plug("moon", "isp")
        assert await reaches(lab, "moon", "10.0.23.3")
        assert await reaches(lab, "moon", "fd23::3")


async def test_delay_applies_each_way(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        await lab.impair("moon", "isp", Impairment(delay_ms=100))
        done = await lab.run("moon", ["ping", "-n", "-c", "1", "-W", "5", "10.0.12.2"])
    line = next(line for line in done.check().stdout.splitlines() if "time=" in line)
    assert float(line.partition("time=")[2].split()[0]) >= 200


async def test_a_daemon_is_ready_when_it_says_so(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        daemon = await lab.start(
            "moon", [sys.executable, "-c", NOTIFY], name="sleeper", environment={"COLOUR": "blue"}
        )
        assert daemon.alive
        assert daemon.status == "warming up"
        assert daemon.log_tail() == "hello from blue"
        assert await daemon.stop() == -15
        assert not daemon.alive


async def test_a_daemon_without_notify_is_ready_when_it_listens(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        command = ["mosquitto", "-p", "1883"]
        daemon = await lab.start("sun", command, name="broker", ready=Listening(1883))
        assert await daemon.stop() == 0


async def test_a_daemon_that_ends_early_fails_with_its_last_words(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        started = time.monotonic()
        with pytest.raises(NotReadyError, match="ended with code 3") as caught:
            await lab.start("moon", ["sh", "-c", "echo no such key; exit 3"], name="broken")
        assert "no such key" in str(caught.value)
        assert time.monotonic() - started < 20  # did not wait for the deadline


async def test_a_daemon_that_says_nothing_is_not_ready_and_ended(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        command = ["sleep", "1000"]
        with pytest.raises(NotReadyError, match="is not ready"):
            await lab.start("moon", command, name="mute", timeout=1.0)
        assert (await lab.run("moon", ["pgrep", "-x", "sleep"])).code == 1


async def test_a_daemon_that_died_unasked_is_noticed(lab_name: str) -> None:
    async with Lab.up(lab_name) as lab:
        daemon = await lab.start("moon", ["sleep", "1000"], name="mortal", ready=None)
        lab.check_alive()
        await (await lab.popen("moon", ["kill", "-9", str(daemon.pid)])).wait()
        await daemon.wait()
        with pytest.raises(LabError, match="mortal died"):
            lab.check_alive()


async def test_a_failure_leaves_state_and_logs_but_no_key(lab_name: str) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await fail_with_an_sa(lab_name)
    folder = paths.build() / "failed" / lab_name
    assert caught.value.__notes__ == [f"post-mortem: {folder}"]
    moon = (folder / "kernel/moon.txt").read_text()
    assert "rfc4106(gcm(aes))" in moon
    assert "10.1.0.1/24" in moon
    assert (folder / "log/talker.log").exists()
    assert (folder / "capture/isp.pcap").read_bytes() == b"packets"
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in data or bytes.fromhex(KEY) in data for data in written)


async def test_nothing_is_left_when_a_lab_is_down(lab_name: str) -> None:
    before = namespaces()
    async with Lab.up(lab_name) as lab:
        assert len(namespaces()) == len(before) + len(lab.network.topology.hosts)
        daemon = await lab.start("bob", ["sleep", "1000"], name="sleeper", ready=None)
        pid = daemon.pid
    assert namespaces() == before
    assert not exists(Path(f"/proc/{pid}"))
    assert not exists(RUNS / lab.network.run)


async def test_two_labs_stand_side_by_side(lab_name: str) -> None:
    async with Lab.up(lab_name) as first, Lab.up(f"{lab_name}-2") as second:
        await first.cut("moon", "isp")
        assert not await reaches(first, "moon", "10.0.12.2")
        assert await reaches(second, "moon", "10.0.12.2")


async def fail_with_an_sa(name: str) -> None:
    state = ["src", "10.0.0.1", "dst", "10.0.0.2", "proto", "esp", "spi", "0x100"]
    aead = ["mode", "tunnel", "aead", "rfc4106(gcm(aes))", f"0x{KEY}", "128"]
    async with Lab.up(name) as lab:
        (await lab.run("moon", ["ip", "xfrm", "state", "add", *state, *aead])).check()
        await lab.start("sun", ["sh", "-c", "echo hi; sleep 99"], name="talker", ready=None)
        (lab.capture_dir / "isp.pcap").write_bytes(b"packets")
        raise ZeroDivisionError


def exists(path: Path) -> bool:
    return path.exists()


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").iterdir()}
