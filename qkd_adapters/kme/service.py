"""``qsgw-kme serve``: one KME as a process: server, link client, control socket, housekeeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from aiohttp import web

from qkd_adapters.control import ControlServer
from qkd_adapters.errors import KmeStartupError
from qkd_adapters.kme.agent import LinkAgent
from qkd_adapters.kme.config import KmeSettings
from qkd_adapters.kme.events import EventStreams
from qkd_adapters.kme.faults import FaultSwitches
from qkd_adapters.kme.quirks import Quirks
from qkd_adapters.kme.server import KmeServer, server_context
from qkd_adapters.link.client import LinkClient
from qkd_adapters.logs import EventLog
from qkd_adapters.tasks import until_stopped

EXPIRY_INTERVAL = 1.0  # seconds
SHUTDOWN_GRACE = 1.0  # seconds for requests under way when we are told to stop

_log = EventLog("qsgw_kme.kme")


class Kme:
    """Everything of one KME. ``start`` and ``stop`` once each."""

    def __init__(
        self, settings: KmeSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self.agent = LinkAgent(
            kme=settings.kme_id,
            peer=settings.peer_kme,
            pairs=settings.pairs,
            max_count=settings.keys.max_count,
            lifetime=settings.keys.lifetime,
            clock=clock,
        )
        self.store = self.agent.store
        self.faults = FaultSwitches()
        self.quirks = Quirks(sae for pair in settings.pairs for sae in pair)
        self._server = KmeServer(settings, self.agent, self.faults, self.quirks)
        self._link = LinkClient(self.agent, settings.link)
        self._control = ControlServer(
            settings.control_socket,
            {
                "status": self._status,
                "fault": self.faults.command,
                "quirk": self.quirks.command,
            },
        )
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.agent.on_change(self._log_link)

    async def start(self) -> None:
        """Returns when HTTPS is served and the link was tried once. Raises KmeStartupError.

        The link need not be there: a KME without it serves its status, which says so, and
        connects as soon as it can. So KMEs and link may be started in any order.
        """
        context = server_context(self._settings)
        self._runner = web.AppRunner(
            self._server.application(), access_log=None, shutdown_timeout=SHUTDOWN_GRACE
        )
        await self._runner.setup()
        for host, port in self._settings.listen:
            site = web.TCPSite(self._runner, host, port, ssl_context=context)
            try:
                await site.start()
            except OSError as error:
                raise KmeStartupError(
                    f"cannot listen on {host} port {port}: {error.strerror or error}"
                ) from error
        await self._control.start()
        self._tasks = [
            asyncio.create_task(self._link.run(), name="kme-link"),
            asyncio.create_task(self._housekeeping(), name="kme-housekeeping"),
        ]
        attempted = asyncio.create_task(self._link.attempted.wait())
        await asyncio.wait({attempted, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        attempted.cancel()

    async def stop(self) -> None:
        await self._control.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.wipe()

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Until ``stop``; raises what ended one of the KME's own tasks before that."""
        await until_stopped(stop, self._tasks)

    @property
    def events(self) -> EventStreams:
        return self._server.events

    @property
    def port(self) -> int:
        """The TCP port of the first listener, for a configuration with port 0."""
        assert self._runner is not None
        port = self._runner.addresses[0][1]
        assert isinstance(port, int)
        return port

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL)
            self.store.expire()

    def _log_link(self) -> None:
        state = self.agent.state
        accounts = [self.store.account(direction) for direction in self.store.directions]
        _log.info(
            "link-state",
            state=state.state,
            alarms=state.alarms,
            suspect_age=self.agent.suspect_age,
            quarantined=sum(account.quarantined for account in accounts),
            delivered_suspect=sum(account.delivered_suspect for account in accounts),
        )

    def _status(self, _: Sequence[str]) -> dict[str, object]:
        """For ``kmectl status``; JSON-ready, no key bytes."""
        state = self.agent.state
        return {
            "kme": self._settings.kme_id,
            "peer": self._settings.peer_kme,
            "link_connected": self.agent.connected,
            "peer_connected": state.peer_connected,
            "link": {
                "state": state.state,
                "since": state.since,
                "alarms": state.alarms,
                "key_rate": state.key_rate,
                "suspect_age": self.agent.suspect_age,
            },
            "directions": [
                {
                    "master": direction.master,
                    "slave": direction.slave,
                    "stored": self.store.stored(direction),
                    "awaiting": self.store.awaiting(direction),
                    "accounting": self.store.account(direction).as_json(),
                }
                for direction in self.store.directions
            ],
            "faults": self.faults.names(),
            "quirks": self.quirks.names(),
        }


async def run_kme(settings: KmeSettings, *, ready: asyncio.Event, stop: asyncio.Event) -> None:
    """Serve until ``stop``. Raises KmeStartupError."""
    kme = Kme(settings)
    try:
        await kme.start()
        _log.info(
            "kme-ready", kme=settings.kme_id, port=kme.port, link_connected=kme.agent.connected
        )
        ready.set()
        await kme.serve_until(stop)
    finally:
        await kme.stop()
