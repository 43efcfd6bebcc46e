"""Two IKE endpoints in memory: moon and sun, a wire between them, a kernel and a KME each.

Nothing here waits: ``Pair.run`` delivers what is on the wire, answers commands, and when
nothing moves lets the clock jump to the next deadline. After every single step it checks what
must always hold. A test bends the wire with a ``Fault`` and the kernel with flags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address, ip_network
from uuid import UUID

from gateway.crypto.kex import KexFactory
from gateway.crypto.secret import Secret
from gateway.ike.commands import (
    ActivateOutbound,
    AllocateSpi,
    CertificatesTrusted,
    CheckCertificates,
    Command,
    Done,
    Failed,
    FetchPpk,
    InstallChild,
    InstallInbound,
    PpkFetched,
    RecordIkeKeys,
    RemoveSas,
    SettlePpk,
    SpiAllocated,
    TakePpk,
    UpdateEncap,
    WatchInbound,
)
from gateway.ike.config import ChildConfig, Connection, Timing
from gateway.ike.credentials import SharedKey
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import ChildUp, Event, ExchangeFailed, IkeClosed, IkeEstablished
from gateway.ike.identity import Identity
from gateway.ike.message import Header, parse_header
from gateway.ike.outbox import KEEPALIVE, Address, Datagram
from gateway.ike.proposals import ProposalSpec
from gateway.model import IpAddress, KeyId, Ppk
from tests.support.ike_kernel import Kernel
from tests.support.toy_kex import SeededRng, ToyKex
from tests.support.witness import Witness

MOON = ip_address("10.0.12.1")
SUN = ip_address("10.0.23.3")
TUNNELS = ("net", "scada", "voice")
IKE_HYBRID = "aes256gcm16-prfsha512-x25519-ke1_mlkem768"
ESP_HYBRID = "aes256gcm16-x25519-ke1_mlkem768-esn"
TIMING = Timing(retransmit_base=1.0, retransmit_factor=1.5, retransmit_tries=5)


def trust_nobody(command: CheckCertificates) -> Failed:
    return Failed(token=command.token, reason="no certificates are expected here")


@dataclass
class Side:
    """One gateway with all that belongs to it."""

    name: str
    address: IpAddress
    connection: Connection
    endpoint: Endpoint
    kernel: Kernel
    kme: dict[KeyId, bytes]
    events: list[Event] = field(default_factory=list)
    settled: list[SettlePpk] = field(default_factory=list)
    handed: list[KeyId] = field(default_factory=list)  # keys that went into the core
    fetches: list[FetchPpk] = field(default_factory=list)
    recorded: list[RecordIkeKeys] = field(default_factory=list)
    checks: list[CheckCertificates] = field(default_factory=list)
    judge: Callable[[CheckCertificates], CertificatesTrusted | Failed] = trust_nobody
    hold_fetches: bool = False
    keepalives: list[tuple[float, Datagram]] = field(default_factory=list)  # and when
    take_key: Callable[[], Ppk] | None = None  # for what the core begins by itself

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ups(self) -> list[ChildUp]:
        return [event for event in self.events if isinstance(event, ChildUp)]

    @property
    def failures(self) -> list[ExchangeFailed]:
        return [event for event in self.events if isinstance(event, ExchangeFailed)]

    @property
    def closed(self) -> list[IkeClosed]:
        return [event for event in self.events if isinstance(event, IkeClosed)]

    @property
    def established(self) -> list[IkeEstablished]:
        return [event for event in self.events if isinstance(event, IkeEstablished)]

    @property
    def facts(self):
        """Of the first tunnel."""
        return self.endpoint.views()[0]

    @property
    def tunnels(self) -> tuple[str, ...]:
        return tuple(child.name for child in self.connection.children)

    def facts_of(self, tunnel: str):
        return next(facts for facts in self.endpoint.views() if facts.name == tunnel)

    def carry_out(self, command: Command, now: float) -> None:
        kernel = self.kernel
        match command:
            case AllocateSpi(token=token):
                if kernel.fail_allocate:
                    self.endpoint.answer(Failed(token=token, reason=kernel.fail_allocate), now)
                else:
                    spi = kernel.allocate(command).spi
                    self.endpoint.answer(SpiAllocated(token=token, spi=spi), now)
            case FetchPpk():
                self.fetches.append(command)
                if not self.hold_fetches:
                    self.deliver_key(command, now)
            case CheckCertificates():
                self.checks.append(command)
                self.endpoint.answer(self.judge(command), now)
            case TakePpk(token=token):
                if self.take_key is None:
                    self.endpoint.answer(Failed(token=token, reason="no key at hand"), now)
                else:
                    self.endpoint.answer(PpkFetched(token=token, ppk=self.take_key()), now)
            case InstallInbound(token=token):
                if kernel.fail_early:
                    self.endpoint.answer(Failed(token=token, reason=kernel.fail_early), now)
                else:
                    kernel.install_inbound(command)
                    self.endpoint.answer(Done(token=token), now)
            case InstallChild(token=token):
                if kernel.fail_install:
                    self.endpoint.answer(Failed(token=token, reason=kernel.fail_install), now)
                else:
                    kernel.install(command)
                    self.endpoint.answer(Done(token=token), now)
            case ActivateOutbound(token=token):
                if kernel.fail_activate:
                    self.endpoint.answer(Failed(token=token, reason=kernel.fail_activate), now)
                else:
                    kernel.activate(command)
                    self.endpoint.answer(Done(token=token), now)
            case RemoveSas():
                kernel.remove(command)
            case WatchInbound(sa_id=sa_id):
                kernel.watched.add(sa_id)
            case UpdateEncap(encaps=encaps):
                kernel.update_encap(encaps)
            case SettlePpk():
                self.settled.append(command)
            case RecordIkeKeys():
                self.recorded.append(command)

    def deliver_key(self, command: FetchPpk, now: float) -> None:
        """The KME's answer: a key is given out once."""
        key = self.kme.pop(command.key_id, None)
        if key is None:
            self.endpoint.answer(Failed(token=command.token, reason="key not found"), now)
            return
        self.handed.append(command.key_id)
        ppk = Ppk(key_id=command.key_id, key=Secret(key))
        self.endpoint.answer(PpkFetched(token=command.token, ppk=ppk), now)


