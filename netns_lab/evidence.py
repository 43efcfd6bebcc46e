"""How scenarios prove their points: by both gateways, the kernel, the wire and the payload."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns_lab import keyscan, pcap, proof, traffic
from netns_lab.lab import Lab
from netns_lab.site import Site
from netns_lab.site_files import GATEWAYS, Gateway

Json = dict[str, Any]

ENDS = {"alice": "10.1.0.10:7000", "bob": "10.2.0.10:7000"}
TWIN_ENDS = {"alice": "[fd01::10]:7000", "bob": "[fd02::10]:7000"}
"""Of traffic that goes through the tunnel of the twin KMEs."""
OTHER_END = {"alice": "bob", "bob": "alice"}

_SPI = re.compile(r"proto esp spi 0x([0-9a-f]{8})")


# --- both gateways and their kernels -------------------------------------------------------------


async def agreed_children(
    site: Site, protection: str, *, twin: bool = False
) -> dict[Gateway, Json]:
    """The Child SA in use by the tunnel (of the twin KMEs), from both gateways.

    Empty unless both carry traffic in the same SA with this protection and key_ID, and both
    kernels bear that out.
    """
    children: dict[Gateway, Json] = {}
    for gateway in GATEWAYS:
        tunnel = await site.tunnel(gateway, twin=twin)
        carrying = [child for child in tunnel["children"] if child["carries_outbound"]]
        if len(carrying) != 1 or carrying[0]["protection"] != protection:
            return {}
        if not await in_kernel(site, gateway, carrying[0], alone=not site.options.apart):
            return {}
        children[gateway] = carrying[0]
    moon, sun = children["moon"], children["sun"]
    mirrored = moon["spi_in"] == sun["spi_out"] and moon["spi_out"] == sun["spi_in"]
    return children if mirrored and moon["key_id"] == sun["key_id"] else {}


async def in_kernel(site: Site, gateway: Gateway, *children: Json, alone: bool = True) -> bool:
    """iproute2 shows all their SAs, and outbound policies that lead into the outbound ones.

    ``alone``: there is no other tunnel whose policies could lead elsewhere.
    """
    states = await site.lab.run(gateway, ["ip", "xfrm", "state", "list", "nokeys"])
    policies = await site.lab.run(gateway, ["ip", "xfrm", "policy", "list", "dir", "out"])
    present = set(_SPI.findall(states.check().stdout))
    pinned = set(_SPI.findall(policies.check().stdout))
    out = {child["spi_out"] for child in children}
    return out | {child["spi_in"] for child in children} <= present and (
        pinned == out if alone else out <= pinned
    )


async def esp_sas(site: Site, gateway: Gateway) -> set[str]:
    """SPIs of all keyed ESP SAs in the gateway's kernel, as 8 hexadecimal digits."""
    text = (await site.lab.run(gateway, ["ip", "xfrm", "state", "list", "nokeys"])).check().stdout
    blocks = re.split(r"(?m)^(?=src )", text)
    return {spi for block in blocks if "aead" in block for spi in _SPI.findall(block)}


async def xfrm_counters(site: Site, gateway: Gateway) -> Counter[str]:
    """The error counters that a gateway's kernel keeps for XFRM, those above zero."""
    text = (await site.lab.run(gateway, ["cat", "/proc/net/xfrm_stat"])).check().stdout
    counts = (line.split() for line in text.splitlines())
    return +Counter({name: int(count) for name, count in counts})


async def xfrm_errors(site: Site) -> int:
    """The sum of every error counter that the gateways' kernels keep for XFRM."""
    return sum([(await xfrm_counters(site, gateway)).total() for gateway in GATEWAYS])


# --- the payload ---------------------------------------------------------------------------------


