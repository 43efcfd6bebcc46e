"""From probabilities to counts, and from counts to what the two devices record.

``expose`` draws how many pulses of a block had each outcome, exactly: a multinomial over what
was sent and, per cell, one over what came of it. ``detections`` puts these counts in a random
order in time. Pulses that were not detected are never made, which is why a second at 1 GHz
costs no more than its clicks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from qkd_adapters.optics import continuous, entangled, pulses, twin_field
from qkd_adapters.optics.cells import NO_CELLS, Cells, Ints, Octets
from qkd_adapters.optics.conditions import Conditions
from qkd_adapters.optics.model import LinkModel
from qkd_adapters.optics.monitors import read
from qkd_adapters.records import Column, Monitor, Protocol, Record

_PIECE = 1 << 24  # pulses

Totals = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelCounts:
    """Truth about one intensity in one block."""

    sent: int
    clicks: int
    sifted_z: int
    errors_z: int
    sifted_x: int
    errors_x: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One block, counted. This is the truth: devices never see it, only ``detections``."""

    model: LinkModel
    conditions: Conditions
    seconds: float
    pulses: int
    cells: Cells
    sent: Ints  # per cell
    counts: Ints  # per code
    arrival_mean: float  # ps
    arrival_std: float
    alice: Monitor
    bob: Monitor
    quadratures: continuous.Quadratures | None = None  # CV, which has nothing to count

    @property
    def clicks(self) -> int:
        return int(self.counts.sum())

    @property
    def double_clicks(self) -> int:
        return int(self.counts @ self.cells.codebook.double)

    @property
    def detector_clicks(self) -> tuple[int, ...]:
        """Z0, Z1, X0, X1."""
        return tuple(int(n) for n in self.counts @ self.cells.codebook.detectors)

    def levels(self) -> tuple[LevelCounts, ...]:
        book = self.cells.codebook
        found = []
        for number in range(self.cells.levels):
            counts = np.where(book.level == number, self.counts, 0)
            in_z, in_x = book.sifted == 1, book.sifted == 2
            wrong = counts * book.error
            found.append(
                LevelCounts(
                    sent=int(self.sent[self.cells.cell_level == number].sum()),
                    clicks=int(counts.sum()),
                    sifted_z=int(counts[in_z].sum()),
                    errors_z=int(wrong[in_z].sum()),
                    sifted_x=int(counts[in_x].sum()),
                    errors_x=int(wrong[in_x].sum()),
                )
            )
        return tuple(found)


@lru_cache(maxsize=64)
def cells_of(model: LinkModel, conditions: Conditions) -> Cells:
    """Probabilities of the model's protocol."""
    match model.protocol:
        case Protocol.DECOY_BB84 | Protocol.BB84:
            return pulses.cells(model, conditions)
        case Protocol.TWIN_FIELD:
            return twin_field.cells(model, conditions)
        case Protocol.BBM92:
            return entangled.cells(model, conditions)
        case Protocol.CV:
            return NO_CELLS
        case _:
            assert_never(model.protocol)


def expose(
    model: LinkModel, conditions: Conditions, seconds: float, rng: np.random.Generator
) -> Exposure:
    """Draw the counts of ``seconds``. Raises ValueError for a length that is not positive."""
    if seconds <= 0:
        raise ValueError(f"a block of {seconds:g} s")
    if model.protocol is Protocol.CV:
        return _expose_quadratures(model, conditions, seconds, rng)
    return expose_cells(model, conditions, cells_of(model, conditions), seconds, rng)


def _expose_quadratures(
    model: LinkModel, conditions: Conditions, seconds: float, rng: np.random.Generator
) -> Exposure:
    found = continuous.expose(model, conditions, seconds)
    alice, bob = read(model, conditions, clicks=found.symbols, noise=0.0, rng=rng)
    nothing = np.zeros(0, dtype=np.int64)
    return Exposure(
        model=model,
        conditions=conditions,
        seconds=seconds,
        pulses=found.symbols,
        cells=NO_CELLS,
        sent=nothing,
        counts=nothing,
        arrival_mean=0.0,
        arrival_std=0.0,
        alice=alice,
        bob=bob,
        quadratures=found,
    )


def expose_cells(
    model: LinkModel,
    conditions: Conditions,
    cells: Cells,
    seconds: float,
    rng: np.random.Generator,
) -> Exposure:
    """As ``expose``, with cells computed before: for many blocks under equal conditions."""
    total = round(model.clock_hz * seconds)
    sent = rng.multinomial(total, cells.shares)
    rest = 1.0 - cells.outcomes.sum(axis=1, keepdims=True)
    counts = rng.multinomial(sent, np.hstack((cells.outcomes, np.maximum(rest, 0.0))))
    counts = np.ascontiguousarray(counts[:, :-1]).ravel()
    clicks = int(counts.sum())
    mean, spread = cells.arrival.moments()
    draw = rng.standard_normal(2) / np.sqrt(max(clicks, 1))
    alice, bob = read(model, conditions, clicks=clicks, noise=cells.arrival.noise, rng=rng)
    return Exposure(
        model=model,
        conditions=conditions,
        seconds=seconds,
        pulses=total,
        cells=cells,
        sent=sent,
        counts=counts,
        arrival_mean=mean + spread * float(draw[0]),
        arrival_std=spread * (1.0 + float(draw[1]) / np.sqrt(2.0)),
        alice=alice,
        bob=bob,
    )


