"""What is left to check when a scenario is over: the capture at isp, and everything written."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from netns_lab import evidence, pcap, proof
from netns_lab.errors import LabError
from netns_lab.interop.agreement import KernelSa
from netns_lab.site import Site

_UDP = 17
_UDP_HEADER = 8
_NATT_PORT, _MARKER = 4500, bytes(4)  # RFC 3948 2.2
_IKE_HEADER = 28  # RFC 7296 3.1
_NEXT_PAYLOAD, _EXCHANGE = 16, 18  # where in it
_SKF = 53  # RFC 7383 2.5
IKE_AUTH, IKE_INTERMEDIATE = 35, 43


def fragments(frames: Iterable[pcap.Frame]) -> Counter[tuple[str, int]]:
    """IKE fragments in a capture, by source address and exchange type."""
    found: Counter[tuple[str, int]] = Counter()
    for frame in frames:
        packet = proof.ip_packet(frame.data)
        if packet is None or packet.protocol != _UDP or proof.kind(frame.data) != "ike":
            continue
        data = packet.payload[_UDP_HEADER:]
        if _NATT_PORT in struct.unpack_from("!HH", packet.payload):
            data = data.removeprefix(_MARKER)
        if len(data) > _IKE_HEADER and data[_NEXT_PAYLOAD] == _SKF:
            found[str(packet.source), data[_EXCHANGE]] += 1
    return found


def check_plaintext(frames: Sequence[pcap.Frame]) -> None:
    """Raises LabError unless isp saw ESP, and nothing that was meant for the inside."""
    counts = proof.count_kinds(frames)
    if counts["plaintext"]:
        raise LabError(f"{counts['plaintext']} packets in plaintext at isp: {counts}")


def check_decryption(
    site: Site,
    frames: Sequence[pcap.Frame],
    proven: set[str],
    peer_sas: Mapping[str, KernelSa],
    *,
    esn: bool,
) -> int:
    """scapy opens every SA in ``proven`` with the key that both ends claim; how many.

    SAs are told by SPI: with a NAT between, the ends name each other's address differently.
    Raises LabError.
    """
    log = site.esp_keys("sun")  # where ours would be: what is searched for keys knows it
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(sa.esp_sa_row() for sa in peer_sas.values()))
    ours = {f"{key.spi:08x}": key for key in proof.load_keys(site.esp_keys("moon")).values()}
    theirs = {f"{key.spi:08x}": key for key in proof.load_keys(log).values()}
    keys = {}
    for spi in proven:
        if spi not in ours or spi not in theirs:
            raise LabError(f"no key for SPI {spi} from {'us' if spi not in ours else 'the peer'}")
        if ours[spi].key != theirs[spi].key:
            raise LabError(f"the ends claim different keys for SPI {spi}")
        for entry in (ours[spi], theirs[spi]):
            keys[entry.destination, entry.spi] = entry
    found = proof.decrypt(frames, keys, esn=esn)
    if not proven or found.decrypted != len(proven):
        raise LabError(f"scapy decrypted {found.decrypted} of {len(proven)} SAs: {found.failed}")
    return found.decrypted


def check_traces(site: Site, folders: Sequence[Path]) -> int:
    """No key bytes in what was written; how many keys were searched for. Raises LabError."""
    search = evidence.search_for_keys(site, folders)
    if search.findings:
        places = {f"{found.file.name} ({found.form})" for found in search.findings}
        raise LabError(f"key bytes in {', '.join(sorted(places))}")
    if not search.keys or not search.files:
        raise LabError(f"searched {search.files} files for {search.keys} keys")
    return search.keys
