"""The data plane in memory: it must notice every mistake it is there to notice."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gateway.crypto.secret import Secret
from gateway.dataplane.memory import Fate, InvariantViolation, MemoryDataPlane, carry
from gateway.dataplane.port import EventsLost, SaExpired, TrafficWaiting
from gateway.dataplane.reconcile import (
    is_pin,
    outbound_pins,
    plan,
    reqid_for,
)
from gateway.errors import DataplaneError
from gateway.model import Direction, PolicyAction, SaId, SaLifetime, SaSpec
from tests.support.policies import tunnel_policies

MOON, SUN = ip_address("10.0.12.1"), ip_address("10.0.23.3")
LOCAL, REMOTE = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")
ALICE, BOB = ip_address("10.1.0.10"), ip_address("10.2.0.10")
REQID = reqid_for("sun")


@pytest.fixture
async def moon():
    plane = MemoryDataPlane()
    await plane.open()
    return plane


@pytest.fixture
async def sun():
    plane = MemoryDataPlane()
    await plane.open()
    return plane


def policies_of_moon(spi=None):
    return tunnel_policies(
        "sun", [LOCAL], [REMOTE], local_addr=MOON, remote_addr=SUN, reqid=REQID, spi=spi
    )


def policies_of_sun(spi=None):
    return tunnel_policies(
        "sun",
        [REMOTE],
        [LOCAL],
        local_addr=SUN,
        remote_addr=MOON,
        reqid=REQID,
        spi=spi,
    )


def spec(direction, spi, fill):
    """An SA between moon and sun as moon sees it; ``fill`` makes the key."""
    path = (MOON, SUN) if direction is Direction.OUTBOUND else (SUN, MOON)
    return SaSpec(
        tunnel="sun",
        direction=direction,
        spi=spi,
        source=path[0],
        destination=path[1],
        reqid=REQID,
        key=Secret(bytes([fill]) * 36),
    )


def at_peer(sa):
    """The same SA from the other end."""
    other = Direction.INBOUND if sa.direction is Direction.OUTBOUND else Direction.OUTBOUND
    return replace(sa, direction=other)


async def set_all(plane, policies):
    for policy in policies:
        await plane.set_policy(policy)


async def test_inbound_sa_that_is_there_keeps_its_key_and_counters(moon):
    sa = spec(Direction.INBOUND, 1, 1)
    await moon.install_sa(sa)
    assert moon.receive(at_peer(sa), BOB, ALICE).fate is Fate.PROTECTED
    await moon.install_sa(replace(sa, lifetime=SaLifetime(hard_packets=2)))
    assert moon.receive(at_peer(sa), BOB, ALICE).fate is Fate.PROTECTED
    assert moon.receive(at_peer(sa), BOB, ALICE).reason == "hard limit"


async def test_inbound_sa_that_is_there_cannot_get_another_key(moon):
    """The kernel answers that all is well, and keeps the old one."""
    await moon.install_sa(spec(Direction.INBOUND, 1, 1))
    with pytest.raises(InvariantViolation, match="keeps its key"):
        await moon.install_sa(spec(Direction.INBOUND, 1, 2))


@pytest.mark.parametrize("direction", [Direction.INBOUND, Direction.OUTBOUND])
async def test_a_key_comes_a_second_time_for_the_same_inbound_sa_only(moon, direction):
    sa = spec(direction, 1, 1)
    await moon.install_sa(sa)
    await moon.remove_sa(sa.sa_id)
    if direction is Direction.INBOUND:
        await moon.install_sa(replace(sa, esn=False))
        assert not moon.sas[0].esn
        await moon.remove_sa(sa.sa_id)
        sa = replace(sa, spi=2)
    with pytest.raises(InvariantViolation, match="installed before"):
        await moon.install_sa(sa)


async def test_no_policy_is_clear_and_a_policy_without_sa_drops(moon):
    assert moon.transmit(ALICE, BOB).fate is Fate.CLEAR
    assert moon.receive_clear(BOB, ALICE).fate is Fate.CLEAR
    await set_all(moon, policies_of_moon())
    assert moon.transmit(ALICE, BOB).fate is Fate.DROPPED
    assert moon.receive_clear(BOB, ALICE).fate is Fate.DROPPED
    assert moon.receive_clear(BOB, ALICE, forward=False).fate is Fate.DROPPED
    event = await anext(moon.events())
    assert event == TrafficWaiting(reqid=REQID, source=ALICE, destination=BOB)


async def test_a_rekey_in_the_right_order_loses_no_packet(moon, sun):
    """Standards order: new inbound first, then outbound, then the pin, then the old ones go."""
    old = spec(Direction.OUTBOUND, 1, 1), spec(Direction.INBOUND, 1, 2)
    new = spec(Direction.OUTBOUND, 2, 3), spec(Direction.INBOUND, 2, 4)
    for sa in old:
        await moon.install_sa(sa)
        await sun.install_sa(at_peer(sa))
    await set_all(moon, policies_of_moon(spi=1))
    await set_all(sun, policies_of_sun(spi=1))
    used = []

    def traffic():
        forth, back = carry(moon, sun, ALICE, BOB), carry(sun, moon, BOB, ALICE)
        assert (forth.fate, back.fate) == (Fate.PROTECTED, Fate.PROTECTED)
        used.append((forth.sa.spi, back.sa.spi))

    traffic()
    steps = [  # sun answers, moon started
        sun.install_sa(at_peer(new[0])),
        sun.install_sa(at_peer(new[1])),
        moon.install_sa(new[1]),
        moon.install_sa(new[0]),
        *(moon.set_policy(policy) for policy in outbound_pins(policies_of_moon(), 2)),
        *(sun.set_policy(policy) for policy in outbound_pins(policies_of_sun(), 2)),
        sun.remove_sa(old[1].sa_id),
        moon.remove_sa(old[0].sa_id),
        sun.remove_sa(old[0].sa_id),
        moon.remove_sa(old[1].sa_id),
    ]
    for step in steps:
        await step
        traffic()
    assert used[:5] == [(1, 1)] * 5
    assert used[-1] == (2, 2)
    assert moon.violations == sun.violations == []


async def test_switching_before_the_peer_is_ready_is_seen_as_loss(moon, sun):
    """The negative twin."""
    old, new = spec(Direction.OUTBOUND, 1, 1), spec(Direction.OUTBOUND, 2, 3)
    await moon.install_sa(old)
    await sun.install_sa(at_peer(old))
    await set_all(moon, policies_of_moon(spi=1))
    await moon.install_sa(new)
    await set_all(moon, policies_of_moon(spi=2))
    lost = carry(moon, sun, ALICE, BOB)
    assert (lost.fate, lost.reason) == (Fate.DROPPED, "no inbound SA 00000002")


async def test_different_keys_at_both_ends_are_seen(moon, sun):
    await moon.install_sa(spec(Direction.OUTBOUND, 1, 1))
    await sun.install_sa(at_peer(spec(Direction.OUTBOUND, 1, 9)))
    await set_all(moon, policies_of_moon(spi=1))
    assert carry(moon, sun, ALICE, BOB).reason == "integrity check failed"


async def test_another_tunnels_sa_does_not_satisfy_the_policy(moon, sun):
    sa = spec(Direction.OUTBOUND, 1, 1)
    await moon.install_sa(sa)
    await sun.install_sa(replace(at_peer(sa), reqid=reqid_for("other")))
    await set_all(moon, policies_of_moon(spi=1))
    await set_all(sun, policies_of_sun())
    assert carry(moon, sun, ALICE, BOB).reason == "policy does not allow this SA"


async def test_without_a_pin_the_newest_sa_carries(moon):
    await set_all(moon, policies_of_moon())
    for spi in (1, 2):
        await moon.install_sa(spec(Direction.OUTBOUND, spi, spi))
    assert moon.transmit(ALICE, BOB).sa.spi == 2
    assert moon.pins("sun") == {0}


# --- violations ------------------------------------------------------------------------------


async def test_removing_the_pinned_sa_is_a_blackhole(moon):
    sa = spec(Direction.OUTBOUND, 1, 1)
    await moon.install_sa(sa)
    await set_all(moon, policies_of_moon(spi=1))
    with pytest.raises(InvariantViolation, match="blackhole"):
        await moon.remove_sa(sa.sa_id)
    await set_all(moon, policies_of_moon())
    await moon.remove_sa(sa.sa_id)  # unpinned first: all right


async def test_a_pin_to_nothing_is_a_violation(moon):
    with pytest.raises(InvariantViolation, match="pinned to SA 00000001"):
        await set_all(moon, policies_of_moon(spi=1))


async def test_the_same_spi_twice_is_a_violation_and_refused(moon):
    await moon.install_sa(spec(Direction.OUTBOUND, 1, 1))
    with pytest.raises(InvariantViolation, match="installed twice"):
        await moon.install_sa(spec(Direction.OUTBOUND, 1, 2))


async def test_the_same_key_twice_is_a_violation_even_after_removal(moon):
    sa = spec(Direction.OUTBOUND, 1, 7)
    await moon.install_sa(sa)
    await moon.remove_sa(sa.sa_id)
    with pytest.raises(InvariantViolation, match="this key was installed before"):
        await moon.install_sa(sa)
    assert "07" * 8 not in moon.violations[0]


async def test_taking_the_last_policy_away_is_a_violation_unless_the_tunnel_was_retired(moon):
    made = policies_of_moon()
    await set_all(moon, made)
    for policy in made:
        if policy.action is PolicyAction.PROTECT:
            await moon.remove_policy(policy)  # the guard is still there
    guards = [policy for policy in made if policy.action is PolicyAction.BLOCK]
    with pytest.raises(InvariantViolation, match="while tunnel sun exists"):
        await moon.remove_policy(guards[0])
    await set_all(moon, made)
    moon.violations.clear()
    moon.retire("sun")
    for policy in made:
        await moon.remove_policy(policy)
    assert moon.violations == []


async def test_not_strict_only_records(sun):
    plane = MemoryDataPlane(strict=False)
    await plane.open()
    await set_all(plane, policies_of_moon(spi=1))
    assert len(plane.violations) == 1


# --- the port --------------------------------------------------------------------------------


async def test_a_reservation_becomes_an_sa_or_was_not_needed(moon):
    spi = await moon.allocate_spi(SUN, MOON, REQID)
    reserved = await moon.read_sa(SaId(MOON, spi))
    assert reserved is not None
    assert (reserved.larval, reserved.reqid, reserved.source) == (True, REQID, SUN)
    await moon.install_sa(spec(Direction.INBOUND, spi, 1))
    installed = await moon.read_sa(SaId(MOON, spi))
    assert installed is not None
    assert not installed.larval
    assert moon.reservations == ()
    assert moon.fallbacks == 0
    await moon.install_sa(spec(Direction.INBOUND, 77, 2))
    assert moon.fallbacks == 1


async def test_what_is_gone_is_removed_without_complaint(moon):
    await moon.remove_sa(SaId(MOON, 1))
    await moon.remove_policy(policies_of_moon()[0])
    assert await moon.read_sa(SaId(MOON, 1)) is None


async def test_a_refusal_hits_one_call(moon):
    moon.refuse("allocate_spi", DataplaneError("no memory", errno.ENOMEM))
    with pytest.raises(DataplaneError, match="no memory"):
        await moon.allocate_spi(SUN, MOON, REQID)
    assert await moon.allocate_spi(SUN, MOON, REQID)


async def test_nothing_works_before_open():
    with pytest.raises(DataplaneError, match="not open"):
        await MemoryDataPlane().snapshot()


async def test_the_content_outlives_the_daemon(moon):
    out = spec(Direction.OUTBOUND, 1, 1)
    await moon.install_sa(out)
    await set_all(moon, policies_of_moon(spi=1))
    await moon.allocate_spi(SUN, MOON, REQID)
    await moon.close()
    assert moon.transmit(ALICE, BOB).fate is Fate.PROTECTED

    await moon.open()
    todo = plan(policies_of_moon(), await moon.snapshot())
    assert todo.to_set == todo.to_remove == ()
    assert todo.sas_to_remove == moon.reservations


async def test_expiry_and_lost_events_are_reported_until_close(moon):
    sa = spec(Direction.OUTBOUND, 1, 1)
    await moon.install_sa(sa)
    moon.expire(sa.sa_id, hard=False)
    assert moon.sas == (sa,)
    moon.expire(sa.sa_id, hard=True)
    assert moon.sas == ()
    moon.lose_events()
    await moon.close()
    assert [event async for event in moon.events()] == [
        SaExpired(sa_id=sa.sa_id, reqid=REQID, hard=False),
        SaExpired(sa_id=sa.sa_id, reqid=REQID, hard=True),
        EventsLost(),
    ]


async def test_the_snapshot_shows_what_a_kernel_knows(moon):
    await set_all(moon, policies_of_moon())
    snapshot = await moon.snapshot()
    assert {policy.tunnel for policy in snapshot.policies} == {""}
    assert sum(is_pin(policy) for policy in snapshot.policies) == 1
