"""The report holds only if everything in it does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from netns_lab.report import Rekey, Report, table

IKE = {"proposal": "AES_GCM_16-256/PRF_HMAC_SHA2_512/X25519/KE1_ML-KEM-768/PPK"}


def rekeys(count: int) -> tuple[Rekey, ...]:
    return tuple(
        Rekey(at=float(n), protection="HYBRID", key_id=f"key-{n}", spi_moon="a", spi_sun="b")
        for n in range(count)
    )


GOOD = Report(
    kernel="uml",
    protection=("HYBRID", "PQC_ONLY", "HYBRID"),
    rekeys=rekeys(21),
    packets_sent=5000,
    packets_lost=0,
    packets_duplicate=0,
    packets_reordered=0,
    fallback_seconds=12.0,
    restore_seconds=4.0,
    qkd_keys_used=22,
    qkd_keys_reused=0,
    plaintext_packets_seen=0,
    packets_at_isp={"esp": 5000, "ike": 90, "plaintext": 0},
    esp_decrypted_by_scapy=True,
    esp_sas_decrypted=44,
    xfrm_errors=0,
    key_bytes_in_artifacts=0,
    keys_searched_for=300,
    blocked_when_down=True,
    mqtt_matches=True,
    ike={"moon": IKE, "sun": IKE},
    timings={"total": 90.0},
)


def failing(report: Report) -> list[str]:
    return [check.what for check in report.checks() if not check.holds]


def test_a_good_run_holds() -> None:
    assert failing(GOOD) == []
    assert "FAIL" not in table(GOOD.checks())


@pytest.mark.parametrize(
    "change",
    [
        {"protection": ("HYBRID", "PQC_ONLY")},
        {"rekeys": rekeys(19)},
        {"rekeys": (*rekeys(20), rekeys(1)[0])},
        {"rekeys": (*rekeys(20), replace(rekeys(1)[0], key_id=None))},
        {"packets_lost": 1},
        {"packets_sent": 0},
        {"qkd_keys_used": 3},
        {"qkd_keys_reused": 1},
        {"plaintext_packets_seen": 1},
        {"packets_at_isp": {"plaintext": 0}},
        {"esp_decrypted_by_scapy": False},
        {"xfrm_errors": 2},
        {"key_bytes_in_artifacts": 1},
        {"keys_searched_for": 0},
        {"blocked_when_down": False},
        {"mqtt_matches": False},
        {"ike": {"moon": IKE}},
        {"ike": {"moon": IKE, "sun": {"proposal": "AES_GCM_16-256/weaker"}}},
    ],
    ids=str,
)
def test_one_thing_wrong_and_it_does_not_hold(change: dict[str, Any]) -> None:
    report = replace(GOOD, **change)
    assert len(failing(report)) == 1
    assert "FAIL" in table(report.checks())


def test_the_json_has_the_promised_fields() -> None:
    text = json.loads(json.dumps(GOOD.as_json()))
    assert text["schema"] == 1
    assert text["protection"] == ["HYBRID", "PQC_ONLY", "HYBRID"]
    assert text["rekeys"][0]["key_id"] == "key-0"
    assert {
        *("kernel", "packets_sent", "packets_lost", "fallback_seconds", "restore_seconds"),
        *("qkd_keys_used", "qkd_keys_reused", "plaintext_packets_seen", "xfrm_errors"),
        *("esp_decrypted_by_scapy", "key_bytes_in_artifacts", "ike"),
    } <= set(text)
