"""Two fake KMEs joined as by a quantum link: both hold the same keys, each for its own SAE."""

from __future__ import annotations

import asyncio

from kms_client.errors import KmeUnreachableError
from kms_client.models import QkdKey
from tests.support.fake_kme import FakeKme

SITES = ("moon", "sun")


class QuantumPair:
    """What one KME hands out as master, the other has for its SAE; so has a ``twin`` of that."""

    def __init__(self, name: str = "kme", *, twin: QuantumPair | None = None) -> None:
        self.kmes = {site: _PairedKme(f"{name}-{site}") for site in SITES}
        self.kmes["moon"].other = self.kmes["sun"]
        self.kmes["sun"].other = self.kmes["moon"]
        for site in SITES if twin is not None else ():
            self.kmes[site].for_us = twin.kmes[site].for_us

    def cut(self) -> None:
        for kme in self.kmes.values():
            kme.stored = 0

    def heal(self, keys: int = 1000) -> None:
        for kme in self.kmes.values():
            kme.stored = keys

    def report(self, state: str, *sites: str, alarm: str = "QBER 11 %", **members: object) -> None:
        """The KMEs of these sites (default: both) report the quantum link like this.

        ``members`` go into the report as they are; with ``events`` it is told at once as well.
        """
        for site in sites or SITES:
            alarms = [] if state == "up" else [alarm]
            link = {"state": state, "alarms": alarms, **members}
            self.kmes[site].extension = {"qsgw_link": link}
            self.kmes[site].tell()

    def kill(self, *sites: str) -> None:
        """These KMEs (default: both) do not answer any more."""
        for site in sites or SITES:
            kme = self.kmes[site]
            kme.fault = KmeUnreachableError(kme.name, "connection refused")

    def revive(self, *sites: str) -> None:
        for site in sites or SITES:
            self.kmes[site].fault = None


class _PairedKme(FakeKme):
    other: _PairedKme | None = None
    lag = 0.0  # seconds until the other has what this one gave

    def _make(self, size: int) -> QkdKey:
        key = super()._make(size)
        assert self.other is not None
        have, octets = self.other.for_us, key.key.expose()
        if self.lag:
            asyncio.get_running_loop().call_later(self.lag, have.__setitem__, key.key_id, octets)
        else:
            have[key.key_id] = octets
        return key
