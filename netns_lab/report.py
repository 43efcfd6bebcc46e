"""What demonstrations report, and whether it holds; the main one's report. ``schema`` 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1
PROTECTION = ("HYBRID", "PQC_ONLY", "HYBRID")
REKEYS_MIN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialReport(ABC):
    """What every report has. Durations in seconds."""

    kernel: str  # "host" or "uml"
    key_bytes_in_artifacts: int = 0
    keys_searched_for: int = 0
    timings: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @abstractmethod
    def checks(self) -> list[Check]:
        """Everything the demonstration promises, in the order of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rekey:
    """One rekey that both gateways report alike."""

    at: float  # seconds since the start of the demonstration
    protection: str
    key_id: str | None
    spi_moon: str  # inbound at moon
    spi_sun: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(TrialReport):
    """Durations in seconds. Both gateways agree on what stands here, or it is not here."""

    protection: tuple[str, ...]  # as both gateways showed it and the kernel had it
    rekeys: tuple[Rekey, ...]
    packets_sent: int
    packets_lost: int
    packets_duplicate: int
    packets_reordered: int
    fallback_seconds: float  # from the cut until both gateways showed PQC_ONLY
    restore_seconds: float  # from the healing until both showed HYBRID
    qkd_keys_used: int
    qkd_keys_reused: int
    plaintext_packets_seen: int
    packets_at_isp: dict[str, int]
    esp_decrypted_by_scapy: bool
    esp_sas_decrypted: int
    xfrm_errors: int
    blocked_when_down: bool
    mqtt_matches: bool
    ike: dict[str, dict[str, Any]]  # gateway -> what it says was negotiated

    def checks(self) -> list[Check]:
        """Everything the demonstration promises, in the order of the table."""
        hybrid = [rekey for rekey in self.rekeys if rekey.protection == "HYBRID"]
        key_ids = {rekey.key_id for rekey in hybrid} - {None}
        own_key = len(key_ids) == len(hybrid)
        ike = list(self.ike.values())
        same_ike = len(ike) == 2 and ike[0]["proposal"] == ike[1]["proposal"]
        sent, lost = self.packets_sent, self.packets_lost
        counts = f"{len(self.rekeys)}, {len(hybrid)} of them with a QKD key"
        return [
            Check("protection", " > ".join(self.protection), self.protection == PROTECTION),
            Check("rekeys", counts, len(self.rekeys) >= REKEYS_MIN and own_key),
            Check("packets sent / lost", f"{sent} / {lost}", sent > 0 and lost == 0),
            Check("fallback after the cut", f"{self.fallback_seconds:.1f} s", True),
            Check("return after healing", f"{self.restore_seconds:.1f} s", True),
            Check(
                "QKD keys used / reused",
                f"{self.qkd_keys_used} / {self.qkd_keys_reused}",
                self.qkd_keys_used >= len(hybrid) > 0 and self.qkd_keys_reused == 0,
            ),
            Check(
                "plaintext seen at isp",
                f"{self.plaintext_packets_seen} packets ({kinds(self.packets_at_isp)})",
                self.plaintext_packets_seen == 0 and self.packets_at_isp.get("esp", 0) > 0,
            ),
            Check(
                "ESP decrypted by scapy",
                f"{self.esp_sas_decrypted} SAs, with the keys both ends claim",
                self.esp_decrypted_by_scapy,
            ),
            Check("tunnel down", "dropped" if self.blocked_when_down else "LEAKS or passes",
                  self.blocked_when_down),
            Check("XFRM errors", str(self.xfrm_errors), self.xfrm_errors == 0),
            Check(
                "key bytes in artifacts",
                f"{self.key_bytes_in_artifacts} ({self.keys_searched_for} keys searched for)",
                self.key_bytes_in_artifacts == 0 and self.keys_searched_for > 0,
            ),
            Check("MQTT", "retained snapshot matches" if self.mqtt_matches else "does not match",
                  self.mqtt_matches),
            Check("IKE", ike[0]["proposal"] if ike else "none", same_ike),
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    value: str
    holds: bool


def kinds(counts: dict[str, int]) -> str:
    """Counts in a line, those above zero."""
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()) if count)


def table(rows: Sequence[Check]) -> str:
    """The checks of a report for people."""
    width = max(len(row.what) for row in rows)
    return "\n".join(
        f"  {'ok  ' if row.holds else 'FAIL'}  {row.what:<{width}}  {row.value}" for row in rows
    )
