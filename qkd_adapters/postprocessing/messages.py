"""What the two ends of a block tell each other, in the order in which they do.

One message is one ``bytes`` on the wire: type (1 octet), block number (8 octets), body. All of it
is public and all of it is covered by a tag: one per direction and phase (``PhaseTag``).

Phase     Message       From       What
SIFTING   Detections    receiver   which pulses clicked, in which basis
          Sifted        sender     which of them count, their intensities, the sender's X bits
          Tested        receiver   errors found in the X bits per intensity
          Revealed      receiver   (CV instead of the three) the measured values given away
          Moments       sender     (CV) what they show of the channel
RECON-    Questions     corrector  batched parity questions
CILIATION Answers       oracle     as many parities
          Corrected     corrector  errors found per intensity, verification hash
          Verified      oracle     whether the hash is right
AMPLI-    Amplify       oracle     length and seed of the final hash, or why there is no key
FICATION  Confirmed     corrector  the key is made
every     PhaseTag      both       Wegman-Carter tag over all this end sent in the phase

The corrector changes its bits to the oracle's. It is the receiver, except for CV with its
reverse reconciliation, where it is the sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from qkd_adapters.postprocessing import sifting
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.wire import Bits, Numbers, Reader, Writer

MAX_MESSAGE = 64 * 1024 * 1024  # octets
MAX_BITS = 16_000_000  # of one block, as in a record of 8e6 detections with two bits each
SEED_OCTETS = 16  # of seeds that are expanded by SHAKE-128
HASH_SEED_OCTETS = 48
TAG_OCTETS = 16


class Phase(IntEnum):
    SIFTING = 1
    RECONCILIATION = 2
    AMPLIFICATION = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """``indices`` rise strictly. ``detector`` and ``intensity``: twin field only, else empty.

    ``intensity`` and the ``sent`` counts are the receiver's own, which sends too in twin field.
    """

    TYPE: ClassVar[int] = 1
    block: int
    pulses: int
    indices: Numbers
    basis: Bits
    detector: Bits
    intensity: Bits
    sent_z: tuple[int, ...] = ()
    sent_x: tuple[int, ...] = ()

    def write(self, out: Writer) -> None:
        out.number(self.pulses)
        out.octets(sifting.encode_indices(self.indices))
        out.bits(self.basis)
        out.bits(self.detector)
        out.octets(sifting.encode_symbols(self.intensity))
        out.numbers(self.sent_z)
        out.numbers(self.sent_x)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        pulses = source.number()
        indices = sifting.decode_indices(source.octets(MAX_MESSAGE), pulses=pulses)
        basis = source.bits(MAX_BITS)
        detector = source.bits(MAX_BITS)
        intensity = sifting.decode_symbols(source.octets(MAX_MESSAGE), most=MAX_BITS)
        if len(basis) != len(indices) or any(
            len(each) not in {0, len(indices)} for each in (detector, intensity)
        ):
            raise PeerMessageError("columns of different length")
        return cls(
            block=block,
            pulses=pulses,
            indices=indices,
            basis=basis,
            detector=detector,
            intensity=intensity,
            sent_z=source.numbers(),
            sent_x=source.numbers(),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sifted:
    """``kept``: one bit per announced detection. The rest is about the kept ones, in order."""

    TYPE: ClassVar[int] = 2
    block: int
    kept: Bits
    intensity: Bits  # intensity numbers, one per kept detection
    test_bits: Bits  # the sender's bits of kept X detections
    sent_z: tuple[int, ...]
    sent_x: tuple[int, ...]

    def write(self, out: Writer) -> None:
        out.bits(self.kept)
        out.octets(sifting.encode_symbols(self.intensity))
        out.bits(self.test_bits)
        out.numbers(self.sent_z)
        out.numbers(self.sent_x)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(
            block=block,
            kept=source.bits(MAX_BITS),
            intensity=sifting.decode_symbols(source.octets(MAX_MESSAGE), most=MAX_BITS),
            test_bits=source.bits(MAX_BITS),
            sent_z=source.numbers(),
            sent_x=source.numbers(),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tested:
    """``errors_x``: wrong bits among the sender's X bits, per intensity number."""

    TYPE: ClassVar[int] = 3
    block: int
    errors_x: tuple[int, ...]

    def write(self, out: Writer) -> None:
        out.numbers(self.errors_x)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(block=block, errors_x=source.numbers())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Revealed:
    """CV: ``seed`` picks the symbols given away (after detection), ``values`` are theirs.

    ``basis`` names the measured quadrature of every symbol (homodyne) or is empty.
    ``values``: little-endian float32, x then p for heterodyne detection.
    """

    TYPE: ClassVar[int] = 4
    block: int
    pulses: int
    indices: Numbers
    basis: Bits
    seed: bytes
    values: bytes

    def write(self, out: Writer) -> None:
        out.number(self.pulses)
        out.octets(sifting.encode_indices(self.indices))
        out.bits(self.basis)
        out.octets(self.seed)
        out.octets(self.values)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        pulses = source.number()
        return cls(
            block=block,
            pulses=pulses,
            indices=sifting.decode_indices(source.octets(MAX_MESSAGE), pulses=pulses),
            basis=source.bits(MAX_BITS),
            seed=source.octets(SEED_OCTETS),
            values=source.octets(MAX_MESSAGE),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """CV: sums over the ``count`` given-away quadratures; x sent, y received."""

    TYPE: ClassVar[int] = 5
    block: int
    count: int
    xx: float
    xy: float
    yy: float

    def write(self, out: Writer) -> None:
        out.number(self.count)
        out.real(self.xx)
        out.real(self.xy)
        out.real(self.yy)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(
            block=block,
            count=source.number(),
            xx=source.real(),
            xy=source.real(),
            yy=source.real(),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """``part``: number of the bit string that ``body`` is about."""

    block: int
    part: int
    body: bytes

    def write(self, out: Writer) -> None:
        out.number(self.part, 1)
        out.octets(self.body)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(block=block, part=source.number(1), body=source.octets(MAX_MESSAGE))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Questions(_Part):
    """``body`` is Cascade's (``cascade.Corrector``); empty where a syndrome is wanted (CV)."""

    TYPE: ClassVar[int] = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers(_Part):
    """As many parities as were asked for; CV: rows of the code (1 octet), syndrome or slice."""

    TYPE: ClassVar[int] = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corrected:
    """``errors``: corrected bits per intensity number (CV: per slice).

    ``seed`` and ``digest``: of the verification hash over the corrected bits.
    """

    TYPE: ClassVar[int] = 8
    block: int
    errors: tuple[int, ...]
    seed: bytes
    digest: bytes

    def write(self, out: Writer) -> None:
        out.numbers(self.errors)
        out.octets(self.seed)
        out.octets(self.digest)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(
            block=block,
            errors=source.numbers(),
            seed=source.octets(HASH_SEED_OCTETS),
            digest=source.octets(TAG_OCTETS),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verified:
    TYPE: ClassVar[int] = 9
    block: int
    equal: bool

    def write(self, out: Writer) -> None:
        out.number(int(self.equal), 1)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(block=block, equal=source.number(1) == 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Amplify:
    """``secret_bits`` 0: no key, for the ``reason``. ``auth_bits`` of them, to be shared by both
    directions, become authentication key; whole keys are cut from the rest."""

    TYPE: ClassVar[int] = 10
    block: int
    secret_bits: int
    auth_bits: int
    seed: bytes
    reason: str

    def write(self, out: Writer) -> None:
        out.number(self.secret_bits)
        out.number(self.auth_bits)
        out.octets(self.seed)
        out.text(self.reason)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        return cls(
            block=block,
            secret_bits=source.number(),
            auth_bits=source.number(),
            seed=source.octets(MAX_BITS // 4),
            reason=source.text(),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confirmed:
    TYPE: ClassVar[int] = 11
    block: int

    def write(self, out: Writer) -> None:
        """Its type says it all."""

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:  # noqa: ARG003 - same call for all
        return cls(block=block)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhaseTag:
    """``chunk``, ``number``: which authentication key the tag used (``authentication``)."""

    TYPE: ClassVar[int] = 12
    block: int
    phase: Phase
    chunk: int
    number: int
    tag: bytes

    def write(self, out: Writer) -> None:
        out.number(self.phase, 1)
        out.number(self.chunk)
        out.number(self.number, 4)
        out.octets(self.tag)

    @classmethod
    def read(cls, block: int, source: Reader) -> Self:
        try:
            phase = Phase(source.number(1))
        except ValueError as error:
            raise PeerMessageError("no such phase") from error
        return cls(
            block=block,
            phase=phase,
            chunk=source.number(),
            number=source.number(4),
            tag=source.octets(TAG_OCTETS),
        )


Body = (
    Detections
    | Sifted
    | Tested
    | Revealed
    | Moments
    | Questions
    | Answers
    | Corrected
    | Verified
    | Amplify
    | Confirmed
)
Message = Body | PhaseTag

_TYPES: dict[int, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        *(Detections, Sifted, Tested, Revealed, Moments),
        *(Questions, Answers, Corrected, Verified),
        *(Amplify, Confirmed, PhaseTag),
    )
}


def encode(message: Message) -> bytes:
    out = Writer()
    out.number(message.TYPE, 1)
    out.number(message.block)
    message.write(out)
    return out.finish()


def decode(data: bytes) -> Message:
    """Raises PeerMessageError."""
    if len(data) > MAX_MESSAGE:
        raise PeerMessageError(f"message of {len(data)} octets")
    source = Reader(data)
    kind = _TYPES.get(source.number(1))
    if kind is None:
        raise PeerMessageError("unknown type of message")
    message = kind.read(source.number(), source)
    source.end()
    return message
