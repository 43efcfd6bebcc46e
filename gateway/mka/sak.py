"""A SAK and what goes with it: members, association number, SSCIs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.crypto.secret import Secret
from gateway.mka.commands import ReceiveSa, SaKey
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.keys import xpn_salt
from gateway.mka.limits import ASSOCIATION_NUMBERS, PN_PENDING_EXHAUSTION, XPN_PENDING_EXHAUSTION
from gateway.mka.peers import Peer
from gateway.mka.registry import CipherSuite, Confidentiality
from gateway.mka.settings import InheritedSas


@dataclass(slots=True, kw_only=True)
class Sak:
    """One SAK on one port. ``sscis`` is empty unless the suite is an XPN one."""

    ckn: bytes
    ki: KeyIdentifier
    an: int
    suite: CipherSuite
    confidentiality: Confidentiality
    key: Secret
    members: set[MemberId]  # for whom the key server made it, itself left out
    sscis: dict[MemberId, int]
    own_ssci: int | None
    inherited: bool = False  # in the SecY from before our start; its key is not known here
    departed: bool = False  # key server: a member is gone since it was made
    received_by: set[MemberId] = field(default_factory=set)  # key server: who has said so
    receivers: dict[Sci, int] = field(default_factory=dict)  # installed, with their lowest PN
    pn: int = 1  # the next one we use, as last reported
    advertised_pn: int = 1  # what was so a Hello Time ago: nothing in flight is below it
    _sampled: tuple[float, int] = (float("-inf"), 1)  # when what is advertised next was so

    @property
    def pn_limit(self) -> int:
        return XPN_PENDING_EXHAUSTION if self.suite.xpn else PN_PENDING_EXHAUSTION

    def report_pn(self, next_pn: int, hello_time: float, now: float) -> bool:
        """Whether it is to be told at once: the packet numbers begin to run out.

        Reports may come more often than each Hello Time, or late, or one after the other at one
        moment; what is advertised is a Hello Time old, so that frames on the way are accepted.
        """
        before, self.pn = self.pn, max(self.pn, next_pn)
        sampled_at, sampled = self._sampled
        if now >= sampled_at + hello_time:
            self.advertised_pn = sampled
            self._sampled = (now, self.pn)
        return before < self.pn_limit <= self.pn

    def member_left(self, mi: MemberId) -> None:
        """As key server. Where it comes back, be it the same, it waits for the next SAK."""
        self.departed = self.departed or mi in self.members
        self.members.discard(mi)
        self.received_by.discard(mi)

    def sa_key(self) -> SaKey:
        """With a copy of the key."""
        return SaKey(
            an=self.an,
            ki=self.ki,
            key=Secret(self.key.expose()),
            suite=self.suite,
            confidentiality=self.confidentiality,
            salt=xpn_salt(self.ki) if self.suite.xpn else None,
        )

    def receive_sa(self, peer: Peer) -> ReceiveSa | None:
        """None where the peer has no part in this SAK, or its SSCI is not known."""
        if self.inherited:
            return None
        if peer.mi not in self.members and peer.mi != self.ki.mi and not peer.receives(self.ki):
            return None
        ssci = self.sscis.get(peer.mi)
        if self.suite.xpn and ssci is None:
            return None
        # A member that comes back into sight has used the SAK up to here: nothing below counts.
        return ReceiveSa(sci=peer.sci, lowest_pn=peer.lowest_pn(self.ki), ssci=ssci)

    @classmethod
    def inherit(cls, found: InheritedSas) -> Sak:
        """What can be said of SAs that are in the SecY already."""
        return cls(
            ckn=b"",
            ki=found.ki,
            an=found.an,
            suite=found.suite,
            confidentiality=found.confidentiality,
            key=Secret(b""),
            members=set(),
            sscis={},
            own_ssci=None,
            inherited=True,
            receivers=dict.fromkeys(found.receive, 1),
        )

    def wipe(self) -> None:
        self.key.wipe()


def free_an(last: int | None, taken: Iterable[int]) -> int | None:
    """The next in the cycle that no SAK has (9.8, 802.1AE 9.6), whichever CAK that is under."""
    used = set(taken)
    begin = 0 if last is None else last + 1
    cycle = ((begin + step) % ASSOCIATION_NUMBERS for step in range(ASSOCIATION_NUMBERS))
    return next((an for an in cycle if an not in used), None)


def sscis_by_sci(members: Mapping[MemberId, Sci]) -> dict[MemberId, int]:
    """802.1AEbw 10.7.13: 1 for the numerically greatest SCI, and so on."""
    ordered = sorted(members, key=lambda mi: members[mi], reverse=True)
    return {mi: number for number, mi in enumerate(ordered, start=1)}


def sscis_by_list(server: MemberId, ssci: int, listed: Sequence[MemberId]) -> dict[MemberId, int]:
    """802.1Xck: the key server lists its live peers in the order of their SSCIs, its own left out.

    Empty where the list cannot be so.
    """
    if not 1 <= ssci <= len(listed) + 1:
        return {}
    others = (number for number in range(1, len(listed) + 2) if number != ssci)
    return {server: ssci, **dict(zip(listed, others, strict=True))}
