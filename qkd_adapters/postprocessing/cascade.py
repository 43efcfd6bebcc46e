"""Cascade: one end asks parities of the other's bits until its own are the same. Sans-IO.

Brassard and Salvail (EUROCRYPT '93) with the improvements that Martinez-Mateo et al.
(arXiv:1407.3257) sum up. What is asked is always a *prefix parity*: of all bits before one
position in one order of the string. The parity of any range between two known positions follows
from two of them, so every part of a block that was ever asked about is used again, and every
answered bit is exactly one bit of leak. One message carries all questions of a round.

1. Pass by pass: parities of blocks, in the natural order and then in shuffled ones; every block
   that differs is halved until the wrong bit is found. A bit that is flipped changes the parity of
   the parts of earlier passes it lies in; those are searched again, smallest blocks first.
2. Parities of random halves of the whole string, all in one round; while one differs, it is
   searched too. A string that still differs passes each of them with probability 1/2.

What is left after that is found by the verification hash.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.postprocessing import sifting
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.estimate import entropy
from qkd_adapters.postprocessing.orders import (
    Natural,
    Order,
    Prefix,
    Shuffled,
    Subset,
    packed_string,
)
from qkd_adapters.postprocessing.wire import Bits, Numbers, Reader, Writer, unpack

SEED_OCTETS = 16
MAX_PASSES = 24
MAX_SUBSETS = 64
MAX_SEARCHES = 1000  # a string of 1e7 bits takes about 100
_MOST_HALVINGS = 8  # in one round
_MIN_QBER = 1e-4  # an estimate below would make the first blocks longer than is of use


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``blocks``: sizes of the blocks, pass by pass. ``subsets``: random halves at the end.

    ``haste``: leak per bit of the string that one search may cost beyond the least to save rounds.
    """

    blocks: tuple[int, ...]
    subsets: int
    haste: float = 0.0


def schedule(qber: float, count: int) -> Schedule:
    """For ``count`` bits of which about ``qber`` are wrong.

    Found by trying (docs/qkd.md): second blocks much longer than the first leak as little but take
    many more rounds; ``haste`` halves the rounds for about 2 % of leak.
    """
    qber = min(max(qber, _MIN_QBER), 0.25)
    first = max(2, math.ceil(0.73 / qber))
    sizes = [size for size in (first, 3 * first, max(12 * first, 4096)) if 2 * size <= count]
    return Schedule(
        blocks=tuple(sizes) or (max(1, count),), subsets=16, haste=0.002 * entropy(qber)
    )


class _Kind(IntEnum):
    BLOCKS = 1  # a pass begins: parities at every multiple of the block size
    CUTS = 2  # parities at positions of a pass
    SUBSETS = 3  # parities of whole subsets


class _Pass:
    """One order of the corrector's bits and what is known of the oracle's in it.

    ``cuts``: positions whose prefix parity was asked, rising, with 0; ``answers``: what came.
    Part i lies between cut i and cut i + 1; ``odd`` says that it holds an odd number of errors.
    """

    def __init__(self, order: Order, bits: Bits) -> None:
        self.order = order
        self._prefix: Prefix = order.prefix(bits)
        self._flips: list[Numbers] = []
        self._sorted: Numbers = np.empty(0, dtype=np.int64)
        self.cuts: Numbers = np.zeros(1, dtype=np.int64)
        self.answers: Bits = np.zeros(1, dtype=np.uint8)
        self.odd: Bits = np.empty(0, dtype=np.uint8)

    def own(self, positions: Numbers) -> Bits:
        """Prefix parities of the corrector's bits as they are now."""
        flips = np.searchsorted(self._sorted, positions)
        return ((self._prefix[positions] ^ flips) & 1).astype(np.uint8)

    def begin(self, cuts: Numbers, answers: Bits) -> None:
        self.cuts = np.concatenate((self.cuts, cuts))
        self.answers = np.concatenate((self.answers, answers))
        difference = self.own(self.cuts) ^ self.answers
        self.odd = difference[1:] ^ difference[:-1]

    def add(self, cuts: Numbers, answers: Bits) -> None:
        """Cuts found in a search, after which no part is odd."""
        places = np.searchsorted(self.cuts, cuts)
        self.cuts = np.insert(self.cuts, places, cuts)
        self.answers = np.insert(self.answers, places, answers)
        self.odd = np.zeros(len(self.cuts) - 1, dtype=np.uint8)

    def flipped(self, indices: Numbers, *, searched: bool) -> None:
        """The bits ``indices`` changed; ``searched``: found here, so that nothing is odd now."""
        positions = self.order.positions(indices)
        self._flips.append(positions)
        if not searched:
            parts = np.searchsorted(self.cuts, positions, side="right") - 1
            self.odd ^= (np.bincount(parts, minlength=len(self.odd)) & 1).astype(np.uint8)

    def wipe(self) -> None:
        self._prefix[...] = 0
        self.answers[...] = 0

    def settle(self) -> None:
        """Take the flips so far into account in ``own``."""
        if self._flips:
            self._sorted = np.sort(np.concatenate((self._sorted, *self._flips)))
            self._flips.clear()


