"""What a new user gets wrong: one clear line in log and status, and the other tunnels live on.

Two tunnels between moon and sun. The one over IPv4 is healthy all the time; the one over IPv6,
``trial``, is given one wrong setting after the other by reload.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from netns_lab import control, doctor, site_files
from netns_lab.process import Completed
from netns_lab.readiness import Listening, wait_until
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway, SiteOptions, TunnelOptions
from netns_lab.toml import toml

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module")]

TUNNEL = TunnelOptions(rekey_min="1h", retransmit_base="500ms")
BAD_KME = Path(__file__).parents[1] / "support" / "bad_kme.py"
ADDRESSES: Mapping[Gateway, str] = site_files.OUTER[6]
SUBNETS: Mapping[Gateway, str] = {"moon": "fd01::/64", "sun": "fd02::/64"}
FAKES = {"http": 9001, "silent": 9002, "noise": 9003}
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
OUTCOME_SECONDS = 20.0

Table = dict[str, Any]
TABLES: Mapping[Gateway, Table] = {
    gateway: {
        "local": ADDRESSES[gateway],
        "remote": ADDRESSES[site_files.peer(gateway)],
        "local_id": f"{gateway}6.example",
        "remote_id": f"{site_files.peer(gateway)}6.example",
        "psk": "psk6",
        "local_subnets": (SUBNETS[gateway],),
        "remote_subnets": (SUBNETS[site_files.peer(gateway)],),
        "start": "initiate" if gateway == "moon" else "respond",
        "qkd": "prefer",
        "kmes": ("spare",),
        "peer_sae": site_files.peer(gateway),
        "restore_dwell": "2s",
        "rekey_min": "1h",
        "retransmit_base": "500ms",
    }
    for gateway in GATEWAYS
}
KMES: Mapping[Gateway, Table] = {
    gateway: {
        "url": site_files.kmes(SiteOptions())[GATEWAYS.index(gateway)].url,
        "ca": "../pki/ca.pem",
        "certificate": f"../pki/{gateway}.pem",
        "key": f"../pki/{gateway}.key",
        "timeout": "2s",
    }
    for gateway in GATEWAYS
}


class Bench:
    """The site, and the log since the last change."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.base = {gateway: _both_addresses(site, gateway) for gateway in GATEWAYS}
        self._read = dict.fromkeys(GATEWAYS, 0)
        for gateway in GATEWAYS:
            for name, key in (("psk6", "0123456789abcdef"), ("psk-other", "fedcba9876543210")):
                path = site.folder(gateway) / name
                path.touch(mode=0o600)
                path.write_text(key)

    def write(self, **changes: Table) -> None:
        """``moon`` and ``sun`` change their tunnel table, ``kme`` changes moon's KME table."""
        for gateway in GATEWAYS:
            kme = changes.get("kme", {}) if gateway == "moon" else {}
            tables = {
                "kme.spare": {**KMES[gateway], **kme},
                "tunnel.trial": {**TABLES[gateway], **changes.get(gateway, {})},
            }
            self.site.write_config(gateway, self.base[gateway] + toml(tables))

    async def reload(self, **changes: Table) -> None:
        self.write(**changes)
        for gateway in GATEWAYS:
            self._read[gateway] = len(self._log(gateway))
        for gateway in ("sun", "moon"):
            await self.site.act(gateway, "reload")

    def lines(self, gateway: Gateway, text: str) -> list[str]:
        """Log lines with ``text`` since the last reload."""
        news = self._log(gateway)[self._read[gateway] :]
        return [line for line in news.splitlines() if text in line]

    def _log(self, gateway: Gateway) -> str:
        return (self.site.lab.log_dir / f"qsgwd-{gateway}.log").read_text()

    async def trial(self, gateway: Gateway) -> Table:
        tunnels = (await self.site.snapshot(gateway))["tunnels"]
        return next(tunnel for tunnel in tunnels if tunnel["name"] == "trial")

    async def trial_up(self) -> None:
        async def up() -> bool:
            shown = [(await self.trial(gateway))["protection"] for gateway in GATEWAYS]
            return set(shown) <= {"HYBRID", "PQC_ONLY"}

        await wait_until(up, OUTCOME_SECONDS, "the tunnel trial")

    async def alarm(self, gateway: Gateway, start: str, *texts: str) -> Table:
        """The standing alarm whose text begins like that and has all of ``texts``; waits for it."""

        async def standing() -> Table | None:
            alarms = (await self.site.snapshot(gateway))["alarms"]
            for alarm in alarms:
                if alarm["text"].startswith(start) and all(text in alarm["text"] for text in texts):
                    return dict(alarm)
            return None

        wanted = f"an alarm at {gateway}: {start} {texts}"
        return await wait_until(standing, OUTCOME_SECONDS, wanted)

    async def healthy(self) -> None:
        """The other tunnel has not noticed anything."""
        for gateway in GATEWAYS:
            tunnel = await self.site.tunnel(gateway)
            assert (tunnel["protection"], tunnel["failures"]) == ("HYBRID", 0)
            name = site_files.peer(gateway)
            for level in ("WARNING", "ERROR"):
                assert not self.lines(gateway, f"{level} {name}: ")
        ping = ["ping", "-n", "-c", "1", "-W", "1", "10.2.0.10"]
        (await self.site.lab.run("alice", ping)).check()

    async def qsgwd(self, text: str, *before: str) -> Completed:
        """Another daemon on moon with this configuration, which is to end by itself."""
        path = self.site.folder("moon") / "other.toml"
        path.write_text(text)
        command = [*before, "qsgwd", "--config", str(path)]
        return await self.site.lab.run("moon", command, timeout=60.0)


