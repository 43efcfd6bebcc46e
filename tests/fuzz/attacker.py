"""What is thrown at a world: episodes of a few dozen inputs, drawn from one source of chance.

An episode brings the endpoint into some state by an honest dialogue that is cut off
somewhere, with or without commands held back; then come the inputs: captured messages and
those of the dialogue, damaged outside; their content damaged inside and sealed with the
session's keys; repetitions, reflections, fragments, noise. At the end time passes, and the
world checks that nothing is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.crypto.aead import IkeAead
from gateway.errors import CryptoError, QsgwError
from gateway.ike.commands import RecordIkeKeys
from gateway.ike.config import PpkMode
from gateway.ike.encrypted import CounterIv, find_encrypted, open_message, seal
from gateway.ike.message import HEADER_SIZE, Header, decode_message, parse_header
from gateway.ike.payloads import (
    DeletePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    decode_chain,
    encode_chain,
)
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.sa import IkeSa
from gateway.model import Role
from tests.fuzz import mutate
from tests.fuzz.cast import ATTACKED, MARS, STRANGER
from tests.fuzz.world import Op, World
from tests.support.ike_pair import MOON

EPISODE = 48  # inputs
DIALOGUE = 9  # datagrams of an honest handshake in one piece each, and to spare

_WISHES = (
    "initiate",
    "initiate-plain",
    "rekey",
    "rekey-plain",
    "rekey_ike",
    "rekey_ike-plain",
    "close",
    "expire",
    "seen",
)
_OPERATOR = ("reload-alike", "reload-other", *(f"mode-{mode}" for mode in PpkMode))


@dataclass(frozen=True)
class Template:
    """The content of a message somebody once sent."""

    exchange: int
    response: bool
    payloads: tuple[Payload, ...]


class Attacker:
    """Draws ops for ``world``. ``corpus``: captured datagrams; ``templates``: opened ones."""

    def __init__(
        self,
        world: World,
        rng: random.Random,
        corpus: Sequence[bytes],
        templates: Sequence[Template],
    ) -> None:
        self._world = world
        self._rng = rng
        self._corpus = corpus
        self._templates = templates
        self._thrown: list[bytes] = []  # by this attacker, newest last
        self._fragments: list[bytes] = []  # of a message whose first one was thrown
        self._flood = False  # an episode of IKE_SA_INIT above all
        self._opened: tuple[Header, list[Payload]] | None = None  # the last IKE_SA_INIT request

    # --- an episode ------------------------------------------------------------------------

    def episode(self, inputs: int = EPISODE) -> Iterator[Op]:
        self._flood = self._rng.random() < 0.08
        yield from self._dialogue()
        for _ in range(inputs):
            if not self._some_sa() and self._rng.random() < 0.3:  # the last one is dead
                yield Op("moon")
                yield from self._dialogue()
            yield self._input()
            if self._rng.random() < 0.12:
                yield self._circumstance()
        yield Op("rest")

    def _dialogue(self) -> Iterator[Op]:
        """Into some state: who begins, how far it gets, what is held back."""
        rng = self._rng
        kind = rng.randrange(6)
        if kind == 0:  # fresh
            return
        starter = rng.choice(("moon", "moon", "sun"))
        cut = rng.random() < 0.5
        if cut:  # in the middle of the handshake
            if rng.random() < 0.4:
                yield Op("temper", (rng.choice(("hold", "hold", "fail")),))
            yield Op("deliver", (rng.randrange(DIALOGUE),))
            yield self._wish(starter, ("initiate", "initiate-plain"))
            return
        yield Op("deliver", (200,))
        yield self._wish(starter, ("initiate", "initiate-plain"))
        if rng.random() < 0.3:
            yield Op("pass", (rng.choice((1.0, 31.0)),))
        if kind > 2:  # in the middle of a rekey, a delete, or of both
            if rng.random() < 0.4:
                yield Op("temper", (rng.choice(("hold", "hold", "fail")),))
            yield Op("deliver", (rng.randrange(DIALOGUE),))
            for _ in range(rng.choice((1, 1, 2))):
                yield self._wish(rng.choice(("moon", "sun")), _WISHES)
        else:
            yield Op("deliver", (0,))

    def _circumstance(self) -> Op:
        rng = self._rng
        match rng.randrange(8):
            case 0 | 1:
                return Op("pass", (rng.choice((0.0, 0.1, 1.0, 3.0, 6.0, 31.0, 100.0)),))
            case 2:
                return Op("temper", (rng.choice(("prompt", "prompt", "hold", "fail")),))
            case 3 | 4:
                return Op("release", (rng.randrange(8), rng.random() < 0.7))
            case 5:
                return Op("deliver", (rng.choice((1, 2, 5)),))
            case 6 if rng.random() < 0.3:
                return self._wish("sun", _OPERATOR)
            case _:
                return self._wish(rng.choice(("sun", "sun", "moon")), _WISHES)

    def _wish(self, who: str, wishes: Sequence[str]) -> Op:
        tunnel = ATTACKED[self._rng.random() < 0.3]
        return Op("wish", (who, self._rng.choice(wishes), tunnel))

    # --- an input --------------------------------------------------------------------------

    def _input(self) -> Op:
        rng = self._rng
        data = self._datagram()
        self._thrown.append(data)
        del self._thrown[:-64]
        remote, port = MOON, 500
        chance = rng.random()
        if chance < 0.04:
            remote = rng.choice((MARS, STRANGER))
        if chance > 0.95:
            port = rng.choice((4500, 1, 65535))
        local = 4500 if rng.random() < 0.05 else 500
        return Op("input", (data.hex(), local, str(remote), port))

    def _datagram(self) -> bytes:
        rng = self._rng
        if self._fragments and rng.random() < 0.9:
            return self._fragments.pop(rng.randrange(len(self._fragments)))
        if self._flood and rng.random() < 0.7:
            return self._opening()
        kind = rng.random()
        if kind < 0.68:
            made = self._reopened() if kind < 0.14 else self._forged()
            if made is not None:
                return made if kind < 0.60 else self._outside(made)
        if kind < 0.73 and self._world.from_moon:
            return self._outside(rng.choice(self._world.from_moon))
        if kind < 0.77 and self._thrown:
            return rng.choice(self._thrown)
        if kind < 0.81 and self._world.from_moon:
            return rng.choice(self._world.from_moon)  # late, early or again
        if kind < 0.84 and self._world.sent_to_moon:
            data = rng.choice(self._world.sent_to_moon)  # a reflection
            return data if rng.random() < 0.5 else self._outside(data)
        if kind < 0.92:
            return self._opening()
        if kind < 0.98:
            return self._outside(self._addressed(rng.choice(self._corpus)))
        return rng.randbytes(rng.choice((0, 1, 3, 4, 27, 28, 29, 60, 1400)))

    def _outside(self, data: bytes) -> bytes:
        """Damaged where anybody can damage it."""
        rng = self._rng
        spis = [session.sa.our_spi for session in self._world.sessions(over=True)][:8]
        data = mutate.header(data, rng, spis) if rng.random() < 0.5 else mutate.octets(data, rng)
        return mutate.with_right_length(data) if rng.random() < 0.7 else data

    def _addressed(self, data: bytes) -> bytes:
        """A captured message with the SPIs of a session that is there."""
        sa = self._some_sa()
        if sa is None or len(data) < HEADER_SIZE or self._rng.random() < 0.3:
            return data
        flags = (0 if sa.role is Role.INITIATOR else 0x08) | (data[19] & 0x20)
        number = sa.requests.next_id if data[19] & 0x20 else sa.responses.expected
        head = sa.spi_i + sa.spi_r + data[16:19] + bytes((flags,))
        return head + (number & 0xFFFFFFFF).to_bytes(4, "big") + data[24:]

    def _opening(self) -> bytes:
        """An IKE_SA_INIT request or response, its payloads changed, not encrypted."""
        rng = self._rng
        again = self._with_cookie()
        if again is not None and rng.random() < 0.8:
            return again
        sa = self._some_sa()
        response = sa is not None and rng.random() < 0.4
        found = self._template(ExchangeType.IKE_SA_INIT, response=response)
        payloads = [self._fresh(one) for one in found.payloads]
        if rng.random() < (0.3 if self._flood else 0.8):
            payloads = mutate.chain(payloads, rng)
        header = Header(
            spi_i=sa.spi_i if sa is not None and response else rng.randbytes(8),
            spi_r=rng.randbytes(8) if response else bytes(8),
            exchange=ExchangeType.IKE_SA_INIT,
            message_id=0,
            initiator=not response,
            response=response,
        )
        self._opened = None if response else (header, payloads)
        first, chain = _encoded(payloads)
        if rng.random() < (0.05 if self._flood else 0.3):
            chain = mutate.octets(chain, rng)
        return header.encode(first, HEADER_SIZE + len(chain)) + chain

    def _with_cookie(self) -> bytes | None:
        """The last IKE_SA_INIT request again, with the cookie sun asked for."""
        answer = self._world.sent_to_moon[-1] if self._world.sent_to_moon else b""
        if self._opened is None or answer[:8] != self._opened[0].spi_i or answer[16] != 41:
            return None
        header, payloads = self._opened
        self._opened = None
        cookies = [
            one
            for one in decode_message(answer).payloads
            if isinstance(one, NotifyPayload) and one.type == NotifyType.COOKIE
        ]
        first, chain = _encoded([*cookies, *payloads])
        return header.encode(first, HEADER_SIZE + len(chain)) + chain

    # --- with the keys ---------------------------------------------------------------------

    def _forged(self) -> bytes | None:
        """A message of moon's that sun will open: right keys, right place, any content."""
        rng = self._rng
        sa = self._some_sa()
        keys = None if sa is None else self._keys(sa)
        if sa is None or keys is None:
            return None
        response = sa.requests.busy and rng.random() < 0.5
        exchange = self._exchange(sa, response=response)
        found = self._template(exchange, response=response)
        payloads = [self._fitted(one, sa) for one in found.payloads]
        if rng.random() < 0.6:
            payloads = mutate.chain(payloads, rng)
        header = Header(
            spi_i=sa.spi_i,
            spi_r=sa.spi_r,
            exchange=exchange,
            message_id=sa.requests.next_id if response else sa.responses.expected,
            initiator=sa.role is Role.RESPONDER,
            response=response,
        )
        if rng.random() < 0.03:
            header = replace(header, message_id=max(0, header.message_id + rng.choice((-1, 1))))
        return self._sealed(header, payloads, keys)

    def _exchange(self, sa: IkeSa, *, response: bool) -> int:
        rng = self._rng
        if rng.random() < 0.05:
            return rng.choice((34, 35, 36, 37, 43, 44, 40))
        if response:
            return int(sa.session._courier._asked) if sa.session is not None else 37
        if sa.established_at is None:
            return rng.choice((43, 43, 35, 35, 37))
        return rng.choice((36, 36, 37, 44))

    def _reopened(self) -> bytes | None:
        """What moon truly wanted to send, opened, changed inside, and sealed again."""
        rng = self._rng
        if not self._world.from_moon:
            return None
        data = rng.choice(self._world.from_moon[-4:])
        header = parse_header(data)
        for keys in reversed(self._world.keys.get(data[:16], ())):
            try:
                aead = IkeAead(keys.sk_ei if header.initiator else keys.sk_er, keys.encryption)
                envelope = find_encrypted(data, header)
                if envelope is None or envelope.fragment:
                    return None
                payloads = list(open_message(data, aead, envelope).payloads())
            except CryptoError:
                continue
            sa = self._world.session_of(data)
            if sa is not None and rng.random() < 0.7:  # else it may be too late for it
                number = sa.requests.next_id if header.response else sa.responses.expected
                header = replace(header, message_id=number)
                payloads = [self._fitted(one, sa) for one in payloads]
            if rng.random() < 0.8:
                payloads = mutate.chain(payloads, rng)
            return self._sealed(header, payloads, keys)
        return None

    def _sealed(self, header: Header, payloads: Sequence[Payload], keys: RecordIkeKeys) -> bytes:
        rng = self._rng
        aead = IkeAead(keys.sk_ei if header.initiator else keys.sk_er, keys.encryption)
        ivs = CounterIv()
        ivs._next = rng.getrandbits(63)
        chance = rng.random()
        if chance < 0.12:  # damaged below what payloads can express
            first, chain = _encoded(payloads)
            chain = mutate.octets(chain, rng)
            if rng.random() < 0.2:
                first = rng.randrange(256)
            return _sealed_octets(header, first, chain, aead, rng)
        size = rng.choice((140, 576)) if chance > 0.85 else None
        try:
            datagrams = seal(header, payloads, aead, ivs, size)
        except (ValueError, OverflowError):
            return _sealed_octets(header, 0, b"", aead, rng)
        self._fragments = datagrams[1:]  # they come next, in any order
        return datagrams[0]

    # --- material --------------------------------------------------------------------------

    def _some_sa(self) -> IkeSa | None:
        sessions = self._world.sessions(over=self._rng.random() < 0.05)
        return self._rng.choice(sessions[-4:]).sa if sessions else None

    def _keys(self, sa: IkeSa) -> RecordIkeKeys | None:
        known = self._world.keys.get(sa.spi_i + sa.spi_r)
        if not known:
            return None
        return known[-1] if self._rng.random() < 0.9 else self._rng.choice(known)

    def _template(self, exchange: int, *, response: bool) -> Template:
        fitting = [
            one for one in self._templates if (one.exchange, one.response) == (exchange, response)
        ]
        if fitting and self._rng.random() < 0.9:
            return self._rng.choice(fitting)
        return self._rng.choice(self._templates)

    def _fresh(self, payload: Payload) -> Payload:
        if isinstance(payload, NoncePayload):
            return NoncePayload(data=self._rng.randbytes(32))
        return payload

    def _fitted(self, payload: Payload, sa: IkeSa) -> Payload:
        """What of a captured payload names something of its session, names something here."""
        rng = self._rng
        match payload:
            case NotifyPayload(type=NotifyType.REKEY_SA) if sa.children:
                child = rng.choice(sa.children)
                return replace(payload, spi=child.spi_out.to_bytes(4, "big"))
            case NotifyPayload(type=NotifyType.ADDITIONAL_KEY_EXCHANGE) if sa.pending:
                return replace(payload, data=rng.choice(list(sa.pending)))
            case DeletePayload(protocol=3) if sa.children:
                child = rng.choice(sa.children)
                return DeletePayload(protocol=3, spis=(child.spi_out.to_bytes(4, "big"),))
            case SaPayload(proposals=proposals):
                spi = rng.randbytes(4)
                return SaPayload(
                    proposals=tuple(
                        replace(one, spi=spi) if one.protocol == 3 else one for one in proposals
                    )
                )
            case _:
                return self._fresh(payload)


def _encoded(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    try:
        return encode_chain(payloads)
    except (ValueError, OverflowError):  # a field too large for its place
        return 0, b""


def _sealed_octets(
    header: Header, first: int, chain: bytes, aead: IkeAead, rng: random.Random
) -> bytes:
    content = chain + rng.choice((b"\x00", b"\x00", b"\x00", b"\xff", b""))
    length = 4 + 8 + len(content) + 16
    aad = header.encode(46, HEADER_SIZE + length) + bytes((first, 0, length >> 8, length & 0xFF))
    iv = rng.randbytes(8)
    return aad + iv + aead.seal(iv, aad, content)


def template(exchange: int, response: bool, first: int, chain: bytes) -> Template | None:
    """From a captured message; None where our codec does not take it."""
    try:
        return Template(exchange, response, decode_chain(first, chain))
    except QsgwError:
        return None