class Corrector:
    """The end whose bits become the other's. ``bits`` is changed in place.

    ``question``: what to send next, None when done. ``rounds``, ``leak``: so far.
    """

    def __init__(self, bits: Bits, plan: Schedule, seed: bytes) -> None:
        if len(seed) != SEED_OCTETS:
            raise ValueError(f"a seed has {SEED_OCTETS} octets")
        self._bits = bits
        self._plan = plan
        self._seed = seed
        self._passes: list[_Pass] = []
        self._found: list[Numbers] = []
        self._allowance = plan.haste * len(bits)
        self._searches = 0
        self.rounds = 0
        self.leak = 0
        self._steps = self._run()
        self.question: bytes | None = next(self._steps, None) if len(bits) else None

    @property
    def errors(self) -> Numbers:
        """Numbers of the bits that were changed, rising."""
        every = np.sort(np.concatenate((np.empty(0, dtype=np.int64), *self._found)))
        numbers, times = np.unique(every, return_counts=True)
        changed: Numbers = numbers[times % 2 == 1]
        return changed

    def answer(self, body: bytes) -> None:
        """Raises PeerMessageError. ``question`` is the next one then."""
        if self.question is None:
            raise PeerMessageError("parities nobody asked for")
        self.rounds += 1
        try:
            self.question = self._steps.send(body)
        except StopIteration:
            self.question = None

    def wipe(self) -> None:
        """Overwrite what was derived from the bits; they themselves stay."""
        for each in self._passes:
            each.wipe()

    # --- the protocol, as a generator of questions that is sent the answers ---

    def _run(self) -> Generator[bytes, bytes, None]:
        count = len(self._bits)
        total = np.empty(0, dtype=np.uint8)
        for number, size in enumerate(self._plan.blocks):
            order = _order(number, count, self._seed)
            here = _Pass(order, self._bits)
            cuts = _boundaries(order, size, last=number == 0)
            out = _head(_Kind.BLOCKS, number, self._seed)
            out.number(size, 4)
            answers = yield from self._ask(out, len(cuts))
            if number == 0:
                total = answers[-1:]
            else:  # the parity of everything is known from the first pass
                cuts, answers = np.append(cuts, order.length), np.append(answers, total)
            here.begin(cuts, answers)
            self._passes.append(here)
            yield from self._search_all()
        yield from self._subsets()

    def _subsets(self) -> Generator[bytes, bytes, None]:
        wanted = self._plan.subsets
        if not wanted:
            return
        base = len(self._plan.blocks)
        halves = [Subset(len(self._bits), _seed(self._seed, base + i)) for i in range(wanted)]
        out = _head(_Kind.SUBSETS, base, self._seed)
        out.number(wanted, 1)
        theirs = yield from self._ask(out, wanted)
        packed = packed_string(self._bits)
        odd = [half.parity(packed) != parity for half, parity in zip(halves, theirs, strict=True)]
        while any(odd):
            number = odd.index(True)
            here = _Pass(halves[number], self._bits)
            here.begin(np.array([len(self._bits)], dtype=np.int64), theirs[number : number + 1])
            self._passes.append(here)
            before = len(self._found)
            yield from self._search_all(base + number)
            self._passes.pop().wipe()
            for indices in self._found[before:]:
                for i, half in enumerate(halves):
                    odd[i] ^= len(half.positions(indices)) % 2 == 1

    def _search_all(self, last: int | None = None) -> Generator[bytes, bytes, None]:
        """Until no part of any pass is odd. ``last``: number of the last pass on the wire."""
        while True:
            odd = [i for i, each in enumerate(self._passes) if each.odd.any()]
            if not odd:
                return
            self._searches += 1
            if self._searches > MAX_SEARCHES:  # answers that fit no string never come to an end
                raise PeerMessageError("parities that contradict each other")
            number = odd[0]
            here = self._passes[number]
            top = number == len(self._passes) - 1
            on_wire = last if top and last is not None else number
            indices = yield from self._search(here, on_wire)
            self._bits[indices] ^= 1
            self._found.append(indices)
            for each in self._passes:
                each.flipped(indices, searched=each is here)

    def _search(self, here: _Pass, number: int) -> Generator[bytes, bytes, Numbers]:
        """Cut every odd part of one pass down to single bits; the numbers of those."""
        here.settle()
        parts = np.flatnonzero(here.odd)
        low, high = here.cuts[parts], here.cuts[parts + 1]
        below = here.answers[parts] ^ here.own(low)  # difference at ``low``
        cuts: list[Numbers] = []
        answers: list[Bits] = []
        found: list[Numbers] = []
        while True:
            single = high - low == 1
            found.append(low[single])
            low, high, below = low[~single], high[~single], below[~single]
            if not len(low):
                break
            grid = _grid(low, high, self._ways(low, high))
            asked = np.diff(grid[:, :-1], axis=1) > 0
            new = grid[:, 1:-1][asked]
            out = _head(_Kind.CUTS, number, self._seed)
            out.octets(sifting.encode_indices(new))
            parities = yield from self._ask(out, len(new))
            cuts.append(new)
            answers.append(parities)
            difference = _fill(below, asked, parities ^ here.own(new))
            odd = difference[:, 1:] != difference[:, :-1]
            low, high, below = grid[:, :-1][odd], grid[:, 1:][odd], difference[:, :-1][odd]
        if cuts:
            new = np.concatenate(cuts)
            rising = np.argsort(new, kind="stable")
            here.add(new[rising], np.concatenate(answers)[rising])
        else:
            here.odd[:] = 0
        return here.order.indices(np.concatenate(found))

    def _ways(self, low: Numbers, high: Numbers) -> int:
        """Into how many each part is cut in one round.

        Two leaks least. More saves rounds, and costs next to nothing where few parts are left:
        2^t ways ask (2^t - 1) / t bits per halving.
        """
        halvings = float(np.log2(high - low).sum())
        ways = 1
        while ways < _MOST_HALVINGS:
            cost = (2 ** (ways + 1) - 1) / (ways + 1) - 1
            if halvings * cost > self._allowance:
                break
            ways += 1
        return 1 << ways

    def _ask(self, out: Writer, count: int) -> Generator[bytes, bytes, Bits]:
        body = yield out.finish()
        self.leak += count
        return unpack(body, count)


