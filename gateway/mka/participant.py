"""One CAK on one port: who we are under it, whom we hear, who is key server (9.4, 9.5)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.crypto.rng import Rng
from gateway.errors import CryptoError
from gateway.mka import limits
from gateway.mka.election import elect
from gateway.mka.errors import DropReason, MkpduError
from gateway.mka.events import IdentityRenewed, KeyServerChanged, PeerLive, PeerLost, SakRefused
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.keys import Cak, MkaKeys, SakInputs, derive_sak
from gateway.mka.mkpdu import Envelope, Mkpdu, encode_mkpdu
from gateway.mka.outbox import Outbox
from gateway.mka.peers import Peer, Peers, SentNumbers
from gateway.mka.registry import (
    MKA_VERSION,
    Capability,
    CipherSuite,
    Confidentiality,
    cipher_suite,
)
from gateway.mka.sak import Sak, sscis_by_list, sscis_by_sci
from gateway.mka.sets import Basic, DistributedSak, ListedPeer, ParameterSet, PeerList
from gateway.mka.settings import PortSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What the port adds to an MKPDU: SAK use, distributed SAK and the like."""

    sets: tuple[ParameterSet, ...] = ()
    ssci_order: Sak | None = None  # list the live peers as this SAK numbers them


class Participant:
    """Sends when ``send_due``; what it heard changes ``peers`` and ``key_server``."""

    def __init__(
        self, cak: Cak, settings: PortSettings, rng: Rng, outbox: Outbox, now: float
    ) -> None:
        """``cak`` is ours from here on, and wiped with us."""
        self._cak = cak
        self._settings = settings
        self._rng = rng
        self._outbox = outbox
        self._keys = MkaKeys(cak)
        self._sent = SentNumbers()
        self._last_sent: float | None = None
        self._send_at = now
        self._spent: dict[MemberId, int] = {}  # by key server: no KN up to this one is taken
        self._hopeless: KeyIdentifier | None = None  # another start would not bring us this one
        self.mi = MemberId(rng.random_bytes(limits.MI_SIZE))
        self.mn = 0
        self.kn = 0
        self.peers = Peers()
        self.key_server: MemberId | None = None
        self.sak_made_at: float | None = None  # as key server

    @property
    def ckn(self) -> bytes:
        return self._cak.ckn

    @property
    def is_key_server(self) -> bool:
        return self.key_server == self.mi

    @property
    def server(self) -> Peer | None:
        """The key server, where that is a peer."""
        return None if self.key_server is None else self.peers.get(self.key_server)

    def live_scis(self) -> set[Sci]:
        return {peer.sci for peer in self.peers.live}

    def wipe(self) -> None:
        self._keys.wipe()
        self._cak.wipe()

    # --- receiving -----------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: float) -> tuple[Mkpdu, Peer, list[Peer]]:
        """Also who had to go. MkpduError where the frame has no effect."""
        mkpdu = envelope.open(self._keys)
        basic = mkpdu.basic
        if basic.sci == self._settings.sci:
            ours = basic.mi == self.mi
            reason = DropReason.LOOPED if ours else DropReason.DUPLICATE_SCI
            raise MkpduError(reason, "our own frame" if ours else f"another has SCI {basic.sci}")
        if basic.mi == self.mi:  # 9.4.2: another uses our MI
            self.renew("another member has the same MI", now)
            raise MkpduError(DropReason.LOOPED, f"{basic.sci} has our MI")
        proven = self._proves(mkpdu, now)
        known = self.peers.get(basic.mi)
        before = (known is not None, known is not None and known.live)
        peer, gone = self.peers.hear(mkpdu, proven=proven, now=now)
        if not self._lists_us(peer):
            self._note_older(mkpdu, peer)
        for other in gone:
            self._lost(other, "it came back under another MI")
        if peer.live and not before[1]:
            self._outbox.events.append(PeerLive(ckn=self.ckn, sci=peer.sci, mi=peer.mi))
        if gone or before != (True, peer.live):
            self.send_soon(now)
        self._elect(now)
        return mkpdu, peer, gone

    def _proves(self, mkpdu: Mkpdu, now: float) -> bool:
        """9.4.3: it lists us, with an MN that we sent a moment ago."""
        return any(
            item.mi == self.mi and self._sent.recent(item.mn, now)
            for listed in (mkpdu.live_peers, mkpdu.potential_peers)
            if listed is not None
            for item in listed.peers
        )

    def _lists_us(self, peer: Peer) -> bool:
        return self.mi in peer.lists

    def _note_older(self, mkpdu: Mkpdu, peer: Peer) -> None:
        """SAKs that a key server made before it knew of us are not for us.

        An earlier incarnation of ours may have transmitted under them, and packet numbers that
        begin anew under the same SAK and SCI would repeat a nonce (802.1AE 14.5).
        """
        for key in peer.key_uses():
            if key.ki.mi == peer.mi:  # of its own making; only so is the order certain
                self._spend(key.ki)
        distributed = mkpdu.distributed_sak
        if distributed is not None and distributed.wrapped:
            self._spend(KeyIdentifier(peer.mi, distributed.kn))

    def _spend(self, ki: KeyIdentifier) -> None:
        self._spent[ki.mi] = max(self._spent.get(ki.mi, 0), ki.kn)

    def expire(self, now: float) -> list[Peer]:
        """Peers that are gone."""
        gone = self.peers.expire(now)
        for peer in gone:
            self._lost(peer, "nothing heard for the MKA Life Time")
        if gone:
            self.send_soon(now)
            self._elect(now)
        if len(self._spent) > limits.KEY_SERVERS_REMEMBERED:
            self.renew("too many key servers to remember", now)
        return gone

    def _lost(self, peer: Peer, reason: str) -> None:
        if peer.live:
            event = PeerLost(ckn=self.ckn, sci=peer.sci, mi=peer.mi, reason=reason)
            self._outbox.events.append(event)

    def _elect(self, now: float) -> None:
        settings = self._settings
        elected = elect(self.mi, settings.priority, settings.sci, self.peers.live)
        if elected == self.key_server:
            return
        self.key_server = elected
        server = self.server
        sci = settings.sci if self.is_key_server else server.sci if server else None
        event = KeyServerChanged(ckn=self.ckn, sci=sci, ourselves=self.is_key_server)
        self._outbox.events.append(event)
        self.send_soon(now)

    def renew(self, reason: str, now: float) -> None:
        """Start over as another member: a new MI, nobody known (9.4.2)."""
        for peer in self.peers.live:
            self._lost(peer, reason)
        self.mi = MemberId(self._rng.random_bytes(limits.MI_SIZE))
        self.mn = self.kn = 0
        self._sent = SentNumbers()
        self._spent.clear()
        self.peers = Peers()
        self.key_server = self.sak_made_at = None
        self._outbox.events.append(IdentityRenewed(ckn=self.ckn, reason=reason))
        self.send_soon(now)

    # --- SAKs ----------------------------------------------------------------------------------

    def make_sak(self, an: int, confidentiality: Confidentiality, now: float) -> Sak:
        """As key server, for the live peers there are now (9.8.1)."""
        suite = self._settings.suite
        live = self.peers.securing
        self.kn += 1
        self.sak_made_at = now
        members = (self.mi, *(peer.mi for peer in live))
        nonce = self._rng.random_bytes(suite.key_size)
        sscis = {}
        if suite.xpn:
            everybody = {peer.mi: peer.sci for peer in live} | {self.mi: self._settings.sci}
            sscis = sscis_by_sci(everybody)
        return Sak(
            ckn=self.ckn,
            ki=KeyIdentifier(self.mi, self.kn),
            an=an,
            suite=suite,
            confidentiality=confidentiality,
            key=derive_sak(self._cak, SakInputs(nonce=nonce, members=members, kn=self.kn)),
            members={peer.mi for peer in live},
            sscis=sscis,
            own_ssci=sscis.get(self.mi),
        )

    def distribute(self, sak: Sak) -> DistributedSak:
        return DistributedSak(
            an=sak.an,
            confidentiality=sak.confidentiality,
            kn=sak.ki.kn,
            suite=sak.suite,
            wrapped=self._keys.wrap(sak.key),
        )

    def take_sak(self, distributed: DistributedSak, server: Peer) -> Sak | None:
        """What the key server gave us; None where it is not for us, or not as we want it."""
        ki = KeyIdentifier(server.mi, distributed.kn)
        # 9.8.2: for those in its live list. Without that it does not know that we are there.
        if not self._lists_us(server) or ki.kn <= self._spent.get(ki.mi, 0):
            return None
        suite = cipher_suite(distributed.suite)
        fault = self._fault(distributed, suite)
        if suite is None or fault is not None:
            self._refuse(ki, fault or "unknown cipher suite")
            return None
        sscis = self._sscis(server) if suite.xpn else {}
        if suite.xpn and self.mi not in sscis:
            return None  # not everybody is known yet; the key server says it again
        try:
            key = self._keys.unwrap(distributed.wrapped)
        except CryptoError as error:
            self._refuse(ki, str(error))
            return None
        self._spend(ki)
        return Sak(
            ckn=self.ckn,
            ki=ki,
            an=distributed.an,
            suite=suite,
            confidentiality=Confidentiality(distributed.confidentiality),
            key=key,
            members={mi for mi in server.lists if mi != self.mi},
            sscis=sscis,
            own_ssci=sscis.get(self.mi),
        )

    def _fault(self, distributed: DistributedSak, suite: CipherSuite | None) -> str | None:
        """What is not as we want it (9.6, 9.7)."""
        settings = self._settings
        confidentiality = Confidentiality(distributed.confidentiality)
        if suite is None or suite not in settings.accepted_suites:
            return f"cipher suite {distributed.suite:016x} is not accepted"
        if confidentiality.needs > settings.capability:
            return f"{confidentiality.name} is beyond our capability"
        if _weaker(confidentiality, settings.confidentiality):
            return f"{confidentiality.name} is less than what is configured"
        if suite.xpn and confidentiality.needs is Capability.CONFIDENTIALITY_OFFSETS:
            return f"{suite.name} has no confidentiality offset"
        return None

    def may_take_again(self, ki: KeyIdentifier) -> None:
        """Nothing was sent under it: the key server may offer it once more."""
        if self._spent.get(ki.mi) == ki.kn:
            self._spent[ki.mi] = ki.kn - 1

    def missed(self, distributed: DistributedSak, server: Peer) -> bool:
        """Whether we cannot take it, be it that we had it or one with its number, and gave it up.

        Then the key server waits for us in vain; another member is given another SAK. Said once,
        so that one that gives everybody the same SAK is not met by a new member each time.
        """
        ki = KeyIdentifier(server.mi, distributed.kn)
        spent = self._lists_us(server) and ki.kn <= self._spent.get(ki.mi, 0)
        if not spent or ki == self._hopeless:
            return False
        self._hopeless = ki
        return True

    def _sscis(self, server: Peer) -> dict[MemberId, int]:
        if server.orders_by_ssci:
            return sscis_by_list(server.mi, server.ks_ssci, server.lists)
        known = {mi: peer.sci for mi in server.lists if (peer := self.peers.get(mi))}
        if len(known) + 1 != len(server.lists):  # all but ourselves
            return {}
        return sscis_by_sci(known | {server.mi: server.sci, self.mi: self._settings.sci})

    def _refuse(self, ki: KeyIdentifier, reason: str) -> None:
        self._spend(ki)
        self._hopeless = ki
        self._outbox.events.append(SakRefused(ckn=self.ckn, ki=ki, reason=reason))

    # --- sending -------------------------------------------------------------------------------

    def send_soon(self, now: float) -> None:
        """Something changed; not more often than ``limits.SEND_SPACING``."""
        earliest = now if self._last_sent is None else self._last_sent + limits.SEND_SPACING
        self._send_at = min(self._send_at, max(now, earliest))

    def send_due(self, now: float) -> bool:
        return self._send_at <= now

    def next_deadline(self) -> float:
        expiry = self.peers.next_deadline()
        return self._send_at if expiry is None else min(self._send_at, expiry)

    def send(self, saying: Saying, now: float) -> None:
        """One MKPDU."""
        self.mn += 1
        self._sent.sent(self.mn, now)
        self._last_sent = now
        self._send_at = now + self._settings.hello_time - limits.HELLO_AHEAD
        lists = self._lists(saying.ssci_order)
        mkpdu = Mkpdu(basic=self._basic(), sets=(*lists, *saying.sets))
        source = self._settings.sci.mac
        self._outbox.frames.append(encode_mkpdu(mkpdu, source, self._keys))

    @property
    def used_up(self) -> bool:
        """9.4.2, 9.8: MN or KN has come to its end; time for another MI."""
        return self.mn >= limits.MN_MAX or self.kn >= limits.KN_MAX

    def _basic(self) -> Basic:
        settings = self._settings
        can_be = settings.priority != limits.PRIORITY_NEVER
        return Basic(
            version=MKA_VERSION,
            priority=settings.priority,
            # 9.5: set by whom we hold for key server; without one, by whoever would be
            key_server=self.is_key_server or (self.key_server is None and can_be),
            macsec_desired=settings.macsec_desired,
            capability=settings.capability,
            sci=settings.sci,
            mi=self.mi,
            mn=self.mn,
            ckn=self.ckn,
        )

    def _lists(self, order: Sak | None) -> list[PeerList]:
        live, ks_ssci = self.peers.live, 0
        if order is not None and order.own_ssci is not None:
            live.sort(key=lambda peer: order.sscis.get(peer.mi, len(order.sscis) + 1))
            ks_ssci = order.own_ssci & 0xFF
        lists = (
            PeerList(live=True, peers=_listed(live), ks_ssci=ks_ssci),
            PeerList(live=False, peers=_listed(self.peers.potential)),
        )
        return [item for item in lists if item.peers]


def _listed(peers: list[Peer]) -> tuple[ListedPeer, ...]:
    return tuple(ListedPeer(peer.mi, peer.basic.mn) for peer in peers)


def _weaker(offered: Confidentiality, wanted: Confidentiality) -> bool:
    """Whether less is encrypted than we want; an offset leaves the more open the larger it is."""
    if wanted is Confidentiality.NONE:
        return False
    return offered is Confidentiality.NONE or offered > wanted
