"""Alice: sends the light, leads through the blocks, watches the link, hands keys over."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

from kms_client.errors import QsgwError
from qkd_adapters.detection.telemetry import Classical
from qkd_adapters.device.blocks import Run
from qkd_adapters.device.config import DeviceSettings
from qkd_adapters.device.delivery import Delivery, WaitingKey
from qkd_adapters.device.device import Device, Moment
from qkd_adapters.device.health import bias, healthy
from qkd_adapters.device.messages import (
    Done,
    Failed,
    Forget,
    KmeLost,
    KmeSaid,
    Message,
    Missing,
    Ping,
    Pong,
    Seen,
    Start,
    Stock,
    TellKme,
)
from qkd_adapters.device.observe import Seat, bits_unlike
from qkd_adapters.device.watch import LinkWatch
from qkd_adapters.link.messages import FromKme
from qkd_adapters.link.recorder import KeyRecorder
from qkd_adapters.link.server import HEARTBEAT
from qkd_adapters.logs import EventLog
from qkd_adapters.postprocessing.blocks import End, NamedKey, Outcome
from qkd_adapters.postprocessing.errors import AuthenticationError, PeerMessageError
from qkd_adapters.records import Record, Role

# Bob's words about light that we have not seen ourselves yet, or no longer have.
_MAX_SEEN = 16
# Light that comes while there has been no session for so long is reported as a silent peer. s
PEER_GRACE = 2.0
MAX_STRIDE = 32  # blocks of which one is worked on, while none brings key

_log = EventLog("qsgw_kme.device")


@dataclass(slots=True)
class _Trouble:
    """On the classical channel, since the last block the detection was told of."""

    auth_failures: int = 0
    retries: int = 0


@dataclass(slots=True)
class _Thrift:
    """Blocks that eat authentication key and bring none are worked on less and less often."""

    stride: int = 1
    passed: int = 0

    def spare(self) -> bool:
        """Whether the next block is left alone."""
        self.passed += 1
        if self.passed < self.stride:
            return True
        self.passed = 0
        return False

    def learn(self, outcome: Outcome) -> None:
        wasted = outcome.auth_bits_used > 0 and not outcome.estimate.secret_bits
        self.stride = min(2 * self.stride, MAX_STRIDE) if wasted else 1


@dataclass(slots=True)
class _Progress:
    number: int = -1  # of the last block
    worked: int = 0
    lost: int = 0
    held_by_bob: int = -1  # last block whose keys Bob says he has
    missing_at_bob: int = -1  # last block that could not begin there
    undelivered: dict[int, tuple[NamedKey, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A block of light that both ends have; without Bob's word where he cannot be reached."""

    number: int
    record: Record
    seen: Seen | None


