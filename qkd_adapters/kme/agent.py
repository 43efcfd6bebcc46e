"""The KME's end of the link protocol, without I/O: store on one side, messages on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never

import msgspec

from kms_client.secret import Secret
from qkd_adapters.errors import LinkProtocolError
from qkd_adapters.kme.store import KeyStore
from qkd_adapters.link.messages import (
    Accepted,
    Delivered,
    Direction,
    Expired,
    FromKme,
    FromLink,
    Hello,
    LinkState,
    Notice,
    NoticeSeen,
    Offer,
    Quarantine,
    Rejected,
    Room,
    Settle,
    Survey,
)

Send = Callable[[FromKme], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unseen:
    notice: Notice
    forget_at: float


@dataclass(slots=True)
class _Session:
    """One connection to the link. While ``surveyed`` the link counts our room anew."""

    send: Send
    surveyed: bool = True


@dataclass(slots=True)
class LinkAgent:
    """Connects one KME's store with the link. ``clock`` gives monotonic seconds."""

    kme: str
    peer: str
    pairs: tuple[tuple[str, str], ...]
    max_count: int
    lifetime: float
    clock: Callable[[], float]
    wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    store: KeyStore = field(init=False)
    state: LinkState = field(init=False)
    _session: _Session | None = field(init=False, default=None)
    _peer_missing_since: str | None = field(init=False, default=None)
    _unseen: dict[str, _Unseen] = field(init=False, default_factory=dict)
    _news: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _listeners: list[Callable[[], None]] = field(init=False, default_factory=list)
    _heard_good: float | None = field(init=False, default=None)
    _last_good: float | None = field(init=False, default=None)  # while suspect

    def __post_init__(self) -> None:
        self.store = KeyStore(
            pairs=self.pairs,
            max_count=self.max_count,
            lifetime=self.lifetime,
            clock=self.clock,
            emit=self._emit,
        )
        self.state = self._disconnected("not connected to the link yet")

    # --- what the transport calls ---

    @property
    def connected(self) -> bool:
        return self._session is not None

    def established(self, send: Send) -> None:
        self._session = _Session(send)
        send(Hello(kme=self.kme, peer=self.peer, pairs=self.pairs))

    def lost(self, why: str) -> None:
        if self._session is not None:
            self._session = None
            self._change(self._disconnected(why))
            self._wake()

    def handle(self, message: FromLink) -> None:
        """Raises LinkProtocolError when the link does not want us."""
        match message:
            case Rejected():
                raise LinkProtocolError(message.reason)
            case LinkState():
                self._received_state(message)
            case Survey():
                self._survey()
            case Offer():
                direction = Direction(message.master, message.slave)
                held = self.store.offer(direction, message.key_id, Secret(message.key))
                self._send(Accepted(key_id=message.key_id, ok=held))
            case Settle():
                self.store.commit(message.commit)
                self.store.discard(message.discard)
                if message.final:
                    self._settled()
            case Quarantine():
                self.store.quarantine(message.key_ids)
                self._tell()
            case Delivered() | Expired():
                self.store.learn(message)
                self._send(NoticeSeen(key_id=message.key_id))
                self._wake()
            case NoticeSeen():
                self._unseen.pop(message.key_id, None)
            case _:
                assert_never(message)

    # --- what the server asks ---

    def expects_notices(self) -> bool:
        """Whether the classical channel to the peer KME stands."""
        return self.connected and self.state.peer_connected

    async def wait_news(self, seconds: float) -> None:
        """Until the next notice from the peer, or for so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    # --- what is reported of the link ---

    @property
    def suspect_age(self) -> float | None:
        """While suspect: seconds since the link was last known to be good; None: not known."""
        return None if self._last_good is None else self.clock() - self._last_good

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when ``state`` says something new or keys were quarantined."""
        self._listeners.append(listener)

    # --- inside ---

    def _change(self, state: LinkState) -> None:
        """Heartbeats differ from what is known in nothing but the age of a suspicion."""
        before, self.state = self.state, state
        self._note_suspicion(state)
        if msgspec.structs.replace(state, suspect_age=before.suspect_age) != before:
            self._tell()

    def _note_suspicion(self, state: LinkState) -> None:
        """The earliest of the last good moments the link has named for this suspicion.

        Each was a little longer ago than it seems, for the message was on its way meanwhile. A
        link that names none was good when it last said so.
        """
        now = self.clock()
        if state.state != "suspect":
            self._last_good = None
            self._heard_good = now if state.state == "up" else self._heard_good
            return
        age = state.suspect_age
        candidates = (self._last_good, self._heard_good if age is None else now - age)
        self._last_good = min((each for each in candidates if each is not None), default=None)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _send(self, message: FromKme) -> None:
        if self._session is not None:
            self._session.send(message)

    def _emit(self, message: Room | Notice) -> None:
        """What the store wants told. Notices are kept until the peer has seen them."""
        surveyed = self._session is None or self._session.surveyed
        if isinstance(message, Room):
            if not surveyed:
                self._send(message)
            return
        self._unseen[message.key_id] = _Unseen(
            notice=message, forget_at=self.clock() + self.lifetime
        )
        if not surveyed:
            self._send(message)

    def _received_state(self, message: LinkState) -> None:
        """Without the peer KME no key can be handed over, however good the quantum link is."""
        if message.peer_connected:
            self._peer_missing_since = None
            self._change(message)
            return
        if self._peer_missing_since is None:
            self._peer_missing_since = self._timestamp()
        was_up = message.state == "up"
        self._change(
            msgspec.structs.replace(
                message,
                state="down" if was_up else message.state,
                since=self._peer_missing_since if was_up else message.since,
                alarms=(*message.alarms, f"KME {self.peer} is not connected to the link"),
                key_rate=0.0,
            )
        )

    def _survey(self) -> None:
        if self._session is None:
            return
        self._session.surveyed = True
        self._forget_old_notices()
        delivered = [part for unseen in self._unseen.values() for part in unseen.notice.parts]
        self._send(self.store.inventory(delivered))

    def _settled(self) -> None:
        if self._session is None:
            return
        self._session.surveyed = False
        for room in self.store.room():
            self._send(room)
        for unseen in self._unseen.values():
            self._send(unseen.notice)

    def _forget_old_notices(self) -> None:
        """Notices older than a key's life help nobody: the peer has dropped the keys."""
        now = self.clock()
        for key_id in [k for k, unseen in self._unseen.items() if unseen.forget_at <= now]:
            del self._unseen[key_id]

    def _timestamp(self) -> str:
        return self.wall_clock().isoformat(timespec="seconds")

    def _disconnected(self, why: str) -> LinkState:
        return LinkState(
            state="down",
            since=self._timestamp(),
            alarms=(why,),
            key_rate=0.0,
            peer_connected=False,
        )

    def _wake(self) -> None:
        """Release everybody who waits now; later callers wait for the next notice."""
        self._news.set()
        self._news = asyncio.Event()
