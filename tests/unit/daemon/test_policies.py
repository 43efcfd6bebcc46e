"""A peer that narrows its tunnel's traffic gets no other tunnel's traffic by that."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gateway.crypto.secret import Secret
from gateway.daemon.policies import TunnelPolicies
from gateway.dataplane.memory import Fate, MemoryDataPlane
from gateway.dataplane.reconcile import reqid_for
from gateway.ike.commands import InstallChild, Token
from gateway.model import Direction, EspMode, SaSpec

US = ip_address("192.0.2.1")
PEERS = {"hub": ip_address("192.0.2.2"), "branch": ip_address("192.0.2.3")}
LOCAL, WIDE, NARROW = (ip_network(one) for one in ("10.1.0.0/24", "10.0.0.0/8", "10.2.0.0/24"))
HERE, ELSEWHERE = ip_address("10.1.0.9"), ip_address("10.9.0.9")
AT_BRANCH = ip_address("10.2.0.9")
PARTS = ["10.2.0.0/24", "10.2.0.0/25", "10.2.0.9/32"]


def policies(plane, tunnel, network):
    return TunnelPolicies(
        plane,
        tunnel=tunnel,
        reqid=reqid_for(tunnel),
        local=US,
        remote=PEERS[tunnel],
        local_networks=(LOCAL,),
        remote_networks=(network,),
        mode=EspMode.TUNNEL,
    )


async def bring_up(plane, policies, tunnel, network):
    """The tunnel's child is up, with what the peer left of the traffic."""
    remote = PEERS[tunnel]
    spi = 0xC0000000 + 2 * (int(remote) & 0xFF)
    ends = {Direction.INBOUND: (remote, US), Direction.OUTBOUND: (US, remote)}
    inbound, outbound = (
        SaSpec(
            tunnel=tunnel,
            direction=direction,
            spi=spi + number,
            source=source,
            destination=destination,
            reqid=reqid_for(tunnel),
            key=Secret(bytes([number]) * 32 + spi.to_bytes(4, "big")),
            esn=True,
        )
        for number, (direction, (source, destination)) in enumerate(ends.items())
    )
    await policies.admit_inbound(
        InstallChild(
            token=Token(1),
            tunnel=tunnel,
            inbound=inbound,
            outbound=outbound,
            local_networks=(LOCAL,),
            remote_networks=(network,),
        )
    )
    await plane.install_sa(inbound)
    await plane.install_sa(outbound)
    await policies.steer_outbound(outbound.spi, (LOCAL,), (network,), EspMode.TUNNEL)
    return inbound


@pytest.fixture
async def plane():
    made = MemoryDataPlane()
    await made.open()
    return made


@pytest.mark.parametrize("part", PARTS)
async def test_a_narrowed_tunnel_takes_nothing_of_a_more_specific_one(plane, part):
    hub = policies(plane, "hub", WIDE)
    branch = policies(plane, "branch", NARROW)
    for each in (hub, branch):
        await each.lay_guard()
    theirs = await bring_up(plane, hub, "hub", ip_network(part))
    # the branch's tunnel is down: its traffic is dropped, not sent to the hub
    assert plane.transmit(HERE, AT_BRANCH).fate is Fate.DROPPED
    came = plane.receive(theirs, AT_BRANCH, HERE)
    assert (came.fate, came.reason) == (Fate.DROPPED, "policy does not allow this SA")
    await bring_up(plane, branch, "branch", NARROW)
    assert plane.transmit(HERE, AT_BRANCH).sa.tunnel == "branch"


@pytest.mark.parametrize("part", ["10.9.0.0/16", "10.9.0.0/24", "10.9.0.9/32"])
async def test_what_is_left_of_a_narrowed_tunnel_is_carried(plane, part):
    hub = policies(plane, "hub", WIDE)
    await hub.lay_guard()
    await bring_up(plane, hub, "hub", ip_network(part))
    assert plane.transmit(HERE, ELSEWHERE).sa.tunnel == "hub"
    assert plane.transmit(HERE, AT_BRANCH).fate is Fate.DROPPED
