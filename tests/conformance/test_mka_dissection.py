"""Every parameter set as scapy and Wireshark read it: any content, and the frames of our members.

scapy knows the first four sets and takes every wrapped key for one of 24 octets; Wireshark knows
all of them.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from scapy.layers.eap import MKAPDU

from gateway.crypto.secret import Secret
from gateway.mka.keys import Cak, MkaKeys
from gateway.mka.mkpdu import Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.registry import ALGORITHM_AGILITY, CipherSuite
from gateway.mka.sets import (
    Announcement,
    Basic,
    DistributedCak,
    DistributedSak,
    KeyUse,
    Kmd,
    ParameterSet,
    PeerList,
    SakUse,
    UnknownSet,
    Xpn,
)
from netns_lab import pcap, tools
from tests.fuzz.corpus import frames
from tests.support.mka_lan import CKN, cak
from tests.support.mka_strategies import basics, mkpdus, peer_lists, sak_uses, two_bits, u32
from tests.support.mka_strategies import of as octets
from tests.support.vectors import load

KEYS = MkaKeys(cak())
SECOND = b"the CKN of the second CAK in use"
ALL_KEYS = {CKN: KEYS, SECOND: MkaKeys(cak(2, SECOND))}
FOREIGN = {
    bytes.fromhex(case["frame"]): MkaKeys(
        Cak(Secret(bytes.fromhex(case["cak"])), bytes.fromhex(case["ckn"]))
    )
    for case in load("wpa_supplicant")
}
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)

needs_tshark = pytest.mark.skipif(
    tools.find("tshark") is None,
    reason="tshark is not here: python -m netns_lab.tools tshark fetches it into .cache",
)


whole = basics.map(
    lambda basic: replace(basic, ckn=(basic.ckn + bytes(3))[: len(basic.ckn) + 3 & 60])
)
"""For scapy, which knows of no padding."""


def written(mkpdu: Mkpdu) -> bytes:
    return encode_mkpdu(mkpdu, mkpdu.basic.sci.mac, KEYS)


def four(number: int) -> bytes:
    return number.to_bytes(4, "big")


# --- scapy -----------------------------------------------------------------------------------


def scapys(basic: Basic, *sets: ParameterSet) -> MKAPDU:
    """Without the ICV, which it takes for a set."""
    return MKAPDU(written(Mkpdu(basic=basic, sets=sets))[18:-16])


@EXAMPLES
@given(whole)
def test_scapy_on_any_basic_set(basic):
    seen = scapys(basic).basic_param_set
    assert (seen.mka_version_id, seen.key_server_priority) == (basic.version, basic.priority)
    shown = (seen.key_server, seen.macsec_desired, seen.macsec_capability)
    assert shown == (basic.key_server, basic.macsec_desired, basic.capability)
    assert bytes(seen.SCI) == basic.sci.encode()
    assert (seen.actor_member_id, seen.actor_message_number) == (basic.mi, basic.mn)
    assert (seen.algorithm_agility, seen.cak_name) == (ALGORITHM_AGILITY, basic.ckn)


@EXAMPLES
@given(whole, peer_lists)
def test_scapy_on_any_peer_list(basic, listed):
    seen = scapys(basic, listed).parameter_sets[0]
    assert (seen.param_set_type, seen.param_set_body_len) == (
        listed.set_type,
        16 * len(listed.peers),
    )
    body = b"".join(bytes(each) for each in seen.member_id_message_num)
    expected = b"".join(peer.mi + four(peer.mn) for peer in listed.peers)
    assert body[: len(expected)] == expected


@EXAMPLES
@given(whole, sak_uses)
def test_scapy_on_any_sak_use(basic, use):
    assume(use.latest or use.old)  # an empty body it reads as one that is not there
    seen = scapys(basic, use).parameter_sets[0]
    shown = (seen.plain_tx, seen.plain_rx, seen.delay_protect)
    assert shown == (use.plain_transmit, use.plain_receive, use.delay_protect)
    for which, key in (("latest", use.latest), ("old", use.old)):
        if key is not None:
            of_key = {
                name: getattr(seen, f"{which}_key_{name}")
                for name in ("an", "tx", "rx", "key_server_member_id", "key_number")
            }
            assert of_key == {
                "an": key.an,
                "tx": key.transmits,
                "rx": key.receives,
                "key_server_member_id": key.ki.mi,
                "key_number": four(key.ki.kn),
            }
            lowest = getattr(seen, f"{which}_key_lowest_acceptable_pn")
            assert lowest == four(key.lowest_pn)


@EXAMPLES
@given(whole, two_bits, two_bits, u32, octets(24))
def test_scapy_on_any_distributed_sak(basic, an, level, kn, wrapped):
    item = DistributedSak(an=an, confidentiality=level, kn=kn, wrapped=wrapped)
    seen = scapys(basic, item).parameter_sets[0]
    assert (seen.distributed_an, seen.confidentiality_offset) == (an, level)
    assert (seen.key_number, seen.sak_aes_key_wrap) == (four(kn), wrapped)


# --- Wireshark -------------------------------------------------------------------------------

Fields = list[tuple[str, str]]  # name without "mka.", and what is shown or its octets


def wiresharks(seen: Iterable[bytes]) -> list[list[tuple[str, Fields]]]:
    """The parameter sets of each frame with their fields. It complains of nothing."""
    with tempfile.TemporaryDirectory() as name:
        capture = Path(name) / "mka.pcap"
        with capture.open("wb") as file:
            pcap.write_header(file)
            for number, frame in enumerate(seen):
                pcap.write_frame(file, 1000 * number, frame)
        done = subprocess.run(
            ["tshark", "-r", str(capture), "-T", "pdml"],
            env={**os.environ, **tools.environment(), "WIRESHARK_CONFIG_DIR": name},
            capture_output=True,
            check=True,
            timeout=60,
        )
    packets = ET.fromstring(done.stdout).iter("packet")
    return [_sets_of(packet) for packet in packets]


def _sets_of(packet: ET.Element) -> list[tuple[str, Fields]]:
    assert packet.find("proto[@name='_ws.malformed']") is None
    mka = packet.find("proto[@name='mka']")
    assert mka is not None
    return [(_name(item), [_shown(field) for field in item.iter("field")]) for item in mka]


def _name(field: ET.Element) -> str:
    return field.get("name", "").removeprefix("mka.")


def _shown(field: ET.Element) -> tuple[str, str]:
    shown, value = field.get("show", ""), field.get("value", "")
    return _name(field), value if ":" in shown else shown


def expected(mkpdu: Mkpdu) -> list[tuple[str, dict[str, list[str]]]]:
    return [_of_basic(mkpdu.basic), *map(_of_set, mkpdu.sets)]


def _of_basic(basic: Basic) -> tuple[str, dict[str, list[str]]]:
    return "basic_param_set", {
        "version_id": [str(basic.version)],
        "ks_prio": [str(basic.priority)],
        "key_server": [str(int(basic.key_server))],
        "macsec_desired": [str(int(basic.macsec_desired))],
        "macsec_capability": [str(basic.capability)],
        "sci": [basic.sci.encode().hex()],
        "actor_mi": [basic.mi.hex()],
        "actor_mn": [four(basic.mn).hex()],
        "algo_agility": [f"0x{ALGORITHM_AGILITY:08x}"],
        "cak_name": [basic.ckn.hex()],
    }


def _of_set(item: ParameterSet) -> tuple[str, dict[str, list[str]]]:
    match item:
        case PeerList(live=live, peers=peers):
            return "live_peer_list_set" if live else "potential_peer_list_set", {
                "peer_mi": [peer.mi.hex() for peer in peers],
                "peer_mn": [four(peer.mn).hex() for peer in peers],
            }
        case SakUse():
            return "macsec_sak_use_set", {
                "plain_tx": [str(int(item.plain_transmit))],
                "plain_rx": [str(int(item.plain_receive))],
                "delay_protect": [str(int(item.delay_protect))],
                **_of_key("latest", item.latest, item),
                **_of_key("old", item.old, item),
            }
        case DistributedSak(wrapped=b""):
            return "distributed_sak_set", {"key_number": [], "aes_key_wrap_sak": []}
        case DistributedSak():
            short = item.suite == CipherSuite.GCM_AES_128
            return "distributed_sak_set", {
                "distributed_an": [str(item.an)],
                "confidentiality_offset": [str(item.confidentiality)],
                "key_number": [four(item.kn).hex()],
                "macsec_cipher_suite": [] if short else [str(int(item.suite))],
                "aes_key_wrap_sak": [item.wrapped.hex()],
            }
        case DistributedCak(body=body):
            return "distributed_cak_set", {"aes_key_wrap_cak": [body[:24].hex()]}
        case Kmd(domain=domain):
            return "kmd_set", {"kmd": [domain.hex()]}
        case Announcement(tlvs=tlvs):
            lengths = [str(len(tlv.value)) for tlv in tlvs]
            return "announcement_set", {
                "tlv_type": [str(tlv.type) for tlv in tlvs],
                "tlv_info_string_len": lengths,
            }
        case Xpn():
            return "xpn_set", {
                "suspension_time": [str(item.suspension_time)],
                "latest_lowest_acceptable_pn": [four(item.latest_high).hex()],
                "old_lowest_acceptable_pn": [four(item.old_high).hex()],
            }
        case UnknownSet(body=body):
            return "unknown_set", {"unknown_param_set": [body.hex()]}


def _of_key(which: str, key: KeyUse | None, use: SakUse) -> dict[str, list[str]]:
    there = use.latest is not None or use.old is not None
    mi, kn, pn = (key.ki.mi, key.ki.kn, key.lowest_pn) if key else (bytes(12), 0, 1)
    return {
        f"{which}_key_an": [str(key.an if key else 0)],
        f"{which}_key_tx": [str(int(key is not None and key.transmits))],
        f"{which}_key_rx": [str(int(key is not None and key.receives))],
        f"{which}_key_server_mi": [mi.hex()] * there,
        f"{which}_key_number": [four(kn).hex()] * there,
        f"{which}_lowest_acceptable_pn": [four(pn).hex()] * there,
    }


def agree(seen: list[tuple[str, Fields]], mkpdu: Mkpdu) -> None:
    """Set by set, in order; what comes after them is the ICV."""
    ours = expected(mkpdu)
    assert [name for name, _ in seen] == [*(name for name, _ in ours), "icv"]
    for (name, fields), (_, wanted) in zip(seen, ours, strict=False):
        for field, values in wanted.items():
            found = [shown for shown_name, shown in fields if shown_name == field]
            assert found == values, (name, field)


def known_to_wireshark(mkpdu: Mkpdu) -> Mkpdu:
    """Of a version that it knows; and 4.0 does not pass over the padding of a KMD."""
    basic = replace(mkpdu.basic, version=1 + mkpdu.basic.version % 3)
    sets = tuple(
        Kmd(domain=(item.domain + bytes(3))[: len(item.domain) + 3 & 0xFC])
        if isinstance(item, Kmd)
        else item
        for item in mkpdu.sets
    )
    return Mkpdu(basic=basic, sets=sets)


@needs_tshark
@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.lists(mkpdus.map(known_to_wireshark), min_size=20, max_size=20))
def test_wireshark_on_any_mkpdu(many):
    for mkpdu, seen in zip(many, wiresharks(map(written, many)), strict=True):
        agree(seen, mkpdu)


@needs_tshark
def test_wireshark_on_what_members_say():
    """Ours with each suite, from link up through rollovers and a restart; and wpa_supplicant's."""
    for frame, seen in zip(frames(), wiresharks(frames()), strict=True):
        envelope = parse_frame(frame)
        agree(seen, envelope.open(FOREIGN.get(frame) or ALL_KEYS[envelope.basic.ckn]))


@needs_tshark
def test_wireshark_sees_a_changed_octet():
    """The negative twin: any octet of the sets but those reserved, and padding."""
    frame = next(frame for frame in frames() if parse_frame(frame).basic.ckn == CKN)
    mkpdu = parse_frame(frame).open(KEYS)
    size = 4 + 28 + len(CKN)
    changed = [
        frame[:at] + bytes((frame[at] ^ 0x40,)) + frame[at + 1 :]
        for at in range(18, 18 + size)
        if at not in (18 + 2, 18 + 3)  # lengths: another frame altogether
    ]
    for seen in wiresharks(changed):
        with pytest.raises(AssertionError):
            agree(seen, mkpdu)
