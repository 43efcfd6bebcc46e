"""Moving our outbound traffic from one Child SA to another."""

from __future__ import annotations

from gateway.ike.child import ChildSa
from gateway.ike.commands import (
    ActivateOutbound,
    WatchInbound,
)
from gateway.ike.flow import CommandError, DeletedEarlyError, Flow, carry_out
from gateway.ike.sa import IkeSa


def bring_up(sa: IkeSa, child: ChildSa) -> Flow[None]:
    """``activate`` a child somebody asked us for: it ends in ChildUp or in an error.

    DeletedEarlyError where the peer deletes it while our traffic is on its way there.
    """
    yield from activate(sa, child)
    if not child.announced:
        raise DeletedEarlyError


def activate(sa: IkeSa, child: ChildSa) -> Flow[None]:
    """Move our outbound traffic to ``child``, unless it is there to stay. CommandError if refused.

    Several may be on their way at a time. The kernel keeps our order, and so do its answers: where
    traffic was moved last it stays, and a child that went away meanwhile is made good by who moved
    traffic there, if nobody has moved it since.
    """
    tunnel = child.tunnel
    if not child.usable or (child.carries_outbound and tunnel.steered is child):
        return
    child.activating = True
    try:
        yield from _steer(sa, child)
    except GeneratorExit:  # the IKE SA ends and the kernel is still at it
        child.activating = False
        if tunnel.steered is child:
            tunnel.steered = None  # the answer comes to nobody: another IKE SA has to move it again
            stays = child if child.owner is not sa.owner else tunnel.active
            if stays is not None and stays.owner is not sa.owner:
                stays.owner.stand_in(stays, sa.now)
        raise
    finally:
        child.activating = False
    if child.usable and not child.carries_outbound:
        tunnel.activated(child, sa.now)
    while not child.usable and tunnel.steered is child and tunnel.active is not None:
        child = tunnel.active
        yield from _steer(sa, child)


def _steer(sa: IkeSa, child: ChildSa) -> Flow[None]:
    tunnel = child.tunnel
    try:
        yield from carry_out(
            _steering(sa, child), "outbound traffic could not be moved to the new SA"
        )
    except CommandError:
        if tunnel.steered is child:
            tunnel.steered = tunnel.active
        raise


def _steering(sa: IkeSa, child: ChildSa) -> ActivateOutbound:
    child.tunnel.steered = child
    return ActivateOutbound(
        token=sa.env.desk.token(),
        tunnel=child.tunnel.name,
        spi=child.spi_out,
        mode=child.esp_mode,
        source=child.local_address,
        destination=child.remote_address,
        local_networks=child.local_networks,
        remote_networks=child.remote_networks,
    )


def watch(sa: IkeSa, child: ChildSa) -> None:
    """Ask to be told of the first inbound packet: the peer has moved to this child."""
    sa.env.outbox.commands.append(WatchInbound(tunnel=child.tunnel.name, sa_id=child.inbound))
