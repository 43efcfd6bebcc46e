"""Traffic selectors and narrowing."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.errors import ProtocolError
from gateway.ike.limits import SELECTED_NETWORKS_MAX
from gateway.ike.selectors import (
    OpaqueSelector,
    Selector,
    TrafficSelector,
    covered,
    decode_selector,
    from_networks,
    narrow,
)
from gateway.ike.wire import Reader
from gateway.model import IpNetwork
from tests.support.ike_strategies import selectors, u32


def nets(*texts: str) -> tuple[IpNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


def span(start: str, end: str, **more: int) -> TrafficSelector:
    return TrafficSelector(start=ip_address(start), end=ip_address(end), **more)


def test_wire_form() -> None:
    (selector,) = from_networks(nets("10.1.0.0/24"))
    assert selector.encode().hex() == "070000100000ffff" + "0a010000" + "0a0100ff"
    (wide,) = from_networks(nets("2001:db8::/32"))
    assert wide.encode()[:8].hex() == "080000280000ffff"
    assert len(wide.encode()) == 40


@given(selectors())
def test_round_trip(selector: Selector) -> None:
    reader = Reader(selector.encode(), "TS payload")
    assert decode_selector(reader) == selector
    reader.finish()


@pytest.mark.parametrize(
    "octets",
    [
        "0700000f0000ffff0a0100000a0100",  # one octet short
        "070000140000ffff0a0100000a0100ff00000000",  # length of no address family
        "070000100000ffff0a0100ff0a010000",  # backwards
        "07000003",  # shorter than its own header
        "0700",
    ],
)
def test_malformed(octets: str) -> None:
    with pytest.raises(ProtocolError):
        decode_selector(Reader(bytes.fromhex(octets), "TS payload"))


def test_opaque_ports_are_valid() -> None:
    """RFC 7296 3.13.1: start 65535, end 0 means OPAQUE."""
    selector = decode_selector(Reader(bytes.fromhex("07110010ffff00000a0100000a0100ff"), "TS"))
    assert isinstance(selector, TrafficSelector)
    assert not selector.any_traffic


@pytest.mark.parametrize(
    ("offered", "ours", "result"),
    [
        # same, wider, narrower, beside
        ("10.1.0.0/24", "10.1.0.0/24", ["10.1.0.0/24"]),
        ("0.0.0.0/0", "10.1.0.0/24", ["10.1.0.0/24"]),
        ("10.1.0.128/25", "10.1.0.0/24", ["10.1.0.128/25"]),
        ("10.2.0.0/24", "10.1.0.0/24", []),
        ("::/0", "10.1.0.0/24", []),
        ("::/0", "2001:db8::/32", ["2001:db8::/32"]),
    ],
)
def test_narrowing_one_to_one(offered: str, ours: str, result: list[str]) -> None:
    assert [str(n) for n in narrow(from_networks(nets(offered)), nets(ours))] == result


def test_narrowing_a_range_that_is_no_network() -> None:
    found = narrow([span("10.1.0.1", "10.1.0.6")], nets("10.1.0.0/24"))
    assert found == nets("10.1.0.1/32", "10.1.0.2/31", "10.1.0.4/31", "10.1.0.6/32")


def test_a_single_protocol_or_port_does_not_count() -> None:
    """The selector of the packet that woke the initiator stands first (RFC 7296 2.9)."""
    ping = span("10.1.0.10", "10.1.0.10", protocol=1)
    web = span("10.1.0.0", "10.1.0.255", protocol=6, start_port=443, end_port=443)
    whole = span("10.1.0.0", "10.1.0.255")
    assert narrow([ping, web, whole], nets("10.1.0.0/16")) == nets("10.1.0.0/24")
    assert narrow([ping, web], nets("10.1.0.0/16")) == ()


def test_a_selector_of_unknown_type_does_not_count() -> None:
    assert narrow([OpaqueSelector(type=10, protocol=0, data=b"label")], nets("0.0.0.0/0")) == ()


def test_several_networks_come_out_once_and_joined() -> None:
    offered = from_networks(nets("10.1.0.0/25", "10.1.0.128/25", "10.1.0.0/24"))
    assert narrow(offered, nets("10.0.0.0/8", "10.1.0.0/24")) == nets("10.1.0.0/24")


def test_the_result_is_bounded_whatever_the_peer_offers() -> None:
    ragged = span("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
    many = [
        span(f"{block:x}::1", f"{block:x}:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
        for block in range(1, 255)
    ]
    assert len(ragged.networks()) == 254
    assert len(narrow([ragged], nets("::/0"))) == SELECTED_NETWORKS_MAX
    assert len(narrow(many, nets("::/0"))) <= SELECTED_NETWORKS_MAX


@given(st.lists(st.tuples(u32, u32), max_size=4), st.integers(8, 30))
def test_narrowing_never_widens(ranges: list[tuple[int, int]], prefix: int) -> None:
    ours = (ip_network((10 << 24, prefix)),)
    offered = [
        TrafficSelector(start=IPv4Address(min(pair)), end=IPv4Address(max(pair))) for pair in ranges
    ]
    for network in narrow(offered, ours):
        assert network.subnet_of(ours[0])  # type: ignore[type-var]
    assert covered(from_networks(narrow(offered, ours)), ours) == bool(narrow(offered, ours))


def test_covered_is_the_initiators_check() -> None:
    ours = nets("10.1.0.0/24", "10.3.0.0/24")
    assert covered(from_networks(nets("10.1.0.0/25", "10.3.0.0/24")), ours)
    assert not covered(from_networks(nets("10.1.0.0/23")), ours)
    assert not covered(from_networks(nets("2001:db8::/32")), ours)
    assert not covered([OpaqueSelector(type=10, protocol=0, data=b"")], ours)
    assert not covered([], ours)


def test_text() -> None:
    assert str(span("10.1.0.0", "10.1.0.255")) == "10.1.0.0/24"
    assert str(span("10.1.0.1", "10.1.0.6")) == "10.1.0.1-10.1.0.6"
    assert str(span("10.1.0.0", "10.1.0.255", protocol=6, start_port=80, end_port=80)) == (
        "10.1.0.0/24[6/80-80]"
    )
