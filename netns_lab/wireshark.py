"""What Wireshark shows of a capture, with a gateway's key log or without.

An implementation that shares nothing with ours opens IKE and ESP alike: tshark, with the
folder that ``qsgwd --insecure-key-log`` wrote as its configuration.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from netns_lab import tools
from netns_lab.errors import LabError
from netns_lab.traffic import MARKER

SECONDS = 300  # for one look at a capture; user-mode Linux is slow
_BAD = ("Checksum Data is incorrect", "Malformed")
_ENCRYPTED = {"46", "53"}  # SK, SKF


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeMessage:
    exchange: int
    payloads: tuple[int, ...]  # types, transforms and proposals included; outside to inside
    complaint: str

    @property
    def opened(self) -> bool:
        """Encrypted, and what is inside is shown without complaint."""
        inside = self.payloads[1:]
        return self.encrypted and bool(inside) and not any(bad in self.complaint for bad in _BAD)

    @property
    def encrypted(self) -> bool:
        return str(self.payloads[0]) in _ENCRYPTED if self.payloads else False


def available() -> bool:
    return tools.find("tshark") is not None


def ike_messages(capture: Path, key_log: Path) -> list[IkeMessage]:
    """Every IKE message, as it looks with the tables in the folder ``key_log``."""
    fields = ("isakmp.exchangetype", "isakmp.typepayload", "_ws.expert.message")
    rows = [line.split("\t") for line in _tshark(capture, key_log, "isakmp", fields)]
    return [
        IkeMessage(
            exchange=int(exchange),
            payloads=tuple(int(number) for number in payloads.split(",") if number),
            complaint=complaint,
        )
        for exchange, payloads, complaint in rows
    ]


def marked_packets(capture: Path, key_log: Path) -> int:
    """ESP packets in which the payload of alice's and bob's traffic is to be seen."""
    hexadecimal = ":".join(f"{octet:02x}" for octet in MARKER)
    return len(_tshark(capture, key_log, f"esp && udp contains {hexadecimal}", ("frame.number",)))


def _tshark(capture: Path, key_log: Path, matching: str, fields: tuple[str, ...]) -> list[str]:
    command = ["tshark", "-n", "-r", str(capture), "-Y", matching, "-T", "fields"]
    command += [word for field in fields for word in ("-e", field)]
    environment = {
        **os.environ,
        **tools.environment(),
        "WIRESHARK_CONFIG_DIR": str(key_log),
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        raise LabError(f"tshark: {done.stderr.strip()[-500:]}")
    return done.stdout.splitlines()
