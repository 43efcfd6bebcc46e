"""Wireshark opens our IKE messages with the tables our key log writes."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from gateway.daemon.keylog import KeyLog
from netns_lab import pcap, tools
from tests.support.ike_pair import Flight, Pair

pytestmark = pytest.mark.skipif(
    tools.find("tshark") is None,
    reason="tshark is not here: python -m netns_lab.tools tshark fetches it into .cache",
)

BAD = ("Checksum Data is incorrect", "Malformed")


def frame(pair: Pair, flight: Flight) -> bytes:
    """The flight in UDP, IPv4 and Ethernet, checksums left out."""
    ours, theirs = (pair.moon, pair.sun) if flight.sender == "moon" else (pair.sun, pair.moon)
    udp = struct.pack("!HHHH", 500, 500, 8 + len(flight.data), 0) + flight.data
    ends = ours.address.packed + theirs.address.packed
    return bytes(12) + b"\x08\x00" + _ip_header(20 + len(udp)) + ends + udp


def _ip_header(length: int) -> bytes:
    return struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, 17, 0)


@pytest.fixture
def life(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a capture and moon's key log of a handshake and a rekey, in fragments."""
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    pair = Pair(fragment_size=576, ike=("aes256gcm16-prfsha512-x25519-ke1_mlkem768-ke2_mlkem1024",))
    pair.initiate().rekey()
    log = KeyLog(tmp_path / "log")
    for keys in pair.moon.recorded:
        log.write_ike(keys)
    log.close()
    (tmp_path / "none").mkdir()
    with (tmp_path / "isp.pcap").open("wb") as file:
        pcap.write_header(file)
        for flight in pair.sent:
            pcap.write_frame(file, 1000 * flight.number, frame(pair, flight))
    return tmp_path


def rows(life: Path, configuration: str) -> list[tuple[int, str, str]]:
    """Exchange, payload types and complaints of every message, as tshark shows them."""
    command = ["tshark", "-r", str(life / "isp.pcap"), "-T", "fields"]
    for field in ("isakmp.exchangetype", "isakmp.typepayload", "_ws.expert.message"):
        command += ["-e", field]
    environment = {
        **os.environ,
        **tools.environment(),
        "WIRESHARK_CONFIG_DIR": str(life / configuration),
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    split = [line.split("\t") for line in done.stdout.splitlines()]
    return [(int(kind), payloads, said) for kind, payloads, said in split]


def opened(payloads: str) -> bool:
    """Something is shown behind the SK or SKF payload."""
    return "," in payloads


def test_the_folder_itself_opens_all_from_ike_auth_on(life: Path) -> None:
    seen = rows(life, "log")
    for kind, _, said in seen:
        if kind in (35, 36, 37, 44):
            assert not any(word in said for word in BAD), said
    shown = [payloads for kind, payloads, _ in seen if kind == 35 and opened(payloads)]
    # IDi, IDr, AUTH, SA, TSi, TSr and INITIAL_CONTACT; IDr, AUTH, SA, TSi, TSr
    assert shown == ["46,35,36,39,33,2,3,3,44,45,41", "46,36,39,33,2,3,3,44,45"]
    assert {44, 36} <= {kind for kind, payloads, _ in seen if opened(payloads)}


def test_a_folder_per_generation_opens_what_went_under_it(life: Path) -> None:
    for generation in (0, 1):
        good = [
            payloads
            for kind, payloads, said in rows(life, f"log/generation-{generation}")
            if kind == 43 and opened(payloads) and not any(word in said for word in BAD)
        ]
        assert len(good) == 2  # request and response, put together
        assert all(",34" in payloads for payloads in good)  # KE


def test_without_the_tables_nothing_is_opened(life: Path) -> None:
    seen = rows(life, "none")
    assert {payloads for kind, payloads, _ in seen if kind != 34} <= {"46", "53"}
