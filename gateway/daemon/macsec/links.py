"""The MACsec links of this process: built from the configuration, fed by the IKE core's events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.config.schema import GatewayConfig, MacsecConfig
from gateway.crypto.rng import Rng
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.keylog import KeyLog
from gateway.daemon.macsec.build import same_keys
from gateway.daemon.macsec.eapol import OpenSocket
from gateway.daemon.macsec.executor import MacsecWorker, Work
from gateway.daemon.macsec.link import MacsecLink
from gateway.daemon.macsec.source import CakSource
from gateway.daemon.macsec.station import Surroundings
from gateway.daemon.macsec.views import Wall, macsec_view
from gateway.daemon.tunnel import Tunnel
from gateway.dataplane.macsec_port import InterfaceChanged, InterfaceEventsLost, MacsecPlane
from gateway.errors import DataplaneError
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import Event, IkeClosed, IkeEstablished, IkeRekeyed
from gateway.model import MacsecView, QkdPolicy
from gateway.protection.settings import HARD_AGE_FACTOR

log = logging.getLogger("qsgw.macsec")

WORKER_BEAT = 5.0  # seconds; the worker says so often that it lives while nothing is to be done


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanges:
    """What ``MacsecLinks.apply`` did, by name."""

    fresh: tuple[str, ...]
    removed: tuple[str, ...]


class MacsecLinks:
    """Owns the links and the one worker for their kernel work."""

    def __init__(
        self,
        plane: MacsecPlane,
        *,
        open_socket: OpenSocket,
        endpoint: Endpoint,
        tunnels: Mapping[str, Tunnel],
        rng: Rng,
        bulletin: Bulletin,
        key_log: KeyLog | None,
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.links: dict[str, MacsecLink] = {}
        self._plane = plane
        self._endpoint = endpoint
        self._tunnels = tunnels
        self._bulletin = bulletin
        self._worker = MacsecWorker()
        self._around = Surroundings(
            plane=plane,
            open_socket=open_socket,
            enqueue=self._worker.enqueue,
            rng=rng,
            key_log=key_log,
            changed=changed,
            clock=clock,
        )
        self._qkd: dict[str, QkdPolicy] = {}  # by connection
        self._opened = asyncio.Event()

    # --- life ------------------------------------------------------------------------------------

    async def open(self, config: GatewayConfig) -> None:
        """Have the kernel's MACsec where the configuration needs it. StartupError without it."""
        if config.macsec and not self._opened.is_set():
            await self._plane.open()
            self._opened.set()

    async def work(self, beat: Callable[[], None]) -> None:
        """Carry out kernel work for ever. To be started before ``apply``."""
        await self._worker.work(beat, WORKER_BEAT)

    async def follow_events(self) -> None:
        """React to interfaces that come, go and change, for ever."""
        await self._opened.wait()
        async for event in self._plane.events():
            match event:
                case InterfaceChanged(name=name):
                    for link in self.links.values():
                        if name in (link.config.interface, link.config.device):
                            link.interface_changed()
                case InterfaceEventsLost():
                    log.warning("interface events were lost: reading everything back")
                    for link in self.links.values():
                        link.interface_changed()

    async def apply(self, config: GatewayConfig) -> LinkChanges:
        """Make the links be those of ``config``, after ``open``.

        One that is the same is not touched. One that is keyed alike goes on with its SAs and
        CAKs; of one that is keyed otherwise, or by another connection, all SAs are deleted first.
        """
        wanted = config.macsec
        self._qkd = {name: tunnel.qkd for name, tunnel in config.tunnels.items()}
        old = {name: link for name, link in self.links.items() if wanted.get(name) != link.config}
        for name, link in old.items():
            del self.links[name]
            self._bulletin.clear_subject(name)
            await self._retire(link, wanted.get(name))
        fresh = [name for name in wanted if name not in self.links]
        for name in fresh:
            link = self._build(wanted[name])
            if name in old and same_keys(old[name].config, wanted[name]):
                link.inherit(old[name])
            self.links[name] = link
            await self._in_turn(link.start)
        for link in self.links.values():
            if link.source is not None:
                rekey_max = config.tunnels[link.source.connection].rekey_max
                link.source.max_age = HARD_AGE_FACTOR * rekey_max
        removed = tuple(name for name in old if name not in wanted)
        return LinkChanges(fresh=tuple(fresh), removed=removed)

    def take_over(self) -> None:
        """Once the tunnels run: have IKE SAs made where an earlier run's SAs wait for a CAK."""
        for link in self.links.values():
            link.take_over()

    async def close(self) -> None:
        """Delete all SAs, so nothing passes; devices and filters stay."""
        for link in self.links.values():
            link.close("the daemon is stopping")
        if self.links:
            await self._worker.settle()

    def stop(self) -> None:
        """The kernel is left as it is; keys in memory are wiped."""
        for link in self.links.values():
            link.stop()
            link.caks.drop_all()

    async def close_plane(self) -> None:
        """After the tasks that ``work`` and ``follow_events`` run in have ended."""
        if self._opened.is_set():
            self._opened.clear()
            await self._plane.close()

    # --- what happens ----------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Something happened in the IKE core. The connection's policy was told before."""
        match event:
            case IkeEstablished() | IkeRekeyed():
                for link in self._fed_by(event.connection):
                    source = link.source
                    ike = source.find(event.spi_i, event.spi_r) if source is not None else None
                    if ike is not None:
                        link.ike_up(ike)
            case IkeClosed():
                for link in self._fed_by(event.connection):
                    link.ike_closed(event)
            case _:
                pass

    def denied(self, connection: str, reason: str) -> None:
        """Policy closes the connection: no CAK of it is used any more, from now on."""
        for link in self._fed_by(connection):
            link.close(reason)

    # --- for the operator ------------------------------------------------------------------------

    async def views(self, wall: Wall) -> tuple[MacsecView, ...]:
        """Every link, its device read now."""
        views: list[MacsecView] = []
        for link in tuple(self.links.values()):
            try:
                state = await self._plane.read(link.config.device)
            except DataplaneError as error:
                log.warning("%s: %s", link.config.name, error)
                state = None
            qkd = self._qkd.get(link.config.connection or "", QkdPolicy.OFF)
            views.append(macsec_view(link, state, qkd=qkd, wall=wall))
        return tuple(views)

    # ---------------------------------------------------------------------------------------------

    def _fed_by(self, connection: str) -> list[MacsecLink]:
        return [link for link in self.links.values() if link.config.connection == connection]

    def _build(self, config: MacsecConfig) -> MacsecLink:
        source = None
        if config.connection is not None:
            source = CakSource(config.connection, self._tunnels, self._endpoint)
        return MacsecLink(config, self._around, self._bulletin, source=source)

    async def _retire(self, link: MacsecLink, heir: MacsecConfig | None) -> None:
        if heir is not None and same_keys(link.config, heir):
            await self._in_turn(partial(_stop, link))
            return
        link.close("the configuration changed")
        await self._in_turn(partial(_stop, link))
        same_device = heir is not None and (heir.device, heir.interface) == (
            link.config.device,
            link.config.interface,
        )
        if not same_device:
            try:
                await self._in_turn(link.take_down)
            except DataplaneError as error:
                log.error("%s: %s", link.config.name, error)

    async def _in_turn(self, work: Work) -> None:
        """Do it in its turn among the kernel work, and wait for it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def do() -> None:
            try:
                await work()
            except DataplaneError as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._worker.enqueue(do)
        await done


async def _stop(link: MacsecLink) -> None:
    """Behind whatever the link still had to do."""
    link.stop()
