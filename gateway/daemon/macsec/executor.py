"""Carries out the MKA core's commands on one MACsec device, in the order they come."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import assert_never

from gateway.daemon.keylog import KeyLog
from gateway.dataplane.macsec_port import (
    MacsecPlane,
    ReceiveSaSpec,
    SecySpec,
    SecyState,
    TransmitSaSpec,
)
from gateway.errors import QsgwError
from gateway.mka.commands import (
    Answer,
    Command,
    DeleteReceiveSc,
    DeleteSas,
    Done,
    EnableTransmitSa,
    Failed,
    InstallReceiveSa,
    InstallSas,
    RaiseLowestPn,
    ReceiveSa,
    SaKey,
    SetPort,
    TransmitSa,
)
from gateway.mka.registry import Confidentiality
from gateway.model import PortState

log = logging.getLogger("qsgw.macsec")

Work = Callable[[], Awaitable[None]]


class MacsecWorker:
    """Does all links' kernel work, one piece after the other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Work] = asyncio.Queue()

    def enqueue(self, work: Work) -> None:
        self._queue.put_nowait(work)

    async def work(self, beat: Callable[[], None], every: float) -> None:
        """For ever. Beats after each piece, and every ``every`` seconds while there is none."""
        while True:
            beat()
            try:
                async with asyncio.timeout(every):
                    item = await self._queue.get()
            except TimeoutError:
                continue
            try:
                await item()
            except QsgwError as error:
                log.error("MACsec: %s", error)
            finally:
                self._queue.task_done()
            if not self._queue.empty():  # else waiting for the next gives others their turn
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Wait until all that was taken so far is done."""
        await self._queue.join()


class SecyExecutor:
    """One device. What the kernel refuses is a Failed answer."""

    def __init__(
        self,
        plane: MacsecPlane,
        spec: SecySpec,
        *,
        enqueue: Callable[[Work], None],
        answer: Callable[[Answer], None],
        read_back: Callable[[SecyState | None], None],
        refused: Callable[[str | None], None],
        key_log: KeyLog | None,
    ) -> None:
        """``read_back`` gets the device as it is whenever another SA sends, or the port changed.

        ``refused`` is told that the kernel may differ, with the reason where no answer has it.
        """
        self.spec = spec  # suite and encryption follow the SAK
        self._plane = plane
        self._enqueue = enqueue
        self._answer = answer
        self._read_back = read_back
        self._refused = refused
        self._key_log = key_log
        self._port = PortState.BLOCKED
        self._waiting: deque[Command] = deque()
        self._busy = False
        self._closed = False

    @property
    def idle(self) -> bool:
        """The kernel has all that the core wanted so far."""
        return not (self._waiting or self._busy)

    def submit(self, command: Command) -> None:
        """Take a command; returns at once."""
        if self._closed:
            wipe(command)
            return
        self._waiting.append(command)
        self._enqueue(self._next)

    def close(self) -> None:
        """Take no more; what is not done yet never will be."""
        self._closed = True
        while self._waiting:
            wipe(self._waiting.popleft())

    async def _next(self) -> None:
        if not self._waiting:
            return
        command = self._waiting.popleft()
        self._busy = True
        try:
            await self._carry_out(command)
        except QsgwError as error:
            if isinstance(command, InstallSas | EnableTransmitSa):
                self._tell(Failed(token=command.token, reason=str(error)))
                self._refused(None)
            else:
                self._refused(str(error))
        finally:
            self._busy = False
            wipe(command)

    async def _carry_out(self, command: Command) -> None:
        plane, device = self._plane, self.spec.device
        match command:
            case InstallSas(token=token):
                await self._install(command)
                self._tell(Done(token=token))
            case EnableTransmitSa(token=token, an=an):
                await plane.transmit_with(device, an)
                self._read_back(await plane.read(device))
                self._tell(Done(token=token))
            case InstallReceiveSa(key=key, receive=receive):
                await plane.install_receive_sa(device, _receive(key, receive))
                self._record(key, (receive,))
            case DeleteSas(an=an):
                await self._delete(an)
            case DeleteReceiveSc(sci=sci):
                await plane.remove_receive_channel(device, sci)
            case RaiseLowestPn(sci=sci, an=an, lowest_pn=lowest_pn):
                await plane.raise_lowest_pn(device, sci, an, lowest_pn)
            case SetPort(state=state):
                self._port = state
                await plane.set_port(device, state)
                self._read_back(await plane.read(device))
            case _:
                assert_never(command)

    async def _install(self, command: InstallSas) -> None:
        key, device = command.key, self.spec.device
        await self._fit(key)
        for receive in command.receive:  # first: whoever sends under it already is heard
            await self._plane.install_receive_sa(device, _receive(key, receive))
        transmit = TransmitSaSpec(
            an=key.an, key=key.key, ki=key.ki, ssci=command.transmit.ssci, salt=key.salt
        )
        await self._plane.install_transmit_sa(device, transmit)
        self._record(key, (command.transmit, *command.receive))

    async def _fit(self, key: SaKey) -> None:
        """The key server may have another suite than ours; a device has one at a time."""
        encrypt = key.confidentiality is not Confidentiality.NONE
        wanted = replace(self.spec, suite=key.suite, encrypt=encrypt)
        if wanted != self.spec:
            await self._plane.set_up(wanted)
            self.spec = wanted
            await self._plane.set_port(wanted.device, self._port)

    async def _delete(self, an: int) -> None:
        """Each SA by itself: where one resists, the others go."""
        device = self.spec.device
        state = await self._plane.read(device)
        if state is None:
            return
        failed: QsgwError | None = None
        removals: list[Awaitable[None]] = [
            self._plane.remove_receive_sa(device, sa.sci, an) for sa in state.receive if sa.an == an
        ]
        removals.append(self._plane.remove_transmit_sa(device, an))
        for removal in removals:
            try:
                await removal
            except QsgwError as error:
                failed = error
        if failed is not None:
            raise failed

    def _record(self, key: SaKey, channels: Iterable[TransmitSa | ReceiveSa]) -> None:
        if self._key_log is not None:
            self._key_log.write_sak(key, channels)

    def _tell(self, answer: Answer) -> None:
        if not self._closed:
            self._answer(answer)


def _receive(key: SaKey, receive: ReceiveSa) -> ReceiveSaSpec:
    return ReceiveSaSpec(
        sci=receive.sci,
        an=key.an,
        lowest_pn=receive.lowest_pn,
        key=key.key,
        ki=key.ki,
        ssci=receive.ssci,
        salt=key.salt,
    )


def wipe(command: Command) -> None:
    """InstallSas and InstallReceiveSa have a copy of the SAK."""
    if isinstance(command, InstallSas | InstallReceiveSa):
        command.key.key.wipe()
