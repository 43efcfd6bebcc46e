"""Every policy of a tunnel, as the daemon lays them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.dataplane.reconcile import guard_policies, protect_policies
from gateway.model import IpNetwork, PolicySpec


def tunnel_policies(
    tunnel: str,
    local_nets: Iterable[IpNetwork],
    remote_nets: Iterable[IpNetwork],
    **protecting: Any,
) -> tuple[PolicySpec, ...]:
    """In the order they go in: the blocking ones first. ``protecting``: see protect_policies."""
    nets = tuple(local_nets), tuple(remote_nets)
    return (*guard_policies(tunnel, *nets), *protect_policies(tunnel, *nets, **protecting))
