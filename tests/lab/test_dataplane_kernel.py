"""The XFRM data plane against a real kernel. iproute2 and a raw socket are the witnesses.

What needs ESP is skipped, with the kernel's own words, where the kernel lacks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.netlink.monitor import EventSocket
from gateway.dataplane.netlink.probe import probe
from gateway.dataplane.netlink.sockets import enable_udp_encap, exempt_ike_socket
from gateway.dataplane.port import EventsLost, PeerMoved, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import is_pin, outbound_pins, plan
from gateway.errors import DataplaneError
from gateway.model import PolicyAction, SaId, SaLifetime, UdpEncap
from tests.support.kernel_link import (
    MARKER,
    REQID,
    SILENCE,
    TIMEOUT,
    End,
    Wire,
    inside,
    install_child,
    make_child,
    make_ends,
    passes,
    protect,
    protocol,
    receive,
    remove_ends,
    run,
)

pytestmark = pytest.mark.lab

ESP, UDP = 50, 17


@pytest.fixture(scope="module")
def namespaces():
    try:
        ends = make_ends()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces: {getattr(error, 'stderr', '') or error}")
    yield ends
    remove_ends(ends)


@pytest.fixture
async def ends(namespaces):
    """Both planes open, nothing in the kernel."""
    for end in namespaces:
        with inside(end.namespace):
            await end.plane.open_sockets()
    yield namespaces
    for end in namespaces:
        await end.plane.close()
        end.ip("xfrm", "state", "flush")
        end.ip("xfrm", "policy", "flush")


@pytest.fixture(scope="module")
def missing(namespaces):
    """What this kernel lacks, in its own words; empty where all is there."""
    with inside(namespaces[0].namespace):
        return [f"{feature}: {detail}" for feature, ok, detail in asyncio.run(probe()) if not ok]


@pytest.fixture
def esp(missing, ends):
    if missing:
        pytest.skip("; ".join(missing))
    return ends


@pytest.fixture
def wire(ends):
    capture = Wire(*ends)
    yield capture
    capture.close()


async def next_event(events):
    async with asyncio.timeout(TIMEOUT):
        return await anext(events)


def packets_by_witness(end: End, sa_id: SaId) -> int:
    text = end.ip("-s", "xfrm", "state", "get", "dst", str(sa_id.destination), "proto", "esp",
                  "spi", hex(sa_id.spi))  # fmt: skip
    found = re.search(r"lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)", text)
    assert found, text
    return int(found.group(1))


# --- traffic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
async def test_traffic_crosses_the_link_as_esp_only(esp, wire, outer, inner):
    a, b = esp
    child = await make_child(a, b, version=outer)
    await install_child(a, b, child)
    await protect(a, b, child, outer=outer, inner=inner)

    assert await passes(a, b, inner=inner)
    assert await passes(b, a, inner=inner)

    frames = wire.frames()
    assert [protocol(frame) for frame in frames] == [ESP, ESP]
    assert not any(MARKER in frame for frame in frames)
    for end, sa in ((a, child.a_out), (b, child.b_in), (b, child.b_out), (a, child.a_in)):
        assert packets_by_witness(end, sa.sa_id) == 1
        state = await end.plane.read_sa(sa.sa_id)
        assert state is not None
        assert (state.packets, state.esn, state.larval, state.reqid) == (1, True, False, REQID)
    text = a.ip("-d", "xfrm", "state")
    assert "rfc4106(gcm(aes))" in text
    assert "esn" in text
    assert "af-unspec" in text
    assert "replay_window 256" in text


async def test_without_policies_the_same_packet_is_seen_in_the_clear(ends, wire):
    """The negative twin: the capture can see the marker."""
    a, b = ends
    assert await passes(a, b)
    assert any(MARKER in frame for frame in wire.frames())


async def test_extended_sequence_numbers_can_be_off(esp):
    a, b = esp
    child = await make_child(a, b, esn=False)
    await install_child(a, b, child)
    await protect(a, b, child)
    assert await passes(a, b)
    state = await b.plane.read_sa(child.b_in.sa_id)
    assert state is not None
    assert (state.packets, state.esn) == (1, False)


async def test_a_wrong_key_is_an_integrity_failure(esp):
    a, b = esp
    child, other = await make_child(a, b), await make_child(a, b)
    await install_child(a, b, replace(child, b_in=replace(child.b_in, key=other.b_in.key)))
    await protect(a, b, child)
    assert not await passes(a, b, within=SILENCE)
    state = await b.plane.read_sa(child.b_in.sa_id)
    assert state is not None
    assert (state.packets, state.integrity_failures) == (0, 1)


@pytest.mark.parametrize("version", [4, 6])
async def test_esp_in_udp_shares_the_socket_with_ike(esp, wire, version):
    a, b = esp
    child = await make_child(a, b, version=version, encap=UdpEncap(
        source_port=4500, destination_port=4500))  # fmt: skip
    await install_child(a, b, child)
    await protect(a, b, child, outer=version)
    with a.udp(a.outer[version], 4500) as ike_a, b.udp(b.outer[version], 4500) as ike_b:
        for sock in (ike_a, ike_b):
            exempt_ike_socket(sock)
            enable_udp_encap(sock)
        assert await passes(a, b)
        assert await passes(b, a)
        frames = wire.frames()
        assert [protocol(frame) for frame in frames] == [UDP, UDP]
        assert not any(MARKER in frame for frame in frames)
        assert packets_by_witness(b, child.b_in.sa_id) == 1

        ike_message = bytes(4) + b"an IKE message"  # non-ESP marker, RFC 7296 2.23
        ike_a.sendto(ike_message, (str(b.outer[version]), 4500))
        assert await receive(ike_b) == ike_message


async def test_moving_the_pin_under_load_loses_nothing(esp, wire):
    a, b = esp
    old = await make_child(a, b)
    await install_child(a, b, old)
    await protect(a, b, old)
    count, rekey_at = 600, {210: "install", 410: "pin"}
    got = []
    new = await make_child(a, b)
    with a.udp(a.inner[4]) as sender, b.udp(b.inner[4]) as sink:
        for number in range(count):
            match rekey_at.get(number):
                case "install":
                    await install_child(a, b, new)
                case "pin":
                    # Installing a newer SA did not move traffic: the pin does.
                    assert packets_by_witness(a, new.a_out.sa_id) == 0
                    for policy in outbound_pins(a.policies(b), new.a_out.spi):
                        await a.plane.set_policy(policy)
            sender.sendto(number.to_bytes(4), sink.getsockname())
            if number % 50 == 49:  # sent without a pause, and within the receive buffer
                got += [await receive(sink) for _ in range(50)]
    assert got == [number.to_bytes(4) for number in range(count)]
    assert packets_by_witness(b, old.b_in.sa_id) == 410
    assert packets_by_witness(b, new.b_in.sa_id) == 190
    await a.plane.remove_sa(old.a_out.sa_id)
    assert await passes(a, b)
    assert {protocol(frame) for frame in wire.frames()} == {ESP}


# --- nothing in the clear --------------------------------------------------------------------


async def test_without_an_sa_traffic_is_dropped_and_reported(ends, wire):
    a, b = ends
    await a.set_policies(a.policies(b))
    events = a.plane.events()
    assert not await passes(a, b, within=SILENCE)
    assert wire.frames() == []
    event = await next_event(events)
    assert event == TrafficWaiting(reqid=REQID, source=a.inner[4], destination=b.inner[4])


async def test_the_guard_holds_when_every_other_policy_is_gone(ends, wire):
    a, b = ends
    policies = a.policies(b)
    await a.set_policies(policies)
    for policy in policies:
        if policy.action is PolicyAction.PROTECT:
            await a.plane.remove_policy(policy)
    assert not await passes(a, b, within=SILENCE)
    assert wire.frames() == []
    for policy in policies:
        await a.plane.remove_policy(policy)  # those that are gone are no error
    assert await passes(a, b)  # the negative twin


@pytest.mark.parametrize("inner", [4, 6])
async def test_what_comes_in_the_clear_is_dropped(ends, inner):
    a, b = ends
    assert await passes(a, b, inner=inner)
    await b.set_policies(b.policies(a, inner=inner))
    assert not await passes(a, b, inner=inner, within=SILENCE)


@pytest.mark.parametrize("version", [4, 6])
async def test_only_exempt_sockets_pass_policies_on_the_gateways_own_addresses(ends, version):
    a, b = (replace(end, inner=end.outer) for end in ends)
    with (
        a.udp(a.outer[version]) as ike,
        a.udp(a.outer[version]) as other,
        b.udp(b.outer[version]) as sink,
    ):
        for sender, receiver in ((other, sink), (sink, other)):
            # So both know each other's link address: the policies stop neighbour discovery.
            sender.sendto(b"before", receiver.getsockname()[:2])
            assert await receive(receiver) == b"before"
        exempt_ike_socket(ike)
        await a.set_policies(a.policies(b, outer=version, inner=version))

        ike.sendto(b"ike", sink.getsockname()[:2])
        assert await receive(sink) == b"ike"
        sink.sendto(b"answer", ike.getsockname()[:2])
        assert await receive(ike) == b"answer"

        with contextlib.suppress(OSError):
            other.sendto(b"other", sink.getsockname()[:2])
        assert await receive(sink, SILENCE) is None
        sink.sendto(b"unasked", other.getsockname()[:2])
        assert await receive(other, SILENCE) is None


async def test_a_tunnel_between_the_gateways_themselves(esp, wire):
    a, b = (replace(end, inner=end.outer) for end in esp)
    child = await make_child(a, b)
    await install_child(a, b, child)
    await protect(a, b, child)
    assert await passes(a, b)
    assert await passes(b, a)
    assert [protocol(frame) for frame in wire.frames()] == [ESP, ESP]


# --- requests --------------------------------------------------------------------------------


async def test_reserved_spis_are_ours_and_in_range(ends):
    a, b = ends
    spis = [
        await a.plane.allocate_spi(b.outer[version], a.outer[version], REQID)
        for version in (4, 6)
        for _ in range(20)
    ]
    assert len(set(spis)) == 40
    assert all(0xC000_0000 <= spi <= 0xCFFF_FFFF for spi in spis)
    snapshot = await a.plane.snapshot()
    assert sorted(sa.sa_id.spi for sa in snapshot.sas) == sorted(spis)
    assert all(sa.larval and sa.reqid == REQID for sa in snapshot.sas)


async def test_an_expired_reservation_does_not_stop_the_install(esp):
    a, b = esp
    child = await make_child(a, b)
    await a.plane.remove_sa(child.a_in.sa_id)
    await install_child(a, b, child)
    await protect(a, b, child)
    assert await passes(b, a)


async def test_an_inbound_sa_before_its_time_is_confirmed_in_place(esp):
    """Lifetimes change; key, counter and replay window stay, even where another key is given."""
    a, b = esp
    child = await make_child(a, b)
    await a.plane.install_sa(replace(child.a_in, lifetime=SaLifetime(hard_seconds=30)))
    for sa in (child.b_in, child.a_out, child.b_out):
        await (a if sa is child.a_out else b).plane.install_sa(sa)
    await protect(a, b, child)
    assert await passes(b, a)
    before = await a.plane.read_sa(child.a_in.sa_id)
    assert before is not None
    assert before.lifetime.hard_seconds == 30

    await a.plane.install_sa(replace(child.a_in, lifetime=SaLifetime(hard_seconds=3600)))
    assert await passes(b, a)
    after = await a.plane.read_sa(child.a_in.sa_id)
    assert after is not None
    assert (after.packets, after.lifetime.hard_seconds) == (2, 3600)
    assert "seq 0x2," in a.ip("xfrm", "state", "get", "dst", str(a.outer[4]), "proto", "esp",
                              "spi", hex(child.a_in.spi))  # fmt: skip

    other = replace(child.a_in, key=Secret(os.urandom(36)))
    await a.plane.install_sa(other)
    assert await passes(b, a), "the kernel keeps the key, and says nothing"
    await a.plane.remove_sa(other.sa_id)
    await a.plane.install_sa(other)
    assert not await passes(b, a, within=SILENCE)


async def test_refusals_carry_the_kernels_words(esp):
    a, b = esp
    child = await make_child(a, b)
    await a.plane.install_sa(child.a_out)
    with pytest.raises(DataplaneError, match=r"install out SA .*EEXIST") as caught:
        await a.plane.install_sa(child.a_out)
    assert caught.value.errno == errno.EEXIST
    assert child.a_out.key.expose().hex() not in str(caught.value)


async def test_removing_what_is_gone_is_no_error(ends):
    a, b = ends
    nothing = SaId(a.outer[4], 0xC000_0001)
    await a.plane.remove_sa(nothing)
    assert await a.plane.read_sa(nothing) is None
    await a.plane.remove_policy(a.policies(b)[0])


async def test_many_requests_at_once_get_their_own_answers(ends):
    a, _ = ends
    ids = [SaId(ip_address(f"10.99.1.{host}"), 0) for host in range(1, 101)]

    async def reserve(sa_id: SaId) -> None:
        spi = await a.plane.allocate_spi(a.outer[4], sa_id.destination, REQID)
        state = await a.plane.read_sa(SaId(sa_id.destination, spi))
        assert state is not None
        assert state.sa_id == SaId(sa_id.destination, spi)

    await asyncio.gather(*(reserve(sa_id) for sa_id in ids))


def test_without_the_capability_the_message_names_it(namespaces):
    code = (
        "import asyncio\n"
        "from gateway.dataplane.netlink.xfrm import XfrmDataPlane\n"
        "asyncio.run(XfrmDataPlane().open())\n"
    )
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("ip", "netns", "exec", namespaces[0].namespace, *without, sys.executable, "-c", code)
    assert "StartupError" in caught.value.stderr
    assert "CAP_NET_ADMIN" in caught.value.stderr


# --- events ----------------------------------------------------------------------------------


async def test_soft_and_hard_limits_are_reported(esp):
    a, b = esp
    child = await make_child(a, b)
    limited = replace(child.a_out, lifetime=SaLifetime(soft_packets=3, hard_packets=6))
    await install_child(a, b, replace(child, a_out=limited))
    state = await a.plane.read_sa(limited.sa_id)
    assert state is not None
    assert state.lifetime == limited.lifetime
    await protect(a, b, child)
    events = a.plane.events()
    for _ in range(4):  # a limit is looked at when a packet comes: the one after it tells
        assert await passes(a, b)
    expected = SaExpired(sa_id=limited.sa_id, reqid=REQID, hard=False)
    assert await next_event(events) == expected
    while await passes(a, b, within=SILENCE):
        pass
    assert await next_event(events) == replace(expected, hard=True)
    async with asyncio.timeout(TIMEOUT):
        while await a.plane.read_sa(limited.sa_id) is not None:
            await asyncio.sleep(0.05)


async def test_a_peer_behind_a_new_port_is_reported(esp):
    a, b = esp
    encap = UdpEncap(source_port=4500, destination_port=4500)
    child = await make_child(a, b, encap=encap)
    moved = replace(child.b_out, encap=replace(encap, source_port=4999))
    await install_child(a, b, replace(child, b_out=moved))
    await protect(a, b, child)
    events = a.plane.events()
    with a.udp(a.outer[4], 4500) as ike:
        enable_udp_encap(ike)
        assert await passes(b, a)
    assert await next_event(events) == PeerMoved(
        sa_id=child.a_in.sa_id, reqid=REQID, address=b.outer[4], port=4999
    )


async def test_ports_change_in_place_and_nothing_else_does(esp):
    """What a peer whose NAT moves it needs: the same key, counter and replay window go on."""
    a, b = esp
    encap = UdpEncap(source_port=4500, destination_port=4500)
    child = await make_child(a, b, encap=encap)
    await install_child(a, b, child)
    await protect(a, b, child)
    with a.udp(a.outer[4], 4500) as ike_a, b.udp(b.outer[4], 4999) as ike_b:
        enable_udp_encap(ike_a)
        enable_udp_encap(ike_b)
        # b's NAT has moved it to port 4999; a is told by the first packet from there.
        await b.plane.update_encap(child.b_out.sa_id, replace(encap, source_port=4999))
        await b.plane.update_encap(child.b_in.sa_id, replace(encap, destination_port=4999))
        events = a.plane.events()
        assert await passes(b, a)
        assert (await next_event(events)).port == 4999
        assert not await passes(a, b, within=SILENCE)
        await a.plane.update_encap(child.a_in.sa_id, replace(encap, source_port=4999))
        await a.plane.update_encap(child.a_out.sa_id, replace(encap, destination_port=4999))
        assert await passes(b, a)
        assert await passes(a, b)
    assert packets_by_witness(a, child.a_in.sa_id) == 2
    assert packets_by_witness(a, child.a_out.sa_id) == 2  # the one to the old port included
    text = a.ip("xfrm", "state", "list", "nokeys")
    assert text.count("encap type espinudp sport 4999 dport 4500") == 1
    assert text.count("encap type espinudp sport 4500 dport 4999") == 1
    assert "seq 0x2," in a.ip("xfrm", "state", "get", "dst", str(a.outer[4]), "proto", "esp",
                              "spi", hex(child.a_in.spi))  # fmt: skip
    # One that is gone is no error.
    await a.plane.update_encap(SaId(a.outer[4], 0xC0000001), encap)


async def test_an_overrun_of_events_is_told_and_survived(ends):
    a, b = ends
    a.sysctl("net/core/xfrm_acq_expires", "1")
    with inside(a.namespace):
        monitor = EventSocket(receive_buffer=4096)
        await monitor.open()
        try:
            for _ in range(200):
                await a.plane.allocate_spi(b.outer[4], a.outer[4], REQID)
            time.sleep(3)  # noqa: ASYNC251 - the loop is to be too busy to read as they expire
            assert (await a.plane.snapshot()).sas == ()
            events = monitor.events()
            seen = [await next_event(events)]
            while seen[-1] != EventsLost():
                seen.append(await next_event(events))
            # The new socket delivers.
            spi = await a.plane.allocate_spi(b.outer[4], a.outer[4], REQID)
            lost = SaExpired(sa_id=SaId(a.outer[4], spi), reqid=REQID, hard=True)
            while await next_event(events) != lost:
                pass
        finally:
            monitor.close()
            a.sysctl("net/core/xfrm_acq_expires", "30")


async def test_closing_ends_the_events(ends):
    a, _ = ends
    events = a.plane.events()
    waiting = asyncio.create_task(anext(events, None))
    await asyncio.sleep(0)
    await a.plane.close()
    async with asyncio.timeout(TIMEOUT):
        assert await waiting is None


# --- reading back ----------------------------------------------------------------------------


async def test_a_restart_finds_its_policies_keeps_the_pin_and_the_orphans(esp):
    a, b = esp
    child, left_over = await make_child(a, b), await make_child(a, b)
    await install_child(a, b, child)
    await protect(a, b, child)

    snapshot = await a.plane.snapshot()
    fresh = plan(a.policies(b), snapshot)

    assert fresh.to_set == fresh.to_remove == ()
    assert fresh.sas_to_remove == (left_over.a_in.sa_id,)
    pinned = {policy.outbound_spi for policy in snapshot.policies if is_pin(policy)}
    assert pinned == {child.a_out.spi}
    assert await passes(a, b)


async def test_a_plan_carried_out_leaves_nothing_to_do(ends):
    a, b = ends
    before = a.policies(b)
    strays = [replace(one, priority=one.priority - 1) for one in before if one.reqid]
    await a.set_policies((*before, *strays))
    await a.plane.allocate_spi(b.outer[4], a.outer[4], REQID)
    desired = (*a.policies(b), *a.policies(b, inner=6))
    todo = plan(desired, await a.plane.snapshot())
    assert todo.to_set
    assert todo.to_remove
    assert todo.sas_to_remove
    for policy in todo.to_set:
        await a.plane.set_policy(policy)
    for policy in todo.to_remove:
        await a.plane.remove_policy(policy)
    for sa_id in todo.sas_to_remove:
        await a.plane.remove_sa(sa_id)
    left = plan(desired, await a.plane.snapshot())
    assert left.to_set == left.to_remove == left.sas_to_remove == left.missing_sas == ()


async def test_what_is_not_ours_is_neither_seen_nor_touched(ends):
    a, b = ends
    foreign = ["src", str(a.net(4)), "dst", str(b.net(4)), "dir", "out"]
    a.ip("xfrm", "policy", "add", *foreign, "priority", "20737", "action", "block")
    a.ip("xfrm", "state", "allocspi", "src", str(b.outer[4]), "dst", str(a.outer[4]),
         "proto", "esp", "reqid", "7", "mode", "tunnel", "min", "256", "max", "300")  # fmt: skip
    snapshot = await a.plane.snapshot()
    assert snapshot.sas == snapshot.policies == ()
    for policy in a.policies(b):
        await a.plane.set_policy(policy)
        await a.plane.remove_policy(policy)
    assert "priority 20737" in a.ip("xfrm", "policy")
    assert "reqid 7" in a.ip("xfrm", "state")


async def test_the_probe_leaves_nothing_behind(ends):
    a, _ = ends
    with inside(a.namespace):
        results = await probe()
    assert [result.feature for result in results if result.ok][:1] == ["XFRM"]
    assert a.ip("xfrm", "state") == ""
