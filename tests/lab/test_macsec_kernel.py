"""The MACsec data plane against a real kernel. iproute2 and raw sockets are the witnesses."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
from dataclasses import replace

import pytest

from gateway.dataplane.netlink.parent_filter import ETHERTYPE_MACSEC
from gateway.errors import DataplaneError
from gateway.mka.registry import ETHERTYPE_EAPOL, PAE_GROUP_ADDRESS, CipherSuite
from gateway.model import PortState
from tests.support.kernel_link import receive
from tests.support.macsec_contract import CONTRACT, MacsecPair, transmit_sa
from tests.support.macsec_link import (
    DEVICE,
    ETH_P_ALL,
    MARKER,
    PARENT,
    Station,
    both_ways,
    ethertype,
    frame_passes,
    frames,
    joined_anew,
    lend_stations,
    ping,
    up,
    use,
)

pytestmark = pytest.mark.lab

SOL_PACKET, PACKET_ADD_MEMBERSHIP = 263, 1  # linux/if_packet.h


@pytest.fixture(scope="module")
def namespaces():
    yield from lend_stations()


@pytest.fixture
async def stations(namespaces):
    async with joined_anew(namespaces):
        yield namespaces


@pytest.fixture
def pair(stations):
    a, b = stations

    async def hears() -> bool:
        return await frame_passes(a, b, source=DEVICE, sink=DEVICE)

    return MacsecPair(a=a.plane, b=b.plane, spec_a=a.spec, spec_b=b.spec, hears=hears)


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
async def test_the_contract_of_every_plane(pair, rule):
    await rule(pair)


@pytest.mark.parametrize("window", [64])
@pytest.mark.parametrize(
    "rule", [rule for rule in CONTRACT if "pn" in rule.__name__ or "begins" in rule.__name__]
)
async def test_the_contract_with_a_replay_window(pair, rule, window):
    pair.spec_a = replace(pair.spec_a, replay_window=window)
    pair.spec_b = replace(pair.spec_b, replay_window=window)
    await rule(pair)


# --- as others see it ------------------------------------------------------------------------


@pytest.mark.parametrize("suite", CipherSuite, ids=lambda suite: suite.name)
async def test_traffic_passes_and_iproute2_bears_out_every_value(stations, suite):
    a, b = stations
    await up(a, b, suite=suite, replay_window=32)
    await both_ways(a, b, number=7, an=2, suite=suite)
    await use(a, b, 2)
    assert await ping(a, b, "-c", "3", "-i", "0.05") == (3, 3)

    for station, peer in ((a, b), (b, a)):
        state = await station.plane.read(DEVICE)
        assert state is not None
        shown = station.macsec()
        assert shown["ifname"] == DEVICE
        flags = ("protect", "encrypt", "send_sci", "replay", "end_station", "scb")
        assert [shown[flag] for flag in flags] == [True, True, True, True, False, False]
        assert shown["validate"] == "strict"
        assert (shown["window"], shown["icv_length"], shown["encoding_sa"]) == (32, 16, 2)
        assert shown["cipher_suite"] == suite.name.replace("_", "-")
        assert int(shown["sci"], 16) == int.from_bytes(state.sci.encode())
        assert state.sci == station.sci
        (sent,) = shown["sa_list"]
        (channel,) = shown["rx_sc"]
        (taken,) = channel["sa_list"]
        ki = transmit_sa(7, an=2, suite=suite).ki.encode()
        assert int(channel["sci"], 16) == int.from_bytes(peer.sci.encode())
        assert state.receive_channels == (peer.sci,)
        for entry, held in ((sent, state.transmit[0]), (taken, state.receive[0])):
            assert (entry["an"], entry["active"], entry["key"]) == (2, True, ki.hex())
            assert (held.an, held.active, held.ki) == (2, True, ki)
            assert abs(entry["pn"] - held.pn) <= 3, "frames of the kernel's own in between"
        assert state.counters.out_packets >= 3
        assert state.counters.in_ok >= 3
        assert station.link(DEVICE)["mtu"] == 1468 == state.mtu
        assert station.link(DEVICE)["flags"].count("UP") == 1
        assert station.address in station.ip("addr", "show", DEVICE)


async def test_what_iproute2_made_is_read(stations):
    a, b = stations
    key, ki = bytes(range(32)), bytes(range(16))
    a.ip("link", "set", PARENT, "up")
    a.ip("link", "add", "link", PARENT, DEVICE, "type", "macsec", "cipher", "gcm-aes-256",
         "encrypt", "on", "replay", "on", "window", "9", "encodingsa", "3")  # fmt: skip
    sa = ["pn", "100", "on", "key", ki.hex(), key.hex()]
    channel = ["rx", "address", b.mac.hex(":"), "port", "1"]
    a.ip("macsec", "add", DEVICE, "tx", "sa", "3", *sa)
    a.ip("macsec", "add", DEVICE, *channel, "on")
    a.ip("macsec", "add", DEVICE, *channel, "sa", "1", *sa)
    state = await a.plane.read(DEVICE)
    assert state is not None
    assert (state.sci, state.suite, state.encrypt) == (a.sci, CipherSuite.GCM_AES_256, True)
    assert (state.encoding_an, state.filtered, state.running) == (3, False, False)
    assert state.parent == (await a.plane.parent(PARENT)).index == a.link(PARENT)["ifindex"]
    assert state.index == a.link(DEVICE)["ifindex"]
    (sent,), (taken,) = state.transmit, state.receive
    assert (sent.sci, sent.an, sent.ki, sent.active, sent.pn) == (a.sci, 3, ki, True, 100)
    assert (taken.sci, taken.an, taken.ki, taken.active, taken.pn) == (b.sci, 1, ki, True, 100)
    assert state.receive_channels == (b.sci,)
    a.ip("link", "set", DEVICE, "type", "macsec", "validate", "check")
    assert (await a.plane.read(DEVICE)).port is PortState.CLEAR
    adopted = await a.plane.set_up(a.spec)
    assert adopted.index == state.index
    assert (adopted.port, adopted.filtered, adopted.running) == (PortState.SECURED, True, True)


async def test_sas_follow_each_other_under_traffic_without_a_loss(stations):
    a, b = stations
    await up(a, b)
    await both_ways(a, b, number=1, an=0)
    await use(a, b, 0)
    count = 150
    traffic = asyncio.create_task(ping(a, b, "-c", str(count), "-i", "0.02"))
    for number in range(2, 8):
        await asyncio.sleep(0.35)
        an, old = (number - 1) % 4, (number - 2) % 4
        await both_ways(a, b, number=number, an=an)
        await use(a, b, an)
        await asyncio.sleep(0.05)  # MKA: 3 s; frames under the old one are on their way
        for station, peer in ((a, b), (b, a)):
            await station.plane.remove_transmit_sa(DEVICE, old)
            await station.plane.remove_receive_sa(DEVICE, peer.sci, old)
    assert await traffic == (count, count)
    for station in (a, b):
        state = await station.plane.read(DEVICE)
        assert state is not None
        assert [sa.an for sa in state.transmit] == [sa.an for sa in state.receive] == [2]
        counters = state.counters
        assert counters.in_not_valid == counters.in_not_using_sa == counters.in_late == 0
        assert counters.out_untagged == 0


async def test_a_replayed_frame_is_late(stations):
    a, b = stations
    await up(a, b)
    await both_ways(a, b)
    await use(a, b, 0)
    with b.raw(PARENT, ETH_P_ALL) as tap:
        assert await frame_passes(a, b, source=DEVICE, sink=DEVICE)
        captured = [frame for frame in frames(tap) if ethertype(frame) == ETHERTYPE_MACSEC]
    assert captured
    assert not any(MARKER in frame for frame in captured)
    before = await b.plane.read(DEVICE)
    for frame in captured:
        a.send(PARENT, frame)
    after = await b.plane.read(DEVICE)
    assert after.counters.in_late >= before.counters.in_late + len(captured)
    changed = captured[-1][:-1] + bytes([captured[-1][-1] ^ 1])
    pn = int.from_bytes(changed[16:20]) + 1000
    a.send(PARENT, changed[:16] + pn.to_bytes(4) + changed[20:])
    last = await b.plane.read(DEVICE)
    assert last.counters.in_not_valid == before.counters.in_not_valid + 1


async def test_within_the_window_linux_takes_a_frame_twice(stations):
    """It keeps no list of the numbers it has seen: what a window costs, docs/macsec.md."""
    a, b = stations
    await up(a, b, replay_window=64)
    await both_ways(a, b)
    await use(a, b, 0)
    with b.raw(PARENT, ETH_P_ALL) as tap:
        assert await frame_passes(a, b, source=DEVICE, sink=DEVICE)
        captured = [frame for frame in frames(tap) if ethertype(frame) == ETHERTYPE_MACSEC]
    before = await b.plane.read(DEVICE)
    a.send(PARENT, captured[-1])
    after = await b.plane.read(DEVICE)
    assert after.counters.in_late == 0
    assert after.counters.in_ok > before.counters.in_ok


async def test_packet_numbers_of_64_bits(stations):
    a, b = stations
    suite = CipherSuite.GCM_AES_XPN_256
    await up(a, b, suite=suite)
    await both_ways(a, b, suite=suite)
    await use(a, b, 0)
    beyond = (5 << 32) + 7
    await b.plane.raise_lowest_pn(DEVICE, a.sci, 0, beyond)
    state = await b.plane.read(DEVICE)
    assert state.receive[0].pn == beyond
    assert b.macsec()["rx_sc"][0]["sa_list"][0]["pn"] == 7, "the lower half"


async def test_when_packet_numbers_end_nothing_leaves(stations):
    a, b = stations
    await up(a, b)
    await both_ways(a, b)
    await use(a, b, 0)
    a.ip("macsec", "set", DEVICE, "tx", "sa", "0", "pn", str(2**32 - 2))
    with b.raw(PARENT, ETH_P_ALL) as tap:
        for _ in range(4):
            a.send(DEVICE, a.frame())
        left = [frame for frame in frames(tap) if frame[6:12] == a.mac]
    assert {ethertype(frame) for frame in left} == {ETHERTYPE_MACSEC}
    assert len(left) <= 2
    state = await a.plane.read(DEVICE)
    assert state.port is PortState.BLOCKED
    assert state.counters.out_untagged == 0
    await both_ways(a, b, number=2, an=1)
    await use(a, b, 1)
    assert await ping(a, b, "-c", "1") == (1, 1)


async def test_a_link_that_was_down_goes_on_with_its_sas(stations):
    a, b = stations
    await up(a, b)
    await both_ways(a, b)
    await use(a, b, 0)
    assert await ping(a, b, "-c", "1") == (1, 1)
    a.ip("link", "set", PARENT, "down")
    assert not (await a.plane.parent(PARENT)).running
    a.ip("link", "set", PARENT, "up")
    assert await ping(a, b, "-c", "1", "-W", "5") == (1, 1)
    assert (await a.plane.read(DEVICE)).filtered


# --- nothing in the clear --------------------------------------------------------------------


async def test_the_filter_is_what_tc_shows(stations):
    a, _ = stations
    assert not a.filters("ingress")
    await a.plane.set_up(a.spec)
    await a.plane.set_up(a.spec)  # nothing twice
    for direction in ("ingress", "egress"):
        shown = a.filters(direction)
        assert [(entry["protocol"], entry["pref"], entry["kind"]) for entry in shown] == [
            ("[34958]", 81, "matchall"),
            ("[35045]", 82, "matchall"),
            ("all", 83, "matchall"),
        ]
        actions = [entry["options"]["actions"] for entry in shown]
        assert [[one["control_action"]["type"] for one in some] for some in actions] == [
            ["pass"],
            ["pass"],
            ["drop"],
        ]
        assert {entry["options"]["handle"] for entry in shown} == {0x71736777}


async def test_the_filter_is_mended_and_what_is_not_ours_stays(stations):
    a, _ = stations
    await a.plane.set_up(a.spec)
    foreign = ["filter", "add", "dev", PARENT, "ingress", "pref", "9", "matchall", "action", "ok"]
    a.tc(*foreign)
    a.tc("filter", "del", "dev", PARENT, "egress", "pref", "83")
    assert not (await a.plane.read(DEVICE)).filtered
    assert (await a.plane.set_up(a.spec)).filtered
    a.tc("filter", "del", "dev", PARENT, "egress", "pref", "83")
    forged = ["pref", "83", "protocol", "all", "handle", "0x71736777", "matchall", "action", "ok"]
    a.tc("filter", "add", "dev", PARENT, "egress", *forged)
    assert not (await a.plane.read(DEVICE)).filtered
    assert (await a.plane.set_up(a.spec)).filtered
    await a.plane.take_down(DEVICE, PARENT)
    assert [entry["pref"] for entry in a.filters("ingress")] == [9]
    a.tc("filter", "del", "dev", PARENT, "ingress")
    await a.plane.take_down(DEVICE, PARENT)
    assert "clsact" not in a.tc("qdisc", "show", "dev", PARENT)


async def test_a_priority_that_is_taken_is_an_error_and_no_device_is_made(stations):
    a, _ = stations
    a.tc("qdisc", "add", "dev", PARENT, "clsact")
    a.tc("filter", "add", "dev", PARENT, "egress", "pref", "82", "matchall", "action", "ok")
    with pytest.raises(DataplaneError, match=f"{PARENT} egress: priority 82 is taken"):
        await a.plane.set_up(a.spec)
    assert await a.plane.read(DEVICE) is None


async def test_an_ingress_qdisc_of_others_is_named(stations):
    a, _ = stations
    a.tc("qdisc", "add", "dev", PARENT, "ingress")
    with pytest.raises(DataplaneError, match="another ingress qdisc"):
        await a.plane.set_up(a.spec)


@pytest.mark.parametrize("device", [PARENT, DEVICE])
async def test_what_comes_in_the_clear_reaches_neither_interface(stations, device):
    a, b = stations
    await b.plane.set_up(b.spec)
    a.ip("link", "set", PARENT, "up")
    before = b.dropped("ingress")
    assert not await frame_passes(a, b, source=PARENT, sink=device)
    assert b.dropped("ingress") > before
    await b.plane.set_up(replace(b.spec, filtered=False))  # the negative twin
    assert await frame_passes(a, b, source=PARENT, sink=device) is (device == PARENT)
    state = await b.plane.read(DEVICE)
    assert state.counters.in_no_tag >= 1, "strict holds without a filter, too"


@pytest.mark.parametrize("filtered", [True, False])
async def test_the_parents_own_addresses_cannot_be_reached(stations, filtered):
    a, b = stations
    a.ip("link", "set", PARENT, "up")
    a.ip("addr", "add", "10.77.0.1/24", "dev", PARENT)
    b.ip("addr", "add", "10.77.0.2/24", "dev", PARENT)
    await b.plane.set_up(replace(b.spec, filtered=filtered))
    with contextlib.suppress(subprocess.CalledProcessError):
        a.inside("ping", "-n", "-c", "1", "-W", "1", "10.77.0.2")
    neighbours = a.ip("neigh", "show", "dev", PARENT)
    assert (b.mac.hex(":") in neighbours) is not filtered


async def test_nothing_but_macsec_and_eapol_leaves_from_the_first_frame_on(stations):
    a, b = stations
    b.ip("link", "set", PARENT, "up")
    with b.raw(PARENT, ETH_P_ALL) as tap:
        await a.plane.set_up(a.spec)  # brings the parent up: router solicitations, MLD, DAD
        await asyncio.sleep(1.5)
        a.send(PARENT, a.frame())
        a.send(PARENT, a.frame(ETHERTYPE_EAPOL))
        assert a.dropped("egress") >= 2
        sa = transmit_sa(1, an=0, suite=a.spec.suite)
        await a.plane.install_transmit_sa(DEVICE, sa)
        await a.plane.transmit_with(DEVICE, 0)
        a.send(DEVICE, a.frame())
        seen = {ethertype(frame) for frame in frames(tap) if frame[6:12] == a.mac}
    assert seen == {ETHERTYPE_EAPOL, ETHERTYPE_MACSEC}


async def test_without_the_filter_the_parent_speaks_by_itself(stations):
    """The negative twin: the capture would see it."""
    a, b = stations
    b.ip("link", "set", PARENT, "up")
    with b.raw(PARENT, ETH_P_ALL) as tap:
        await a.plane.set_up(replace(a.spec, filtered=False))
        await asyncio.sleep(1.5)
        seen = {ethertype(frame) for frame in frames(tap) if frame[6:12] == a.mac}
    assert seen == {0x86DD}


async def test_eapol_frames_come_in(stations):
    a, b = stations
    await up(a, b)
    with b.raw(PARENT, ETHERTYPE_EAPOL) as listener:
        listener.setsockopt(*membership(b, PAE_GROUP_ADDRESS))
        a.send(PARENT, a.frame(ETHERTYPE_EAPOL, to=PAE_GROUP_ADDRESS))
        taken = await receive(listener)
    assert taken is not None
    assert MARKER in taken


def membership(station: Station, group: bytes) -> tuple[int, int, bytes]:
    """setsockopt's arguments; packet(7): struct packet_mreq."""
    request = struct.pack("iHH8s", station.link(PARENT)["ifindex"], 0, len(group), group)
    return SOL_PACKET, PACKET_ADD_MEMBERSHIP, request


async def test_clear_traffic_and_back(stations):
    a, b = stations
    await up(a, b, filtered=False)
    for station in (a, b):
        await station.plane.set_port(DEVICE, PortState.CLEAR)
    assert await ping(a, b, "-c", "2", "-i", "0.05") == (2, 2)
    await both_ways(a, b)
    await use(a, b, 0)
    for station in (a, b):
        await station.plane.set_port(DEVICE, PortState.SECURED)
    assert await ping(a, b, "-c", "2", "-i", "0.05") == (2, 2)
    state = await a.plane.read(DEVICE)
    assert state.port is PortState.SECURED
    assert state.counters.in_ok >= 2
