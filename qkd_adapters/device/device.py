"""What Alice and Bob have in common: a session, its authentication key, a block at a time."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from kms_client.errors import QsgwError
from kms_client.secret import Secret
from qkd_adapters.device.blocks import BlockRunner, Run
from qkd_adapters.device.bootstrap import Bootstrap
from qkd_adapters.device.classical import ClassicalChannel
from qkd_adapters.device.config import DeviceSettings
from qkd_adapters.device.kme_port import KmePort
from qkd_adapters.device.light import Light
from qkd_adapters.device.messages import Message, Stock
from qkd_adapters.device.session import Session
from qkd_adapters.errors import PeerSilentError
from qkd_adapters.link.messages import FromKme
from qkd_adapters.logs import EventLog
from qkd_adapters.postprocessing.blocks import End, LinkEnd
from qkd_adapters.postprocessing.errors import OutOfAuthKeyError, PostprocessingError
from qkd_adapters.postprocessing.settings import Settings
from qkd_adapters.records import Record, Role
from qkd_adapters.tasks import until_stopped

Moment = tuple[int, float]
"""Block number and start of a record: the same at both ends, never the same twice."""

Finish = Callable[[Run | None, QsgwError | None, bytes], Awaitable[None]]
"""Told how a block ended, and the first thing the peer had said about it."""

_log = EventLog("qsgw_kme.device")


class SystemRng:
    def random_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


class Device(ABC):
    """One end. ``start`` and ``stop`` once each."""

    role: Role
    end_role: End
    backlog: int  # blocks of light kept for the peer or the block before; older ones are given up

    def __init__(self, settings: DeviceSettings) -> None:
        self.settings = settings
        self.bootstrap = Bootstrap(settings.psk, settings.state)
        self.channel = ClassicalChannel(
            role=self.role,
            link=settings.link,
            address=settings.classical,
            bootstrap=self.bootstrap,
            handler=self,
        )
        self.port = KmePort(settings.own_kme, settings.kme_listen, self)
        self.light = Light(settings.optics, self.arrived)
        self.end: LinkEnd | None = None
        self.records: OrderedDict[Moment, Record] = OrderedDict()
        self.skipped = 0  # blocks of light that were never worked on
        self._send: Callable[[bytes], None] = _nowhere
        self._session: Session | None = None
        self._peer_stock: bytes | None = None
        self._stock_told = False
        self._aligned = False
        self._runner: BlockRunner | None = None
        self._work: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---

    async def start(self) -> None:
        """Raises KmeStartupError."""
        await self.channel.start()
        await self.port.start()
        self._tasks = [
            asyncio.create_task(self.channel.run(), name="device-classical"),
            asyncio.create_task(self.light.run(), name="device-light"),
            asyncio.create_task(self.watch(), name="device-watch"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.port.stop()
        await self.channel.stop()
        await asyncio.gather(*(task for task in (self._work, self._beginning) if task is not None))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.bootstrap.wipe()

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Until ``stop``; raises what ended one of the device's own tasks before that."""
        await until_stopped(stop, self._tasks)

    # --- what Alice and Bob each do their own way ---

    @abstractmethod
    async def watch(self) -> None:
        """Runs until cancelled: what is to be done from time to time."""

    @abstractmethod
    def arrived(self, record: Record) -> None:
        """Light came."""

    @abstractmethod
    def said(self, message: Message) -> None:
        """The peer says something."""

    @abstractmethod
    def kme_said(self, message: FromKme) -> None:
        """Our own KME says something."""

    @abstractmethod
    def kme_lost(self) -> None:
        """Our own KME is gone."""

    @abstractmethod
    def lost_blocks(self, numbers: tuple[int, ...]) -> None:
        """The peer does not hold the keys of these blocks."""

    @abstractmethod
    def new_epoch(self) -> None:
        """The peer knows nothing of any key that waits."""

    @abstractmethod
    def aligned(self) -> None:
        """Work may begin."""

    @abstractmethod
    def session_ended(self, *, tampered: bool) -> None: ...

    # --- sessions ---

    @property
    def ready(self) -> bool:
        """Whether blocks can be worked on."""
        return self._aligned

    @property
    def busy(self) -> bool:
        return self._work is not None and not self._work.done()

    def established(self, session: Session, send: Callable[[bytes], None]) -> None:
        self._session, self._send = session, send
        self._peer_stock, self._stock_told, self._aligned = None, False, False
        self._beginning = asyncio.create_task(self._begin(session), name="device-begin")

    def lost(self, *, tampered: bool) -> None:
        self._session, self._send, self._aligned = None, _nowhere, False
        if self._runner is not None:
            self._runner.give_up()
        self.session_ended(tampered=tampered)

    def block_said(self, body: bytes) -> None:
        """Without a block under way it is a late word about one that was given up."""
        if self._runner is not None:
            self._runner.feed(body)

    def tell(self, message: Message) -> None:
        """Nobody hears it while there is no session."""
        if self._session is not None:
            self._send(self._session.sign(message))

    def compare_stock(self, body: bytes) -> None:
        self._peer_stock = body
        self._align()

    async def _begin(self, session: Session) -> None:
        """The block of the session before must have ended: it may still use its pads."""
        if self._work is not None:
            await asyncio.wait({self._work})
        if self._session is session:
            if session.region is not None:
                self._begin_epoch(session.epoch, session.region)
            assert self.end is not None
            self.tell(Stock(body=self.end.inventory()))
            self._stock_told = True
            self._align()

    def _begin_epoch(self, epoch: str, region: Secret) -> None:
        self.new_epoch()
        self.end = LinkEnd(
            end=self.end_role,
            settings=Settings(
                link=f"{self.settings.link}/{epoch}",
                scheme=self.settings.datasheet.scheme,
            ),
            psk=region,
            rng=SystemRng(),
        )

    def _align(self) -> None:
        if self._peer_stock is None or not self._stock_told or self.end is None:
            return
        try:
            lost = self.end.align(self._peer_stock)
        except PostprocessingError as error:
            self.forget_epoch(str(error))
            return
        self._peer_stock = None
        self.lost_blocks(tuple(lost))
        self._aligned = True
        self.aligned()

    def book(self, delivered: int, discarded: int) -> None:
        """So many keys left the pool."""
        if self.end is not None:
            self.end.ledger.deliver(delivered * self.end.settings.key_bits)
            self.end.ledger.discard(discarded * self.end.settings.key_bits)

    def never_mind(self) -> None:
        """The block under way has not begun at the peer, and does not go on here."""
        if self._runner is not None:
            self._runner.give_up()

    def forget_epoch(self, why: str) -> None:
        """Our pads are of no more use: the next session begins with fresh ones."""
        self.new_epoch()
        self.end = None
        self.channel.epoch = ""
        self.channel.drop(why)

    # --- blocks ---

    def keep(self, record: Record) -> None:
        self.records[record.block, record.start] = record
        while len(self.records) > self.backlog:
            self.records.popitem(last=False)
            self.skipped += 1

    def work_on(
        self,
        number: int,
        record: Record,
        finish: Finish,
    ) -> None:
        """Begin the block; ``finish`` is told how it ended."""
        assert self.end is not None
        assert not self.busy
        runner = BlockRunner(
            self.end.block(replace(record, block=number)),
            record.detections,
            lambda data: self._send(Session.block(data)),
        )
        self._runner = runner
        self._work = asyncio.create_task(self._run(runner, finish), name=f"block-{number}")

    async def _run(self, runner: BlockRunner, finish: Finish) -> None:
        run: Run | None = None
        failure: QsgwError | None = None
        try:
            run = await runner.run()
        except (PostprocessingError, PeerSilentError) as error:
            failure = error
        self._runner = None
        await finish(run, failure, runner.heard)
        if isinstance(failure, OutOfAuthKeyError):
            _log.warning("out-of-authentication-key", link=self.settings.link)
            self.forget_epoch(str(failure))


def _nowhere(_: bytes) -> None:
    """Where frames go while there is no session."""
