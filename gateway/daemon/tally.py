"""Counts of one tunnel since the daemon started, for status and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Protection


@dataclass(slots=True)
class TunnelTally:
    rekeys: int = 0
    rekeys_hybrid: int = 0
    rekeys_pqc_only: int = 0
    ike_rekeys: int = 0
    failures: int = 0
    last_error: str | None = None

    def rekeyed(self, protection: Protection) -> None:
        self.rekeys += 1
        if protection is Protection.HYBRID:
            self.rekeys_hybrid += 1
        elif protection is Protection.PQC_ONLY:
            self.rekeys_pqc_only += 1

    def failed(self, reason: str) -> None:
        self.failures += 1
        self.last_error = reason
