"""One MACsec link at run time: its station, its CAKs, and what is shown of them.

Nothing is decided here. The connection's policy says which CAKs there may be, ``mka`` which SAK
is used; this is the wiring between them, the kernel and the bulletin.
"""

from __future__ import annotations

import asyncio
import logging
from ipaddress import IPv6Interface

from gateway.config.schema import MacsecConfig
from gateway.daemon.bulletin import Bulletin
from gateway.daemon.macsec.alarms import ALARMS, Situation, standing
from gateway.daemon.macsec.caks import Caks
from gateway.daemon.macsec.events import PortEvents, short
from gateway.daemon.macsec.renewal import not_renewed, refusal
from gateway.daemon.macsec.shown import EARLIER_RUN, shown
from gateway.daemon.macsec.source import CakSource
from gateway.daemon.macsec.station import (
    InterfaceMissingError,
    Reports,
    Station,
    Surroundings,
    open_station,
)
from gateway.errors import DataplaneError
from gateway.ike.errors import NoIkeSaError
from gateway.ike.events import IkeClosed
from gateway.ike.views import IkeFacts
from gateway.mka.events import Dropped, Event
from gateway.mka.identifiers import Sci
from gateway.mka.keys import Cak
from gateway.mka.limits import BOUNDED_HELLO_TIME, HELLO_TIME
from gateway.mka.views import PortFacts
from gateway.model import Ended, Mixed, PortSecurity, PortState, Protection
from gateway.protection.machine import TunnelProtection

log = logging.getLogger("qsgw.macsec")

PARENT_EVERY = 5  # looks at the device to one at its parent; what happens to that comes as events


