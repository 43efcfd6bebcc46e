"""Carries out the IKE core's commands: kernel work in order, key look-ups beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Protocol, assert_never

from gateway.daemon.keylog import KeyLog
from gateway.dataplane.port import DataPlane
from gateway.errors import DataplaneError, QsgwError
from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    Answer,
    CertificatesTrusted,
    CheckCertificates,
    Command,
    Done,
    Failed,
    FetchPpk,
    InstallChild,
    InstallInbound,
    PpkFetched,
    RecordIkeKeys,
    RemoveSas,
    SettlePpk,
    SpiAllocated,
    TakePpk,
    UpdateEncap,
    WatchInbound,
)
from gateway.ike.identity import Identity
from gateway.model import KeyId, Ppk, SaId, SaLifetime
from gateway.pki.trust import Trusted

log = logging.getLogger("qsgw.kernel")

INBOUND_POLL = 0.1  # seconds between looks at a new inbound SA's packet counter
STEER_PAUSES = (0.01, 0.1)  # seconds until traffic is tried to be moved again
INBOUND_WATCH = 60.0  # seconds after which an SA nobody uses is no longer watched
MAX_WAITING = 256  # commands; with more the kernel hangs, and no new Child SA is begun

KernelWork = Callable[[], Awaitable[None]]
EARLY_LIFE = SaLifetime(hard_seconds=30)
"""Of an SA that nobody has agreed to yet: as long as a reservation's (net.core.xfrm_acq_expires),
whatever becomes of this process."""

KernelCommand = (
    AllocateSpi | InstallInbound | InstallChild | ActivateOutbound | RemoveSas | UpdateEncap
)
_KERNEL_COMMANDS = (
    AllocateSpi,
    InstallInbound,
    InstallChild,
    ActivateOutbound,
    RemoveSas,
    UpdateEncap,
)


class TunnelSide(Protocol):
    """What the executor needs of a tunnel."""

    reqid: int

    def sa_lifetime(self, *, esn: bool) -> SaLifetime: ...

    async def fetch_ppk(self, key_id: KeyId) -> Ppk: ...

    def take_ppk(self) -> Ppk | None: ...

    def settle_ppk(self, key_id: KeyId, *, used: bool, refused: bool) -> None: ...

    def check_certificates(self, chain: tuple[bytes, ...], identity: Identity) -> Trusted: ...

    async def admit_inbound(self, command: InstallChild) -> None: ...

    async def steer_outbound(self, command: ActivateOutbound) -> None: ...

    async def release(self, sa_ids: tuple[SaId, ...]) -> None: ...


class KernelExecutor:
    """One worker for the kernel, so that its order is the core's order.

    Key look-ups wait for a KME and run as tasks of their own; the core bounds how long it
    waits for them.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        tunnels: Mapping[str, TunnelSide],
        *,
        answer: Callable[[Answer], None],
        inbound_seen: Callable[[SaId], None],
        key_log: KeyLog | None,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self._dataplane = dataplane
        self._tunnels = tunnels
        self._answer = answer
        self._inbound_seen = inbound_seen
        self._key_log = key_log
        self._on_refusal = on_refusal  # the kernel may differ from what was wanted: look at it
        self._closed = False
        self._queue: asyncio.Queue[KernelCommand | KernelWork] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watched: dict[SaId, asyncio.Task[None]] = {}

    def submit(self, command: Command) -> None:
        """Take a command; returns at once."""
        if self._closed:
            _wipe(command)
            return
        match command:
            case FetchPpk():
                self._spawn(self._fetch(command))
            case CheckCertificates():
                self._spawn(self._check(command))
            case TakePpk():
                self._take(command)
            case WatchInbound(sa_id=sa_id):
                self._watched[sa_id] = self._spawn(self._watch(sa_id))
            case SettlePpk(tunnel=name, key_id=key_id, used=used, refused=refused):
                if name in self._tunnels:
                    self._tunnels[name].settle_ppk(key_id, used=used, refused=refused)
            case RecordIkeKeys():
                self._record(command)
            case AllocateSpi(token=token) if self._queue.qsize() >= MAX_WAITING:
                self._answer(Failed(token=token, reason="too much work waits for the kernel"))
            case (
                AllocateSpi()
                | InstallInbound()
                | InstallChild()
                | ActivateOutbound()
                | RemoveSas()
                | UpdateEncap()
            ):
                self._queue.put_nowait(command)
            case _:
                assert_never(command)

    def enqueue(self, work: KernelWork) -> None:
        """Have other kernel work done in its turn among the commands."""
        self._queue.put_nowait(work)

    async def work(self) -> None:
        """Carry out kernel commands for ever."""
        while True:
            item = await self._queue.get()
            try:
                if isinstance(item, _KERNEL_COMMANDS):
                    await self._carry_out(item)
                else:
                    await item()
            except QsgwError as error:
                log.error("kernel: %s", error)
                self._on_refusal()
            finally:
                self._queue.task_done()
            if not self._queue.empty():  # else waiting for the next gives others their turn
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Wait until every kernel command taken so far is done."""
        await self._queue.join()

    async def close(self) -> None:
        """End key look-ups and watches; keys of commands not carried out are wiped."""
        self._closed = True
        while not self._queue.empty():
            _wipe(self._queue.get_nowait())
            self._queue.task_done()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, command: KernelCommand) -> None:
        try:
            match command:
                case AllocateSpi(token=token):
                    reqid = self._side(command.tunnel).reqid
                    spi = await self._dataplane.allocate_spi(
                        command.source, command.destination, reqid
                    )
                    self._answer(SpiAllocated(token=token, spi=spi))
                case InstallInbound(token=token):
                    await self._install_early(command)
                    self._answer(Done(token=token))
                case InstallChild(token=token):
                    await self._install(command)
                    self._answer(Done(token=token))
                case ActivateOutbound(token=token):
                    await self._steer(command)
                    self._answer(Done(token=token))
                case RemoveSas(tunnel=name, sa_ids=sa_ids):
                    try:
                        if name in self._tunnels:
                            await self._tunnels[name].release(sa_ids)
                    finally:  # an SA that is to go carries nothing, whatever leads into it
                        await self._remove(sa_ids)
                case UpdateEncap(encaps=encaps):
                    for sa_id, encap in encaps:
                        await self._dataplane.update_encap(sa_id, encap)
                case _:
                    assert_never(command)
        except QsgwError as error:
            log.error("%s: %s failed: %s", command.tunnel, type(command).__name__, error)
            self._on_refusal()
            if not isinstance(command, RemoveSas | UpdateEncap):
                self._answer(Failed(token=command.token, reason=str(error)))

    async def _install_early(self, command: InstallInbound) -> None:
        try:
            reqid = self._side(command.tunnel).reqid
            await self._dataplane.install_sa(
                replace(command.inbound, reqid=reqid, lifetime=EARLY_LIFE)
            )
        except DataplaneError:
            await self._remove((command.inbound.sa_id,))
            raise
        finally:
            _wipe(command)

    async def _install(self, command: InstallChild) -> None:
        installed: list[SaId] = []
        try:
            side = self._side(command.tunnel)
            await side.admit_inbound(command)
            lifetime = side.sa_lifetime(esn=command.outbound.esn)
            if command.replaces_inbound:
                await self._dataplane.remove_sa(command.inbound.sa_id)
            for sa in (command.inbound, command.outbound):
                complete = replace(sa, reqid=side.reqid, lifetime=lifetime)
                await self._dataplane.install_sa(complete)
                installed.append(sa.sa_id)
                if self._key_log is not None:
                    self._key_log.write_sa(complete)
        except DataplaneError:
            await self._remove((*installed, command.inbound.sa_id))
            raise
        finally:  # the kernel has the keys now, or nobody ever will
            _wipe(command)

    def _record(self, command: RecordIkeKeys) -> None:
        try:
            if self._key_log is not None:
                self._key_log.write_ike(command)
        finally:
            _wipe(command)

    async def _steer(self, command: ActivateOutbound) -> None:
        """The SA traffic leaves through now is to go next: a refusal is not taken at once."""
        for pause in STEER_PAUSES:
            try:
                await self._side(command.tunnel).steer_outbound(command)
            except DataplaneError:
                await asyncio.sleep(pause)
            else:
                return
        await self._side(command.tunnel).steer_outbound(command)

    async def _remove(self, sa_ids: tuple[SaId, ...]) -> None:
        for sa_id in sa_ids:
            watcher = self._watched.pop(sa_id, None)
            if watcher is not None:
                watcher.cancel()
            try:
                await self._dataplane.remove_sa(sa_id)
            except DataplaneError as error:
                log.warning("removing SA %08x: %s", sa_id.spi, error)
                self._on_refusal()

    def _take(self, command: TakePpk) -> None:
        side = self._tunnels.get(command.tunnel)
        ppk = None if side is None else side.take_ppk()
        if ppk is None:
            self._answer(Failed(token=command.token, reason="no QKD key that may be used"))
        else:
            self._answer(PpkFetched(token=command.token, ppk=ppk))

    async def _fetch(self, command: FetchPpk) -> None:
        try:
            ppk = await self._side(command.tunnel).fetch_ppk(command.key_id)
        except QsgwError as error:
            self._answer(Failed(token=command.token, reason=str(error)))
        else:
            self._answer(PpkFetched(token=command.token, ppk=ppk))

    async def _check(self, command: CheckCertificates) -> None:
        """Some milliseconds of work: see ``gateway.pki.trust``."""
        try:
            found = self._side(command.connection).check_certificates(
                command.chain, command.identity
            )
        except QsgwError as error:
            self._answer(Failed(token=command.token, reason=str(error)))
        else:
            self._answer(
                CertificatesTrusted(
                    token=command.token, public_key=found.public_key, subject=found.subject
                )
            )

    async def _watch(self, sa_id: SaId) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + INBOUND_WATCH
        while loop.time() < until:
            await asyncio.sleep(INBOUND_POLL)
            try:
                state = await self._dataplane.read_sa(sa_id)
            except DataplaneError as error:
                log.warning("reading SA %08x: %s", sa_id.spi, error)
                break
            if state is None:
                break
            if state.packets:
                self._inbound_seen(sa_id)
                break
        self._watched.pop(sa_id, None)

    def _side(self, tunnel: str) -> TunnelSide:
        side = self._tunnels.get(tunnel)
        if side is None:
            raise DataplaneError(f"tunnel {tunnel} is no longer configured")
        return side

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _wipe(item: Command | KernelWork) -> None:
    """Keys are in InstallInbound, InstallChild and, in a lab, in RecordIkeKeys."""
    if isinstance(item, InstallInbound):
        item.inbound.key.wipe()
    elif isinstance(item, InstallChild):
        item.inbound.key.wipe()
        item.outbound.key.wipe()
    elif isinstance(item, RecordIkeKeys):
        item.sk_ei.wipe()
        item.sk_er.wipe()
