"""The unit files: systemd accepts them, they are tight, and the daemon lives with that."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
EXPOSURE_MAX = 20  # tenths; "OK" in systemd's words, and netlink plus Internet make up most of it
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # <linux/prctl.h>, Linux 6.3
SERVICES = ("qsgwd.service", "qsgw-block.service", "qsgw-kme@.service")


def settings(name: str) -> dict[str, list[str]]:
    """Every ``Key=value`` of a unit file, all values of a key in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if re.match(r"[A-Z]\w+=", line):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """A folder with the units, their programs replaced by one that is here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in SERVICES:
        text = re.sub(r"/opt/qsgw/bin/[a-z-]+", "/bin/true", (UNITS / name).read_text())
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_accepts_the_unit(analyze: Path, name: str) -> None:
    instance = name.replace("@", "@kme-moon")
    (analyze / name).rename(analyze / instance)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(analyze / instance)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if instance in line]
    assert (done.returncode, ours) == (0, [])


def test_verify_would_notice(analyze: Path) -> None:
    unit = analyze / "qsgwd.service"
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ProtectHomes" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_exposure(analyze: Path, name: str) -> None:
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE_MAX}",
            str(analyze / name),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_three_capabilities_and_no_more() -> None:
    """CAP_NET_RAW: without it there is no AF_PACKET socket, and nothing else carries EAPOL."""
    found = settings("qsgwd.service")
    wanted = {"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"}
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert set(" ".join(found[key]).split()) == wanted
    assert found["User"] == ["qsgw"]
    assert settings("qsgw-block.service")["CapabilityBoundingSet"] == ["CAP_NET_ADMIN"]
    assert settings("qsgw-kme@.service")["CapabilityBoundingSet"] == [""]


def test_address_families_are_those_the_daemon_uses() -> None:
    """AF_UNIX for notify, journal and control; AF_NETLINK for XFRM and MACsec; AF_PACKET for
    EAPOL, which only the daemon speaks: what blocks at boot needs none."""
    (families,) = settings("qsgwd.service")["RestrictAddressFamilies"]
    wanted = {"AF_NETLINK", "AF_INET", "AF_INET6", "AF_UNIX"}
    assert set(families.split()) == wanted | {"AF_PACKET"}
    (families,) = settings("qsgw-block.service")["RestrictAddressFamilies"]
    assert set(families.split()) <= wanted


def test_keys_stay_in_memory() -> None:
    for name in SERVICES:
        found = settings(name)
        assert (found["LimitCORE"], found["MemorySwapMax"]) == (["0"], ["0"])


def test_watchdog_reload_and_configuration_errors() -> None:
    found = settings("qsgwd.service")
    assert found["Type"] == ["notify"]  # notify-reload: not in Debian 12
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert found["WatchdogSec"] == ["30"]
    main = (UNITS.parent / "gateway/daemon/main.py").read_text()
    assert f"EXIT_CONFIG = {found['RestartPreventExitStatus'][0]} " in main


def test_block_policies_come_before_the_network_and_stay() -> None:
    found = settings("qsgw-block.service")
    before = " ".join(found["Before"]).split()
    assert {"network-pre.target", "qsgwd.service"} <= set(before)
    assert "network-pre.target" in found["Wants"]  # else the ordering is with nothing
    assert found["DefaultDependencies"] == ["no"]  # else it comes after basic.target
    assert (found["Type"], found["RemainAfterExit"]) == (["oneshot"], ["yes"])
    assert "ExecStop" not in found
    assert "--block-only" in found["ExecStart"][0]
    daemon = settings("qsgwd.service")
    for key in ("After", "Wants"):
        assert "qsgw-block.service" in " ".join(daemon[key]).split()


def test_no_secret_is_passed_by_environment() -> None:
    for path in UNITS.iterdir():
        text = path.read_text()
        assert not re.search(r"^Environment=.*(PSK|KEY|PASSWORD)", text, re.MULTILINE)


def test_examples_are_units_too() -> None:
    for path in UNITS.glob("*.conf.example"):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(path)
        assert parser.sections() == ["Service"], path.name


def test_users_and_folders_of_the_units_are_made() -> None:
    users = (UNITS / "qsgw.sysusers.conf").read_text()
    folders = (UNITS / "qsgw.tmpfiles.conf").read_text()
    for name in SERVICES:
        (user,) = settings(name)["User"]
        assert re.search(rf"^u {user} ", users, re.MULTILINE)
    assert re.search(r"^d /etc/qsgw/credentials 0700 root root$", folders, re.MULTILINE)


def test_the_daemon_lives_without_writable_code() -> None:
    """MemoryDenyWriteExecute=: all of the daemon loads, and its key exchanges work."""
    code = f"""
import ctypes
if ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0):
    raise SystemExit(77)
import gateway.daemon.main
from gateway.crypto.algorithms import KeMethod
from gateway.crypto.kex import SystemKex
kex = SystemKex()
for method in (KeMethod.X25519, KeMethod.ML_KEM_768):
    kex.respond(method, kex.initiate(method).public)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert done.returncode == 0, done.stderr.decode()
