"""The endpoint under attack and those around it; and what must hold whatever arrives.

``sun`` is under attack. It has two peers: moon, with two tunnels, has all keys and has gone mad;
mars, with one, is honest and must not notice. Everything that happens to a world is an
``Op``; a world and its ops are determined by a seed, so a tape of ops is a whole bug report.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from gateway.ike import limits
from gateway.ike.commands import (
    RecordIkeKeys,
)
from gateway.ike.config import Connection, PpkMode
from gateway.ike.endpoint import Endpoint
from gateway.ike.events import ChildUp, Dropped, Event, ExchangeFailed, IkeEstablished
from gateway.ike.outbox import Datagram
from gateway.ike.registry import ExchangeType
from gateway.ike.sa import IkeSa
from gateway.ike.session import Session
from gateway.ike.states import IkeState
from gateway.model import IpAddress
from tests.fuzz import credentials
from tests.fuzz.cast import (
    ATTACKED,
    ESP_HYBRID,
    HEALTHY,
    IKE_CLASSIC,
    MARS,
    NET,
    Gateway,
    PickyKex,
    key_for,
    mars_to_sun,
    sun_to_mars,
)
from tests.support.ike_pair import MOON, SUN, TIMING, SeededRng, connection

# What one datagram may cause; ours, above what campaigns report as the most seen.
EVENTS_MAX = 24
COMMANDS_MAX = 64
DATAGRAMS_MAX = 48


class BrokenError(AssertionError):
    """Something that must hold does not."""


# --- what happens to a world ------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """One step: ``kind`` with its arguments, all of them JSON."""

    kind: str
    args: tuple[Any, ...] = ()


class World:
    """``note`` is told of what was reached: kinds of drops, failures and states."""

    def __init__(self, seed: str, note: Callable[[str, str], None] = lambda kind, what: None):
        self.seed = seed
        self.now = 1000.0
        self.note = note
        self.sent_to_moon: list[bytes] = []  # by sun, newest last
        self.from_moon: list[bytes] = []  # what honest moon wants to send next
        self.keys: dict[bytes, list[RecordIkeKeys]] = {}  # by SPIi | SPIr, newest last
        self.deliver = 0  # datagrams between moon and sun that still arrive
        self._numbers = 0
        self.inputs = 0
        self.most: dict[str, float] = {}  # that one datagram caused
        hold = Counter(seed.encode())  # any mix of settings, by the seed
        pick = sum(hold.values()) + int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16)
        self.settings: dict[str, object] = {
            "ike": (("aes256gcm16-prfsha512-x25519-ke1_mlkem768", IKE_CLASSIC)[pick & 1],),
            "esp": ((ESP_HYBRID, "aes256gcm16-esn")[pick >> 1 & 1],),
            "ppk": (PpkMode.PREFER, PpkMode.REQUIRE, PpkMode.OFF)[(pick >> 2) % 3],
            "fragment_size": (1280, 576)[pick >> 4 & 1],
            "allow_classical": True,
            "tunnels": ATTACKED,
        }
        self._cookies = (10, 0)[pick >> 5 & 1]
        self._way = credentials.WAYS[pick >> 6 & 3]
        self.sun = Gateway("sun", SUN, self._endpoint("sun", self._suns()), 0xC8000000)
        self.sun.judge = credentials.judge()
        self.mars = Gateway("mars", MARS, self._endpoint("mars", [mars_to_sun()]), 0xCC000000)
        self.moon = self._new_moon()
        self._healthy()

    # --- making ----------------------------------------------------------------------------

    def _suns(self) -> list[Connection]:
        proofs = credentials.settings("sun", self._way)
        return [connection("sun", **self.settings, **proofs), sun_to_mars()]  # type: ignore[arg-type]

    def _endpoint(self, name: str, connections: list[Connection]) -> Endpoint:
        self._numbers += 1
        label = f"{self.seed}/{name}/{self._numbers}"
        return Endpoint(
            connections=connections,
            rng=SeededRng(label),
            timing=TIMING,
            cookie_threshold=self._cookies,
            kex=PickyKex(SeededRng(f"kex/{label}")),
            record_keys=True,
        )

    def _new_moon(self) -> Gateway:
        settings = {**self.settings, **credentials.settings("moon", self._way)}
        endpoint = self._endpoint("moon", [connection("moon", **settings)])  # type: ignore[arg-type]
        moon = Gateway("moon", MOON, endpoint, 0xC0000000)
        moon.judge = credentials.judge()
        return moon

    def _healthy(self) -> None:
        """mars and sun have an SA, set up before anything bad happens."""
        self.mars.endpoint.initiate(HEALTHY, ppk=key_for(1), now=self.now)
        self._settle()
        self.check_healthy()

    # --- doing -----------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        """Do one step. BrokenError, or whatever escaped from the endpoint."""
        match op.kind, op.args:
            case "input", (text, local_port, remote, remote_port):
                self._input(bytes.fromhex(text), local_port, ip_address(remote), remote_port)
            case "pass", (seconds,):
                self.run(seconds)
            case "temper", (temper,):
                self.sun.temper = temper
                if temper == "prompt":
                    self.sun.release_all(self.now)
            case "release", (index, well):
                self.sun.release(index, well=well, now=self.now)
            case "deliver", (count,):
                self.deliver = count
            case "wish", (who, what, tunnel):
                self._wish(self.moon if who == "moon" else self.sun, what, tunnel)
            case "moon", ():  # it has lost its memory
                self.moon = self._new_moon()
            case "rest", ():
                self._rest()
            case _:
                raise ValueError(f"no such step: {op}")
        self._settle()
        self._check_bounds()

    def _input(self, data: bytes, local_port: int, remote: IpAddress, remote_port: int) -> None:
        self.inputs += 1
        outbox = self.sun.endpoint._env.outbox
        sa = self.session_of(data)
        before = None if sa is None else _progress(sa)
        begun = time.process_time()
        self.sun.endpoint.receive_datagram(
            data, local=(SUN, local_port), remote=(remote, remote_port), now=self.now
        )
        self._measure("CPU seconds", time.process_time() - begun)
        for what, produced, bound in (
            ("events", outbox.events, EVENTS_MAX),
            ("commands", outbox.commands, COMMANDS_MAX),
            ("datagrams", outbox.datagrams, DATAGRAMS_MAX),
        ):
            self._measure(what, len(produced))
            if len(produced) > bound:
                raise BrokenError(f"one datagram made {len(produced)} {what}")
        if sa is not None and _progress(sa) != before:
            answer = "response" if data[19] & 0x20 else "request"
            self.note("accepted", f"{_EXCHANGES.get(data[18], 'other')} {answer}")

    def _measure(self, what: str, value: float) -> None:
        if value > self.most.get(what, 0):
            self.most[what] = value

    def session_of(self, data: bytes) -> IkeSa | None:
        """sun's IKE SA that a datagram with these SPIs would reach."""
        sessions = self.sun.endpoint._sessions
        found = sessions.find(data[8:16]) or sessions.find(data[:8])
        return None if found is None else found.sa

    def _wish(self, side: Gateway, what: str, tunnel: str) -> None:
        endpoint = side.endpoint
        self._numbers += 1
        ppk = None if what.endswith("plain") else key_for(1000 * self._numbers)
        if ppk is not None and what.startswith(("initiate", "rekey")):
            side.handed.append(ppk.key_id)
        inbound = [spec.sa_id for spec in side.kernel.inbound() if spec.tunnel == tunnel]
        match what.partition("-")[0]:
            case "initiate":
                endpoint.initiate(tunnel, ppk=ppk, now=self.now)
            case "rekey":
                endpoint.rekey_child(tunnel, ppk=ppk, now=self.now)
            case "rekey_ike":
                endpoint.rekey_ike(NET, ppk=ppk, now=self.now)
            case "close":
                endpoint.close(tunnel, reason="terminated by the operator", now=self.now)
            case "expire":
                for sa_id in inbound[:1]:
                    endpoint.sa_expired(sa_id, hard=True, now=self.now)
            case "seen":
                for sa_id in inbound[-1:]:
                    endpoint.inbound_seen(sa_id, self.now)
            case "mode":
                endpoint.set_ppk_mode(tunnel, PpkMode(what.partition("-")[2]), self.now)
            case "reload":
                self._reload(alike=what == "reload-alike")
            case _:
                raise ValueError(f"no such wish: {what}")

    def _reload(self, *, alike: bool) -> None:
        """sun reads its configuration again: the same, or one with another child proposal."""
        if not alike:
            other = {ESP_HYBRID, "aes256gcm16-esn"} - set(self.settings["esp"])  # type: ignore[arg-type]
            self.settings["esp"] = tuple(other)
        self.sun.endpoint.set_connections(self._suns(), self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self._settle()
            gateways = (self.sun, self.mars, self.moon)
            waiting = [one.endpoint.next_deadline() for one in gateways]
            due = [when for when in waiting if when is not None]
            if not due or min(due) > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, min(due))
            for one in gateways:
                one.endpoint.handle_timer(self.now)

    def _settle(self) -> None:
        """Deliver and answer until nothing moves."""
        for _turn in range(10_000):
            moved = False
            for side in (self.sun, self.mars, self.moon):
                moved = self._drain(side) or moved
            if not moved:
                return
        raise BrokenError("no rest after ten thousand turns")

    def _drain(self, side: Gateway) -> bool:
        endpoint = side.endpoint
        commands, datagrams = endpoint.take_commands(), endpoint.take_datagrams()
        events = endpoint.take_events()
        for event in events:
            self._see(side, event)
        for command in commands:
            if isinstance(command, RecordIkeKeys):
                if command.tunnel != HEALTHY:
                    self.keys.setdefault(command.spi_i + command.spi_r, []).append(command)
            else:
                side.carry_out(command, self.now)
        for datagram in datagrams:
            self._send(side, datagram)
        return bool(commands or datagrams or events)

    def _see(self, side: Gateway, event: Event) -> None:
        if side is not self.sun:
            return
        match event:
            case Dropped(reason=reason):
                self.note("drop", reason.value)
            case ExchangeFailed(what=what, notify=notify):
                self.note("failure", f"{what} {notify or 'local'}")
            case ChildUp():
                self.note("event", "ChildUp")
            case IkeEstablished(remote_proof=proof):
                self.note("event", "IkeEstablished")
                self.note("proof", proof)
            case _:
                self.note("event", type(event).__name__)

    def _send(self, side: Gateway, datagram: Datagram) -> None:
        to = datagram.remote[0]
        if MARS in (to, side.address):
            if to in (MARS, SUN):
                self._hand_over(self.mars if to == MARS else self.sun, datagram)
            return
        memory = self.from_moon if side is self.moon else self.sent_to_moon
        memory.append(datagram.data)
        del memory[:-32]
        if self.deliver > 0 and to in (MOON, SUN):
            self.deliver -= 1
            self._hand_over(self.moon if to == MOON else self.sun, datagram)

    def _hand_over(self, to: Gateway, datagram: Datagram) -> None:
        to.endpoint.receive_datagram(
            datagram.data, local=datagram.remote, remote=datagram.local, now=self.now
        )

    def _rest(self) -> None:
        """The attack is over: time passes, and nothing may be left of it."""
        self.deliver = 0
        self.sun.temper = "prompt"
        for tunnel in ATTACKED:
            self.sun.endpoint.set_ppk_mode(tunnel, PpkMode(self.settings["ppk"]), self.now)
        self.sun.release_all(self.now)
        self.moon = self._new_moon()
        self.run(1)
        for tunnel in ATTACKED:
            self.sun.endpoint.close(tunnel, reason="terminated by the operator", now=self.now)
        self.run(200)
        self.check_nothing_left()
        self.check_healthy()
        self.keys.clear()
        self.sent_to_moon.clear()
        self.from_moon.clear()
        for side in (self.sun, self.mars):
            side.kernel.seen.clear()
            side.events.clear()
            side.settled.clear()
            side.handed.clear()
            side.fetches.clear()
            side.checks.clear()

    # --- what must hold --------------------------------------------------------------------

    def sessions(self, *, over: bool = False) -> list[Session]:
        """sun's, of the tunnel under attack; with those that are over."""
        known = [one for one in self.sun.endpoint._sessions.all() if one.sa.peering.name == NET]
        return [one for one in known if over or one.sa.state is not IkeState.CLOSED]

    def _check_bounds(self) -> None:
        endpoint = self.sun.endpoint
        peering = endpoint._peerings[NET]
        live = len(peering.sessions)
        if live > limits.HALF_OPEN_MAX + limits.IKE_SAS_PER_PEER_MAX + 2:
            raise BrokenError(f"{live} IKE SAs")
        if len(endpoint._sessions._over) > limits.ENDED_MAX:
            raise BrokenError(f"{len(endpoint._sessions._over)} closed IKE SAs kept")
        if len(endpoint._sessions._by_spi) > live + limits.ENDED_MAX + len(
            endpoint._peerings[HEALTHY].sessions
        ):
            raise BrokenError("more SPIs than IKE SAs")
        bound = limits.CHILDREN_PER_TUNNEL_MAX * max(1, live) + limits.LINGERING_MAX + 1
        for tunnel in peering.tunnels.values():
            if len(tunnel.children) > bound:
                raise BrokenError(f"{len(tunnel.children)} Child SAs in {live} IKE SAs")
        if len(self.sun.kernel.sas) > 2 * (len(ATTACKED) * bound + 4):
            raise BrokenError(f"{len(self.sun.kernel.sas)} SAs in the kernel")
        if len(endpoint.views()) != len(ATTACKED) + 1:
            raise BrokenError("a tunnel is missing in the status")
        for session in peering.sessions:
            self.note("state", _state(session))

    def check_healthy(self) -> None:
        """mars has its one IKE SA and its one Child SA, the same at both ends, and they work."""
        mars, sun = (side.endpoint._tunnels[HEALTHY] for side in (self.mars, self.sun))
        for sessions in (mars.peering.sessions, sun.peering.sessions):
            alive = [one for one in sessions if one.established]
            if len(alive) != 1 or len(sessions) != 1:
                raise BrokenError(f"the healthy tunnel has {len(alive)} IKE SAs")
        one, other = mars.active, sun.active
        if (
            one is None
            or other is None
            or (one.spi_in, one.spi_out) != (other.spi_out, other.spi_in)
        ):
            raise BrokenError("the healthy tunnel's ends do not agree")
        if {one.inbound, one.outbound} - set(self.sun.kernel.sas):
            raise BrokenError("the healthy tunnel's SAs are gone from the kernel")
        before = one.spi_in
        self.mars.endpoint.rekey_child(HEALTHY, ppk=key_for(int(self.now * 1e6)), now=self.now)
        self.run(10)
        after = mars.active
        if after is None or after.spi_in == before:
            raise BrokenError("the healthy tunnel does not rekey")

    def check_nothing_left(self) -> None:
        """Of the tunnel under attack: no session, no SA, no key look-up, no deadline."""
        endpoint = self.sun.endpoint
        env = endpoint._env
        left = [
            *endpoint._peerings[NET].sessions,
            *(child for name in ATTACKED for child in endpoint._tunnels[name].children),
            *(one for one in endpoint._sessions._by_spi.values() if one.sa.peering.name == NET),
            *endpoint._sessions._over,
            *endpoint._reception._known.values(),
            *env.desk._open,
            *env.fetches._sources,
        ]
        mine = endpoint._peerings[HEALTHY].sessions
        left = [one for one in left if not (isinstance(one, Session) and one in mine)]
        if left:
            raise BrokenError(f"left behind: {left[:5]}")
        healthy = endpoint._tunnels[HEALTHY].children
        wanted = {sa_id for child in healthy for sa_id in (child.inbound, child.outbound)}
        if set(self.sun.kernel.sas) - wanted or self.sun.kernel.reserved:
            raise BrokenError("SAs or reservations of the attacker are left in the kernel")
        if len(env.deadlines._entries) > 8:
            raise BrokenError(f"deadlines left: {list(env.deadlines._entries)}")
        settled = Counter(command.key_id for command in self.sun.settled)
        if settled != Counter(self.sun.handed):
            odd = (settled - Counter(self.sun.handed), Counter(self.sun.handed) - settled)
            raise BrokenError(f"QKD keys settled too often, and never: {odd}")


_EXCHANGES = {int(kind): kind.name for kind in ExchangeType}


def _state(session: Session) -> str:
    sa = session.sa
    waiting = any(task.token is not None for task in session._tasks._running)
    more = (
        (sa.requests.busy, "asking"),
        (waiting, "waiting for a command"),
        # Session.rekeying is also true of the first Child SA, which comes with the IKE SA.
        (
            session.established and any(map(session.rekeying, sa.peering.tunnels.values())),
            "rekeying",
        ),
    )
    return ", ".join(
        [f"{sa.role.value} {sa.state.value}", *(text for is_so, text in more if is_so)]
    )


def _progress(sa: IkeSa) -> tuple[object, ...]:
    """Changes when a message gets to the one who decides what to do about it."""
    return sa.responses.expected, sa.responses.pending, sa.requests.next_id, sa.requests.busy
