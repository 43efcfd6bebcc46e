"""Down to the smallest datagram of the IP version, and no further."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.ike.cutting import Cutter
from gateway.ike.encrypted import ip_datagram
from gateway.ike.limits import REFRAGMENT_AFTER
from gateway.ike.message import Header
from gateway.ike.payloads import VendorIdPayload
from gateway.ike.registry import ExchangeType


class Channel:
    """Notes what it was asked for, and makes datagrams of that size."""

    def __init__(self) -> None:
        self.again: list[bool] = []

    def seal(
        self, header: Header, payloads: Any, *, fragment_size: int, ip_version: int, again: bool
    ) -> tuple[bytes, ...]:
        self.again.append(again)
        room = fragment_size - ip_datagram(0, ip_version)
        (payload,) = payloads
        return tuple(payload.data[at : at + room] for at in range(0, len(payload.data), room))


def cutter(remote: str, size: int) -> tuple[Cutter, Any]:
    sa: Any = SimpleNamespace(
        remote=(ip_address(remote), 4500),
        connection=SimpleNamespace(fragment_size=size),
        peer=SimpleNamespace(fragmentation=True),
        channel=Channel(),
        datagram_max=None,
    )
    return Cutter(sa), sa


def header(*, response: bool = False) -> Header:
    return Header(
        spi_i=bytes(8),
        spi_r=bytes(8),
        exchange=ExchangeType.IKE_AUTH,
        message_id=1,
        initiator=True,
        response=response,
    )


def octets(datagrams: tuple[bytes, ...]) -> int:
    return max(len(data) for data in datagrams)


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize(
    ("remote", "size", "smallest"),
    [
        ("192.0.2.1", 1500, 576),
        ("192.0.2.1", 620, 576),
        ("2001:db8::1", 1500, 1280),
    ],
)
def test_once_after_some_repetitions(remote: str, size: int, smallest: int, response: bool):
    one, sa = cutter(remote, size)
    payload = VendorIdPayload(data=bytes(range(256)) * 40)
    first = one.cut(header(response=response), [payload])
    again = [one.repeated(response=response) for _ in range(REFRAGMENT_AFTER + 3)]
    recut = again.pop(REFRAGMENT_AFTER)
    assert not any(again)
    assert len(recut) > len(first)
    assert b"".join(recut) == b"".join(first)
    assert ip_datagram(octets(recut), sa.remote[0].version) == smallest
    assert sa.datagram_max == smallest
    assert sa.channel.again == [False, response]


@pytest.mark.parametrize(
    ("remote", "size", "length"),
    [
        ("2001:db8::1", 1280, 5000),  # nothing smaller is to be had
        ("192.0.2.1", 576, 5000),
        ("192.0.2.1", 1280, 500),  # it fits as it is
        ("192.0.2.1", 580, 1084),  # two fragments either way: RFC 7383 2.5.2 wants more
    ],
)
def test_nothing_changes_where_there_would_not_be_more_fragments(
    remote: str, size: int, length: int
):
    one, sa = cutter(remote, size)
    one.cut(header(), [VendorIdPayload(data=bytes(length))])
    assert not any(one.repeated(response=False) for _ in range(REFRAGMENT_AFTER + 3))
    assert sa.datagram_max is None


def test_what_the_peer_sends_bounds_the_next_answer_only_downwards():
    one, sa = cutter("192.0.2.1", 1280)
    for heard, expected in ((0, None), (1248, None), (900, 932), (1200, 932), (100, 576)):
        one.heard(heard)
        assert sa.datagram_max == expected
    sa.connection.fragment_size = 1500  # a reload
    answer = one.cut(header(response=True), [VendorIdPayload(data=bytes(3000))])
    assert ip_datagram(octets(answer), 4) == 576
