"""The bounds-checked cursor."""

from __future__ import annotations

import pytest

from gateway.ike.errors import ProtocolError
from gateway.ike.registry import NotifyType
from gateway.ike.wire import Reader


def test_reads_in_network_order() -> None:
    reader = Reader(bytes.fromhex("01 0203 04050607 aabb cc"), "thing")
    assert (reader.u8(), reader.u16(), reader.u32()) == (1, 0x0203, 0x04050607)
    assert reader.octets(2) == b"\xaa\xbb"
    assert reader.remaining == 1
    assert reader.rest() == b"\xcc"
    reader.finish()


@pytest.mark.parametrize("read", [Reader.u8, Reader.u16, Reader.u32, lambda r: r.octets(1)])
def test_never_reads_past_the_end(read) -> None:
    with pytest.raises(ProtocolError, match="thing ends early") as caught:
        read(Reader(b"", "thing"))
    assert caught.value.notify is NotifyType.INVALID_SYNTAX


def test_a_negative_count_is_an_error_of_the_peer() -> None:
    """As when a length field is smaller than the header it counts."""
    reader = Reader(b"abcd", "thing")
    reader.u8()
    with pytest.raises(ProtocolError):
        reader.octets(-1)


def test_nothing_may_be_left_at_the_end() -> None:
    reader = Reader(b"ab", "thing")
    reader.u8()
    with pytest.raises(ProtocolError, match="1 octets too many"):
        reader.finish()
