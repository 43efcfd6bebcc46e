"""What has to be the same in our status, the peer's, and both kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netns_lab.interop.mka_agreement import Sighting, as_on_the_wire, trouble
from netns_lab.macsec_evidence import KernelSecy
from netns_lab.peers.mka import MkaFacts

OURS, THEIRS = "0200000000010001", "0200000000020001"
KI = "a4ecaad9839ac5e0c9c19e9e" + "00000002"


def secy(own: str, other: str) -> KernelSecy:
    return KernelSecy(
        strict=True,
        encrypts=True,
        suite="GCM-AES-128",
        sci=own,
        sending=1,
        transmit={1: KI},
        receive={(other, 1): KI},
        errors={},
        octets_in=0,
    )


def view(**other: Any) -> dict[str, Any]:
    sak = {
        "an": 1,
        "ki": "a4ecaad9839ac5e0c9c19e9e.2",
        "suite": "GCM-AES-128",
        "encrypted": True,
        "transmits": True,
        "in_kernel": True,
    }
    return {
        "port": "secured",
        "protection": "CLASSICAL",
        "reason": "",
        "we_are_key_server": True,
        "saks": [sak],
        **other,
    }


SEEN = Sighting(
    view=view(),
    ours=secy(OURS, THEIRS),
    theirs=secy(THEIRS, OURS),
    facts=MkaFacts(
        secured=True, is_key_server=False, key_server=OURS, sci=THEIRS, ckn="6d", live_peers=1
    ),
)


def test_all_that_fits_is_no_trouble() -> None:
    assert trouble(SEEN, we_serve=True) == ""
    assert SEEN.ki == "a4ecaad9839ac5e0c9c19e9e.2"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(SEEN, view=view(saks=[])), "no SAK"),
        (replace(SEEN, view=view(port="blocked")), "no SAK"),
        (replace(SEEN, view=view(protection="HYBRID")), "HYBRID"),
        (replace(SEEN, view=view(we_are_key_server=False)), "key server"),
        (replace(SEEN, facts=replace(SEEN.facts, live_peers=0)), "live_peers=0"),
        (replace(SEEN, facts=replace(SEEN.facts, key_server=THEIRS)), "the peer says"),
        (replace(SEEN, ours=replace(SEEN.ours, strict=False)), "our kernel"),
        (replace(SEEN, theirs=replace(SEEN.theirs, suite="GCM-AES-256")), "the peer's kernel"),
        (replace(SEEN, theirs=replace(SEEN.theirs, transmit={})), "the peer's kernel sends"),
        (replace(SEEN, theirs=replace(SEEN.theirs, sending=0)), "the peer's kernel sends"),
        (replace(SEEN, ours=replace(SEEN.ours, receive={(THEIRS, 0): KI})), "our kernel receives"),
        (replace(SEEN, ours=replace(SEEN.ours, receive={(OURS, 1): KI})), "our kernel receives"),
    ],
)
def test_whatever_differs_is_said(seen: Sighting, words: str) -> None:
    assert words in trouble(seen, we_serve=True)


def test_who_is_key_server_is_part_of_it() -> None:
    assert "key server" in trouble(SEEN, we_serve=False)


def test_key_identifiers_are_compared_as_they_are_on_the_wire() -> None:
    turned = as_on_the_wire(SEEN.theirs, lambda ki: ki[::-1])
    assert turned.transmit == {1: KI[::-1]}
    assert turned.receive == {(OURS, 1): KI[::-1]}
    assert (turned.sci, turned.sending) == (THEIRS, 1)
