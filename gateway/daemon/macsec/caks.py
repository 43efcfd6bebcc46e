"""The CAKs of one link: what each was made of, how long it may be used, and whence the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config.schema import StaticCak
from gateway.crypto.secret import Secret
from gateway.ike.views import IkeFacts
from gateway.mka.hybrid import hybrid_cak
from gateway.mka.identifiers import KeyIdentifier
from gateway.mka.keys import Cak
from gateway.mka.limits import PARTICIPANTS_MAX
from gateway.model import Mixed, Protection, Role

ORIGINS_MAX = 16  # of CAKs that are gone while a SAK of theirs may still be in use

_BY_HAND = Mixed(key_exchanges=(), key_id=None, ppk_method=None)  # nothing that we know of


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a CAK comes from. ``since``: monotonic seconds."""

    ckn: bytes
    mixed: Mixed
    since: float
    ike: tuple[bytes, bytes] | None  # SPIs of its IKE SA; None: agreed by hand

    @property
    def protection(self) -> Protection:
        return self.mixed.protection


class Caks:
    """Keeps a copy of each, for a port that has to be made anew. In the order they came."""

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[Origin, Secret]] = {}
        self._origins: dict[bytes, Origin] = {}  # by CKN, gone ones too
        self._by_sak: dict[KeyIdentifier, bytes] = {}  # CKN
        self.source_lost: str | None = None  # the newest one's IKE SA is gone, and why

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Origin]:
        return iter([origin for origin, _ in self._held.values()])

    @property
    def newest(self) -> Origin | None:
        return next(reversed(list(self)), None)

    # --- coming --------------------------------------------------------------------------------

    def add_static(self, static: StaticCak, now: float) -> Cak:
        """The one of the configuration."""
        cak = Cak(Secret(static.cak.expose()), static.ckn)
        return self._take(cak, Origin(ckn=cak.ckn, mixed=_BY_HAND, since=now, ike=None))

    def add_hybrid(
        self, ike: IkeFacts, exported: Secret, *, link: str, size: int, now: float
    ) -> Cak | None:
        """From an established IKE SA; ``exported`` stays the caller's to wipe.

        None where it is there already. ValueError where no CAK can be made of it.
        """
        if ike.remote_id is None:
            raise ValueError("the IKE SA is not authenticated")
        own, other = ike.local_id.encode(), ike.remote_id.encode()
        initiator, responder = (own, other) if ike.role is Role.INITIATOR else (other, own)
        cak = hybrid_cak(
            exported,
            initiator=initiator,
            responder=responder,
            link=link,
            mixed=ike.mixed,
            size=size,
        )
        if cak.ckn in self._held:
            cak.wipe()
            return None
        spis = (ike.spi_i, ike.spi_r)
        return self._take(cak, Origin(ckn=cak.ckn, mixed=ike.mixed, since=now, ike=spis))

    def copies(self) -> list[Cak]:
        """For another port."""
        return [Cak(Secret(key.expose()), origin.ckn) for origin, key in self._held.values()]

    def trim(self) -> None:
        """While there is no port that says which one may go: the newest stay."""
        for ckn in list(self._held)[:-PARTICIPANTS_MAX]:
            self.drop(ckn)

    def _take(self, cak: Cak, origin: Origin) -> Cak:
        self.source_lost = None
        self._held[cak.ckn] = (origin, Secret(cak.key.expose()))
        self._origins[cak.ckn] = origin
        spare = [ckn for ckn in self._origins if ckn not in self._held]
        for ckn in spare[: max(0, len(self._origins) - ORIGINS_MAX)]:
            del self._origins[ckn]
        return cak

    # --- going ---------------------------------------------------------------------------------

    def drop(self, ckn: bytes) -> None:
        """The port speaks under it no more."""
        held = self._held.pop(ckn, None)
        if held is not None:
            held[1].wipe()

    def drop_all(self) -> None:
        for ckn in list(self._held):
            self.drop(ckn)
        self.source_lost = None

    def ike_closed(self, spi_i: bytes, spi_r: bytes, reason: str) -> None:
        """An IKE SA is gone; the CAK made of it may go on for a while."""
        newest = self.newest
        if newest is not None and newest.ike == (spi_i, spi_r):
            self.source_lost = reason

    def made_of(self, ike: tuple[bytes, bytes]) -> bytes | None:
        """The CKN of what an IKE SA, by its SPIs, has given."""
        return next((origin.ckn for origin in self if origin.ike == ike), None)

    def in_order(self, first: tuple[bytes, bytes], second: tuple[bytes, bytes]) -> bool:
        """Whether both of these IKE SAs have given one, in this order."""
        order = [origin.ike for origin in self]
        return first in order and second in order and order.index(first) < order.index(second)

    def expired(self, max_age: float, now: float) -> list[bytes]:
        """Too old to go on with; seconds."""
        return [origin.ckn for origin in self if now - origin.since >= max_age]

    # --- what a SAK was made under ---------------------------------------------------------------

    def sak_in_use(self, ki: KeyIdentifier, ckn: bytes) -> None:
        self._by_sak[ki] = ckn
        while len(self._by_sak) > ORIGINS_MAX:
            del self._by_sak[next(iter(self._by_sak))]

    def origin_of(self, ki: KeyIdentifier, ckn: bytes = b"") -> Origin | None:
        """Of a SAK; None for one from before our start."""
        return self._origins.get(ckn or self._by_sak.get(ki, b""))
