"""MACsec devices as the kernel keeps them, its events, and what may be missing."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from gateway.dataplane.macsec_port import InterfaceChanged, InterfaceEventsLost
from gateway.dataplane.netlink.link_monitor import LinkEvents
from gateway.dataplane.netlink.macsec_probe import probe_macsec
from gateway.errors import DataplaneError
from gateway.model import PortState
from tests.support.kernel_link import SILENCE, TIMEOUT, inside, run
from tests.support.macsec_contract import transmit_sa
from tests.support.macsec_link import (
    DEVICE,
    PARENT,
    both_ways,
    joined_anew,
    lend_stations,
    ping,
    up,
    use,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def namespaces():
    yield from lend_stations()


@pytest.fixture
async def stations(namespaces):
    async with joined_anew(namespaces):
        yield namespaces


async def test_the_largest_packet_passes_and_one_more_octet_does_not(stations):
    a, b = stations
    await up(a, b)
    await both_ways(a, b)
    await use(a, b, 0)
    largest = 1468 - 20 - 8  # IPv4 and ICMP
    assert await ping(a, b, "-c", "1", "-M", "do", "-s", str(largest)) == (1, 1)
    assert await ping(a, b, "-c", "1", "-W", "1", "-M", "do", "-s", str(largest + 1)) == (1, 0)
    state = await a.plane.set_up(replace(a.spec, mtu=1300))
    assert state.mtu == a.link(DEVICE)["mtu"] == 1300


async def test_another_mac_address_of_the_parent_makes_the_device_anew(stations):
    a, b = stations
    await up(a, b)
    await both_ways(a, b)
    before = await a.plane.read(DEVICE)
    a.ip("link", "set", PARENT, "address", "02:00:00:00:51:99")
    after = await a.plane.set_up(a.spec)
    assert after.index != before.index
    assert after.sci.mac.hex() == "020000005199"
    assert after.transmit == after.receive == ()
    assert a.link(DEVICE)["address"] == "02:00:00:00:51:99"


async def test_addresses_of_others_stay(stations):
    a, _ = stations
    await a.plane.set_up(a.spec)
    a.ip("addr", "add", "10.66.0.1/24", "dev", DEVICE)
    await a.plane.set_up(replace(a.spec, addresses=(ip_interface("fd00:9::1/64"),)))
    shown = a.ip("addr", "show", DEVICE)
    for address in (a.address, "10.66.0.1/24", "fd00:9::1/64"):
        assert address in shown
    assert "tentative" not in shown.partition("fd00:9::1/64")[2].splitlines()[0]
    a.ip("addr", "add", "10.55.0.1/24", "dev", PARENT)
    parent = await a.plane.parent(PARENT)
    assert ip_interface("10.55.0.1/24") in parent.addresses
    assert ip_interface("10.66.0.1/24") not in parent.addresses
    assert (parent.mac, parent.mtu) == (a.mac, 1500)


async def test_a_parent_without_a_carrier_is_not_running(stations):
    a, b = stations
    assert not (await a.plane.parent(PARENT)).running
    await up(a, b)
    assert (await a.plane.parent(PARENT)).running
    b.ip("link", "set", PARENT, "down")
    assert not (await a.plane.parent(PARENT)).running


async def test_a_sak_does_not_come_back_with_a_new_device(stations):
    a, _ = stations
    await a.plane.set_up(a.spec)
    sa = transmit_sa(1, an=0, suite=a.spec.suite)
    await a.plane.install_transmit_sa(DEVICE, sa)
    await a.plane.remove_transmit_sa(DEVICE, 0)
    for _ in "removed", "made anew":
        with pytest.raises(DataplaneError, match="never twice"):
            await a.plane.install_transmit_sa(DEVICE, sa)
        a.ip("link", "del", DEVICE)
        await a.plane.set_up(a.spec)
    await a.plane.install_transmit_sa(DEVICE, transmit_sa(2, an=0, suite=a.spec.suite))


async def test_a_parent_in_a_bridge_is_refused_with_the_reason(stations):
    a, _ = stations
    a.ip("link", "add", "bridge0", "type", "bridge")
    try:
        a.ip("link", "set", PARENT, "master", "bridge0")
        with pytest.raises(DataplaneError, match="part of a bridge"):
            await a.plane.set_up(a.spec)
    finally:
        a.ip("link", "del", "bridge0")


async def test_a_device_that_is_not_macsec_is_left_alone(stations):
    a, _ = stations
    a.ip("link", "add", DEVICE, "type", "veth", "peer", "name", "other")
    try:
        with pytest.raises(DataplaneError, match=f"{DEVICE} is there and no MACsec device"):
            await a.plane.set_up(a.spec)
        assert await a.plane.read(DEVICE) is None
        await a.plane.take_down(DEVICE, PARENT)
        assert a.link(DEVICE)["linkinfo"]["info_kind"] == "veth"
    finally:
        a.ip("link", "del", DEVICE)


async def test_a_second_device_with_our_sci_is_refused_with_the_reason(stations):
    a, _ = stations
    await a.plane.set_up(a.spec)
    with pytest.raises(DataplaneError, match="another device with SCI") as caught:
        await a.plane.set_up(replace(a.spec, device="macsec-two"))
    assert caught.value.errno == errno.EBUSY


# --- events and what is missing --------------------------------------------------------------


async def test_changes_of_interfaces_are_told_once(stations):
    a, b = stations
    await up(a, b)
    told: asyncio.Queue = asyncio.Queue()
    reader = asyncio.create_task(read_into(told, a.plane.events()))
    await drain(told)
    await a.plane.set_port(DEVICE, PortState.SECURED)  # changes nothing that is read
    a.ip("link", "set", PARENT, "mtu", "1400")
    changed = await drain(told)
    assert changed[0] == InterfaceChanged(PARENT)
    assert InterfaceChanged(DEVICE) in changed  # the kernel took its MTU down, too
    assert (await a.plane.read(DEVICE)).mtu == 1368
    b.ip("link", "set", PARENT, "down")
    assert InterfaceChanged(PARENT) in await drain(told)
    a.ip("link", "del", DEVICE)
    assert set(await drain(told)) == {InterfaceChanged(DEVICE)}
    await a.plane.close()
    await asyncio.wait_for(reader, TIMEOUT)
    await a.plane.open()


async def read_into(queue: asyncio.Queue, events) -> None:
    async for event in events:
        queue.put_nowait(event)


async def drain(queue: asyncio.Queue) -> list:
    await asyncio.sleep(2 * SILENCE)
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def test_an_overrun_is_told_and_survived(stations):
    a, _ = stations
    with inside(a.namespace):
        monitor = LinkEvents(receive_buffer=4096)
        await monitor.open()
        for number in range(12):
            a.ip("link", "set", PARENT, "mtu", str(1400 + number))
        events = monitor.events()
        async with asyncio.timeout(TIMEOUT):
            while await anext(events) != InterfaceEventsLost():
                pass
        a.ip("link", "set", PARENT, "mtu", "1300")
        async with asyncio.timeout(TIMEOUT):
            assert await anext(events) == InterfaceChanged(PARENT)
    monitor.close()


def test_without_the_capability_the_message_names_it(namespaces):
    code = (
        "import asyncio\n"
        "from gateway.dataplane.netlink.macsec import MacsecNetlink\n"
        "asyncio.run(MacsecNetlink().open())\n"
    )
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(
            "ip",
            "netns",
            "exec",
            namespaces[0].namespace,
            *without,
            sys.executable,
            "-c",
            code,
        )
    assert "StartupError" in caught.value.stderr
    assert "CAP_NET_ADMIN" in caught.value.stderr


def test_the_probe_finds_all_that_is_needed():
    results = asyncio.run(probe_macsec())
    assert [result.feature for result in results if not result.ok] == []
    assert len(results) >= 3