def _both_addresses(site: Site, gateway: Gateway) -> str:
    text = site.config(gateway).read_text()
    old = f'listen = ["{site_files.OUTER[4][gateway]}"]'
    assert old in text
    return text.replace(old, f'{old[:-1]}, "{ADDRESSES[gateway]}"]') + "\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    if not doctor.inside():
        pytest.skip("needs the lab: run qsgw-lab test")
    options = SiteOptions(moon=TUNNEL, sun=TUNNEL)
    async with Site.prepared("bad-input", options) as site:
        bench = Bench(site)
        bench.write()
        broker = site.folder("moon") / "mosquitto.conf"
        broker.write_text(broker.read_text().replace("anonymous true", "anonymous false"))
        (site.folder("moon") / "junk.pem").write_text("not a certificate\n")
        for kind, port in FAKES.items():
            command = [sys.executable, str(BAD_KME), kind, "10.9.1.2", str(port)]
            await site.lab.start("kme-moon", command, name=f"bad-{kind}", ready=Listening(port))
        await site.start()
        await site.wait_protection("HYBRID")
        yield bench
        for log in site.lab.log_dir.glob("*.log"):
            assert "Traceback" not in log.read_text(errors="replace"), log
        site.lab.check_alive()


# --- the two ends disagree -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Quarrel:
    """What is wrong, and what each end says about it."""

    moon: Table
    sun: Table = field(default_factory=dict)
    says: Mapping[Gateway, str]
    shown: str = "DOWN"  # at moon


QUARRELS = {
    "psk": Quarrel(
        moon={"psk": "psk-other"},
        says={"moon": "wrong pre-shared key", "sun": "wrong pre-shared key or identity"},
    ),
    "identity": Quarrel(
        moon={"remote_id": "mars.example"},
        says={
            "moon": "peer refused our authentication",
            "sun": "peer wants to speak to mars.example, we are sun6.example",
        },
    ),
    "subnets": Quarrel(
        moon={"remote_subnets": ("fd77::/64",)},
        says={
            "moon": "peer refused our traffic selectors",
            "sun": "peer fd01::/64 -> fd77::/64, ours fd01::/64 -> fd02::/64",
        },
    ),
    "ike": Quarrel(
        moon={"ike": ("aes256gcm16-prfsha512-ecp384-ke1_mlkem1024",)},
        says={"moon": "no proposal in common", "sun": "aes256gcm16-prfsha512-x25519-ke1_mlkem768"},
    ),
    "esp": Quarrel(
        moon={"esp": ("aes128gcm16-x25519-ke1_mlkem768-esn",)},
        says={"moon": "peer refused aes128gcm16-esn", "sun": "ours: aes256gcm16-esn"},
    ),
    "require-off": Quarrel(
        moon={"qkd": "require"},
        sun={"qkd": "off"},
        says={"moon": "peer cannot use QKD keys"},
        shown="BLOCKED",
    ),
    "off-require": Quarrel(
        moon={"qkd": "off"},
        sun={"qkd": "require"},
        says={"moon": "it insists on a QKD key", "sun": "a QKD key is required"},
    ),
    "silence": Quarrel(
        moon={"remote": "fd23::99", "retransmit_base": "50ms"},
        says={"moon": "no answer from fd23::99"},
    ),
}


@pytest.mark.parametrize("name", QUARRELS)
async def test_ends_that_disagree(bench: Bench, name: str) -> None:
    quarrel = QUARRELS[name]
    await bench.reload(moon=quarrel.moon, sun=quarrel.sun)
    for gateway, text in quarrel.says.items():
        alarm = await bench.alarm(gateway, "traffic is dropped: ", text)
        assert (alarm["subject"], alarm["severity"]) == ("trial", "critical")

    async def failed_again() -> bool:
        return int((await bench.trial("moon"))["failures"]) >= before + 2

    before = 0 if name != "silence" else -1
    await wait_until(failed_again, OUTCOME_SECONDS, "a second attempt")
    for gateway, text in quarrel.says.items():
        assert len(bench.lines(gateway, text)) == 1, bench.lines(gateway, "")
        tunnel = await bench.trial(gateway)
        assert text in tunnel["last_error"]
        assert text in tunnel["reason"]
    assert (await bench.trial("moon"))["protection"] == quarrel.shown
    await bench.healthy()


