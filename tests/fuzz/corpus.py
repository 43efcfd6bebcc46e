"""Where inputs start from: captured datagrams, and what messages of ours have inside.

``corpus/datagrams.json`` holds IKE messages as they passed isp in runs of the lab; see
``corpus/README.md``. Messages in the clear come from endpoints in memory each time, so new
exchanges are fuzzed as soon as they exist.

    python -m tests.fuzz.corpus ORIGIN CAPTURE...     adds messages of captures to the corpus
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from gateway.mka.registry import CipherSuite
from netns_lab import pcap, proof
from tests.fuzz import credentials
from tests.fuzz.attacker import Template, template
from tests.support.ike_pair import Pair
from tests.support.mka_lan import lan
from tests.support.vectors import load

FILE = Path(__file__).parent / "corpus" / "datagrams.json"


@cache
def datagrams() -> tuple[bytes, ...]:
    """Captured IKE messages, and those of lives in memory."""
    stored = json.loads(FILE.read_text()) if FILE.exists() else []
    captured = [bytes.fromhex(text) for entry in stored for text in entry["datagrams"]]
    return tuple(captured + [flight.data for pair in _lives() for flight in pair.sent])


@cache
def templates() -> tuple[Template, ...]:
    """The content of every message of lives in memory."""
    made = [
        template(seen.exchange, seen.response, seen.first, seen.chain)
        for pair in _lives()
        for seen in pair.witness.messages
    ]
    return tuple(one for one in made if one is not None)


@cache
def frames() -> tuple[bytes, ...]:
    """MKPDUs of wpa_supplicant, as they came over a link, and of lives in memory.

    These with each suite, two and three members, rollovers and restarts.
    """
    found = [bytes.fromhex(case["frame"]) for case in load("wpa_supplicant")]
    for number, suite in enumerate(CipherSuite):
        change = {
            "suite": suite,
            "accepted_suites": frozenset({suite}),
            "delay_protect": bool(number % 2),
        }
        one = lan(2 + number % 2, seed=f"corpus {number}", change=change)
        one.run(8.0)
        one.act(0, lambda port, one=one: port.request_sak("asked", one.now))  # type: ignore[misc]
        one.run(7.0)
        for index in range(len(one.members)):
            one.add_cak(index, 2, b"the CKN of the second CAK in use")
        one.run(6.0)
        one.restart(1)
        one.run(8.0)
        found += one.frames
    return tuple(found)


@cache
def _lives() -> tuple[Pair, ...]:
    settings: tuple[dict[str, object], ...] = (
        {},
        {"fragment_size": 576, "esp": ("aes256gcm16-x25519-ke1_mlkem768-ke2_mlkem1024-esn",)},
        {"ppk": "off", "esp": ("aes256gcm16-esn",)},
        {
            "cookie_threshold": 0,
            "moon": {"ike": ("aes256gcm16-prfsha384-x25519-ecp384-ke1_mlkem1024",)},
            "sun": {"ike": ("aes256gcm16-prfsha384-ecp384-ke1_mlkem1024",)},
        },
    )
    return (
        *(_live(Pair(toy_kex=True, seed="corpus", **how)) for how in settings),  # type: ignore[arg-type]
        *(_live(_proving(way)) for way in credentials.WAYS[1:]),
    )


def _proving(way: str) -> Pair:
    """moon and sun with certificates or raw public keys."""
    ends = {side: credentials.settings(side, way) for side in ("moon", "sun")}
    pair = Pair(toy_kex=True, seed="corpus", **ends)  # type: ignore[arg-type]
    for side in pair.sides:
        side.judge = credentials.judge()
    return pair


def _live(pair: Pair) -> Pair:
    pair.initiate()
    pair.rekey()
    pair.rekey(side=pair.sun, ppk=False)
    pair.run(31)
    for side in pair.sides:
        ppk = pair.key(side) if side is pair.moon else None
        side.endpoint.rekey_ike("net", ppk=ppk, now=pair.now)
        pair.run(31)
    pair.initiate(side=pair.sun)
    pair.run(31)
    pair.moon.endpoint.close("net", reason="terminated by the operator", now=pair.now)
    pair.run(10)
    return pair


# --- adding to it ----------------------------------------------------------------------------


def from_captures(files: Sequence[Path]) -> Iterator[bytes]:
    """IKE messages of pcap files, one of each shape."""
    seen: set[tuple[int, ...]] = set()
    for file in files:
        for frame in pcap.read(file):
            packet = proof.ip_packet(frame.data)
            if packet is None or proof.kind(frame.data) != "ike":
                continue
            data = packet.payload[8:].removeprefix(bytes(4))
            shape = (data[16], data[18], data[19], len(data)) if len(data) >= 28 else (len(data),)
            if shape not in seen:
                seen.add(shape)
                yield data


def main(origin: str, *files: str) -> None:
    stored = json.loads(FILE.read_text()) if FILE.exists() else []
    found = [data.hex() for data in from_captures([Path(file) for file in files])]
    stored.append({"origin": origin, "datagrams": found})
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(stored, indent=1) + "\n")
    sys.stdout.write(f"{len(found)} messages added\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