@dataclass(frozen=True)
class Flight:
    """A datagram on its way, for a Fault to judge."""

    number: int  # of all datagrams, from 0
    sender: str
    header: Header
    data: bytes


Fault = Callable[[Flight], list[tuple[float, bytes]]]
"""What becomes of a datagram: (delay in seconds, octets) for every copy that arrives."""


def no_fault(flight: Flight) -> list[tuple[float, bytes]]:
    return [(0.0, flight.data)]


CHILD_FIELDS = {item.name for item in fields(ChildConfig)} - {"name"}


def child(local: str, name: str, **changes: object) -> ChildConfig:
    """moon's or sun's end of the tunnel ``name``, one of TUNNELS."""
    number = TUNNELS.index(name)
    networks = (ip_network(f"10.1.{number}.0/24"),), (ip_network(f"10.2.{number}.0/24"),)
    made = ChildConfig(
        name=name,
        esp_proposals=(ProposalSpec.parse(ESP_HYBRID),),
        local_networks=networks[0 if local == "moon" else 1],
        remote_networks=networks[1 if local == "moon" else 0],
    )
    return replace(made, **changes)


def with_children(made: Connection, **changes: object) -> Connection:
    """The same connection with something changed in each of its tunnels."""
    return replace(made, children=tuple(replace(one, **changes) for one in made.children))


def connection(
    local: str,
    *,
    tunnels: tuple[str, ...] = ("net",),
    each: Mapping[str, Mapping[str, object]] | None = None,
    ike: tuple[str, ...] = (IKE_HYBRID,),
    esp: tuple[str, ...] = (ESP_HYBRID,),
    psk: bytes = b"a pre-shared key of some length",
    **changes: object,
) -> Connection:
    """moon's or sun's end. ``changes`` of a ChildConfig are made in every tunnel, those in
    ``each`` in the one they are given for."""
    ends = {"moon": (MOON, "moon.example"), "sun": (SUN, "sun.example")}
    ours = ends[local]
    theirs = ends["sun" if local == "moon" else "moon"]
    of_child: dict[str, object] = {
        "esp_proposals": tuple(ProposalSpec.parse(text) for text in esp),
        **{name: changes.pop(name) for name in CHILD_FIELDS & changes.keys() if tunnels},
    }
    made = Connection(
        name=tunnels[0] if tunnels else "net",
        local_address=ours[0],
        remote_address=theirs[0],
        local_id=Identity.parse(ours[1]),
        remote_id=Identity.parse(theirs[1]),
        local_auth=SharedKey(key=Secret(psk)),
        remote_auth=SharedKey(key=Secret(psk)),
        ike_proposals=tuple(ProposalSpec.parse(text) for text in ike),
        children=tuple(
            child(local, name, **{**of_child, **(each or {}).get(name, {})}) for name in tunnels
        ),
    )
    return replace(made, **changes)


