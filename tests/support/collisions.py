"""Both ends of a tunnel act at once: wire, nonces and end state under control."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.ike.events import ChildDown, IkeRekeyed
from gateway.ike.limits import NONCE_SIZE
from gateway.ike.registry import ExchangeType as X
from gateway.ike.registry import PayloadType
from tests.support.ike_pair import Flight, Pair, SeededRng, Side

_FRAGMENT_NUMBER = slice(32, 34)  # RFC 7383 2.5: after both headers

LATENCY = 0.05
QUIET = 150.0  # long enough for every retransmission schedule, grace and linger

HYBRID = ("aes256gcm16-x25519-ke1_mlkem768-esn",)
PLAIN = ("aes256gcm16-x25519-esn",)
BARE = ("aes256gcm16-esn",)
IKE_HYBRID = ("aes256gcm16-prfsha512-x25519-ke1_mlkem768",)
IKE_PLAIN = ("aes256gcm16-prfsha512-mlkem768",)

LOWEST = ("moon Ni", "moon Nr", "sun Ni", "sun Nr")
"""Which of the four nonces is the lowest. moon's exchange has moon's Ni and sun's Nr."""


def winner(lowest: str) -> str:
    """RFC 7296 2.8.1: the exchange with the lowest of the four nonces is redundant."""
    return "sun" if lowest in ("moon Ni", "sun Nr") else "moon"


def other(name: str) -> str:
    return "sun" if name == "moon" else "moon"