def detections(
    exposure: Exposure,
    rng: np.random.Generator,
    *,
    block: int = 0,
    start: float = 0.0,
) -> tuple[Record, Record]:
    """Alice's and Bob's records of the block, with exactly the counts of ``exposure``."""
    if exposure.quadratures is not None:
        alice, bob = continuous.columns(exposure.quadratures, rng)
    else:
        alice, bob = _columns(exposure, rng)

    def record(columns: dict[str, Column], totals: Totals, monitor: Monitor) -> Record:
        return Record(
            block=block,
            start=start,
            seconds=exposure.seconds,
            pulses=exposure.pulses,
            columns=columns,
            totals=totals,
            monitor=monitor,
        )

    return (
        record(alice, _totals_of_alice(exposure), exposure.alice),
        record(bob, _totals_of_bob(exposure), exposure.bob),
    )


def _columns(
    exposure: Exposure, rng: np.random.Generator
) -> tuple[dict[str, Column], dict[str, Column]]:
    index, codes = _spread(exposure, rng)
    cells, book = exposure.cells, exposure.cells.codebook
    alice: dict[str, Column] = {"index": index}
    bob: dict[str, Column] = {"index": index}
    alice |= {name: column.take(codes) for name, column in book.alice.items()}
    bob |= {name: column.take(codes) for name, column in book.bob.items()}
    table = cells.arrival.table()
    for columns, receives in ((alice, not cells.alice_sends), (bob, cells.cell_level_bob is None)):
        if receives:
            places = rng.integers(0, len(table), len(codes), dtype=np.uint16)
            columns["arrival"] = table.take(places)
    return alice, bob


def _spread(exposure: Exposure, rng: np.random.Generator) -> tuple[NDArray[np.uint64], Octets]:
    """Sorted distinct pulse numbers, and the codes in random order.

    The block is cut into pieces of 2^24 pulses, so that place in the piece and code fit into 32
    bits: one sort orders the places and shuffles the codes. Which piece a detection falls into
    is a multinomial for each code, as it is for pulses that are all alike.
    """
    pieces = max(1, math.ceil(exposure.pulses / _PIECE))
    last = exposure.pulses - (pieces - 1) * _PIECE
    shares = np.full(pieces, _PIECE / exposure.pulses)
    shares[-1] = last / exposure.pulses
    counts = rng.multinomial(exposure.counts, shares)
    index = np.empty(exposure.clicks, dtype=np.uint64)
    order = np.empty(exposure.clicks, dtype=np.uint8)
    codes = np.arange(len(exposure.counts), dtype=np.uint32)
    filled = 0
    for piece in np.flatnonzero(counts.any(axis=0)).tolist():
        each = counts[:, piece]
        clicks = int(each.sum())
        keys = _places(last if piece == pieces - 1 else _PIECE, clicks, rng)
        keys |= np.repeat(codes, each)
        keys.sort()
        here = slice(filled, filled + clicks)
        order[here] = keys.astype(np.uint8)
        keys >>= np.uint32(8)
        keys += np.arange(clicks, dtype=np.uint32)
        np.add(keys, np.uint64(piece * _PIECE), out=index[here], casting="unsafe")
        filled += clicks
    return index, order


def _places(pulses: int, clicks: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Random places, above eight free bits.

    Drawn from a range that is shorter by the number of clicks: moved up by their rank, they are
    distinct.
    """
    room = max(pulses - clicks, 0) + 1
    places = rng.integers(0, room, clicks, dtype=np.uint32)
    places <<= np.uint32(8)
    return places


def _totals_of_alice(exposure: Exposure) -> Totals:
    cells = exposure.cells
    if exposure.quadratures is not None:
        return {}
    if not cells.alice_sends:
        return _seen(exposure, cells.codebook.alice_detectors)
    if cells.cell_level_bob is not None:
        return _sent_settings(exposure.sent, cells.cell_level, cells.levels)
    return _sent(exposure)


def _totals_of_bob(exposure: Exposure) -> Totals:
    cells = exposure.cells
    if exposure.quadratures is not None:
        return {}
    if cells.cell_level_bob is not None:
        return _sent_settings(exposure.sent, cells.cell_level_bob, cells.levels)
    return _seen(exposure, cells.codebook.detectors)


def _sent(exposure: Exposure) -> Totals:
    cells = exposure.cells

    def per_level(basis: int) -> tuple[int, ...]:
        return tuple(
            int(exposure.sent[(cells.cell_level == level) & (cells.cell_basis == basis)].sum())
            for level in range(cells.levels)
        )

    return {"sent_z": per_level(0), "sent_x": per_level(1)}


def _sent_settings(sent: Ints, settings: Octets, count: int) -> Totals:
    """Twin-field: the key mode is Z, the test intensities are X."""
    each = [int(sent[settings == number].sum()) for number in range(count)]
    return {"sent_z": (each[0],), "sent_x": tuple(each[1:])}


def _seen(exposure: Exposure, detectors: Octets | None) -> Totals:
    clicks = exposure.detector_clicks
    if detectors is not None and detectors is not exposure.cells.codebook.detectors:
        clicks = tuple(int(n) for n in exposure.counts @ detectors)
    return {"double": (exposure.double_clicks,), "clicks": clicks}
