"""Who else has this CAK, and of whom it is certain that he is there now (9.4.2, 9.4.3).

A peer is potential when an authentic MKPDU of it was heard, which may be an old one played
again. It is live when it shows that it heard us a moment ago: it lists our MI with an MN that we
sent within the MKA Life Time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.mka.errors import DropReason, MkpduError
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.limits import LIFE_TIME, PEERS_MAX, SCI_SILENCE
from gateway.mka.mkpdu import Mkpdu
from gateway.mka.registry import MKA_VERSION_SSCI, Capability
from gateway.mka.sets import Basic, KeyUse, SakUse


@dataclass(slots=True, kw_only=True)
class Peer:
    """One member as its last MKPDU showed it."""

    basic: Basic
    live: bool
    heard_at: float
    expires_at: float
    sak_use: SakUse | None = None
    high_pn: tuple[int, int] = (0, 0)  # upper halves: latest, old
    lists: tuple[MemberId, ...] = ()  # whom it calls live
    ks_ssci: int = 0
    declines: bool = False  # as key server: there is to be no MACsec (9.6)

    @property
    def mi(self) -> MemberId:
        return self.basic.mi

    @property
    def sci(self) -> Sci:
        return self.basic.sci

    @property
    def secures(self) -> bool:
        """Whether it wants MACsec and can do it (9.6)."""
        return self.basic.macsec_desired and self.basic.capability != Capability.NONE

    @property
    def orders_by_ssci(self) -> bool:
        """802.1Xck: the list it sends as key server says who has which SSCI."""
        return self.basic.version >= MKA_VERSION_SSCI

    def use_of(self, ki: KeyIdentifier) -> KeyUse | None:
        """What it does with this SAK, be it its latest or its old one."""
        use = self.sak_use
        found = (key for key in (use.latest, use.old) if key and key.ki == ki) if use else ()
        return next(iter(found), None)

    def receives(self, ki: KeyIdentifier) -> bool:
        use = self.use_of(ki)
        return use is not None and use.receives

    def transmits(self, ki: KeyIdentifier) -> bool:
        use = self.use_of(ki)
        return use is not None and use.transmits

    def lowest_pn(self, ki: KeyIdentifier) -> int:
        """64 bits where it sends the upper half; 1 where it says nothing."""
        use = self.use_of(ki)
        if use is None or self.sak_use is None:
            return 1
        high = self.high_pn[0 if use is self.sak_use.latest else 1]
        return max(1, high << 32 | use.lowest_pn)

    def key_uses(self) -> Iterator[KeyUse]:
        if self.sak_use is not None:
            yield from (key for key in (self.sak_use.latest, self.sak_use.old) if key)


class SentNumbers:
    """Which of our MNs are recent (9.4.3: within the MKA Life Time)."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: deque[tuple[float, int]] = deque()

    def sent(self, mn: int, now: float) -> None:
        self._sent.append((now, mn))
        self._forget(now)

    def recent(self, mn: int, now: float) -> bool:
        self._forget(now)
        return bool(self._sent) and self._sent[0][1] <= mn <= self._sent[-1][1]

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0][0] < now - LIFE_TIME:
            self._sent.popleft()


class Peers:
    """Both lists of one participant."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: dict[MemberId, Peer] = {}

    @property
    def live(self) -> list[Peer]:
        return [peer for peer in self._all.values() if peer.live]

    @property
    def securing(self) -> list[Peer]:
        """The live ones for whom a SAK is made."""
        return [peer for peer in self._all.values() if peer.live and peer.secures]

    @property
    def potential(self) -> list[Peer]:
        return [peer for peer in self._all.values() if not peer.live]

    def all(self) -> list[Peer]:
        return list(self._all.values())

    def get(self, mi: MemberId) -> Peer | None:
        return self._all.get(mi)

    def hear(self, mkpdu: Mkpdu, *, proven: bool, now: float) -> tuple[Peer, list[Peer]]:
        """The sender as it now stands, and who had to go for it.

        MkpduError(REPLAYED, DUPLICATE_SCI, TOO_MANY_PEERS), and nothing has changed.
        """
        basic = mkpdu.basic
        peer = self._all.get(basic.mi)
        if peer is not None and basic.mn <= peer.basic.mn:  # 9.4.2: MNs only ever increase
            raise MkpduError(DropReason.REPLAYED, f"MN {basic.mn} after {peer.basic.mn}")
        gone: list[Peer] = []
        if peer is None or not peer.live:
            gone = self._same_sci(basic, proven=proven, now=now)
        if peer is None:
            if len(self._all) - len(gone) >= PEERS_MAX:
                gone += self._make_room(proven=proven)
            peer = Peer(basic=basic, live=False, heard_at=now, expires_at=now + LIFE_TIME)
        for other in gone:
            self._all.pop(other.mi, None)
        self._all[basic.mi] = peer
        peer.basic = basic
        peer.heard_at = now
        if proven or not peer.live:  # what a live peer says without a proof keeps it no longer
            peer.expires_at = now + LIFE_TIME
        peer.live = peer.live or proven
        _adopt(peer, mkpdu)
        return peer, gone

    def _same_sci(self, basic: Basic, *, proven: bool, now: float) -> list[Peer]:
        """The same station under another MI: it was restarted, or there are two of it.

        One that is alive speaks each Hello Time, so it is not pushed aside (802.1AE: two with one
        SCI and one SAK would use packet numbers twice). One that went silent is.
        """
        gone: list[Peer] = []
        for other in self._all.values():
            if other.sci != basic.sci or other.mi == basic.mi:
                continue
            if other.live and proven and now - other.heard_at < SCI_SILENCE:
                raise MkpduError(DropReason.DUPLICATE_SCI, f"{basic.sci} is there under another MI")
            if proven:
                gone.append(other)
        return gone

    def _make_room(self, *, proven: bool) -> list[Peer]:
        potential = self.potential
        if not potential or not proven:
            raise MkpduError(DropReason.TOO_MANY_PEERS, f"more than {PEERS_MAX} peers")
        return [min(potential, key=lambda peer: peer.heard_at)]

    def expire(self, now: float) -> list[Peer]:
        """Who proved nothing for the MKA Life Time (9.4.3)."""
        gone = [peer for peer in self._all.values() if peer.expires_at <= now]
        for peer in gone:
            del self._all[peer.mi]
        return gone

    def next_deadline(self) -> float | None:
        return min((peer.expires_at for peer in self._all.values()), default=None)


def _adopt(peer: Peer, mkpdu: Mkpdu) -> None:
    peer.sak_use = mkpdu.sak_use
    xpn = mkpdu.xpn
    peer.high_pn = (0, 0) if xpn is None else (xpn.latest_high, xpn.old_high)
    listed = mkpdu.live_peers
    peer.lists = () if listed is None else tuple(item.mi for item in listed.peers)
    peer.ks_ssci = 0 if listed is None else listed.ks_ssci
    distributed = mkpdu.distributed_sak
    peer.declines = distributed is not None and not distributed.wrapped
