"""Finds out by trying what the kernel under us can do, and so where the lab will run.

Every probe runs in throw-away namespaces of its own: the host's network stays as it is. (The
kernel may load a module to answer, as it would for any program.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from netns_lab import paths, tools
from netns_lab.errors import LabError
from netns_lab.job import INSIDE, Job
from netns_lab.tools import Say
from netns_lab.uml import launcher

Kernel = Literal["host", "uml"]

_KEY = "0x" + "00" * 36  # AES-256 key and salt, RFC 4106 8.1
_SA = f"proto esp spi 0x100 reqid 1 mode tunnel aead 'rfc4106(gcm(aes))' {_KEY} 128"
_VETH = "ip link add probe0 type veth peer name probe1"

PROBES = {
    "namespaces": "true",
    "veth": _VETH,
    "netem": f"{_VETH} && tc qdisc add dev probe0 root netem delay 1ms loss 1%",
    "esp4": f"ip xfrm state add src 192.0.2.1 dst 192.0.2.2 {_SA}",
    "esp6": f"ip xfrm state add src 2001:db8::1 dst 2001:db8::2 {_SA}",
    "esn": f"ip xfrm state add src 192.0.2.1 dst 192.0.2.2 {_SA} flag esn replay-window 128",
    "macsec": f"{_VETH} && ip link add link probe0 probe2 type macsec encrypt on",
}
"""Feature -> shell command that works only if the kernel has it."""

_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    works: bool
    answer: str  # "ok", or the kernel's own words


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    runs_on: Kernel
    reason: str
    host: tuple[Feature, ...]
    uml: tuple[Feature, ...]  # empty where it was not needed


def probe() -> tuple[Feature, ...]:
    """Try every feature on the kernel we run on."""
    return tuple(_try(name, command) for name, command in PROBES.items())


def _try(name: str, command: str) -> Feature:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    try:
        done = subprocess.run(
            ["unshare", *user, "--net", "--", "sh", "-c", command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **tools.environment()},
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Feature(name=name, works=False, answer=str(error))
    if done.returncode == 0:
        return Feature(name=name, works=True, answer="ok")
    return Feature(name=name, works=False, answer=kernel_words(done.stderr))


def kernel_words(stderr: str) -> str:
    """The line of iproute2's output in which the kernel says why it refused."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if line.startswith("Error: "):
            return line.removeprefix("Error: ").rstrip(".")
    for line in lines:
        if line.startswith("RTNETLINK answers: "):
            return line.removeprefix("RTNETLINK answers: ")
    return lines[-1] if lines else "no answer"


def choose(features: tuple[Feature, ...]) -> tuple[Kernel, str]:
    """Where the lab runs, given what the host's kernel can do."""
    lacking = [feature.name for feature in features if not feature.works]
    if not lacking:
        return "host", "the host's kernel has everything"
    return "uml", f"the host's kernel lacks {', '.join(lacking)}"


def where(say: Say) -> tuple[Kernel, str]:
    """Decide where the lab runs. ``QSGW_LAB_KERNEL`` set to "host" or "uml" overrides."""
    tools.ensure(("ip", "tc"), say)
    wanted = os.environ.get("QSGW_LAB_KERNEL", "")
    if wanted == "uml":
        return "uml", "QSGW_LAB_KERNEL=uml"
    kernel, reason = choose(probe())
    if wanted == "host" and kernel != "host":
        raise LabError(f"QSGW_LAB_KERNEL=host, but {reason}")
    return kernel, reason


def diagnose(say: Say) -> Diagnosis:
    """Probe the host and, where the lab will need it, user-mode Linux too."""
    tools.ensure(("ip", "tc"), say)
    on_host = probe()
    kernel, reason = choose(on_host)
    in_uml = _probe_in_uml(say) if kernel == "uml" else ()
    return Diagnosis(runs_on=kernel, reason=reason, host=on_host, uml=in_uml)


def _probe_in_uml(say: Say) -> tuple[Feature, ...]:
    folder = paths.build() / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / f"doctor-{os.getpid()}.json"
    job = Job(
        command=(sys.executable, "-m", "netns_lab.doctor", str(answer)),
        directory=Path("/"),
        writable=(folder,),
        timeout=launcher.BOOT_SECONDS + _SECONDS,
    )
    try:
        if launcher.run(job, say) != 0:
            raise LabError("the probes failed inside user-mode Linux")
        return tuple(Feature(**row) for row in json.loads(answer.read_text()))
    finally:
        answer.unlink(missing_ok=True)


def report(diagnosis: Diagnosis) -> str:
    """The diagnosis as a table for people."""
    rows = [("feature", "host", "uml" if diagnosis.uml else "")]
    in_uml = {feature.name: feature.answer for feature in diagnosis.uml}
    rows += [(item.name, item.answer, in_uml.get(item.name, "")) for item in diagnosis.host]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    place = {"host": "on the host's kernel", "uml": "in user-mode Linux, rootless"}
    verdict = f"The lab will run {place[diagnosis.runs_on]}: {diagnosis.reason}."
    return "\n".join([*(line.rstrip() for line in lines), "", verdict])


def as_json(diagnosis: Diagnosis) -> str:
    return json.dumps({"schema": 1, **asdict(diagnosis)}, indent=2)


def healthy(diagnosis: Diagnosis) -> bool:
    """Can the lab run at all?"""
    return all(feature.works for feature in (diagnosis.uml or diagnosis.host))


def inside() -> bool:
    """Are we inside the lab already?"""
    return os.environ.get(INSIDE) == "1"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps([asdict(feature) for feature in probe()]))