class MacsecLink:
    """What touches the kernel goes through ``Surroundings.enqueue``, in turn."""

    def __init__(
        self,
        config: MacsecConfig,
        around: Surroundings,
        bulletin: Bulletin,
        *,
        source: CakSource | None,
    ) -> None:
        """``source``: None with a static CAK."""
        self.config = config
        self.source = source
        self.caks = Caks()
        self.events = PortEvents(
            name=config.name, caks=self.caks, bulletin=bulletin, clock=around.clock
        )
        self.station: Station | None = None  # None while the interface or the device lacks
        self.protection = Protection.DOWN
        self.reason = "starting"
        self.since = around.clock()  # of the protection shown
        self._around = around
        self._bulletin = bulletin
        self._started_at = around.clock()
        self._was_up = False
        self._port = PortState.BLOCKED
        self._may_inherit = True
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0
        self._look_waits = False
        self._missing: str | None = None
        self._refused: str | None = None
        self._foreign: str | None = None

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Set the device up, or take over what is there. What fails is tried again. Kernel work."""
        static = self.config.static
        if static is not None and self.caks.newest is None:
            self._take(self.caks.add_static(static, self._around.clock()))
        await self._make_station()
        self._schedule()

    def inherit(self, old: MacsecLink) -> None:
        """Take the place of a link that is keyed alike (a reload), before ``start``."""
        self.caks = old.caks
        self.events.inherit(old.events, self.caks)
        self.protection, self.reason, self.since = old.protection, old.reason, old.since
        self._was_up = old._was_up

    def take_over(self) -> None:
        """Our peer gives us up soon: have the IKE SA made that the next CAK comes from."""
        inherits = self.station is not None and self.station.inherits
        if self.source is not None and inherits and self.caks.newest is None:
            self.source.want("taking over from an earlier run")

    def stop(self) -> None:
        """End at once; device, SAs and filter stay as they are."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.station is not None:
            self.station.run(lambda port, now: port.prove_life(now))
        self._drop_station()

    def close(self, reason: str) -> None:
        """Delete all SAs and forget all CAKs; device and filter stay, so nothing passes."""
        self._may_inherit = False
        if self.station is not None:
            self.station.run(lambda port, now: port.close(reason, now))
        self.caks.drop_all()
        self._settled()

    @property
    def facts(self) -> PortFacts | None:
        """What the MKA core knows."""
        return None if self.station is None else self.station.facts

    @property
    def key_server(self) -> Sci | None:
        """Under the CAK that decides."""
        items = () if self.station is None else self.station.facts.participants
        return next((item.key_server for item in items if item.principal), None)

    @property
    def trouble(self) -> str | None:
        """Why no SAK is in use, where it is known."""
        return self._missing or self._refused or self.events.obstacle

    @property
    def policy(self) -> TunnelProtection | None:
        return None if self.source is None else self.source.policy

    # --- CAKs ----------------------------------------------------------------------------------

    def ike_up(self, ike: IkeFacts) -> None:
        """An IKE SA of our connection is up: the next CAK comes from it."""
        if self.source is None or self._closed:
            return
        self._foreign = None
        if not ike.peer_is_qsgw:
            who = ike.remote_id or ike.remote[0]
            self._foreign = f"{who} is no qsgw gateway: its IKE SA gives no CAK"
            self._watch()
            return
        try:
            exported = self.source.export(ike)
        except NoIkeSaError as error:  # policy did not want it, and closed it
            log.debug("%s: %s", self.config.name, error)
            return
        now, config = self._around.clock(), self.config
        try:
            cak = self.caks.add_hybrid(
                ike, exported, link=config.link, size=config.cak_size, now=now
            )
        except ValueError as error:
            self.events.failed("macsec-cak-failed", f"no CAK can be made of the IKE SA: {error}")
            return
        finally:
            exported.wipe()
        if cak is not None:
            self._announce(cak.ckn, ike.mixed)
            self._take(cak)

    def ike_closed(self, event: IkeClosed) -> None:
        """An IKE SA of our connection is gone.

        The CAK goes on until there is another one: it may be the management network that is down,
        or the peer has an IKE SA that we never heard of. A peer that means what it keyed, too,
        stops speaking under the CAK. What we end, a peer not trusted any more, ends here.
        """
        current = None if self.source is None else self.source.established()
        if current is None and event.ended is Ended.HERE:
            self.close(event.reason)
            return
        closed = (event.spi_i, event.spi_r)
        if current is not None and self.caks.in_order((current.spi_i, current.spi_r), closed):
            # Both ends set up at once, and one IKE SA of the two was given up. The other end may
            # have had them the other way round: what both keep is what decides.
            ckn = self.caks.made_of(closed)
            if ckn is not None:
                self._remove(ckn, f"its IKE SA is gone: {event.reason}")
        self.caks.ike_closed(*closed, event.reason)

    def new_sak(self) -> bool:
        """Have a new SAK made. False where we are not key server."""
        if self.station is None or not self.station.is_key_server:
            return False
        self.station.run(lambda port, now: port.request_sak("the operator asked for it", now))
        return True

    def _announce(self, ckn: bytes, mixed: Mixed) -> None:
        secrets = [*mixed.key_exchanges, *(["QKD"] if mixed.key_id else [])]
        self._bulletin.publish(
            "macsec-cak",
            f"new CAK {short(ckn)}: {mixed.protection} ({' + '.join(secrets)})",
            tunnel=self.config.name,
            ckn=ckn.hex(),
            protection=mixed.protection.value,
            key_id=mixed.key_id,
        )

    def _take(self, cak: Cak) -> None:
        if self._around.key_log is not None:
            self._around.key_log.write_cak(self.config.link, cak.ckn, cak.key)
        self._give(cak)

    def _give(self, cak: Cak) -> None:
        if self.station is None:
            cak.wipe()  # the next station gets a copy
            self.caks.trim()
        else:
            self.station.run(lambda port, now: port.add_cak(cak, now))

    def _remove(self, ckn: bytes, reason: str) -> None:
        if self.station is not None:
            self.station.run(lambda port, now: port.remove_cak(ckn, reason, now))
        self.caks.drop(ckn)

    def _expire(self, now: float) -> None:
        """A CAK that nothing replaced, and SAs of an earlier run that none came for."""
        max_age = None if self.source is None else self.source.max_age
        if max_age is None:
            return
        for ckn in self.caks.expired(max_age, now):
            self._remove(ckn, f"no other CAK for {max_age:g} s")
        inherits = self.station is not None and self.station.inherits
        if inherits and self.caks.newest is None and now - self._started_at >= max_age:
            self.close(f"no CAK for {max_age:g} s")

    # --- interface and kernel --------------------------------------------------------------------

    def interface_changed(self) -> None:
        """The parent or the device came, went or changed."""
        self._look_soon()

    async def take_down(self) -> None:
        """Kernel work, after ``stop``: the device goes, and the filter."""
        await self._around.plane.take_down(self.config.device, self.config.interface)

    async def _make_station(self) -> None:
        """Kernel work."""
        self._drop_station()
        reports = Reports(event=self._on_event, settled=self._settled, refused=self._kernel_refused)
        try:
            station = await open_station(
                self.config, self._around, reports, inherit=self._may_inherit
            )
        except InterfaceMissingError as error:
            self._found(missing=f"waiting for {self.config.interface}: {error}")
            return
        except DataplaneError as error:
            self._found(refused=str(error))
            return
        if self._closed:
            station.close()
            return
        self._found()
        if station.inherits and not self._may_inherit:  # policy closed us meanwhile
            station.run(lambda port, now: port.close("closed while it was set up", now))
        self._may_inherit = False
        self.station = station
        for cak in self.caks.copies():
            self._give(cak)
        current = None if self.source is None else self.source.established()
        if current is not None:
            self.ike_up(current)
        self._settled()

    def _found(self, *, missing: str | None = None, refused: str | None = None) -> None:
        if missing is not None and self._missing is None:
            self._may_inherit = False  # whatever comes back has been away
        if refused not in (None, self._refused):
            self.events.refused(str(refused))
        news = (missing, refused) != (self._missing, self._refused)
        self._missing, self._refused = missing, refused
        self._settled()
        if news:
            self._watch()

    def _drop_station(self) -> None:
        if self.station is not None:
            station, self.station = self.station, None
            station.close()

    def _look_soon(self) -> None:
        """Many reasons at once are one look."""
        if not self._look_waits:
            self._look_waits = True
            self._around.enqueue(self._look_at_all)

    async def _look_at_all(self) -> None:
        self._look_waits = False
        await self._look(parent_too=True)

    async def _look(self, *, parent_too: bool) -> None:
        """Kernel work: the device and its interface, against what is wanted."""
        if self._closed:
            return
        if self.station is None:
            await self._make_station()
            return
        try:
            lost = await self.station.look(parent_too=parent_too)
        except InterfaceMissingError as error:
            self._drop_station()
            self._found(missing=f"waiting for {self.config.interface}: {error}")
            return
        except DataplaneError as error:
            self._found(refused=str(error))
            return
        if lost is None:
            self._found()
            return
        text = f"{lost}: {self.config.device} is set up anew, with another SAK"
        self.events.failed("macsec-device-lost", text)
        await self._make_station()

    def _kernel_refused(self, text: str | None) -> None:
        if text is not None:
            self.events.refused(text)
        self._look_soon()

    # --- looking again ---------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Each Hello Time: so often the port wants its packet numbers."""
        if not self._closed:
            every = BOUNDED_HELLO_TIME if self.config.delay_protect else HELLO_TIME
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(every, self._around.enqueue, self._regular_look)

    async def _regular_look(self) -> None:
        self._looks += 1
        try:
            self._expire(self._around.clock())
            await self._look(parent_too=self._looks % PARENT_EVERY == 0)
            self._watch()
        finally:
            self._schedule()

    # --- what is shown ---------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        self.events.take(event)
        if not isinstance(event, Dropped):  # those are anybody's to cause, and only counted
            self._around.changed()

    def _settled(self) -> None:
        """Port or kernel may have changed: say what protects the link now."""
        if self._closed:
            return
        station = self.station
        new, reason = shown(
            self.facts,
            None if station is None else station.kernel,
            self.caks,
            self.policy,
            trouble=self.trouble,
        )
        if (new, reason) != (self.protection, self.reason):
            self._around.changed()
        old, self.protection, self.reason = self.protection, new, reason
        if new is not old:
            self._tell(old)
        if new is not old or self._port is not self._port_state:
            self._port = self._port_state
            self._watch()

    def _tell(self, old: Protection) -> None:
        new = self.protection
        self.since = self._around.clock()
        up = new not in (Protection.DOWN, Protection.BLOCKED)
        self._was_up = self._was_up or up
        self._bulletin.forget(self.config.name)
        self._bulletin.publish(
            "protection",
            f"{old} -> {new}: {self.reason}",
            tunnel=self.config.name,
            level=logging.INFO if new is Protection.HYBRID else logging.WARNING,
            old=old.value,
            new=new.value,
        )

    @property
    def _port_state(self) -> PortState:
        facts = self.facts
        return PortState.BLOCKED if facts is None else facts.port

    def _watch(self) -> None:
        """Raise and clear alarms."""
        alarms = standing(self._situation())
        name = self.config.name
        for alarm in ALARMS:
            if alarm in alarms:
                severity, text = alarms[alarm]
                self._bulletin.raise_alarm(alarm, severity, name, text)
            else:
                self._bulletin.clear_alarm(alarm, name)

    def _situation(self) -> Situation:
        now, facts, policy = self._around.clock(), self.facts, self.policy
        parent = None if self.station is None else self.station.parent
        refused = refusal(facts, self.caks, self.events.refusals, now)
        if refused is not None:
            self.events.tally.last_error = refused
        return Situation(
            now=now,
            interface=self.config.interface,
            protection=self.protection,
            reason=self.reason,
            since=self.since,
            was_up=self._was_up,
            earlier_run=self.reason == EARLIER_RUN,
            stopped=policy is not None and policy.stopped,
            port=self._port_state,
            static=self.config.static is not None,
            filtered=self.config.security is PortSecurity.MUST_SECURE,
            missing=self._missing,
            down=parent is not None and not parent.running,
            refused=self._refused,
            addressed=() if parent is None else tuple(map(str, filter(_routed, parent.addresses))),
            foreign_peer=self._foreign,
            refusal=refused,
            not_renewed=not_renewed(facts, self.caks, now),
        )


def _routed(address: object) -> bool:
    """Every interface that is up has a link-local IPv6 address."""
    return not (isinstance(address, IPv6Interface) and address.ip.is_link_local)