class ParityOracle:
    """The other end: answers questions about its bits. ``leak`` counts the parities given."""

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        self._prefixes: dict[int, Prefix] = {}
        self.leak = 0
        self.rounds = 0

    def wipe(self) -> None:
        """Overwrite what was derived from the bits; they themselves stay."""
        for prefix in self._prefixes.values():
            prefix[...] = 0

    def answer(self, question: bytes) -> bytes:
        """Raises PeerMessageError; also for more parities than there are bits to protect."""
        source = Reader(question)
        seed = source.octets(SEED_OCTETS)
        kind, number = source.number(1), source.number(1)
        if len(seed) != SEED_OCTETS or number >= MAX_PASSES + MAX_SUBSETS:
            raise PeerMessageError("question about no pass")
        count = len(self._bits)
        if kind == _Kind.BLOCKS:
            size = source.number(4)
            order = _order(number, count, seed)
            if size < 1:
                raise PeerMessageError("blocks of no bits")
            self._prefixes[number] = order.prefix(self._bits)
            parities = self._prefixes[number][_boundaries(order, size, last=number == 0)] & 1
        elif kind == _Kind.CUTS:
            prefix = self._prefixes.get(number)
            if prefix is None:  # a subset: passes begin with their blocks
                prefix = Subset(count, _seed(seed, number)).prefix(self._bits)
                self._prefixes[number] = prefix
            cuts = sifting.decode_indices(source.octets(8 * count + 16), pulses=len(prefix))
            parities = prefix[cuts] & 1
        elif kind == _Kind.SUBSETS:
            packed = packed_string(self._bits)
            wanted = source.number(1)
            if wanted > MAX_SUBSETS:
                raise PeerMessageError("too many subsets")
            parities = np.array(
                [Subset(count, _seed(seed, number + i)).parity(packed) for i in range(wanted)],
                dtype=np.int32,
            )
        else:
            raise PeerMessageError("unknown kind of question")
        source.end()
        self.rounds += 1
        self.leak += len(parities)
        if self.leak > 2 * count + 1024:
            raise PeerMessageError("more parities asked for than there are bits")
        return np.packbits(parities.astype(np.uint8)).tobytes()


def _grid(low: Numbers, high: Numbers, ways: int) -> Numbers:
    """Row by row the borders of ``ways`` equal pieces of a part, both ends with them."""
    return low[:, None] + (high - low)[:, None] * np.arange(ways + 1) // ways


def _fill(below: Bits, asked: NDArray[np.bool_], values: Bits) -> Bits:
    """Differences at the borders of ``_grid``; a piece without width has that of its neighbour."""
    difference = np.empty((len(below), asked.shape[1] + 2), dtype=np.uint8)
    difference[:, 0] = below
    inner = np.zeros(asked.shape, dtype=np.uint8)
    inner[asked] = values
    for column in range(asked.shape[1]):
        difference[:, column + 1] = np.where(
            asked[:, column], inner[:, column], difference[:, column]
        )
    difference[:, -1] = below ^ 1
    return difference


def drive(corrector: Corrector, oracle: ParityOracle) -> None:
    """Both ends in one process, for tests and measurements."""
    while corrector.question is not None:
        corrector.answer(oracle.answer(corrector.question))


def _head(kind: _Kind, number: int, seed: bytes) -> Writer:
    out = Writer()
    out.octets(seed)
    out.number(kind, 1)
    out.number(number, 1)
    return out


def _order(number: int, count: int, seed: bytes) -> Order:
    return Natural(count) if number == 0 else Shuffled(count, _seed(seed, number))


def _seed(seed: bytes, number: int) -> bytes:
    return seed + number.to_bytes(2, "big")


def _boundaries(order: Order, size: int, *, last: bool) -> Numbers:
    """Ends of the blocks of one pass; that of the last one only if its parity is unknown."""
    cuts = np.arange(size, order.length, size, dtype=np.int64)
    return np.append(cuts, order.length) if last else cuts
