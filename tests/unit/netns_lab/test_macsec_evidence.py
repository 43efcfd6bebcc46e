"""One SAK at four places: what iproute2 and both gateways say of it, and every way to disagree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from netns_lab.macsec_evidence import disagreement, kernel_secy, ki_octets
from netns_lab.site_files import Gateway

Json = dict[str, Any]

MI = "00112233445566778899aabb"
KI = f"{MI}00000005"
SCIS: dict[Gateway, str] = {"moon": "020000000001" + "0001", "sun": "020000000002" + "0001"}


def shown(gateway: Gateway, other: Gateway) -> Json:
    """As iproute2 6.1 has it."""
    return {
        "ifname": "macsec-metro",
        "protect": True,
        "validate": "strict",
        "encrypt": True,
        "cipher_suite": "GCM-AES-256",
        "sci": f"0x{SCIS[gateway].lstrip('0')}",
        "encoding_sa": 1,
        "InPktsNoTag": 7,
        "InPktsOverrun": 0,
        "sa_list": [{"an": 1, "pn": 4, "active": True, "key": KI}],
        "rx_sc": [
            {
                "sci": f"0x{SCIS[other].lstrip('0')}",
                "active": True,
                "InOctetsValidated": 0,
                "InOctetsDecrypted": 732,
                "InPktsLate": 0,
                "sa_list": [{"an": 1, "pn": 4, "active": True, "key": KI}],
            }
        ],
    }


def view(**changes: object) -> Json:
    sak = {
        "an": 1,
        "ki": f"{MI}.5",
        "suite": "GCM_AES_256",
        "encrypted": True,
        "transmits": True,
        "in_kernel": True,
    }
    return {"protection": "HYBRID", "port": "secured", "saks": [{**sak, **changes}]}


def compare(views: dict[Gateway, Json], kernels: dict[Gateway, Json]) -> str:
    return disagreement(views, {g: kernel_secy(json.dumps([k])) for g, k in kernels.items()})


@pytest.fixture
def views() -> dict[Gateway, Json]:
    return {"moon": view(), "sun": view()}


@pytest.fixture
def kernels() -> dict[Gateway, Json]:
    return {"moon": shown("moon", "sun"), "sun": shown("sun", "moon")}


def test_a_key_identifier_is_said_in_two_ways() -> None:
    assert ki_octets(f"{MI}.5") == KI


def test_counters_above_zero_are_errors_but_eapol_frames_are_not(kernels) -> None:
    found = kernel_secy(json.dumps([kernels["moon"]]))
    assert found.errors == {}
    assert found.octets_in == 732
    kernels["moon"]["rx_sc"][0]["InPktsLate"] = 2
    assert kernel_secy(json.dumps([kernels["moon"]])).errors == {"InPktsLate": 2}


def test_one_sak_at_both_gateways_and_in_both_kernels(views, kernels) -> None:
    assert compare(views, kernels) == ""


def _other_ki(kernel: Json) -> None:
    kernel["sa_list"][0]["key"] = "ff" * 16


def _other_an(kernel: Json) -> None:
    kernel["encoding_sa"] = 2


def _deaf(kernel: Json) -> None:
    kernel["rx_sc"][0]["sa_list"][0]["active"] = False


def _no_channel(kernel: Json) -> None:
    kernel["rx_sc"] = []


def _open(kernel: Json) -> None:
    kernel["validate"] = "check"


def _integrity_only(kernel: Json) -> None:
    kernel["encrypt"] = False


def _other_suite(kernel: Json) -> None:
    kernel["cipher_suite"] = "GCM-AES-128"


@pytest.mark.parametrize("gateway", ["moon", "sun"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_ki, "its kernel with AN 1"),
        (_other_an, "its kernel with AN 2"),
        (_deaf, "kernel does not receive"),
        (_no_channel, "kernel does not receive"),
        (_open, "does not protect"),
        (_integrity_only, "does not protect"),
        (_other_suite, "its kernel GCM-AES-128"),
    ],
)
def test_a_kernel_that_has_something_else_is_found(
    gateway: Gateway, change: Callable[[Json], None], words: str, views, kernels
) -> None:
    change(kernels[gateway])
    assert words in compare(views, kernels)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (view(transmits=False), "sends with no SAK"),
        ({**view(), "port": "blocked"}, "its port is blocked"),
        (view(in_kernel=False), "did not read"),
        ({**view(), "protection": "PQC_ONLY"}, "different protection"),
    ],
)
def test_a_gateway_that_says_something_else_is_found(
    other: Json, words: str, views, kernels
) -> None:
    views["sun"] = other
    assert words in compare(views, kernels)
