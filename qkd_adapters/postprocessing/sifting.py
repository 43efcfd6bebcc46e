"""Which detections count, and saying so in few octets."""

from __future__ import annotations

import numpy as np

from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.wire import Bits, Numbers, Reader, Writer

MAX_INDICES = 8_000_000  # detections in one block, as in a record
_WIDTHS = ("u1", ">u2", ">u4", ">u8")


def encode_indices(indices: Numbers) -> bytes:
    """Strictly rising numbers as gaps: number of them, log2 of the octets per gap, gaps.

    Gaps between detections are geometrically distributed: the width is chosen so that about one
    in a hundred at most does not fit; those are escaped and follow in 8 octets each.
    """
    out = Writer()
    out.number(len(indices), 4)
    if not len(indices):
        return out.finish()
    gaps = np.diff(indices, prepend=-1) - 1
    typical = int(np.quantile(gaps, 0.99))
    width = next(each for each in range(4) if typical < _escape(each))
    small = gaps < _escape(width)
    out.number(width, 1)
    body = np.where(small, gaps, _escape(width)).astype(_WIDTHS[width]).tobytes()
    return out.finish() + body + gaps[~small].astype(">u8").tobytes()


def decode_indices(data: bytes, *, pulses: int) -> Numbers:
    """Raises PeerMessageError; all numbers are below ``pulses``."""
    source = Reader(data)
    count = source.number(4)
    if count > min(MAX_INDICES, pulses):
        raise PeerMessageError(f"{count} detections in a block of {pulses} pulses")
    if pulses > 2**62:
        raise PeerMessageError("a block of that many pulses")
    if not count:
        source.end()
        return np.empty(0, dtype=np.int64)
    width = source.number(1)
    if width >= len(_WIDTHS):
        raise PeerMessageError("no such width of a gap")
    body = np.frombuffer(source.raw(count << width), dtype=_WIDTHS[width]).astype(np.uint64)
    large = body == _escape(width)
    body[large] = np.frombuffer(source.raw(8 * int(large.sum())), dtype=">u8")
    source.end()
    if (body > pulses).any():
        raise PeerMessageError("a gap longer than the block")
    indices = np.cumsum(body.astype(np.int64) + 1) - 1
    # Each gap is at most 2^62 but their sum may pass 2^63 and come round: then it falls.
    if int(indices[-1]) >= pulses or (count > 1 and (np.diff(indices) <= 0).any()):
        raise PeerMessageError("detections beyond the end of the block")
    return indices


def _escape(width: int) -> int:
    return (1 << (8 << width)) - 1 if width < 3 else 2**63


def encode_symbols(symbols: Bits) -> bytes:
    """Numbers 0 to 3: how many, then four to the octet."""
    out = Writer()
    out.number(len(symbols), 4)
    pairs = np.empty(2 * len(symbols), dtype=np.uint8)
    pairs[::2] = symbols >> 1
    pairs[1::2] = symbols & 1
    return out.finish() + np.packbits(pairs).tobytes()


def decode_symbols(data: bytes, *, most: int) -> Bits:
    """Raises PeerMessageError."""
    source = Reader(data)
    count = source.number(4)
    if count > most:
        raise PeerMessageError(f"{count} symbols where {most} are the most")
    packed = np.frombuffer(source.raw((count + 3) // 4), dtype=np.uint8)
    source.end()
    pairs = np.unpackbits(packed, count=2 * count)
    return pairs[::2] * np.uint8(2) + pairs[1::2]


def match(announced: Numbers, basis: Bits, own_indices: Numbers, own_basis: Bits) -> Numbers:
    """Row numbers of ``own`` for every announced detection, -1 where it does not count.

    A detection counts if both ends know it and used the same basis. ``own_indices`` rise
    strictly.
    """
    if not len(own_indices):
        return np.full(len(announced), -1, dtype=np.int64)
    rows = np.searchsorted(own_indices, announced)
    rows = np.minimum(rows, len(own_indices) - 1)
    counts = (own_indices[rows] == announced) & (own_basis[rows] == basis)
    return np.where(counts, rows, -1)
