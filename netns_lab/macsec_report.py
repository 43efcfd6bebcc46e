"""The report of the MACsec demonstration, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netns_lab.report import Check, TrialReport, kinds

PROTECTION = ("HYBRID", "PQC_ONLY", "HYBRID", "PQC_ONLY", "HYBRID")
"""A cut and healed quantum link, then a suspicion that is cleared."""

CAK_ROLLOVERS_MIN = 20
SAK_ROLLOVERS_MIN = 100
SUSPICION_SECONDS = 2.0
"""Within so long of the alarm both ends have to send with a SAK whose CAK has no QKD key."""

LINK_ETHERTYPES = {"0x888e", "0x88e5"}  # EAPOL, MACsec


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """A SAK that both gateways began to send with."""

    at: float  # seconds since the start of the demonstration
    ki: str  # MI and KN in hexadecimal
    an: int
    ckn: str
    protection: str
    key_id: str | None  # the QKD key in its CAK


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecReport(TrialReport):
    """Durations in seconds. Both gateways agree on what stands here, or it is not here."""

    protection: tuple[str, ...]  # as both gateways showed it and both kernels had it
    suite: str
    rollovers: tuple[Rollover, ...]
    cak_rollovers: int
    cak_rollovers_hybrid: int
    sak_rollovers: int
    saks_in_both_kernels: int  # that iproute2 showed at both ends, in use
    packets_sent: int
    packets_lost: int
    packets_duplicate: int
    packets_reordered: int
    fallback_seconds: float  # from the cut until both ends sent with a PQC_ONLY CAK's SAK
    restore_seconds: float  # from the healing until both did with a HYBRID one's
    suspicion_seconds: float  # from the first alarm until both had left QKD
    clear_seconds: float  # from the clearing until both were HYBRID again
    qkd_keys_used: int
    qkd_keys_reused: int
    plaintext_packets_seen: int  # at the link and at isp
    link_ethertypes: dict[str, int]
    packets_at_isp: dict[str, int]
    saks_decrypted_by_scapy: int
    frames_decrypted_by_scapy: int  # at least one of every SAK in each direction
    decrypted_by_scapy: bool
    kernel_errors: dict[str, int]
    blocked_when_down: bool
    mqtt_matches: bool
    ike: dict[str, dict[str, Any]]  # gateway -> what it says was negotiated

    def checks(self) -> list[Check]:
        sent, lost = self.packets_sent, self.packets_lost
        return [
            Check("protection", " > ".join(self.protection), self.protection == PROTECTION),
            self._caks(),
            Check(
                "SAK rollovers",
                f"{self.sak_rollovers}, {self.saks_in_both_kernels} SAKs seen in both kernels",
                min(self.sak_rollovers, self.saks_in_both_kernels) >= SAK_ROLLOVERS_MIN,
            ),
            Check("packets sent / lost", f"{sent} / {lost}", sent > 0 and lost == 0),
            Check("fallback after the cut", f"{self.fallback_seconds:.1f} s", True),
            Check("return after healing", f"{self.restore_seconds:.1f} s", True),
            Check(
                "suspicion to new SAK",
                f"{self.suspicion_seconds:.2f} s",
                0 < self.suspicion_seconds < SUSPICION_SECONDS,
            ),
            Check("return after clearing", f"{self.clear_seconds:.1f} s", True),
            Check(
                "QKD keys used / reused",
                f"{self.qkd_keys_used} / {self.qkd_keys_reused}",
                self.qkd_keys_used >= self.cak_rollovers_hybrid > 0 and self.qkd_keys_reused == 0,
            ),
            *self._wire(),
            Check("kernel errors", kinds(self.kernel_errors) or "none", not self.kernel_errors),
            Check(
                "link terminated",
                "dropped" if self.blocked_when_down else "LEAKS or passes",
                self.blocked_when_down,
            ),
            Check(
                "key bytes in artifacts",
                f"{self.key_bytes_in_artifacts} ({self.keys_searched_for} keys searched for)",
                self.key_bytes_in_artifacts == 0 and self.keys_searched_for > 0,
            ),
            Check(
                "MQTT",
                "retained snapshot matches" if self.mqtt_matches else "does not match",
                self.mqtt_matches,
            ),
        ]

    def _caks(self) -> Check:
        """New ones each time, those that are HYBRID each with a QKD key of its own."""
        hybrid = {use.ckn: use.key_id for use in self.rollovers if use.protection == "HYBRID"}
        own_key = None not in hybrid.values() and len(set(hybrid.values())) == len(hybrid)
        return Check(
            "CAK rollovers",
            f"{self.cak_rollovers}, {self.cak_rollovers_hybrid} of them with a QKD key",
            self.cak_rollovers >= CAK_ROLLOVERS_MIN and own_key,
        )

    def _wire(self) -> list[Check]:
        isp = self.packets_at_isp
        return [
            Check(
                "frames on the link",
                ", ".join(f"{count} {number}" for number, count in self.link_ethertypes.items()),
                set(self.link_ethertypes) == LINK_ETHERTYPES and self.plaintext_packets_seen == 0,
            ),
            Check(
                "seen at isp",
                kinds(isp),
                isp.get("ike", 0) > 0 and not isp["plaintext"] and not isp.get("esp"),
            ),
            Check(
                "decrypted by scapy",
                f"{self.frames_decrypted_by_scapy} frames of {self.saks_decrypted_by_scapy} SAKs, "
                "with the SAKs both ends claim",
                self.decrypted_by_scapy and self.saks_decrypted_by_scapy > self.sak_rollovers,
            ),
        ]
