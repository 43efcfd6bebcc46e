"""Topologies: what stands in them, and that a contradiction is refused with its name."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from netns_lab.net import CUT, PERFECT, Impairment, configuration, usable
from netns_lab.topology import METRO, SITE_TO_SITE, End, Host, Link, Topology, TopologyError


def end(host: str, *addresses: str) -> End:
    return End(host=host, addresses=tuple(ip_interface(address) for address in addresses))


def topology(*links: Link, hosts: tuple[Host, ...] | None = None) -> Topology:
    return Topology(hosts=hosts or (Host(name="a"), Host(name="b"), Host(name="c")), links=links)


A_B = Link(ends=(end("a", "10.0.0.1/24"), end("b", "10.0.0.2/24")))


def test_an_interface_is_called_after_the_host_at_the_other_end() -> None:
    link = SITE_TO_SITE.link("isp", "moon")
    assert link.interface("moon") == "isp"
    assert link.interface("isp") == "moon"
    assert link.name == "moon-isp"


def test_addresses_of_a_host_in_the_order_of_its_links() -> None:
    assert [str(address) for address in SITE_TO_SITE.addresses("kme-moon")] == [
        "10.9.1.2/24",
        "10.9.0.1/24",
    ]


def test_isp_has_no_way_into_the_sites() -> None:
    isp = SITE_TO_SITE.host("isp")
    networks = {address.network for address in SITE_TO_SITE.addresses("isp")}
    assert isp.gateways == ()
    for host in ("alice", "bob"):
        for address in SITE_TO_SITE.addresses(host):
            assert not any(address.ip in network for network in networks)


def test_keys_travel_apart_from_traffic() -> None:
    carriers = {"alice", "isp", "bob"}
    for kme in ("kme-moon", "kme-sun"):
        assert not SITE_TO_SITE.host(kme).forwards
        neighbours = {
            end.host
            for link in SITE_TO_SITE.links
            if kme in {end.host for end in link.ends}
            for end in link.ends
        }
        assert not neighbours & carriers


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ((A_B, A_B), "link a-b twice"),
        ((A_B, Link(ends=(A_B.ends[1], A_B.ends[0]))), "link a-b twice"),
        (
            (A_B, Link(ends=(end("b", "10.0.0.2/24"), end("c", "10.0.0.3/24")))),
            "address 10.0.0.2 twice",
        ),
        ((Link(ends=(end("a"), end("z"))),), "unknown host 'z'"),
        ((Link(ends=(end("a"), end("a"))),), "joins a host to itself"),
        (
            (Link(ends=(end("a", "10.0.0.1/24"), end("b", "10.0.1.2/24"))),),
            "different networks",
        ),
        (
            (Link(ends=(end("a", "10.0.0.1/24", "fd00::1/64"), end("b", "10.0.0.2/24"))),),
            "different networks",
        ),
    ],
)
def test_links_that_contradict_are_refused(links: tuple[Link, ...], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        topology(*links)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (Host(name="a", gateways=(ip_address("10.7.0.1"),)), "in none of its networks"),
        (
            Host(name="a", gateways=(ip_address("10.0.0.2"), ip_address("10.0.0.3"))),
            "two gateways for IPv4",
        ),
        (Host(name="b"), "host 'b' twice"),
        (Host(name="sixteen-letters-"), "1 to 15 characters"),
        (Host(name=""), "1 to 15 characters"),
    ],
)
def test_hosts_that_contradict_are_refused(host: Host, words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        topology(A_B, hosts=(host, Host(name="b")))


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(TopologyError) as caught:
        topology(A_B, A_B, hosts=(Host(name="a"),))
    assert "link a-b twice" in str(caught.value)
    assert "unknown host 'b'" in str(caught.value)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(TopologyError, match="there are alice, moon, isp, sun, bob"):
        SITE_TO_SITE.host("mars")
    with pytest.raises(TopologyError, match="no link between alice and bob"):
        SITE_TO_SITE.link("alice", "bob")


def test_configuration_of_a_host_is_an_iproute2_batch() -> None:
    assert configuration(SITE_TO_SITE, SITE_TO_SITE.host("alice")) == [
        "link set dev lo up",
        "address replace 10.1.0.10/24 dev moon",
        "address replace fd01::10/64 dev moon nodad",
        "link set dev moon up",
        "route replace default via 10.1.0.1",
        "route replace default via fd01::1",
    ]


def test_a_raw_link_is_there_and_nobody_has_set_it_up() -> None:
    link = METRO.link("moon", "sun")
    assert link.raw
    assert not METRO.link("moon", "isp").raw
    for host in ("moon", "sun"):
        lines = configuration(METRO, METRO.host(host))
        assert lines == configuration(SITE_TO_SITE, SITE_TO_SITE.host(host))


def test_impairments_in_netem_words() -> None:
    assert PERFECT.netem() == []
    assert CUT.netem() == ["loss", "100.0%"]
    slow = Impairment(delay_ms=20, jitter_ms=5, loss_percent=1, reorder_percent=10)
    assert slow.netem() == ["delay", "20ms", "5ms", "loss", "1%", "reorder", "10%"]
    assert replace(slow, delay_ms=0).netem() == ["loss", "1%", "reorder", "10%"]


ADDRESSES = """\
2: moon@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
    inet 10.1.0.10/24 scope global moon
    inet6 fd01::10/64 scope global nodad
3: isp@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default
"""


def test_a_network_is_usable_when_every_interface_and_address_is() -> None:
    assert usable(ADDRESSES)
    assert not usable(ADDRESSES.replace("state UP", "state LOWERLAYERDOWN", 1))
    assert not usable(ADDRESSES.replace("global nodad", "global tentative nodad"))
