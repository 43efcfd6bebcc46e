"""The MACsec demonstration's report: everything it promises is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netns_lab.macsec_report import PROTECTION, MacsecReport, Rollover

ROLLOVERS = tuple(
    Rollover(
        at=float(number),
        ki=f"{number:032x}",
        an=number % 4,
        ckn=f"{number // 5:02x}",
        protection="HYBRID",
        key_id=f"key {number // 5}",
    )
    for number in range(105)
)
GOOD = MacsecReport(
    kernel="uml",
    protection=PROTECTION,
    suite="gcm-aes-256",
    rollovers=ROLLOVERS,
    cak_rollovers=20,
    cak_rollovers_hybrid=16,
    sak_rollovers=104,
    saks_in_both_kernels=105,
    packets_sent=50_000,
    packets_lost=0,
    packets_duplicate=0,
    packets_reordered=0,
    fallback_seconds=20.0,
    restore_seconds=4.0,
    suspicion_seconds=0.9,
    clear_seconds=4.0,
    qkd_keys_used=17,
    qkd_keys_reused=0,
    plaintext_packets_seen=0,
    link_ethertypes={"0x888e": 500, "0x88e5": 50_000},
    packets_at_isp={"plaintext": 0, "ike": 300, "arp": 8},
    saks_decrypted_by_scapy=105,
    frames_decrypted_by_scapy=210,
    decrypted_by_scapy=True,
    kernel_errors={},
    blocked_when_down=True,
    mqtt_matches=True,
    ike={},
    keys_searched_for=300,
)


def failed(report: MacsecReport) -> list[str]:
    return [check.what for check in report.checks() if not check.holds]


def test_a_good_run_holds() -> None:
    assert failed(GOOD) == []
    assert GOOD.as_json()["cak_rollovers"] == 20


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"protection": PROTECTION[:3]}, "protection"),
        ({"cak_rollovers": 19}, "CAK rollovers"),
        ({"rollovers": (replace(ROLLOVERS[0], key_id="key 3"), *ROLLOVERS[5:])}, "CAK rollovers"),
        ({"sak_rollovers": 99}, "SAK rollovers"),
        ({"saks_in_both_kernels": 99}, "SAK rollovers"),
        ({"packets_lost": 1}, "packets sent / lost"),
        ({"suspicion_seconds": 2.1}, "suspicion to new SAK"),
        ({"qkd_keys_reused": 1}, "QKD keys used / reused"),
        ({"link_ethertypes": {"0x86dd": 1, **GOOD.link_ethertypes}}, "frames on the link"),
        ({"plaintext_packets_seen": 1}, "frames on the link"),
        ({"packets_at_isp": {"plaintext": 0, "ike": 300, "esp": 1}}, "seen at isp"),
        ({"decrypted_by_scapy": False}, "decrypted by scapy"),
        ({"saks_decrypted_by_scapy": 104}, "decrypted by scapy"),
        ({"kernel_errors": {"moon InPktsLate": 1}}, "kernel errors"),
        ({"blocked_when_down": False}, "link terminated"),
        ({"key_bytes_in_artifacts": 1}, "key bytes in artifacts"),
        ({"mqtt_matches": False}, "MQTT"),
    ],
)
def test_whatever_did_not_hold_is_named(changes: dict[str, Any], what: str) -> None:
    assert failed(replace(GOOD, **changes)) == [what]