async def test_status_check_tells_what_is_wrong_in_one_line(bench: Bench) -> None:
    await bench.reload(moon={"psk": "psk-other"})
    await bench.alarm("moon", "traffic is dropped: ", "wrong pre-shared key")
    done = await bench.site.qsgw("moon", "status", "--check")
    assert (done.code, done.stderr) == (5, "")
    assert done.stdout.count("\n") == 1
    assert "trial is DOWN: peer refused our authentication" in done.stdout
    assert "sun" not in done.stdout
    assert (await bench.site.qsgw("moon", "status", "--check", "sun")).code == 0


async def test_a_peer_with_fewer_subnets_is_no_failure_but_is_told(bench: Bench) -> None:
    await bench.reload(moon={"remote_subnets": ("fd02::/60",)})
    alarm = await bench.alarm("moon", "", "fd01::/64 -> fd02::/64 is all that is carried")
    assert (alarm["id"], alarm["severity"]) == ("subnets-narrowed", "warning")
    assert len(bench.lines("moon", "subnets-narrowed")) == 1
    await bench.healthy()
    await bench.reload()
    await bench.trial_up()
    alarms = (await bench.site.snapshot("moon"))["alarms"]
    assert "subnets-narrowed" not in {alarm["id"] for alarm in alarms}


# --- KMEs ------------------------------------------------------------------------------------


KME_FAULTS: Mapping[str, tuple[Table, str]] = {
    "certificate-missing": ({"certificate": "nowhere.pem"}, "nowhere.pem: file is missing"),
    "certificate-junk": ({"certificate": "junk.pem"}, "junk.pem: holds no PEM certificate"),
    "key-of-another": ({"key": "../pki/sun.key"}, "private key does not match the certificate"),
    "plain-http": ({"url": f"https://10.9.1.2:{FAKES['http']}"}, "does not speak TLS"),
    "silent": ({"url": f"https://10.9.1.2:{FAKES['silent']}"}, "no connection within 1 s"),
    "noise": ({"url": f"https://10.9.1.2:{FAKES['noise']}"}, "does not speak TLS"),
    "nobody": ({"url": "https://10.9.1.2:9009"}, "10.9.1.2:9009: Connection refused"),
    "wrong-ca": ({"ca": "../pki/moon.pem"}, "its certificate does not verify"),
    "wrong-name": ({"url": "https://kme.test:8443"}, "certificate is not valid for 'kme.test'"),
    "wrong-sae": (
        {"certificate": "../pki/sun.pem", "key": "../pki/sun.key"},
        "the certificate is not that of an SAE of this KME",
    ),
}


@pytest.mark.parametrize("name", KME_FAULTS)
async def test_a_kme_that_cannot_be_used(bench: Bench, name: str) -> None:
    change, text = KME_FAULTS[name]
    if name == "wrong-name":
        _name_in_hosts("10.9.1.2 kme.test")
    await bench.reload(kme=change)
    alarm = await bench.alarm("moon", "KME spare: ", text)
    assert (alarm["id"], alarm["severity"]) == ("kme-unreachable", "warning")
    await _tried_again(bench)
    assert len(bench.lines("moon", text)) <= 3  # the KME, its tunnel, and a file when it is read
    assert len(bench.lines("moon", "WARNING kme-unreachable: KME spare: ")) in (1, 2)
    kme = await _kme(bench)
    assert not kme["healthy"]
    assert text in kme["last_error"]
    shown = await bench.site.qsgw("moon", "keys")
    assert text in shown.stdout
    await bench.trial_up()
    await bench.healthy()


async def _kme(bench: Bench) -> Table:
    kmes = (await bench.site.snapshot("moon"))["kmes"]
    return next(kme for kme in kmes if kme["name"] == "spare")


async def _tried_again(bench: Bench) -> None:
    async def tried() -> bool:
        return int((await _kme(bench))["requests"]) >= 4

    await wait_until(tried, OUTCOME_SECONDS, "requests to the KME", interval=0.2)


def _name_in_hosts(line: str) -> None:
    hosts = Path("/etc/hosts")
    if line not in hosts.read_text():
        hosts.write_text(f"{hosts.read_text()}{line}\n")


