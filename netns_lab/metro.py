"""Two sites on one layer-2 link: a MACsec link between the gateways instead of a tunnel.

The link has no addresses of its own; what runs over it is in the MACsec device. IKE runs over
isp, the management network here. Text only, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netns_lab.toml import Table

NAME = "metro"
DEVICE = f"macsec-{NAME}"

ADDRESSES: Mapping[str, str] = {"moon": "10.9.3.1", "sun": "10.9.3.2"}
"""Of the MACsec devices, in a /30."""

SITES: Mapping[str, tuple[str, ...]] = {
    "moon": ("10.1.0.0/24", "fd01::/64"),
    "sun": ("10.2.0.0/24", "fd02::/64"),
}
_WORSE = 4096  # metric: a route over the MACsec device goes before


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsecOptions:
    """Further keys of [macsec.metro], as in the file: at both ends, and what is other at one."""

    both: Table = field(default_factory=dict)
    moon: Table = field(default_factory=dict)
    sun: Table = field(default_factory=dict)

    @property
    def static(self) -> bool:
        """Is the CAK agreed by hand, so that no connection gives any?"""
        return "cak" in self.both

    def table(self, gateway: str, peer: str) -> Table:
        """The whole table of one gateway. An interface has the name of the host it leads to."""
        return {
            "interface": peer,
            "device": DEVICE,
            "addresses": (f"{ADDRESSES[gateway]}/30",),
            **({} if self.static else {"connection": peer}),
            **self.both,
            **(self.moon if gateway == "moon" else self.sun),
        }


def blackholes(peer: str) -> list[str]:
    """iproute2 batch: without a MACsec device nothing for the other site leaves, to isp least."""
    return [f"route replace blackhole {site} metric {_WORSE}" for site in SITES[peer]]


def route(peer: str) -> list[str]:
    """iproute2's words for the way to the other site. Goes with the device, and must come back."""
    return ["route", "replace", SITES[peer][0], "via", ADDRESSES[peer], "dev", DEVICE]