class Alice(Device):
    role = Role.ALICE
    end_role = End.SENDER
    backlog = 2

    def __init__(self, settings: DeviceSettings, recorder: KeyRecorder | None = None) -> None:
        super().__init__(settings)
        self.delivery = Delivery(
            own=settings.own_kme,
            peer=settings.peer_kme,
            tell_kme=self.port.send,
            tell_bob=self.tell,
            book=self.book,
            buffer=settings.buffer,
        )
        self.link = LinkWatch(settings)
        self.progress = _Progress()
        self._recorder = recorder
        self._seen: OrderedDict[Moment, Seen] = OrderedDict()
        self._trouble = _Trouble()
        self._thrift = _Thrift()
        self._alone_since = time.monotonic()
        self._peer_failure: Failed | None = None

    async def stop(self) -> None:
        await super().stop()
        self.link.close()

    # --- light ---

    def arrived(self, record: Record) -> None:
        self.link.light_came()
        if not self.ready and time.monotonic() - self._alone_since > PEER_GRACE:
            job = _Job(number=self._next_number(record), record=record, seen=None)
            self._observe(self._seat(job, None, silent=True))
            return
        self.keep(record)
        self._consider()

    def said(self, message: Message) -> None:
        match message:
            case Stock():
                self.compare_stock(message.body)
            case Seen():
                self._seen[message.block, message.start] = message
                while len(self._seen) > _MAX_SEEN:
                    self._seen.popitem(last=False)
                self._consider()
            case Done():
                # Often before our own end of the block, which Bob's last word has yet to close.
                self.progress.held_by_bob = message.number
                self._deliver(message.number)
            case Missing():
                self.progress.missing_at_bob = message.number
                self.never_mind()
            case Failed():
                self._peer_failure = message
                self._trouble.auth_failures += message.tampered
            case KmeSaid():
                self.delivery.peer_said(message.body, time.monotonic())
                self._announce()
            case KmeLost():
                self.delivery.peer_lost()
            case Ping() | Pong() | Start() | Forget() | TellKme():
                self.channel.drop(f"Bob has no business to say {type(message).__name__}")

    def _consider(self) -> None:
        """Begin the oldest block that both ends have, if none is under way."""
        while self.ready and not self.busy:
            both = [moment for moment in self.records if moment in self._seen]
            if not both:
                return
            for moment in list(self.records):
                if moment == both[0]:
                    break
                del self.records[moment]
                self.skipped += 1
            record, seen = self.records.pop(both[0]), self._seen.pop(both[0])
            number = self._next_number(record)
            if self._thrift.spare():
                self.skipped += 1
                continue
            self.tell(Start(number=number, block=record.block, start=record.start))
            self.work_on(
                number, record, partial(self._finish, _Job(number=number, record=record, seen=seen))
            )

    def _next_number(self, record: Record) -> int:
        """The optics' own number while it rises: a restart of the optics must not repeat one."""
        self.progress.number = max(record.block, self.progress.number + 1)
        return self.progress.number

    # --- the end of a block ---

    async def _finish(
        self, job: _Job, run: Run | None, failure: QsgwError | None, heard: bytes
    ) -> None:
        number = job.number
        if run is None and self.ready and self.progress.missing_at_bob == number:
            self.skipped += 1
            asyncio.get_running_loop().call_soon(self._consider)
            return
        if run is None:
            self.progress.lost += 1
            tampered = isinstance(failure, AuthenticationError | PeerMessageError)
            self._trouble.auth_failures += tampered
            self._trouble.retries += 1
            reason = self._peer_failure.reason if self._peer_failure is not None else str(failure)
            _log.warning("block-lost", link=self.settings.link, block=number, reason=reason)
            self._observe(self._seat(job, None, silent=True))
            self.channel.drop(str(failure), tampered=tampered)
            return
        self.progress.worked += 1
        self._thrift.learn(run.outcome)
        if self._recorder is not None:
            for named in run.outcome.keys:
                self._recorder.record(named.key_id, named.key)
        unlike = await asyncio.to_thread(bits_unlike, job.record, heard)
        self._observe(self._seat(job, run, silent=False, bias=bias(unlike)))
        self.progress.undelivered[number] = run.outcome.keys
        if self.progress.held_by_bob == number or not self.ready:
            self._deliver(number)
        asyncio.get_running_loop().call_soon(self._consider)

    def _deliver(self, number: int) -> None:
        """Bob holds the keys of this block too."""
        keys = self.progress.undelivered.pop(number, ())
        waiting = [WaitingKey(key_id=key.key_id, key=key.key, block=number) for key in keys]
        self.delivery.add(waiting)
        if self.link.suspicious:
            self.delivery.quarantine(number)
        else:
            self.delivery.hand_over(time.monotonic())

    def _seat(self, job: _Job, run: Run | None, *, silent: bool, bias: float = 0.0) -> Seat:
        trouble, self._trouble = self._trouble, _Trouble()
        outcome = run.outcome if run is not None else None
        wrong = outcome is not None and bool(outcome.failure) and not outcome.verified
        return Seat(
            number=job.number,
            record=job.record,
            seen=job.seen,
            run=run,
            classical=Classical(
                auth_failures=trouble.auth_failures,
                verification_failures=int(wrong),
                retries=trouble.retries,
                round_trip=self.channel.round_trip,
                stall=run.stall if run is not None else 0.0,
                efficiency=outcome.efficiency or None if outcome is not None else None,
                unreachable=silent,
            ),
            random=healthy(job.record, self.settings.datasheet.p_z),
            bias=bias,
        )

    def _observe(self, seat: Seat) -> None:
        keys = len(seat.run.outcome.keys) if seat.run is not None else 0
        since = self.link.observe(seat, keys)
        if since is not None:
            count = self.delivery.quarantine(since)
            if count:
                _log.warning(
                    "keys-quarantined", link=self.settings.link, since_block=since, count=count
                )
        self._announce()

    # --- sessions ---

    def aligned(self) -> None:
        self._peer_failure = None
        self._consider()

    def session_ended(self, *, tampered: bool) -> None:
        self._alone_since = time.monotonic()
        self._seen.clear()
        if tampered and not self.busy:
            self._trouble.auth_failures += 1
        # Whether Bob holds the keys of these blocks is settled when the ends are aligned.
        for number in list(self.progress.undelivered):
            self._deliver(number)
        self.delivery.peer_lost()
        self._announce()

    def lost_blocks(self, numbers: tuple[int, ...]) -> None:
        self.delivery.drop_blocks(numbers)

    def new_epoch(self) -> None:
        self.delivery.drop_all()

    # --- the KME ---

    def kme_said(self, message: FromKme) -> None:
        self.delivery.own_said(message, time.monotonic())
        self._announce()

    def kme_lost(self) -> None:
        self.delivery.own_lost()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT / 2)
            for side in self.delivery.overdue(time.monotonic()):
                _log.warning("kme-silent", link=self.settings.link, kme=side)
                if side == self.settings.own_kme:
                    self.port.drop()
                else:
                    self.delivery.reject_peer("no answer to an offer")
            self._announce()

    def _announce(self) -> None:
        self.delivery.announce(self.link.state(classical=self.channel))