async def start_traffic(lab: Lab, *, twin: bool = False) -> None:
    """Numbered packets from alice to bob and back until ``stop_traffic``."""
    ends, name = _flow(twin)
    for host, address in ends.items():
        command = [
            *(sys.executable, "-m", "netns_lab.traffic", "--bind", address),
            *("--peer", ends[OTHER_END[host]]),
            *("--report", str(lab.run_dir / f"{name}-{host}.json")),
        ]
        await lab.start(host, command, name=f"{name}-{host}")
    for host in ends:
        lab.daemons[f"{name}-{host}"].signal(signal.SIGUSR1)


async def stop_traffic(lab: Lab, *, twin: bool = False) -> dict[str, traffic.Direction]:
    """What became of the packets, by direction."""
    ends, name = _flow(twin)
    daemons = [lab.daemons[f"{name}-{host}"] for host in ends]
    for daemon in daemons:  # both at once: each waits for what the other sent last
        daemon.signal(signal.SIGTERM)
    await asyncio.gather(*(daemon.stop() for daemon in daemons))
    notes = {host: traffic.load(lab.run_dir / f"{name}-{host}.json") for host in ends}
    return {
        f"{sender} to {receiver}": traffic.compare(notes[sender], notes[receiver])
        for sender, receiver in OTHER_END.items()
    }


def _flow(twin: bool) -> tuple[dict[str, str], str]:
    """Addresses of the ends and the name of their programs."""
    return (TWIN_ENDS, "traffic-twin") if twin else (ENDS, "traffic")


async def reachable(
    lab: Lab, host: str = "alice", *, tries: int = 3, address: str | None = None
) -> bool:
    """Does an answer come to a ping from ``host`` to the other site, or to ``address``?"""
    address = address or ENDS[OTHER_END[host]].rpartition(":")[0]
    command = ["ping", "-q", "-c", str(tries), "-i", "0.2", "-W", "1", address]
    return (await lab.run(host, command)).code == 0


# --- the wire ------------------------------------------------------------------------------------


async def start_capture(lab: Lab, name: str = "isp") -> None:
    """Capture everything that arrives at isp, into ``NAME.pcap``."""
    command = [sys.executable, "-m", "netns_lab.capture", str(lab.capture_dir / f"{name}.pcap")]
    await lab.start("isp", command, name=f"capture-{name}")


async def start_link_capture(lab: Lab, name: str = "link") -> None:
    """Capture everything on the link between moon and sun, both ways, into ``NAME.pcap``."""
    file = str(lab.capture_dir / f"{name}.pcap")
    command = [sys.executable, "-m", "netns_lab.capture", file, "--interface", "sun"]
    await lab.start("moon", command, name=f"capture-{name}")


async def stop_capture(lab: Lab, name: str = "isp") -> list[pcap.Frame]:
    await lab.daemons[f"capture-{name}"].stop()
    return list(pcap.read(lab.capture_dir / f"{name}.pcap"))


def decrypt(site: Site, frames: Sequence[pcap.Frame]) -> proof.Decryption:
    """scapy's verdict, with the keys that both gateways claim."""
    keys = proof.agreed_keys([site.esp_keys(gateway) for gateway in GATEWAYS])
    return proof.decrypt(frames, keys)


# --- what remains --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    keys: int
    files: int
    findings: tuple[keyscan.Finding, ...]


def search_for_keys(site: Site, folders: Sequence[Path], more: Sequence[bytes] = ()) -> Search:
    """Look for every QKD key made, every ESP key installed, the PSKs, and ``more``."""
    logs = [site.esp_keys(gateway) for gateway in GATEWAYS]
    psks = [(site.folder(gateway) / "psk").read_text().strip().encode() for gateway in GATEWAYS]
    scanner = keyscan.KeyScanner(
        keyscan.recorded_keys(site.recorded_keys()) + proof.secrets_in(logs) + psks + list(more)
    )
    files = [file for file in keyscan.files_below(folders) if file.suffix != ".notify"]
    return Search(keys=len(scanner.keys), files=len(files), findings=tuple(scanner.scan(files)))
