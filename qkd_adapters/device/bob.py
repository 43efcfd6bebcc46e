"""Bob: detects, follows Alice's lead through the blocks, and serves his own KME."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial

import msgspec

from kms_client.errors import QsgwError
from qkd_adapters.device.blocks import Run
from qkd_adapters.device.config import DeviceSettings
from qkd_adapters.device.device import Device
from qkd_adapters.device.health import healthy
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
from qkd_adapters.device.observe import seen
from qkd_adapters.device.relay import Relay
from qkd_adapters.link.messages import FromKme, LinkState
from qkd_adapters.link.server import HEARTBEAT
from qkd_adapters.logs import EventLog
from qkd_adapters.postprocessing.blocks import End
from qkd_adapters.postprocessing.errors import AuthenticationError, PeerMessageError
from qkd_adapters.records import Record, Role

_log = EventLog("qsgw_kme.device")


class Bob(Device):
    role = Role.BOB
    end_role = End.RECEIVER
    backlog = 8  # more than Alice's, whose word it is which block is next

    def __init__(self, settings: DeviceSettings) -> None:
        super().__init__(settings)
        self.relay = Relay(tell_kme=self.port.send, tell_alice=self.tell, book=self.book)
        self.blocks = 0
        self._alone_since = _now()
        self._tampered = ""  # why the last session was broken off, if somebody meddled with it
        self._untold: Failed | None = None

    # --- light and blocks ---

    def arrived(self, record: Record) -> None:
        self.keep(record)
        self.tell(seen(record, random=healthy(record, self.settings.datasheet.p_z)))

    def said(self, message: Message) -> None:
        match message:
            case Stock():
                self.compare_stock(message.body)
            case Start():
                self._start(message)
            case Forget():
                self.relay.forget(message.key_ids)
            case TellKme():
                try:
                    self.relay.alice_said(message.body)
                except msgspec.DecodeError as error:
                    self.channel.drop(f"a message for the KME that is none: {error}")
            case Ping() | Pong() | Seen() | Done() | Missing() | Failed() | KmeSaid() | KmeLost():
                self.channel.drop(f"Alice has no business to say {type(message).__name__}")

    def _start(self, start: Start) -> None:
        record = self.records.pop((start.block, start.start), None)
        if record is None or self.busy or not self.ready:
            self.tell(Missing(number=start.number))
            return
        self.work_on(start.number, record, partial(self._finish, start.number))

    async def _finish(
        self, number: int, run: Run | None, failure: QsgwError | None, _heard: bytes
    ) -> None:
        if run is None:
            tampered = isinstance(failure, AuthenticationError | PeerMessageError)
            self._give_up(str(failure), tampered=tampered)
            return
        self.blocks += 1
        self.relay.hold(number, ((named.key_id, named.key) for named in run.outcome.keys))
        self.tell(Done(number=number))

    def _give_up(self, reason: str, *, tampered: bool) -> None:
        """The machines of both ends part here; the next session aligns them."""
        if self.channel.session is not None:
            self.tell(Failed(reason=reason, tampered=tampered))
            self.channel.drop(reason, tampered=tampered)
            self._untold = None

    # --- sessions ---

    def aligned(self) -> None:
        self._tampered = ""
        if self._untold is not None:
            self.tell(self._untold)
            self._untold = None
        self.relay.session_began()
        for record in self.records.values():
            self.tell(seen(record, random=healthy(record, self.settings.datasheet.p_z)))

    def session_ended(self, *, tampered: bool) -> None:
        self._alone_since = _now()
        if tampered:
            self._tampered = self.channel.last_error
            self._untold = Failed(reason=self._tampered, tampered=True)
        self.relay.session_ended()
        self._announce_alone()

    def lost_blocks(self, numbers: tuple[int, ...]) -> None:
        self.relay.forget_blocks(numbers)

    def new_epoch(self) -> None:
        self.relay.forget_all()

    # --- the KME ---

    def kme_said(self, message: FromKme) -> None:
        self.relay.kme_said(message)
        if not self.ready:
            self._announce_alone()

    def kme_lost(self) -> None:
        self.relay.kme_lost()

    async def watch(self) -> None:
        """Without Alice it is Bob who tells his KME how things are."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            if not self.ready:
                self._announce_alone()

    def state(self) -> LinkState:
        """As Alice said it last; without her, what Bob can tell by himself."""
        if self.relay.state is not None:
            return self.relay.state
        if self._tampered:
            state, alarm = "suspect", f"QKD-SEC-001 AuthTagFailure: {self._tampered}"
        else:
            state = "down"
            alarm = f"QKD-FAULT-205 ClassicalChannelDown: {self.channel.last_error}"
        return LinkState(
            state=state,
            since=self._alone_since,
            alarms=(alarm,),
            key_rate=0.0,
            peer_connected=False,
        )

    def _announce_alone(self) -> None:
        self.port.send(self.state())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
