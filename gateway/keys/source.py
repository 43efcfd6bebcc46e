"""From a KME's keys to PPKs: one source per tunnel, in both roles."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gateway.errors import KeyReusedError
from gateway.keys.ledger import ClaimedKeys, KeyLedger
from gateway.model import KeyId, KeysView, Ppk
from gateway.protection.health import Observation
from kms_client.errors import KmeRefusedError, KmeUnauthorizedError, NoKeyError
from kms_client.failover import KmeGroup
from kms_client.models import canonical_key_id
from kms_client.pool import KeyPool, PoolSettings

MAX_FETCHES = 4
"""dec_keys under way at once for one peer: one per exchange of a rekey collision, doubled."""

UNKNOWN_FOR = 2.0
"""Seconds for which a key_ID that the KMEs did not know is refused without asking again."""

MAX_UNKNOWN = 64
"""Unknown key_IDs remembered; a peer that names more of them only costs itself time."""


class TunnelKeys:
    """QKD keys of one tunnel: a warm pool as master SAE, single fetches as slave SAE.

    Every key_ID is claimed once, whichever way it came; ``claimed`` is to be the same for all
    tunnels of the process. A key handed out is the caller's to mix and wipe; ``settle`` says
    what became of it. The group may be shared with other tunnels and is not closed here.
    """

    def __init__(
        self,
        *,
        group: KmeGroup,
        peer_sae: str,
        settings: PoolSettings | None = None,
        claimed: ClaimedKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
        on_refused: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._group = group
        self._peer_sae = peer_sae
        self._settings = settings or PoolSettings()
        self._clock = clock
        self._on_change = on_change
        self._on_refused = on_refused  # the peer did not take a key of ours
        self._pool = KeyPool(
            group,
            peer_sae=peer_sae,
            settings=self._settings,
            clock=clock,
            on_change=on_change,
            sleep=sleep,
        )
        self._ledger = KeyLedger(claimed)
        self._fetches = 0
        self._unknown: OrderedDict[KeyId, tuple[float, NoKeyError]] = OrderedDict()
        self._last_fetch: float | None = None

    def start(self) -> None:
        """Begin to fill the pool. Needs a running event loop."""
        self._pool.start()

    async def stop(self) -> None:
        """Stop and wipe the pool."""
        await self._pool.stop()

    def take(self) -> Ppk | None:
        """A fresh key for an exchange we initiate, at once; None when the pool has none."""
        while (key := self._pool.take()) is not None:
            key_id = KeyId(key.key_id)
            try:
                self._ledger.claim(key_id)
            except KeyReusedError:  # counted; a KME that repeats itself must not stop a rekey
                key.key.wipe()
                self._pool.report(key_id, taken=None)
                continue
            return Ppk(key_id=key_id, key=key.key)
        return None

    async def fetch(self, key_id: KeyId, timeout: float) -> Ppk:  # noqa: ASYNC109 (bounds a claim)
        """The key our peer named, within ``timeout`` seconds.

        Raises NoKeyError when no KME delivers it in time or too many fetches are under way,
        and KeyReusedError for a key_ID that was in use here before, in either role.
        """
        wanted = self._checked(key_id)
        if self._fetches >= MAX_FETCHES:
            raise NoKeyError(self._peer_sae, reason=f"{MAX_FETCHES} requests are under way already")
        self._ledger.claim(wanted)
        self._fetches += 1
        delivered = False
        try:
            async with asyncio.timeout(timeout):
                (key,) = await self._group.dec_keys(self._peer_sae, [wanted])
            delivered = True
        except TimeoutError:
            reason = f"no KME delivered it within {timeout:g} s"
            raise NoKeyError(self._peer_sae, reason=reason) from None
        except NoKeyError as error:
            self._remember_unknown(wanted, error)
            raise
        finally:
            self._fetches -= 1
            if not delivered:
                self._ledger.release(wanted)
        self._last_fetch = self._clock()
        self._on_change()
        return Ppk(key_id=wanted, key=key.key)

    def settle(self, key_id: KeyId, *, used: bool, refused: bool = False) -> None:
        """This key is in an SA that is up (``used``), or was burned.

        ``refused``: the peer answered that it does not take it.
        """
        self._ledger.settle(key_id, used=used)
        self._pool.report(key_id, taken=False if refused else used or None)
        if refused:
            self._on_refused()
        self._on_change()

    @property
    def peer_sae(self) -> str:
        return self._peer_sae

    @property
    def refused_kmes(self) -> tuple[str, ...]:
        """KMEs whose keys our peer did not take when it last had one of them to take."""
        return self._pool.refused

    def drop(self) -> int:
        """Wipe every pooled key; returns how many there were."""
        return self._pool.drop()

    def quarantine(self, since: float) -> int:
        """Wipe pooled keys delivered at or after ``since``; returns how many there were."""
        return self._pool.quarantine(since)

    def view(self) -> KeysView:
        stock = self._pool.stock()
        return KeysView(
            peer_sae=self._peer_sae,
            pool=stock.ready,
            key_ids=stock.key_ids,
            pool_target=stock.target,
            stored_at_kme=stock.stored_at_kme,
            rate=stock.rate,
            used=self._ledger.used,
            burned=self._ledger.burned + stock.burned,
            reused=self._ledger.reused,
        )

    def observe(self) -> Observation:
        """What the health monitor judges by. A key fetched as slave is a delivery as well."""
        stock = self._pool.stock()
        deliveries = [at for at in (stock.last_delivery, self._last_fetch) if at is not None]
        return Observation(
            at=self._clock(),
            ready=stock.ready,
            target=self._settings.wanted,
            rate=stock.rate,
            stored_at_kme=stock.stored_at_kme,
            last_delivery=max(deliveries, default=None),
            last_error=stock.last_error,
            link_state=None if stock.link is None else stock.link.state.value,
            link_reason="" if stock.link is None else stock.link.reason,
            link_at=stock.link_at,
            link_age=None if stock.link is None else stock.link.suspect_age,
        )

    def _checked(self, key_id: KeyId) -> KeyId:
        try:
            wanted = KeyId(canonical_key_id(key_id))
        except ValueError as error:
            raise NoKeyError(self._peer_sae, reason=str(error)) from None
        remembered = self._unknown.get(wanted)
        if remembered is not None:
            until, refusal = remembered
            if self._clock() < until:
                raise NoKeyError(self._peer_sae, refusal.causes)
            del self._unknown[wanted]
        return wanted

    def _remember_unknown(self, key_id: KeyId, error: NoKeyError) -> None:
        """Keep a peer from making us ask the KMEs again and again for what is not there."""
        if all(isinstance(each, KmeRefusedError | KmeUnauthorizedError) for each in error.causes):
            self._unknown[key_id] = (self._clock() + UNKNOWN_FOR, error)
            if len(self._unknown) > MAX_UNKNOWN:
                self._unknown.popitem(last=False)
