"""One look at the KMEs for everybody who waits for keys of the same peer.

Many tunnels to one peer have a pool each, but what the KMEs say of that peer's keys and of the
link is the same for all of them. So it is asked for once: one status request per interval, and
one event stream where the KME offers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from kms_client.errors import NoKeyError
from kms_client.events import EventFollower, LinkEvent
from kms_client.models import LinkReport, LinkState, Status
from kms_client.tasks import pause, start


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLink:
    """What a KME said of its link. ``at`` is no later than when it said so.

    ``received``: when we had it. ``stream``: which event stream it came by; None: a status.
    """

    report: LinkReport
    at: float
    received: float
    stream: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """An answered look at the status. ``link`` may be younger than ``status``: from an event."""

    kme: str
    status: Status
    link: SeenLink | None


class Watcher(Protocol):
    """Who is told."""

    @property
    def poll_interval(self) -> float:
        """Seconds between two looks; the shortest of all watchers counts."""

    def resting(self) -> frozenset[str]:
        """KMEs this watcher does not want to hear of while others answer."""

    def looked(self, look: Look) -> bool:
        """Take the answer. True: ``resting`` names its KME now, look elsewhere at once."""

    def look_failed(self, error: NoKeyError) -> None:
        """No KME gave a status."""

    def heard(self, kme: str, link: SeenLink) -> None:
        """This KME told something by its event stream."""


class Group(Protocol):
    """What is needed of a KmeGroup."""

    async def status(self, peer_sae: str, *, avoid: Collection[str]) -> tuple[str, Status]: ...

    def events(self, kme: str, peer_sae: str, path: str) -> AsyncGenerator[LinkEvent]: ...


@dataclass(slots=True)
class _Stream:
    path: str
    task: asyncio.Task[None]


class PeerWatch:
    """Looks at the status while there are watchers, and follows events of the KMEs in use."""

    def __init__(
        self,
        group: Group,
        peer_sae: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._group = group
        self._peer_sae = peer_sae
        self._clock = clock
        self._sleep = sleep
        self._watchers: list[Watcher] = []
        self._links: dict[str, SeenLink] = {}  # by KME
        self._streams: dict[str, _Stream] = {}  # by KME
        self._last: tuple[float, Look] | None = None  # for a watcher for whom no KME rests
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def join(self, watcher: Watcher) -> None:
        """The watcher is told what is known, or looked for soon. Needs a running event loop."""
        self._watchers.append(watcher)
        if self._task is None:
            self._task = start(self._keep_looking(), name=f"status of {self._peer_sae}")
        elif self._last is not None and self._clock() - self._last[0] < watcher.poll_interval:
            look = self._last[1]
            watcher.looked(replace(look, link=self._links.get(look.kme)))
        else:
            self._wake.set()

    async def leave(self, watcher: Watcher) -> None:
        """Tell it nothing more. With the last one everything stops and is forgotten."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
        if self._watchers or self._task is None:
            return
        tasks = [self._task, *(stream.task for stream in self._streams.values())]
        self._task = self._last = None
        self._streams.clear()
        self._links.clear()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    # --- looking -----------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            self._wake.clear()
            await self._look()
            interval = min(watcher.poll_interval for watcher in self._watchers)
            await pause(interval, self._wake, sleep=self._sleep)

    async def _look(self) -> None:
        """One request for all who would have the same KMEs rest: as a rule, for all."""
        waiting = list(self._watchers)
        paths: dict[str, str] = {}
        answered = False
        while waiting:
            avoid = waiting[0].resting()
            same = [watcher for watcher in waiting if watcher.resting() == avoid]
            waiting = [watcher for watcher in waiting if watcher not in same]
            asked = self._clock()
            try:
                kme, status = await self._group.status(self._peer_sae, avoid=avoid)
            except NoKeyError as error:
                self._last = None
                for watcher in self._still(same):
                    watcher.look_failed(error)
                continue
            answered = True
            look = Look(kme=kme, status=status, link=self._judge(kme, status, asked))
            if look.link is not None and look.link.report.events is not None:
                paths[kme] = look.link.report.events
            if not avoid:
                self._last = asked, look
            waiting += [watcher for watcher in self._still(same) if watcher.looked(look)]
        if answered:
            self._follow(paths)

    def _still(self, watchers: list[Watcher]) -> list[Watcher]:
        """Some may have left while we asked."""
        return [watcher for watcher in watchers if watcher in self._watchers]

    def _judge(self, kme: str, status: Status, asked: float) -> SeenLink | None:
        """What stands of this KME's link, with this status taken into account."""
        if status.link is None:
            self._links.pop(kme, None)
            return None
        seen = SeenLink(report=status.link, at=asked, received=self._clock())
        if self._counts(kme, seen):
            self._links[kme] = seen
        return self._links[kme]

    def _counts(self, kme: str, new: SeenLink) -> bool:
        """Whether ``new`` may take the place of what stands.

        A status and an event may overtake each other. Bad news is believed whenever it comes;
        good news only if it is certain to be the younger: by the same way, which keeps the order,
        or asked for after the other was here. At worst a suspicion stands until the next look.
        """
        held = self._links.get(kme)
        if held is None or new.report.state is LinkState.SUSPECT:
            return True
        return new.stream is held.stream or new.at > held.received

    # --- events ------------------------------------------------------------------------------

    def _follow(self, paths: dict[str, str]) -> None:
        """Have a stream of each of these KMEs, and of no other."""
        for kme, stream in list(self._streams.items()):
            if paths.get(kme) != stream.path:
                stream.task.cancel()
                del self._streams[kme]
        for kme, path in paths.items():
            if kme not in self._streams:
                self._streams[kme] = _Stream(path, self._open(kme, path))

    def _open(self, kme: str, path: str) -> asyncio.Task[None]:
        follower: EventFollower

        def heard(report: LinkReport, at: float) -> None:
            self._heard(
                kme, SeenLink(report=report, at=at, received=self._clock(), stream=follower)
            )

        follower = EventFollower(
            lambda: self._group.events(kme, self._peer_sae, path),
            heard=heard,
            lost=self._wake.set,  # there may be a reason for it: look at the status
            clock=self._clock,
            sleep=self._sleep,
        )
        return start(follower.run(), name=f"events of {kme} for {self._peer_sae}")

    def _heard(self, kme: str, seen: SeenLink) -> None:
        if self._counts(kme, seen):
            self._links[kme] = seen
            for watcher in tuple(self._watchers):
                watcher.heard(kme, seen)