async def test_a_kme_that_answers_503(bench: Bench) -> None:
    await bench.site.kmectl("kme-moon", "fault", "unavailable", "on")
    await bench.reload(moon={"pool_target": 5})
    alarm = await bench.alarm("moon", "no QKD key for sun: ", "HTTP 503 Service Unavailable")
    assert (alarm["id"], alarm["subject"]) == ("qkd-loss", "trial")
    await asyncio.sleep(2)
    assert len(bench.lines("moon", "HTTP 503")) == 1
    assert len(bench.lines("moon", "WARNING trial: qkd-loss: no QKD key for sun: KME spare: ")) == 1
    await bench.site.kmectl("kme-moon", "fault", "unavailable", "off")
    await bench.healthy()


async def test_a_kme_that_gives_garbage_for_keys_and_a_good_status(bench: Bench) -> None:
    await bench.site.kmectl("kme-moon", "fault", "garbage", "on")
    await bench.reload(moon={"pool_target": 6})
    await bench.alarm("moon", "KME spare: answer breaks ETSI GS QKD 014")
    await asyncio.sleep(7)  # a poll of the status, which is good, comes every 5 s
    assert len(bench.lines("moon", "kme-unreachable")) == 1
    assert not (await _kme(bench))["healthy"]
    await bench.site.kmectl("kme-moon", "fault", "garbage", "off")
    await bench.healthy()


# --- configuration, start-up, broker, command ------------------------------------------------


async def test_a_reload_with_errors_changes_nothing_and_names_each(bench: Bench) -> None:
    await bench.reload()
    bench.write(moon={"psk": "nofile", "qkd": "always"}, kme={"url": "http://10.9.1.2"})
    done = await bench.site.qsgw("moon", "reload")
    assert done.code == 1
    said = done.stderr.splitlines()
    for text in ("[kme.spare] url: ", "[tunnel.trial] psk: ", "[tunnel.trial] qkd: "):
        assert [line for line in said if text in line]
        assert len(bench.lines("moon", text)) == 1
    checked = await bench.site.qsgw("moon", "config", "check", str(bench.site.config("moon")))
    assert checked.code == 1
    assert "[tunnel.trial] psk: " in checked.stdout + checked.stderr
    await bench.healthy()


async def test_a_daemon_that_cannot_start_says_why_and_touches_nothing(bench: Bench) -> None:
    await bench.reload()
    await bench.site.wait_protection("HYBRID")
    good = bench.base["moon"]
    socket = f'"{bench.site.control_socket("moon")}"'
    elsewhere = good.replace(socket, f'"{bench.site.folder("moon") / "other.sock"}"')
    cases = (
        (good, (), "another daemon is running: it answers on"),
        (elsewhere, (), "UDP 10.0.12.1 port 500 is in use"),
        (
            elsewhere,
            ("setpriv", "--bounding-set", "-net_admin"),
            "the capability CAP_NET_ADMIN is missing",
        ),
    )
    for text, before, says in cases:
        done = await bench.qsgwd(text, *before)
        assert (done.code, done.stderr.count("\n")) == (1, 1), done.stderr
        assert f" ERROR {says}" in done.stderr
    assert not bench.lines("moon", "gone from the kernel")
    await bench.healthy()


async def test_a_broker_that_refuses(bench: Bench) -> None:
    alarm = await bench.alarm("moon", "MQTT broker 127.0.0.1:1883: Not authorized")
    assert (alarm["id"], alarm["severity"]) == ("mqtt-down", "warning")
    log = (bench.site.lab.log_dir / "qsgwd-moon.log").read_text()
    assert log.count("mqtt-down") == 1
    await bench.healthy()


async def test_the_command_without_a_daemon_or_a_right(bench: Bench) -> None:
    lab, socket = bench.site.lab, str(bench.site.control_socket("moon"))
    nowhere = await lab.run("moon", ["qsgw", "--socket", "/nowhere/x", "status"])
    assert (nowhere.code, nowhere.stdout) == (3, "")
    assert nowhere.stderr == "qsgw: qsgwd is not running: there is no /nowhere/x\n"
    as_json = await lab.run("moon", ["qsgw", "--json", "--socket", "/nowhere/x", "status"])
    assert (as_json.code, json.loads(as_json.stdout)["exit_code"]) == (3, 3)
    nobody = await lab.run("moon", [*NOBODY, "qsgw", "--socket", socket, "status"])
    assert (nobody.code, nobody.stderr.count("\n")) == (3, 1)
    assert "ermission" in nobody.stderr
    unknown = await bench.site.qsgw("moon", "rekey", "mars")
    assert (unknown.code, unknown.stderr) == (
        4,
        "qsgw: no tunnel named mars (there are: sun, trial)\n",
    )
    with pytest.raises(control.ControlError):
        await control.snapshot(Path("/nowhere/x"))
