"""What the MKA core reports of one link: to the bulletin, the tally, and for the operator's eye."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from gateway.daemon.bulletin import Bulletin
from gateway.daemon.macsec.caks import Caks
from gateway.mka.errors import DropReason
from gateway.mka.events import (
    CakRetired,
    Dropped,
    Event,
    IdentityRenewed,
    KeyServerChanged,
    NoSakPossible,
    PeerLive,
    PeerLost,
    PortChanged,
    PrincipalChanged,
    SakFailed,
    SakInUse,
    SakMade,
    SakRefused,
    SakRetired,
)
from gateway.mka.limits import LIFE_TIME
from gateway.mka.registry import CipherSuite
from gateway.model import PortState, Protection

log = logging.getLogger("qsgw.macsec")

CKN_SHOWN = 8  # octets of a CKN in a line


@dataclass(slots=True)
class LinkTally:
    """Since the daemon started."""

    cak_rollovers: int = 0
    cak_rollovers_hybrid: int = 0
    cak_rollovers_pqc_only: int = 0
    sak_rollovers: int = 0
    failures: int = 0
    last_error: str | None = None
    drops: Counter[str] = field(default_factory=Counter)

    def failed(self, reason: str) -> None:
        self.failures += 1
        self.last_error = reason

    def cak_rolled_over(self, protection: Protection) -> None:
        self.cak_rollovers += 1
        if protection is Protection.HYBRID:
            self.cak_rollovers_hybrid += 1
        elif protection is Protection.PQC_ONLY:
            self.cak_rollovers_pqc_only += 1


class Refusals:
    """Stations that are there and that we have no key in common with.

    Only while nobody is live: in a rollover each end is ahead of the other for a moment, and on a
    shared LAN there may be others.
    """

    def __init__(self) -> None:
        self._last: dict[DropReason, tuple[float, str]] = {}

    def note(self, event: Dropped, now: float) -> None:
        source = event.source.hex(":")
        match event.reason:
            case DropReason.UNKNOWN_CKN:
                named = event.text.removesuffix(" is not ours")
                text = f"a station with {named} is there ({source}), which is not ours"
            case DropReason.BAD_ICV:
                text = f"frames with our CKN and a wrong ICV from {source}: the CAK differs"
            case DropReason.DUPLICATE_SCI:
                text = f"{event.text}: two stations with one MAC address, or one just restarted"
            case _:
                return
        self._last[event.reason] = (now, text)

    def clear(self) -> None:
        self._last.clear()

    def text(self, now: float) -> str | None:
        """The worst of what was heard within the MKA Life Time: a wrong CAK, then another CKN."""
        fresh = {reason: text for reason, (at, text) in self._last.items() if now - at < LIFE_TIME}
        order = (DropReason.BAD_ICV, DropReason.UNKNOWN_CKN, DropReason.DUPLICATE_SCI)
        return next((fresh[reason] for reason in order if reason in fresh), None)


class PortEvents:
    """Of one link; outlives its port."""

    def __init__(
        self, *, name: str, caks: Caks, bulletin: Bulletin, clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._caks = caks
        self._bulletin = bulletin
        self._clock = clock
        self._sak_ckn: bytes | None = None  # of the last SAK in use
        self.tally = LinkTally()
        self.refusals = Refusals()
        self.obstacle: str | None = None  # why members that hear each other have no SAK

    def inherit(self, old: PortEvents, caks: Caks) -> None:
        """Go on where the link that this one replaces left off (a reload)."""
        self._caks = caks
        self.tally = old.tally
        self._sak_ckn = old._sak_ckn

    def take(self, event: Event) -> None:
        """Something happened in the MKA core."""
        match event:
            case Dropped():
                self.tally.drops[event.reason.value] += 1
                self.refusals.note(event, self._clock())
                log.debug("%s: dropped (%s): %s", self._name, event.reason, event.text)
            case PeerLive(sci=sci):
                self.refusals.clear()
                self._say("macsec-peer-live", f"{sci} is live", event.ckn, sci=str(sci))
            case PeerLost(sci=sci, reason=reason):
                text = f"{sci} is lost: {reason}"
                self._say("macsec-peer-lost", text, event.ckn, level=logging.INFO, sci=str(sci))
            case KeyServerChanged(sci=sci):
                who = "we are" if event.ourselves else f"{sci} is" if sci else "there is no"
                self._say("macsec-key-server", f"{who} key server", event.ckn)
            case SakMade(reason=reason, ki=ki):
                self._say("macsec-sak-made", f"new SAK {ki}: {reason}", event.ckn)
            case SakInUse():
                self._in_use(event)
            case NoSakPossible(reason=reason):
                self.obstacle = reason
                self.failed("macsec-no-sak", f"no SAK comes of it: {reason}")
            case SakRefused(reason=reason):
                self.failed("macsec-sak-refused", f"the key server's SAK is refused: {reason}")
            case SakFailed(reason=reason):
                self.failed("macsec-sak-failed", f"the kernel did not take a SAK: {reason}")
            case CakRetired(ckn=ckn, reason=reason):
                self._caks.drop(ckn)
                self._say("macsec-cak-retired", f"CAK {short(ckn)} retired: {reason}", ckn)
            case PortChanged(state=state, reason=reason):
                level = logging.WARNING if state is PortState.CLEAR else logging.INFO
                text = f"port is {state}: {reason}"
                self._bulletin.publish(
                    "macsec-port", text, tunnel=self._name, level=level, port=state.value
                )
            case PrincipalChanged():
                self.obstacle = None
            case SakRetired() | IdentityRenewed():
                log.debug("%s: %s", self._name, event)
            case _:
                assert_never(event)

    def _in_use(self, event: SakInUse) -> None:
        self.obstacle = None
        self._caks.sak_in_use(event.ki, event.ckn)
        if self._sak_ckn is not None:
            self.tally.sak_rollovers += 1
        origin = self._caks.origin_of(event.ki, event.ckn)
        if origin is not None and self._sak_ckn not in (None, event.ckn):
            self.tally.cak_rolled_over(origin.protection)
        self._sak_ckn = event.ckn
        made = "unknown" if origin is None else origin.protection.value
        self._say(
            "macsec-sak-in-use",
            f"SAK {event.ki} with AN {event.an} is in use, {suite_name(event.suite)}, CAK {made}",
            event.ckn,
            level=logging.INFO,
            an=event.an,
            ki=str(event.ki),
            suite=suite_name(event.suite),
            protection=made,
        )

    def refused(self, text: str) -> None:
        """The kernel did not do what was wanted."""
        self.failed("macsec-kernel-refused", text)

    def failed(self, kind: str, text: str) -> None:
        self.tally.failed(text)
        self._bulletin.publish(kind, text, tunnel=self._name, level=logging.WARNING)

    def _say(
        self, kind: str, text: str, ckn: bytes, level: int = logging.DEBUG, **fields: str | int
    ) -> None:
        self._bulletin.publish(kind, text, tunnel=self._name, level=level, ckn=ckn.hex(), **fields)


def suite_name(suite: CipherSuite) -> str:
    """As 802.1AE writes it."""
    return suite.name.replace("_", "-")


def short(ckn: bytes) -> str:
    """A CKN in a line."""
    text = ckn[:CKN_SHOWN].hex()
    return text if len(ckn) <= CKN_SHOWN else f"{text}..."
