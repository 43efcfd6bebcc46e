"""What the outside decides about a port."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mka import limits
from gateway.mka.identifiers import KeyIdentifier, Sci
from gateway.mka.registry import Capability, CipherSuite, Confidentiality
from gateway.model import PortSecurity


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedSas:
    """SAs that were in use before a restart, and still are in the SecY."""

    an: int
    ki: KeyIdentifier
    suite: CipherSuite
    confidentiality: Confidentiality
    receive: tuple[Sci, ...]  # secure channels with a receive SA of this AN


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """One interface. ValueError for what cannot go together."""

    interface: str
    sci: Sci
    priority: int  # 9.5: the lowest of 0 to 254 is key server, 255 never is
    suite: CipherSuite = CipherSuite.GCM_AES_256  # what we distribute as key server
    accepted_suites: frozenset[CipherSuite] = frozenset({CipherSuite.GCM_AES_256})
    confidentiality: Confidentiality = Confidentiality.OFFSET_0  # distributed; the least accepted
    capability: Capability = Capability.CONFIDENTIALITY
    macsec_desired: bool = True
    delay_protect: bool = False
    security: PortSecurity = PortSecurity.MUST_SECURE
    sak_lifetime: float | None = None  # seconds until a key server makes another; None: by PN only

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= limits.PRIORITY_NEVER:
            raise ValueError(f"a key server priority of {self.priority}")
        if self.confidentiality.needs > self.capability:
            raise ValueError(f"{self.confidentiality.name} is beyond our own capability")
        offset = self.confidentiality.needs is Capability.CONFIDENTIALITY_OFFSETS
        if offset and self.suite.xpn:  # 802.1AEbw: these suites have no offsets
            raise ValueError(f"{self.suite.name} has no confidentiality offset")
        if self.suite not in self.accepted_suites:
            raise ValueError(f"{self.suite.name} is distributed and not accepted")
        if self.sak_lifetime is not None and self.sak_lifetime < limits.LIFE_TIME:
            raise ValueError(f"a SAK lifetime below {limits.LIFE_TIME:.0f} s")

    @property
    def hello_time(self) -> float:
        """Seconds between two MKPDUs (Table 9-3)."""
        return limits.BOUNDED_HELLO_TIME if self.delay_protect else limits.HELLO_TIME

    @property
    def secures(self) -> bool:
        """Whether this end wants MACsec and can do it (9.6)."""
        return self.macsec_desired and self.capability is not Capability.NONE