class ArrangedRng(SeededRng):
    """The next nonces begin with given octets: first our Ni, then our Nr."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.leads: deque[int] = deque()

    def random_bytes(self, count: int) -> bytes:
        octets = super().random_bytes(count)
        if count == NONCE_SIZE and self.leads:
            return bytes((self.leads.popleft(),)) + octets[1:]
        return octets


@dataclass
class Rule:
    """What becomes of the ``nth`` message of a kind (from 1), all its transmissions alike."""

    sender: str
    exchange: X
    nth: int = 1
    response: bool = False
    delay: float = 0.0  # on top of the latency
    lost: int = 0  # transmissions that do not arrive, however they are cut
    again: tuple[float, ...] = ()  # copies that arrive so much later


def first_of_message(flight: Flight) -> bool:
    """A whole message, or the fragment each of its transmissions begins with (RFC 7383 2.5)."""
    if flight.header.next_payload != PayloadType.SKF:
        return True
    return int.from_bytes(flight.data[_FRAGMENT_NUMBER]) == 1


@dataclass
class Wire:
    """A Fault: everything takes LATENCY, but for what a rule says."""

    rules: list[Rule] = field(default_factory=list)
    _seen: dict[tuple[str, int, bool], list[tuple[bytes, int]]] = field(default_factory=dict)
    _sent: Counter[tuple[tuple[str, int, bool], tuple[bytes, int]]] = field(default_factory=Counter)

    def __call__(self, flight: Flight) -> list[tuple[float, bytes]]:
        header = flight.header
        kind = (flight.sender, int(header.exchange), header.response)
        mark = (header.spi_i, header.message_id)
        known = self._seen.setdefault(kind, [])
        if mark not in known:
            known.append(mark)
        nth = known.index(mark) + 1
        if first_of_message(flight):  # a repetition may be in more fragments than before
            self._sent[kind, mark] += 1
        count = self._sent[kind, mark]
        for rule in self.rules:
            if (rule.sender, int(rule.exchange), rule.response, rule.nth) == (*kind, nth):
                if count <= rule.lost:
                    return []
                first = LATENCY + rule.delay
                return [(first, flight.data), *((first + late, flight.data) for late in rule.again)]
        return [(LATENCY, flight.data)]


class Collision(Pair):
    """A tunnel that is up; ``meet`` lets both ends act at the same time."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("toy_kex", True)
        settings.setdefault("report_inbound", True)
        super().__init__(**settings)  # type: ignore[arg-type]
        for side in self.sides:
            rng = ArrangedRng(f"collision/{side.name}")
            # the endpoint's parts share it: only what it gives is changed
            side.endpoint._env.rng.random_bytes = rng.random_bytes  # type: ignore[method-assign]
            side.arranged = rng  # type: ignore[attr-defined]
        self.initiate()
        self.run(1)

    def side(self, name: str) -> Side:
        return self.moon if name == "moon" else self.sun

    def arrange(self, lowest: str) -> None:
        """Of the nonces that come next."""
        leads = {name: [0x80 + 0x10 * index] for index, name in enumerate(LOWEST)}
        leads[lowest] = [0x01]
        for name in ("moon", "sun"):
            rng = self.side(name).arranged  # type: ignore[attr-defined]
            rng.leads = deque([*leads[f"{name} Ni"], *leads[f"{name} Nr"]])

    def do(self, name: str, action: str) -> None:
        side = self.side(name)
        match action:
            case "rekey child":
                side.endpoint.rekey_child("net", ppk=self.key(side), now=self.now)
            case "rekey ike":
                side.endpoint.rekey_ike("net", ppk=self.key(side), now=self.now)
            case "initiate":
                side.endpoint.initiate("net", ppk=self.key(side), now=self.now)
            case "delete child":
                self.lose_child(side)
            case "delete ike":
                side.endpoint.close("net", reason="terminated by the operator", now=self.now)
            case "nothing":
                pass
            case _:
                raise ValueError(action)

    def lose_child(self, side: Side) -> None:
        """The kernel drops the newest inbound SA: the core deletes its child with the peer."""
        inbound = side.kernel.inbound()
        if inbound:
            side.endpoint.sa_expired(inbound[-1].sa_id, hard=True, now=self.now)

    def meet(
        self, moon: str, sun: str, *rules: Rule, lowest: str = "moon Ni", apart: float = 0.0
    ) -> None:
        """Both act; ``apart``: sun so much later."""
        self.arrange(lowest)
        self.fault = Wire(list(rules))
        self.do("moon", moon)
        self.run(apart)
        self.do("sun", sun)

    @staticmethod
    def wire(*rules: Rule) -> Wire:
        return Wire(list(rules))

    def until(self, condition: Callable[[], bool], limit: float = 10.0) -> None:
        """Let time go on in small steps."""
        end = self.now + limit
        while not condition():
            assert self.now < end, "it does not happen"
            self.run(0.01)

    # --- what must hold in the end ---------------------------------------------------------

    def check_one_ike_sa(self) -> None:
        ours, theirs = ([(one.spi_i, one.spi_r) for one in side.facts.ike] for side in self.sides)
        assert len(ours) == 1, self.moon.facts.ike
        assert ours == theirs
        for side in self.sides:
            assert [one.state for one in side.facts.ike] == ["established"]
            sessions = side.endpoint._sessions.all()
            assert len([one for one in sessions if one.established]) == 1, side.name
            assert not sessions[-1].sa.pending

    def check_rest(self) -> None:
        """One IKE SA and one child, mirrored; nothing half-done, nothing goes on being sent."""
        self.check_one_ike_sa()
        self.check_mirrored()
        self.check_settled()
        self.check_quiet()

    def check_quiet(self) -> None:
        since = len(self.sent)
        self.run(100)
        assert {flight.header.exchange for flight in self.sent[since:]} <= {X.INFORMATIONAL}
        assert len(self.sent) - since <= 4 * 8, "more than liveness"

    def check_gone(self) -> None:
        self.check_empty()
        self.check_settled()
        for side in self.sides:
            assert not side.facts.ike
            assert not side.facts.children


def ike_rekeys(side: Side) -> list[IkeRekeyed]:
    return [event for event in side.events if isinstance(event, IkeRekeyed)]


def downs(side: Side) -> list[ChildDown]:
    return [event for event in side.events if isinstance(event, ChildDown)]
