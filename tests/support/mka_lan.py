"""A LAN of MKA members in memory: frames that get lost or late, a SecY each, one virtual clock.

What must hold at any moment is checked where it could be broken: an AN has one SA, a SAK is never
used twice by one secure channel (its packet numbers would begin again), nothing leaves in the
clear where MACsec is required.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.crypto.secret import Secret
from gateway.mka.commands import (
    Command,
    DeleteReceiveSc,
    DeleteSas,
    Done,
    EnableTransmitSa,
    Failed,
    InstallReceiveSa,
    InstallSas,
    RaiseLowestPn,
    SaKey,
    SetPort,
)
from gateway.mka.events import Event
from gateway.mka.identifiers import Sci
from gateway.mka.keys import Cak
from gateway.mka.limits import PARTICIPANTS_MAX
from gateway.mka.port import Port
from gateway.mka.settings import InheritedSas, PortSettings
from gateway.model import PortState

CKN = b"first"
STEPS_PER_SECOND_MAX = 100  # deliveries and timers of one member: more is a storm


class SeededRng:
    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


def cak(number: int = 1, ckn: bytes = CKN, size: int = 32) -> Cak:
    return Cak(Secret(random.Random(number).randbytes(size)), ckn)


def sci_of(index: int) -> Sci:
    return Sci(bytes((2, 0, 0, 0, 0, index + 1)))


def settings_of(index: int) -> PortSettings:
    return PortSettings(interface=f"eth{index}", sci=sci_of(index), priority=16 + 16 * index)


@dataclass
class Secy:
    """802.1AE, as far as keys go."""

    sci: Sci
    used: set[tuple[Sci, bytes]]  # by anybody on this LAN, ever
    transmit: dict[int, bytes] = field(default_factory=dict)  # AN: SAK
    receive: dict[tuple[Sci, int], bytes] = field(default_factory=dict)
    lowest: dict[tuple[Sci, int], int] = field(default_factory=dict)
    sscis: dict[tuple[Sci, int], int | None] = field(default_factory=dict)
    keys: dict[int, SaKey] = field(default_factory=dict)  # as installed last with each AN
    refused: set[int] = field(default_factory=set)  # ANs that were not installed, and not deleted
    fresh: set[int] = field(default_factory=set)  # ANs whose packet numbers have not begun
    encoding: int | None = None
    port: PortState | None = None
    fail: int = 0  # that many commands, from now on
    mute: int = 0  # so many are carried out, and their answer is lost
    log: list[Command] = field(default_factory=list)

    @property
    def sak(self) -> bytes | None:
        """Under which frames leave."""
        return None if self.encoding is None else self.transmit.get(self.encoding)

    def run(self, command: Command) -> Done | Failed | None:
        self.log.append(command)
        match command:
            case InstallSas() | EnableTransmitSa() if self.fail:
                self.fail -= 1
                if isinstance(command, InstallSas):
                    self.refused.add(command.key.an)
                return Failed(token=command.token, reason="device or resource busy")
            case InstallSas(token=token, key=key, transmit=transmit, receive=receive):
                assert key.an not in self.transmit, "the AN is taken"
                assert len(self.transmit) < 2
                self.transmit[key.an] = key.key.expose()
                self.keys[key.an] = key
                self.fresh.add(key.an)
                self.refused.discard(key.an)
                self.sscis[self.sci, key.an] = transmit.ssci
                for item in receive:
                    self._add(key.an, key.key.expose(), item)
                return Done(token=token)
            case EnableTransmitSa(token=token, an=an):
                self.begin(an)
                return Done(token=token)
            case InstallReceiveSa(key=SaKey(an=an)) | RaiseLowestPn(an=an) if an in self.refused:
                pass  # asked before the answer was there
            case InstallReceiveSa(key=key, receive=item):
                assert self.transmit[key.an] == key.key.expose()
                self._add(key.an, key.key.expose(), item)
            case DeleteSas(an=an):
                self.transmit.pop(an, None)
                self.fresh.discard(an)
                self.refused.discard(an)
                if self.encoding == an:
                    self.encoding = None
                self._drop(lambda sci, number: number == an)
            case DeleteReceiveSc(sci=gone):
                self._drop(lambda sci, number: sci == gone)
            case RaiseLowestPn(sci=sci, an=an, lowest_pn=pn):
                assert (sci, an) in self.receive
                self.lowest[sci, an] = max(pn, self.lowest[sci, an])
            case SetPort(state=state):
                self.port = state
        return None

    def begin(self, an: int) -> None:
        if an in self.fresh:
            self.fresh.discard(an)
            assert (self.sci, self.transmit[an]) not in self.used, "packet numbers used twice"
        self.used.add((self.sci, self.transmit[an]))
        self.encoding = an

    def keep(self, an: int) -> None:
        """As a new daemon does with what it finds: only the SAs in use stay."""
        for other in set(self.transmit) - {an}:
            self.run(DeleteSas(an=other))

    def _add(self, an: int, key: bytes, item: object) -> None:
        place = (item.sci, an)
        assert place not in self.receive, "the AN of that channel is taken"
        self.receive[place] = key
        self.lowest[place] = item.lowest_pn
        self.sscis[place] = item.ssci

    def _drop(self, which: Callable[[Sci, int], bool]) -> None:
        for place in [place for place in self.receive if which(*place)]:
            del self.receive[place]

    def hears(self, other: Secy) -> bool:
        """Whether frames of the other get through to us."""
        sak = other.sak
        return sak is not None and self.receive.get((other.sci, other.encoding)) == sak


@dataclass
class Member:
    port: Port
    secy: Secy
    settings: PortSettings
    caks: list[tuple[int, bytes]]
    up: bool = True
    events: list[Event] = field(default_factory=list)
    steps: int = 0

    @property
    def sci(self) -> Sci:
        return self.settings.sci

    def saw(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


class Lan:
    """Everybody hears everybody, unless ``cut`` says no."""

    def __init__(
        self,
        settings: list[PortSettings],
        *,
        seed: int | str = 0,
        loss: float = 0.0,
        jitter: float = 0.002,
        caks: list[tuple[int, bytes]] | None = None,
    ) -> None:
        self.random = random.Random(f"lan {seed}")
        self.loss, self.jitter = loss, jitter
        self.now = 1000.0
        self.cut: Callable[[int, int], bool] = lambda source, target: False
        self.watch: Callable[[], None] = lambda: None
        self.frames: list[bytes] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._incarnations = 0
        self._used: set[tuple[Sci, bytes]] = set()
        self.members: list[Member] = []
        for one in settings:
            self.members.append(self._member(one, list(caks or [(1, CKN)])))
        for index in range(len(settings)):
            self._begin(index)

    # --- what a test does ----------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for member in self.members:
            member.steps = 0
        while True:
            moment = self._next()
            if moment is None or moment > end:
                break
            self.now = max(self.now, moment)
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            for index, member in enumerate(self.members):
                deadline = member.port.next_deadline() if member.up else None
                if deadline is not None and deadline <= self.now:
                    self._step(index, lambda port: port.handle_timer(self.now))
            for member in self.members:
                assert member.steps < STEPS_PER_SECOND_MAX * (seconds + 1), "a storm"
        self.now = end

    def at(self, delay: float, action: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (self.now + delay, self._serial, action))

    def act(self, index: int, action: Callable[[Port], None]) -> None:
        self._step(index, action)

    def restart(self, index: int, *, keep: bool = False) -> None:
        """The daemon begins anew, its kernel state too unless kept; the others do not know."""
        old = self.members[index]
        found = inherited_from(old) if keep else None
        caks = old.caks[-PARTICIPANTS_MAX:]
        new = self.members[index] = self._member(old.settings, caks, found)
        if found is not None:
            new.secy = old.secy
            new.secy.keep(found.an)
        self._begin(index)

    def stop(self, index: int) -> None:
        self.members[index].up = False

    def send(self, frame: bytes, index: int) -> None:
        """A frame from outside, to one member."""
        self._step(index, lambda port: port.receive_frame(frame, self.now))

    def add_cak(self, index: int, number: int, ckn: bytes) -> None:
        self.members[index].caks.append((number, ckn))
        self._step(index, lambda port: port.add_cak(cak(number, ckn), self.now))

    def remove_cak(self, index: int, ckn: bytes) -> None:
        self.members[index].caks = [item for item in self.members[index].caks if item[1] != ckn]
        self._step(index, lambda port: port.remove_cak(ckn, "removed", self.now))

    # --- what must hold --------------------------------------------------------------------------

    def saks(self) -> list[bytes | None]:
        return [member.secy.sak for member in self.members if member.up]

    def one_sak(self) -> bool:
        """Everybody who is up uses the same, and hears everybody else."""
        saks = set(self.saks())
        return len(saks) == 1 and None not in saks and self.hears_all()

    def hears_all(self) -> bool:
        """Every frame on the way finds its SA, if under two SAKs."""
        up = [member.secy for member in self.members if member.up]
        return all(a is b or a.hears(b) for a in up for b in up)

    def no_sak(self) -> bool:
        return set(self.saks()) == {None}

    # --- machinery -------------------------------------------------------------------------------

    def _member(
        self,
        settings: PortSettings,
        caks: list[tuple[int, bytes]],
        inherited: InheritedSas | None = None,
    ) -> Member:
        self._incarnations += 1
        rng = SeededRng(f"{self._incarnations} {self.random.random()}")
        secy = Secy(settings.sci, self._used)
        return Member(Port(settings, rng=rng, inherited=inherited), secy, settings, caks)

    def _begin(self, index: int) -> None:
        for number, ckn in self.members[index].caks:
            self._step(index, lambda port, n=number, c=ckn: port.add_cak(cak(n, c), self.now))

    def _next(self) -> float | None:
        times = [self._queue[0][0]] if self._queue else []
        for member in self.members:
            deadline = member.port.next_deadline() if member.up else None
            times += [] if deadline is None else [deadline]
        return min(times, default=None)

    def _step(self, index: int, action: Callable[[Port], None]) -> None:
        member = self.members[index]
        if not member.up:
            return
        member.steps += 1
        action(member.port)
        self._collect(index)
        self.watch()

    def _collect(self, index: int) -> None:
        member = self.members[index]
        member.events += member.port.take_events()
        for command in member.port.take_commands():
            answer = member.secy.run(command)
            if answer is not None and member.secy.mute:
                member.secy.mute -= 1
            elif answer is not None:
                self.at(0.001, lambda answer=answer: self._answer(index, member, answer))
        for frame in member.port.take_frames():
            self.frames.append(frame)
            for target in range(len(self.members)):
                if target != index and not self.cut(index, target):
                    self._transport(frame, target)

    def _answer(self, index: int, asked: Member, answer: Done | Failed) -> None:
        if self.members[index] is asked:  # not restarted meanwhile
            self._step(index, lambda port: port.answer(answer, self.now))

    def _transport(self, frame: bytes, target: int) -> None:
        if self.random.random() >= self.loss:
            delay = 0.0005 + self.random.random() * self.jitter
            self.at(delay, lambda: self.send(frame, target))


def inherited_from(member: Member) -> InheritedSas:
    """What its SecY has, as a new daemon reads it back."""
    secy = member.secy
    assert secy.encoding is not None
    key = secy.keys[secy.encoding]
    return InheritedSas(
        an=key.an,
        ki=key.ki,
        suite=key.suite,
        confidentiality=key.confidentiality,
        receive=tuple(sci for sci, an in secy.receive if an == key.an),
    )


def lan(count: int = 2, **options: object) -> Lan:
    """``count`` members of usual settings, the first one key server. ``change``: of settings."""
    change = options.pop("change", {})
    return Lan([replace(settings_of(index), **change) for index in range(count)], **options)
