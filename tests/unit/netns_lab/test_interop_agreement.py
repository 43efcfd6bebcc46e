"""What counts as the same Child SA at both ends and in both kernels."""

from __future__ import annotations

from typing import Any

import pytest

from netns_lab.interop.agreement import KernelSa, child_trouble, kernel_sas, pairs
from netns_lab.peers.facts import ChildFacts

IN, OUT = "c0ffee01", "0badcafe"
KEY = "ab" * 36

STATES = f"""\
src 10.0.12.1 dst 10.0.23.3
\tproto esp spi 0x{OUT} reqid 1 mode tunnel
\treplay-window 0 flag af-unspec esn
\taead rfc4106(gcm(aes)) 0x{KEY} 128
\tanti-replay esn context:
\t seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x5
src 10.0.23.3 dst 10.0.12.1
\tproto esp spi 0x{IN} reqid 1 mode tunnel
\treplay-window 0 flag af-unspec
\taead rfc4106(gcm(aes)) 0x{"cd" * 20} 64
\tanti-replay esn context:
\t seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0
src 10.0.23.3 dst 10.0.12.1
\tproto esp spi 0x00001234 reqid 1 mode tunnel
\treplay-window 0
\tsel src 10.0.23.3/32 dst 10.0.12.1/32
"""

OURS: dict[str, Any] = {
    "spi_in": IN,
    "spi_out": OUT,
    "encryption": "AES_GCM_16-256",
    "esn": True,
    "key_exchanges": ["X25519", "ML-KEM-768"],
}
WHOLE = "AES_GCM_16-256/X25519/KE1_ML-KEM-768/ESN"


def theirs(algorithms: str = WHOLE, *, installed: bool = True) -> ChildFacts:
    return ChildFacts(
        name="net", spi_in=OUT, spi_out=IN, installed=installed, algorithms=algorithms
    )


def kernel(*, esn: bool = True, octets: int = 36, icv: int = 128) -> dict[str, KernelSa]:
    return {
        spi: KernelSa(
            source="10.0.12.1",
            destination="10.0.23.3",
            spi=spi,
            algorithm="rfc4106(gcm(aes))",
            key="ab" * octets,
            icv_bits=icv,
            esn=esn,
        )
        for spi in (IN, OUT)
    }


def trouble(child: ChildFacts, *, first: bool = False, **sun: Any) -> str:
    return child_trouble(OURS, child, {"moon": kernel(), "sun": kernel(**sun)}, first=first)


def test_iproute2_tells_algorithm_key_size_and_sequence_numbers() -> None:
    found = kernel_sas(STATES)
    assert set(found) == {IN, OUT}, "an SPI without keys is no SA"
    assert found[OUT].words == "AES_GCM_16-256/ESN"
    assert found[IN].words == "rfc4106(gcm(aes))-128", "a short ICV is not AES_GCM_16; no ESN"
    assert found[OUT].esp_sa_row().count(KEY) == 1
    assert KEY not in repr(found)


def test_mirrored_spis_make_a_pair() -> None:
    assert pairs([OURS], [theirs()]) == (((OURS, theirs()),), "")


@pytest.mark.parametrize(
    ("ours", "peers"),
    [([OURS], []), ([OURS], [theirs(installed=False)]), ([], [theirs()])],
)
def test_a_child_that_one_end_alone_has_is_trouble(
    ours: list[dict[str, Any]], peers: list[ChildFacts]
) -> None:
    found, why = pairs(ours, peers)
    assert found == ()
    assert why


def test_the_same_words_everywhere_are_no_trouble() -> None:
    assert trouble(theirs()) == ""


def test_only_a_first_child_may_come_without_key_exchanges() -> None:
    assert trouble(theirs("AES_GCM_16-256/ESN"), first=True) == ""
    assert "the peer AES_GCM_16-256/ESN" in trouble(theirs("AES_GCM_16-256/ESN"))


@pytest.mark.parametrize(
    "algorithms",
    [
        "AES_GCM_16-128/X25519/KE1_ML-KEM-768/ESN",
        "AES_GCM_16-256/X25519/KE1_ML-KEM-768",
        "AES_GCM_16-256/X25519/ESN",
        "AES_GCM_16-256/X25519/KE1_ML-KEM-1024/ESN",
    ],
)
def test_every_word_of_the_peers_counts(algorithms: str) -> None:
    for first in (False, True):
        assert "the peer" in trouble(theirs(algorithms), first=first)


@pytest.mark.parametrize("sun", [{"esn": False}, {"octets": 20}, {"icv": 64}])
def test_a_kernel_with_something_else_is_trouble(sun: dict[str, Any]) -> None:
    assert "sun's kernel has" in trouble(theirs(), **sun)


def test_an_sa_that_a_kernel_lacks_is_trouble() -> None:
    kernels = {"moon": kernel(), "sun": {}}
    assert "not in sun's kernel" in child_trouble(OURS, theirs(), kernels, first=False)
