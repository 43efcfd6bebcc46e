"""What is thrown at a port: noise, damaged frames, and whatever a mad member with the CAK says."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.crypto.secret import Secret
from gateway.mka.announcement import Tlv
from gateway.mka.errors import MkpduError
from gateway.mka.identifiers import KeyIdentifier, MemberId, Sci
from gateway.mka.keys import MkaKeys
from gateway.mka.limits import ICV_SIZE
from gateway.mka.mkpdu import Mkpdu, encode_mkpdu, parse_frame
from gateway.mka.registry import ALGORITHM_AGILITY, CipherSuite, SetType
from gateway.mka.sets import (
    Announcement,
    Basic,
    DistributedCak,
    DistributedSak,
    Header,
    KeyUse,
    Kmd,
    ListedPeer,
    ParameterSet,
    PeerList,
    SakUse,
    UnknownSet,
    Xpn,
)
from tests.fuzz import mutate
from tests.fuzz.mka_world import MkaWorld
from tests.fuzz.world import Op
from tests.support.mka_lan import sci_of

EPISODE = 48  # inputs
NUMBERS = (0, 1, 2, 3, 2**31, 2**32 - 2, 2**32 - 1)
PORT_NUMBER = 40  # of the mad member's stations: none of the honest


class MkaAttacker:
    """Draws ops for ``world``. ``corpus``: frames as our members send them."""

    def __init__(self, world: MkaWorld, rng: random.Random, corpus: Sequence[bytes]) -> None:
        self._world = world
        self._rng = rng
        self._corpus = corpus
        self._thrown: list[bytes] = []
        self._members: dict[tuple[bytes, ...], list[MadMember]] = {}  # by CKN and our MI
        self._names = 0
        self._crowd = False  # an episode of ever new members

    def episode(self, inputs: int = EPISODE) -> Iterator[Op]:
        rng = self._rng
        self._crowd = rng.random() < 0.1
        if rng.random() < 0.7:
            yield Op("pass", (rng.choice((0.3, 2.0, 8.0, 14.0)),))
        for _ in range(inputs):
            frame = self._frame()
            self._thrown.append(frame)
            del self._thrown[:-32]
            yield Op("frame", (frame.hex(),))
            if rng.random() < (0.02 if self._crowd else 0.15):
                yield Op("pass", (rng.choice((0.001, 0.01, 0.2, 0.2, 1.0, 3.1, 6.5)),))
            if rng.random() < 0.08:
                yield self._circumstance()
        self._members.clear()
        yield Op("rest")

    def _circumstance(self) -> Op:
        rng = self._rng
        return rng.choice(
            (
                Op("secy", ("fail",)),
                Op("secy", ("mute",)),
                Op("cak"),
                Op("cak"),
                Op("drop"),
                Op("request"),
                Op("request"),
                Op("numbers", (rng.choice((77, 0xC000_0000, 2**32 - 1, 2**64 - 1)),)),
                Op("restart", (rng.random() < 0.5,)),
                Op("cut", (rng.random() < 0.5,)),
            )
        )

    # --- frames --------------------------------------------------------------------------------

    def _frame(self) -> bytes:
        rng = self._rng
        choice = rng.uniform(0.4 if self._crowd else 0.0, 1.0)
        if choice < 0.04:
            return rng.randbytes(rng.choice(mutate.EDGES))
        if choice < 0.07:
            return self._known()[:18] + rng.randbytes(rng.choice(mutate.EDGES))
        if choice < 0.20:
            return mutate.octets(self._known(), rng)
        if choice < 0.24:
            return self._known()
        keys = self._world.keys()
        if not keys:
            return mutate.octets(self._known(), rng)
        ckn, keyed = keys[-1] if self._crowd else rng.choice((keys[-1], rng.choice(keys)))
        if choice < 0.50:
            return self._resealed(ckn, keyed)
        return self._as_member(ckn, keyed)

    def _known(self) -> bytes:
        """As somebody sent it: long ago, just now, or the attacker itself."""
        lately = self._world.lan.frames[-12:]
        pool = self._rng.choice((self._corpus, lately or self._corpus, self._thrown or lately))
        return self._rng.choice(pool or self._corpus)

    def _resealed(self, ckn: bytes, keys: MkaKeys) -> bytes:
        """A frame whose octets are damaged, with length and ICV as they must be."""
        rng = self._rng
        frame = self._known()
        try:  # the corpus speaks under another CAK
            envelope = parse_frame(frame)
            basic = replace(envelope.basic, ckn=ckn)
            if rng.random() < 0.7:
                basic = self._lively(basic, ckn)
            raw = b"".join(
                header.encode() + self._fresh(header, body, keys) + bytes(-len(body) % 4)
                for header, body in envelope.raw_sets
            )
            frame = encode_mkpdu(Mkpdu(basic=basic), frame[6:12], keys)[:-ICV_SIZE] + raw
        except MkpduError:
            frame = frame[:-ICV_SIZE]
        content = frame[18:]
        if rng.random() < 0.8:
            content = content[:32] + mutate.octets(content[32:], rng)
        else:
            content = mutate.octets(content, rng)
        content += bytes(-len(content) % 4)
        frame = frame[:16] + (len(content) + ICV_SIZE & 0xFFFF).to_bytes(2, "big") + content
        return frame + keys.icv(frame)

    def _fresh(self, header: Header, body: bytes, keys: MkaKeys) -> bytes:
        """With a key that was never there: one SAK under two names is nobody's fault but its."""
        size = len(body) - 4 if len(body) == 28 else len(body) - 12
        if header.first != SetType.DISTRIBUTED_SAK or size not in (24, 40):
            return body
        return body[:-size] + keys.wrap(Secret(self._rng.randbytes(size - 8)))

    def _lively(self, basic: Basic, ckn: bytes) -> Basic:
        one = self._member(ckn)
        one.mn = one.mn + 1 & 0xFFFF_FFFF
        return replace(basic, mi=one.mi, mn=one.mn, sci=one.sci)

    # --- a member ------------------------------------------------------------------------------

    def _member(self, ckn: bytes) -> MadMember:
        rng = self._rng
        # Whom it met under another MI it gives no SAK from then: we know of none from before, and
        # it takes a key server that lists us as live before we can have proved it.
        ours = [item.mi for item in self._world.participants() if item.ckn == ckn]
        members = self._members.setdefault((ckn, *ours), [])
        if not members or rng.random() < (0.95 if self._crowd else 0.06):
            self._names += 1
            mi = MemberId(self._names.to_bytes(4, "big") + rng.randbytes(8))
            sci = sci_of(PORT_NUMBER + (self._names if self._crowd else rng.randrange(60)) % 200)
            members.append(MadMember(mi, sci, steady=rng.random() < 0.4))
        return rng.choice(members[-40:]) if rng.random() < 0.3 else members[-1]

    def _as_member(self, ckn: bytes, keys: MkaKeys) -> bytes:
        rng = self._rng
        one = self._member(ckn)
        one.mn = rng.choice(NUMBERS) if rng.random() < 0.02 else one.mn + 1 & 0xFFFF_FFFF
        sci, mi = one.sci, one.mi
        if rng.random() < 0.03:  # takes itself for one of the honest
            honest = rng.choice(self._world.lan.members)
            sci = honest.sci
            mi = rng.choice([mi, *(item.mi for item in honest.port._participants.values())])
        basic = Basic(
            version=rng.choice((1, 2, 3, 3, 200)),
            priority=rng.choice((0, 0, 1, 16, 40, 255)),
            key_server=rng.random() < 0.7,
            macsec_desired=rng.random() < 0.95,
            capability=rng.choice((0, 1, 2, 2, 2, 3)),
            sci=sci,
            mi=mi,
            mn=one.mn,
            agility=ALGORITHM_AGILITY if rng.random() < 0.99 else rng.getrandbits(32),
            ckn=ckn,
        )
        sets = [*self._lists(ckn, one), *self._sets(one, keys)]
        if one.steady and rng.random() < 0.7:
            basic = replace(basic, version=3, priority=0, key_server=True, macsec_desired=True)
            basic = replace(basic, capability=2, sci=one.sci, mi=one.mi)
            sets = [*self._lists(ckn, one), *self._as_key_server(one, keys)]
        if basic.mi != one.mi:  # a SAK given out in another's name cannot be told from its own
            sets = [item for item in sets if not isinstance(item, DistributedSak)]
        if rng.random() < 0.05:
            rng.shuffle(sets)
        return encode_mkpdu(Mkpdu(basic=basic, sets=tuple(sets)), sci.mac, keys)

    def _lists(self, ckn: bytes, one: MadMember) -> Iterator[ParameterSet]:
        """Mostly with ours in it, as it was heard a moment ago."""
        rng = self._rng
        listed: list[ListedPeer] = []
        for participant in self._world.participants():
            if participant.ckn == ckn and rng.random() < 0.95:
                mn = participant.mn if rng.random() < 0.95 else rng.choice(NUMBERS)
                listed.append(ListedPeer(participant.mi, mn))
                known = [peer.mi for peer in participant.peers.all() if peer.mi != one.mi]
                listed += [ListedPeer(mi, 1) for mi in known if rng.random() < 0.6]
        if rng.random() < 0.1:
            listed += [ListedPeer(MemberId(rng.randbytes(12)), 1)] * rng.choice((1, 2, 100))
        ssci = rng.choice((0, 1, 2, 3, len(listed) + 1, 255)) & 0xFF
        live = rng.random() < 0.9
        yield PeerList(live=live, peers=tuple(listed), ks_ssci=ssci)
        if rng.random() < 0.1:
            yield PeerList(live=not live, peers=tuple(listed[:3]))

    def _sets(self, one: MadMember, keys: MkaKeys) -> Iterator[ParameterSet]:
        rng = self._rng
        if rng.random() < 0.6:
            use = rng.random() < 0.9
            yield SakUse(
                latest=self._use(one) if use else None,
                old=self._use(one) if use and rng.random() < 0.6 else None,
                plain_transmit=rng.random() < 0.1,
                plain_receive=rng.random() < 0.1,
                delay_protect=rng.random() < 0.5,
            )
        if rng.random() < 0.5:
            yield self._distributed(one, keys)
        if rng.random() < 0.3:
            yield Xpn(latest_high=rng.choice(NUMBERS), old_high=rng.choice(NUMBERS))
        if rng.random() < 0.1:
            yield rng.choice(self._rare())

    def _as_key_server(self, one: MadMember, keys: MkaKeys) -> Iterator[ParameterSet]:
        """As one should, but that a SAK is given out again and again, to whoever is there."""
        if self._rng.random() < 0.15:
            one.kn += 1
        suite, an = self._world.member.settings.suite, one.kn % 4
        ki = KeyIdentifier(one.mi, one.kn)
        yield SakUse(
            latest=KeyUse(ki=ki, an=an, transmits=True, receives=True, lowest_pn=1), old=None
        )
        wrapped = keys.wrap(one.key(one.kn, suite))
        yield DistributedSak(an=an, confidentiality=1, kn=one.kn, suite=suite, wrapped=wrapped)

    def _use(self, one: MadMember) -> KeyUse:
        """Of a SAK that is there, or of none."""
        rng = self._rng
        there = [(sak.ki, sak.an) for sak in self._world.port.view().saks]
        there.append((KeyIdentifier(one.mi, one.kn), rng.randrange(4)))
        ki, an = rng.choice(there)
        if rng.random() < 0.1:
            ki, an = KeyIdentifier(ki.mi, rng.choice(NUMBERS)), rng.randrange(4)
        return KeyUse(
            ki=ki,
            an=an,
            transmits=rng.random() < 0.6,
            receives=rng.random() < 0.8,
            lowest_pn=rng.choice((1, 1, 5, 0xC000_0000, *NUMBERS)),
        )

    def _distributed(self, one: MadMember, keys: MkaKeys) -> DistributedSak:
        rng = self._rng
        if rng.random() < 0.04:
            return DistributedSak()
        if rng.random() < 0.3:
            one.kn += 1
        suite = rng.choice((self._world.member.settings.suite, *CipherSuite))
        kn = one.kn if rng.random() < 0.95 else rng.choice((*NUMBERS, max(0, one.kn - 1)))
        wrapped = keys.wrap(one.key(kn, suite))
        return DistributedSak(
            an=rng.randrange(4),
            confidentiality=rng.choice((1, 1, 1, 0, 2, 3)),
            kn=kn,
            suite=suite if rng.random() < 0.97 else rng.getrandbits(64),
            wrapped=wrapped if rng.random() < 0.97 else rng.randbytes(len(wrapped)),
        )

    def _rare(self) -> tuple[ParameterSet, ...]:
        rng = self._rng
        some = rng.randbytes(rng.choice((0, 1, 25, 60)))
        unknown = rng.choice([number for number in range(256) if number not in set(SetType)])
        return (
            DistributedCak(body=rng.randbytes(rng.choice((25, 40, 72)))),
            Kmd(domain=some),
            Announcement(tlvs=(Tlv(rng.randrange(128), some),)),
            UnknownSet(set_type=unknown, second=1, flags=0x10, body=some),
        )


class MadMember:
    """Who it says it is, and how far it has counted."""

    def __init__(self, mi: MemberId, sci: Sci, *, steady: bool) -> None:
        self.mi, self.sci, self.steady = mi, sci, steady
        self.mn, self.kn = 0, 1

    def key(self, kn: int, suite: CipherSuite) -> Secret:
        """The same for the same number."""
        return Secret(random.Random(f"{self.mi.hex()} {kn}").randbytes(suite.key_size))
