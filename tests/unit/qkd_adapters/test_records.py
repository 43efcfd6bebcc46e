"""Records survive the wire unchanged and can hold nothing but what a device would know."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from qkd_adapters.errors import RecordError
from qkd_adapters.records import COLUMNS, TOTALS, Monitor, Record, decode, encode


def record(**changes: object) -> Record:
    plain = Record(
        block=7,
        start=70.0,
        seconds=10.0,
        pulses=10**10,
        columns={
            "index": np.array([3, 2**40], dtype=np.uint64),
            "basis": np.array([0, 1], dtype=np.uint8),
            "bit": np.array([1, 0], dtype=np.uint8),
            "arrival": np.array([-20, 300], dtype=np.int16),
        },
        totals={"double": (2,), "clicks": (5, 6, 1, 2)},
        monitor=Monitor(temperature=31.5),
    )
    return dataclasses.replace(plain, **changes)


def tampered(**changes: object) -> bytes:
    wire = msgspec.msgpack.decode(encode(record()))
    return msgspec.msgpack.encode({**wire, **changes})


def test_a_record_survives_the_wire() -> None:
    sent = record()
    got = decode(encode(sent))
    assert got.columns.keys() == sent.columns.keys()
    for name, column in got.columns.items():
        assert column.dtype == COLUMNS[name]
        assert np.array_equal(column, sent.columns[name])
    assert (got.block, got.start, got.seconds, got.pulses) == (7, 70.0, 10.0, 10**10)
    assert got.totals == {"double": (2,), "clicks": (5, 6, 1, 2)}
    assert got.monitor.temperature == 31.5
    assert got.detections == 2


def test_a_block_without_clicks_is_a_record() -> None:
    empty = record(columns={}, totals={})
    assert decode(encode(empty)).detections == 0


@pytest.mark.parametrize("name", ["error", "wrong", "eve", "multiphoton", "loss_db"])
def test_a_record_cannot_carry_the_truth(name: str) -> None:
    with pytest.raises(RecordError, match="no column"):
        encode(record(columns={name: np.zeros(2)}))
    with pytest.raises(RecordError, match="no column"):
        decode(tampered(columns={name: b""}))
    with pytest.raises(RecordError, match="no total"):
        encode(record(totals={name: (1,)}))
    with pytest.raises(RecordError, match="no total"):
        decode(tampered(totals={name: (1,)}))
    with pytest.raises(RecordError, match="not a record"):
        decode(tampered(**{name: 1}))


def test_what_may_be_known_is_a_closed_list() -> None:
    # Adding to it is a decision about what real hardware at that end knows.
    assert set(COLUMNS) == {"index", "basis", "bit", "intensity", "arrival", "detector", "x", "p"}
    assert set(TOTALS) == {"sent_z", "sent_x", "double", "clicks"}
    assert {field.name for field in dataclasses.fields(Record)} == {
        *("block", "start", "seconds", "pulses", "columns", "totals", "monitor")
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"block": -1},
        {"pulses": -1},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"start": float("inf")},
        {"columns": {"index": b"1234567"}},
        {"columns": {"bit": b"12", "basis": b"1"}},
        {"totals": {"clicks": [1, -1]}},
        {"totals": {"clicks": [0] * 17}},
        {"block": "one"},
    ],
)
def test_what_is_no_record_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        decode(tampered(**changes))


def test_garbage_is_refused() -> None:
    with pytest.raises(RecordError, match="not a record"):
        decode(b"\xc1")