class Pair:
    """moon and sun. Both sides get the same settings unless told otherwise.

    Scapy looks at every message they send, unless a test makes them send what no codec
    can take: then it says ``witnessed=False``.
    """

    def __init__(
        self,
        *,
        moon: dict[str, object] | None = None,
        sun: dict[str, object] | None = None,
        timing: Timing = TIMING,
        cookie_threshold: int = 10,
        fault: Fault = no_fault,
        toy_kex: bool = False,
        seed: str = "",
        report_inbound: bool = False,
        witnessed: bool = True,
        **both: object,
    ) -> None:
        self.now = 1000.0
        self.fault = fault
        self.witness = Witness() if witnessed else None
        self.report_inbound = report_inbound
        self.sent: list[Flight] = []
        self.nat: Callable[[str, Address, Address], tuple[Address, Address]] | None = None
        self._options = (timing, cookie_threshold, toy_kex, seed)
        self._wire: list[tuple[float, int, Datagram]] = []
        self._serial = 0
        self._keys = 0
        self._watching_traffic = False
        self.moon = self._side("moon", MOON, {**both, **(moon or {})}, 0xC0000000)
        self.sun = self._side("sun", SUN, {**both, **(sun or {})}, 0xC8000000)
        self.moon.take_key = lambda: self.key(self.moon)
        self.sun.take_key = lambda: self.key(self.sun)

    def _side(self, name: str, address: IpAddress, changes: dict[str, object], spi: int) -> Side:
        conn = connection(name, **changes)  # type: ignore[arg-type]
        return Side(
            name=name,
            address=address,
            connection=conn,
            endpoint=self._endpoint(name, conn),
            kernel=Kernel(name, spi),
            kme={},
        )

    def _endpoint(self, name: str, conn: Connection) -> Endpoint:
        timing, cookie_threshold, toy_kex, seed = self._options
        rng = SeededRng(f"{seed}/{name}/{self.now}")
        kex: KexFactory | None = ToyKex(SeededRng(f"kex/{seed}/{name}")) if toy_kex else None
        return Endpoint(
            connections=[conn],
            rng=rng,
            timing=timing,
            cookie_threshold=cookie_threshold,
            kex=kex,
            record_keys=self.witness is not None,
        )

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.moon, self.sun

    def crash(self, side: Side) -> None:
        """The process dies and starts anew; the kernel is cleaned as the daemon would."""
        side.endpoint = self._endpoint(side.name, side.connection)
        side.kernel.sas.clear()
        side.kernel.keys.clear()
        side.kernel.reserved.clear()
        side.kernel.early.clear()
        side.kernel.leads.clear()
        side.handed.clear()
        side.settled.clear()
        self._watching_traffic = False

    # --- QKD keys --------------------------------------------------------------------------

    def key(self, side: Side | None = None, *, at_peer: bytes | None = b"") -> Ppk:
        """A fresh key for ``side``; the peer's KME has it too, another one, or none."""
        self._keys += 1
        key_id = KeyId(str(UUID(int=0xA000 + self._keys)))
        octets = hashlib.sha256(f"QKD key {self._keys}".encode()).digest()
        ours = side or self.moon
        peer = self.sun if ours is self.moon else self.moon
        if at_peer is not None:
            peer.kme[key_id] = at_peer or octets
        ours.handed.append(key_id)
        return Ppk(key_id=key_id, key=Secret(octets))

    # --- time ------------------------------------------------------------------------------

    def run(self, seconds: float = 0.0) -> None:
        """Until nothing moves, and then on for so long."""
        end = self.now + seconds
        while True:
            self._drain()
            if self._deliver_due():
                continue
            upcoming = [self._wire[0][0]] if self._wire else []
            upcoming += [
                deadline
                for side in self.sides
                if (deadline := side.endpoint.next_deadline()) is not None
            ]
            if not upcoming or min(upcoming) > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, min(upcoming))
            for side in self.sides:
                side.endpoint.handle_timer(self.now)

    def _drain(self) -> None:
        moved = True
        while moved:
            moved = False
            for side in self.sides:
                datagrams = side.endpoint.take_datagrams()
                commands = side.endpoint.take_commands()
                events = side.endpoint.take_events()
                moved = moved or bool(datagrams or commands or events)
                side.events.extend(events)
                if self.witness is not None:
                    for command in commands:
                        if isinstance(command, RecordIkeKeys):
                            self.witness.learn(command)
                for datagram in datagrams:
                    self._send(side, datagram)
                for command in commands:
                    side.carry_out(command, self.now)
                    self.check_traffic()
                self._see_inbound(side)

    def _send(self, side: Side, datagram: Datagram) -> None:
        if datagram.data == KEEPALIVE:
            side.keepalives.append((self.now, datagram))
            self.inject(datagram)
            return
        flight = Flight(len(self.sent), side.name, parse_header(datagram.data), datagram.data)
        self.sent.append(flight)
        if self.witness is not None:
            self.witness.see(side.name, datagram.data)
        for delay, data in self.fault(flight):
            self.inject(replace(datagram, data=data), delay)

    def inject(self, datagram: Datagram, delay: float = 0.0) -> None:
        """Put a datagram on the wire as it stands."""
        self._serial += 1
        self._wire.append((self.now + delay, self._serial, datagram))
        self._wire.sort(key=lambda entry: entry[:2])

    def _deliver_due(self) -> bool:
        if not self._wire or self._wire[0][0] > self.now:
            return False
        _, _, datagram = self._wire.pop(0)
        source, destination = datagram.local, datagram.remote
        if self.nat is not None:
            sender = "moon" if datagram.local[0] == MOON else "sun"
            source, destination = self.nat(sender, source, destination)
        for side in self.sides:
            if side.address == destination[0]:
                side.endpoint.receive_datagram(
                    datagram.data, local=destination, remote=source, now=self.now
                )
        return True

    def _see_inbound(self, side: Side) -> None:
        """Traffic flows all the time: what the peer sends on is seen at once."""
        peer = self.sun if side is self.moon else self.moon
        if self.report_inbound:
            for active in set(peer.kernel.leads.values()) & side.kernel.watched:
                side.kernel.watched.discard(active)
                side.endpoint.inbound_seen(active, self.now)

    # --- what must hold --------------------------------------------------------------------

    def carries(self, sender: Side, tunnel: str | None = None) -> bool:
        """Whether a packet that leaves ``sender`` now is decrypted at the other end.

        In this tunnel, or in each.
        """
        receiver = self.sun if sender is self.moon else self.moon
        for name in (tunnel,) if tunnel is not None else sender.tunnels:
            active = sender.kernel.leads.get(name)
            key = None if active is None else sender.kernel.keys.get(active)
            if active is None or key is None or receiver.kernel.keys.get(active) != key:
                return False
        return True

    def watch_traffic(self) -> None:
        """From now on every single step must leave both directions working."""
        self._watching_traffic = True
        self.check_traffic()

    def check_traffic(self) -> None:
        if self._watching_traffic:
            for side in self.sides:
                assert self.carries(side), f"{side.name}'s packets are lost"

    def check_settled(self) -> None:
        """Every key that went into a core came out exactly once."""
        for side in self.sides:
            self.check_settled_at(side)

    @staticmethod
    def check_settled_at(side: Side) -> None:
        settled = [command.key_id for command in side.settled]
        assert sorted(settled) == sorted(side.handed), side.name

    def check_mirrored(self) -> None:
        """One child per tunnel and side, each the mirror image of the other."""
        self.check_traffic()
        for ours, theirs in ((self.moon, self.sun), (self.sun, self.moon)):
            for tunnel in ours.tunnels:
                assert len(ours.kernel.inbound(tunnel)) == 1, (ours.name, tunnel)
                assert len(ours.kernel.outbounds(tunnel)) == 1, (ours.name, tunnel)
            assert not ours.kernel.reserved, ours.name
            assert not ours.kernel.early, ours.name
            for sa_id, key in ours.kernel.keys.items():
                assert theirs.kernel.keys[sa_id] == key
                assert theirs.kernel.sas[sa_id].direction != ours.kernel.sas[sa_id].direction
                assert theirs.kernel.sas[sa_id].esn == ours.kernel.sas[sa_id].esn
            assert self.carries(ours)

    def check_empty(self) -> None:
        """Nothing is left in either kernel."""
        for side in self.sides:
            assert not side.kernel.sas, side.name
            assert not side.kernel.reserved, side.name

    # --- short ways ------------------------------------------------------------------------

    def initiate(self, *, ppk: bool = True, side: Side | None = None, tunnel: str = "net") -> Pair:
        """moon (or ``side``) sets up the tunnel, with a QKD key unless told otherwise."""
        self.begin(ppk=ppk, side=side, tunnel=tunnel)
        self.run()
        return self

    def begin(self, *, ppk: bool = True, side: Side | None = None, tunnel: str = "net") -> None:
        """As ``initiate``, but nothing is delivered yet."""
        ours = side or self.moon
        key = self.key(ours) if ppk else None
        ours.endpoint.initiate(tunnel, ppk=key, now=self.now)

    def rekey(self, *, ppk: bool = True, side: Side | None = None, tunnel: str = "net") -> Pair:
        ours = side or self.moon
        ours.endpoint.rekey_child(tunnel, ppk=self.key(ours) if ppk else None, now=self.now)
        self.run()
        return self

    def exchanges(self, sender: str = "moon") -> Iterator[int]:
        """Exchange types of the requests one side sent, in order, repetitions left out."""
        seen: set[tuple[bytes, int, int]] = set()
        for flight in self.sent:
            header = flight.header
            mark = (header.spi_i, header.exchange, header.message_id)
            if flight.sender == sender and not header.response and mark not in seen:
                seen.add(mark)
                yield header.exchange
