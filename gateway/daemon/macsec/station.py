"""One incarnation of a link on its interface: EAPOL socket, MKA port, MACsec device.

When keys are gone that only another SAK replaces, or the interface is another one, the link makes
a new station. That is another member to its peers, which have the key server make a new SAK.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gateway.config.schema import MacsecConfig
from gateway.crypto.rng import Rng
from gateway.daemon.keylog import KeyLog
from gateway.daemon.macsec import build
from gateway.daemon.macsec.audit import Findings, compare
from gateway.daemon.macsec.driver import PortDriver
from gateway.daemon.macsec.eapol import FrameSocket, OpenSocket
from gateway.daemon.macsec.executor import SecyExecutor, Work, wipe
from gateway.dataplane.macsec_port import MacsecPlane, ParentState, SecyState
from gateway.errors import DataplaneError
from gateway.mka.commands import Answer
from gateway.mka.events import Event
from gateway.mka.port import Port
from gateway.mka.settings import InheritedSas
from gateway.mka.views import PortFacts

log = logging.getLogger("qsgw.macsec")


class InterfaceMissingError(DataplaneError):
    """There is no such interface now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every station of every link is given."""

    plane: MacsecPlane
    open_socket: OpenSocket
    enqueue: Callable[[Work], None]
    rng: Rng
    key_log: KeyLog | None
    changed: Callable[[], None]  # something that a snapshot shows
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Whom a station tells."""

    event: Callable[[Event], None]
    settled: Callable[[], None]  # something may have changed in port or kernel
    refused: Callable[[str | None], None]  # the kernel may differ; why, where no event says it


async def open_station(
    config: MacsecConfig, around: Surroundings, reports: Reports, *, inherit: bool
) -> Station:
    """Kernel work. ``inherit``: go on with SAs that are there; else they are deleted.

    InterfaceMissingError, or DataplaneError with the kernel's words.
    """
    plane, spec = around.plane, build.secy_spec(config)
    try:
        await plane.parent(config.interface)
    except DataplaneError as error:
        raise InterfaceMissingError(str(error), error.errno) from error
    state = await plane.set_up(spec)
    parent = await plane.parent(config.interface)  # as it is now that it is up
    found = build.inherited(state) if inherit else None
    if found is None:
        await _clear(plane, spec.device, state)
        state = await plane.read(spec.device) or state
    station = Station(config, around, reports, parent=parent, state=state, inherited=found)
    station.hear()
    return station


async def _clear(plane: MacsecPlane, device: str, state: SecyState) -> None:
    """Delete every SA and channel: nobody knows their keys."""
    for sa in state.transmit:
        await plane.remove_transmit_sa(device, sa.an)
    for sci in state.receive_channels:
        await plane.remove_receive_channel(device, sci)


class Station:
    """Made by ``open_station``."""

    def __init__(
        self,
        config: MacsecConfig,
        around: Surroundings,
        reports: Reports,
        *,
        parent: ParentState,
        state: SecyState,
        inherited: InheritedSas | None,
    ) -> None:
        self.parent = parent
        self.kernel: SecyState | None = state  # as last read
        self.sci = state.sci
        self.inherits = inherited is not None
        self._config = config
        self._around = around
        self._reports = reports
        self._socket: FrameSocket | None = None
        self._executor = SecyExecutor(
            around.plane,
            build.secy_spec(config),
            enqueue=around.enqueue,
            answer=self._answer,
            read_back=self._read_back,
            refused=reports.refused,
            key_log=around.key_log,
        )
        self._driver = PortDriver(
            Port(build.port_settings(config, state.sci), rng=around.rng, inherited=inherited),
            send=self._send,
            submit=self._executor.submit,
            on_event=reports.event,
            settled=reports.settled,
            clock=around.clock,
        )

    # --- the port --------------------------------------------------------------------------------

    @property
    def facts(self) -> PortFacts:
        return self._driver.port.view()

    @property
    def unsent(self) -> Mapping[str, int]:
        """EAPOL frames that could not be sent or read, by error."""
        return {} if self._socket is None else self._socket.failures

    @property
    def is_key_server(self) -> bool:
        """Under the CAK that decides."""
        return any(
            item.principal and item.key_server == self.sci for item in self.facts.participants
        )

    def run(self, step: Callable[[Port, float], None]) -> None:
        """Do one thing to the port, at the time given to it."""
        self._driver.run(partial(step, self._driver.port))

    def hear(self) -> None:
        """Open the socket. DataplaneError where it cannot be had."""
        name, index = self._config.interface, self.parent.index
        self._socket = self._around.open_socket(name, index, self._driver.receive)
        self._driver.begin()

    def close(self) -> None:
        """End at once. The kernel is left as it is; keys in memory are wiped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._driver.close()
        self._executor.close()
        port = self._driver.port
        port.close("this port ends", self._around.clock())
        for command in port.take_commands():
            wipe(command)

    def _answer(self, answer: Answer) -> None:
        self._driver.answer(answer)

    def _send(self, frame: bytes) -> None:
        if self._socket is not None:
            self._socket.send(frame)

    # --- the kernel ------------------------------------------------------------------------------

    async def look(self, *, parent_too: bool) -> str | None:
        """Kernel work: read the device, tell the port its packet numbers, repair what differs.

        Returns why there has to be another station, if so. InterfaceMissingError, DataplaneError.
        """
        plane, config = self._around.plane, self._config
        if parent_too:
            try:
                parent = await plane.parent(config.interface)
            except DataplaneError as error:
                raise InterfaceMissingError(str(error), error.errno) from error
            if parent.index != self.parent.index or parent.mac != self.parent.mac:
                return f"{config.interface} is another interface now"
            self.parent = parent
        state = await plane.read(config.device)
        self.kernel = state
        if not self._executor.idle:
            return None  # the core is ahead of the kernel for a moment
        facts = self.facts
        findings = compare(facts, state, sci=self.sci, spec=self._executor.spec, parent=self.parent)
        if findings.lost is not None or state is None:
            return findings.lost
        for sa in state.transmit:
            self._driver.transmit_pn(sa.an, sa.pn)
        await self._repair(findings)
        self._reports.settled()
        return None

    async def _repair(self, findings: Findings) -> None:
        plane, config = self._around.plane, self._config
        if findings.changed is not None:
            log.warning("%s: %s: %s; set up again", config.name, config.device, findings.changed)
            await plane.set_up(self._executor.spec)
            await plane.set_port(config.device, self.facts.port)
        elif findings.set_port is not None:
            log.warning("%s: %s let pass what it must not; set", config.name, config.device)
            await plane.set_port(config.device, findings.set_port)
        if findings.send_with is not None:
            log.warning("%s: %s sent with another AN; set", config.name, config.device)
            await plane.transmit_with(config.device, findings.send_with)
        for sa in findings.strays:
            log.warning("%s: %s had an SA of no SAK (AN %d)", config.name, config.device, sa.an)
            if sa.sci == self.sci:
                await plane.remove_transmit_sa(config.device, sa.an)
            else:
                await plane.remove_receive_sa(config.device, sa.sci, sa.an)
        if findings != Findings():
            self.kernel = await plane.read(config.device)

    def _read_back(self, state: SecyState | None) -> None:
        self.kernel = state
        self._reports.settled()
