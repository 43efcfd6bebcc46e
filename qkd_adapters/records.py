"""What the detectors and the source of one device say about one block of pulses.

A record is all that the optics and a device share. It holds what real hardware at that end
would hold, and nothing else: never which bits are wrong, what an attacker saw, or what the
fibre's loss is. The names of columns and totals are a closed list, so that no such thing can
be added in passing; ``decode`` refuses what is not on it.

Encoded, a record is one MessagePack map with the columns as little-endian arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkd_adapters.errors import RecordError

# A block of 1e6 CV symbols is 8 MB, one of 5e6 decoy clicks 65 MB.
MAX_RECORD = 128 * 1024 * 1024
# More detections than this in one block are not a block of any device we play.
MAX_DETECTIONS = 8_000_000
# Totals are counted per intensity or per detector: never many.
_MAX_TOTALS = 16

Column = NDArray[Any]


class Protocol(StrEnum):
    """What the two devices speak with light."""

    DECOY_BB84 = "decoy-bb84"
    BB84 = "bb84"
    CV = "cv"
    TWIN_FIELD = "twin-field"
    BBM92 = "bbm92"


class Role(StrEnum):
    """Which end a device is. Alice sends the light where only one end does."""

    ALICE = "alice"
    BOB = "bob"


COLUMNS: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "index": np.dtype("<u8"),  # number of the pulse in the block
        "basis": np.dtype("u1"),  # 0 = Z (key), 1 = X
        "bit": np.dtype("u1"),
        "intensity": np.dtype("u1"),  # 0 = signal, 1 = decoy, 2 = second decoy or vacuum
        "arrival": np.dtype("<i2"),  # ps from the middle of the gate; receiver only
        "detector": np.dtype("u1"),  # twin-field: which detector the middle announced
        "x": np.dtype("<f4"),  # CV quadratures, in units of the square root of shot noise
        "p": np.dtype("<f4"),
    }
)
"""What may be known per detected pulse; all columns of a record have the same length."""

TOTALS: Mapping[str, str] = MappingProxyType(
    {
        "sent_z": "pulses sent in Z per intensity",
        "sent_x": "pulses sent in X per intensity",
        "double": "gates in which both detectors clicked (one number)",
        "clicks": "clicks per detector: Z0, Z1, X0, X1",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Read-outs of one device's own health, over one block."""

    photocurrent: float = 1.0  # detector bias current, relative to calibration
    efficiency_check: float = 0.5  # click ratio with the receiver's own attenuator in / out
    input_power: float = 0.01  # at the input watchdog, in units of its alarm threshold
    source_power: float = 1.0  # at the sender's photodiode, relative to calibration
    temperature: float = 25.0  # deg C inside
    sync_offset: float = 0.0  # ps, clock offset to the peer as tracked
    visibility: float = 1.0  # of the interferometer, 0..1
    shot_noise: float = 1.0  # CV: calibrated shot noise, relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One block at one device. ``start`` is on the device's own clock, in seconds."""

    block: int
    start: float
    seconds: float
    pulses: int
    columns: Mapping[str, Column]
    totals: Mapping[str, tuple[int, ...]]
    monitor: Monitor

    @property
    def detections(self) -> int:
        """How many rows the columns have."""
        return next((len(column) for column in self.columns.values()), 0)


class _Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    block: int
    start: float
    seconds: float
    pulses: int
    columns: dict[str, bytes]
    totals: dict[str, tuple[int, ...]]
    monitor: Monitor


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def encode(record: Record) -> bytes:
    """Raises RecordError for a record that ``decode`` would refuse."""
    wire = _Wire(
        block=record.block,
        start=record.start,
        seconds=record.seconds,
        pulses=record.pulses,
        columns={
            name: np.ascontiguousarray(column, dtype=_column_type(name)).tobytes()
            for name, column in record.columns.items()
        },
        totals={name: tuple(int(value) for value in row) for name, row in record.totals.items()},
        monitor=record.monitor,
    )
    _check(wire)
    return _encoder.encode(wire)


def decode(data: bytes) -> Record:
    """The record with read-only columns. Raises RecordError."""
    if len(data) > MAX_RECORD:
        raise RecordError(f"record of {len(data)} octets")
    try:
        wire = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise RecordError(f"not a record: {error}") from error
    _check(wire)
    return Record(
        block=wire.block,
        start=wire.start,
        seconds=wire.seconds,
        pulses=wire.pulses,
        columns={
            name: np.frombuffer(octets, dtype=COLUMNS[name])
            for name, octets in wire.columns.items()
        },
        totals=wire.totals,
        monitor=wire.monitor,
    )


def _column_type(name: str) -> np.dtype[Any]:
    if name not in COLUMNS:
        raise RecordError(f"a record has no column {name!r}")
    return COLUMNS[name]


def _check(wire: _Wire) -> None:
    if wire.block < 0 or wire.pulses < 0:
        raise RecordError("negative block number or pulse count")
    if not (math.isfinite(wire.start) and math.isfinite(wire.seconds) and wire.seconds > 0):
        raise RecordError("start or length of the block is not a time")
    lengths = set()
    for name, octets in wire.columns.items():
        rows, rest = divmod(len(octets), _column_type(name).itemsize)
        if rest:
            raise RecordError(f"column {name!r} ends in the middle of a value")
        lengths.add(rows)
    if len(lengths) > 1:
        raise RecordError("columns differ in length")
    if max(lengths, default=0) > MAX_DETECTIONS:
        raise RecordError(f"more than {MAX_DETECTIONS} detections")
    for name, row in wire.totals.items():
        if name not in TOTALS:
            raise RecordError(f"a record has no total {name!r}")
        if len(row) > _MAX_TOTALS or min(row, default=0) < 0:
            raise RecordError(f"total {name!r} is no row of counts")
