"""The kernel is slower than the wire: what the peer does meanwhile finds a child half-made."""

from __future__ import annotations

import pytest

from gateway.ike.commands import ActivateOutbound, Command, InstallChild
from gateway.ike.events import ChildDown, ChildUp
from tests.support.collisions import QUIET
from tests.support.ike_kernel import slow_kernel
from tests.support.ike_pair import TUNNELS, Pair, Side

SLOW = 0.5  # seconds
SOON = 0.1  # seconds: enough for what goes over the wire, not for a slow kernel


def slow(side: Side, kind: type[Command]) -> None:
    slow_kernel(side, lambda command: SLOW if isinstance(command, kind) else 0.001)


def lose_newest(pair: Pair, side: Side) -> None:
    """The kernel drops the newest inbound SA, so the core deletes the child with the peer."""
    newest = side.kernel.inbound("net")[-1]
    side.endpoint.sa_expired(newest.sa_id, hard=True, now=pair.now)


@pytest.mark.parametrize("kind", [InstallChild, ActivateOutbound])
def test_delete_of_the_first_child_while_our_kernel_is_at_it(kind):
    """
    IKE_AUTH -------------->
           <--------------- response             InstallChild, ActivateOutbound ...
           <--------------- Delete(the child)
    """
    pair = Pair(toy_kex=True, report_inbound=True)
    slow(pair.moon, kind)
    pair.begin()
    pair.run(SOON)
    lose_newest(pair, pair.sun)
    pair.run(QUIET)
    (failure,) = pair.moon.failures
    assert failure.what == "initiate"
    assert failure.from_peer
    assert "before it was in use" in failure.reason
    assert not pair.moon.ups
    assert not pair.moon.facts.ike, "an IKE SA that is for nothing"
    pair.check_empty()
    pair.check_settled()


@pytest.mark.parametrize("kind", [InstallChild, ActivateOutbound])
def test_the_ike_sa_goes_on_where_another_tunnel_waits_for_it(kind):
    pair = Pair(toy_kex=True, report_inbound=True, tunnels=TUNNELS[:2])
    slow(pair.moon, kind)
    pair.begin()
    pair.begin(tunnel="scada")
    pair.run(SOON)
    lose_newest(pair, pair.sun)
    pair.run(QUIET)
    assert [failure.tunnel for failure in pair.moon.failures] == ["net"]
    assert [up.tunnel for up in pair.moon.ups] == ["scada"]
    assert len(pair.moon.facts.ike) == 1
    pair.initiate()
    pair.run(QUIET)
    pair.check_mirrored()


@pytest.mark.parametrize("kind", [InstallChild, ActivateOutbound])
def test_delete_of_the_new_child_while_our_kernel_is_at_it(kind):
    """
    CREATE_CHILD_SA(rekey) ->
           <--------------- response             InstallChild, ActivateOutbound ...
           <--------------- Delete(new)
    """
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.run(1)
    slow(pair.moon, kind)
    pair.moon.endpoint.rekey_child("net", ppk=pair.key(), now=pair.now)
    pair.run(SOON)
    assert len(pair.sun.kernel.inbound("net")) == 2
    lose_newest(pair, pair.sun)
    pair.run(QUIET)
    (failure,) = pair.moon.failures
    assert (failure.what, failure.from_peer) == ("rekey", True)
    assert len(pair.moon.ups) == 1
    pair.check_mirrored()  # the old one carries on
    pair.check_settled()


def test_delete_of_the_old_child_while_traffic_moves_to_the_new_one():
    """
    CREATE_CHILD_SA(rekey) ->
           <--------------- response             ActivateOutbound(new) ...
           <--------------- Delete(old)
    The answer to the Delete waits for the move: the tunnel is never down.
    """
    pair = Pair(toy_kex=True, report_inbound=True).initiate()
    pair.run(1)
    slow(pair.moon, ActivateOutbound)
    pair.moon.endpoint.rekey_child("net", ppk=pair.key(), now=pair.now)
    pair.run(SOON)
    old = pair.sun.kernel.inbound("net")[0]
    pair.sun.endpoint.sa_expired(old.sa_id, hard=True, now=pair.now)
    pair.run(QUIET)
    assert not pair.moon.failures
    last = [event for event in pair.moon.events if isinstance(event, ChildUp | ChildDown)][-2:]
    assert [type(event) for event in last] == [ChildUp, ChildDown]
    assert last[1].rekeyed
    pair.check_mirrored()
    pair.check_settled()


def test_the_ike_sa_is_rekeyed_while_a_responders_traffic_moves():
    """
           <--------------- IKE_AUTH
    response -------------->                     ActivateOutbound ...
           <--------------- CREATE_CHILD_SA(IKE SA)
    response -------------->
           <--------------- Delete(old IKE SA)
    The child is in the new IKE SA by now, which ends what the old one began.
    """
    pair = Pair(toy_kex=True, report_inbound=True)
    slow(pair.moon, ActivateOutbound)
    pair.begin(side=pair.sun)
    pair.run(SOON)
    assert [child.state for child in pair.moon.facts.children] == ["installed"]
    pair.sun.endpoint.rekey_ike("net", ppk=None, now=pair.now)
    pair.run(QUIET)
    assert [child.state for child in pair.moon.facts.children] == ["active"]
    assert len(pair.moon.ups) == 1
    pair.check_mirrored()
    pair.check_settled()
