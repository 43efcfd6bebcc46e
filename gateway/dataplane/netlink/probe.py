"""What this kernel can do, found by trying. For ``qsgw doctor``."""

from __future__ import annotations

import socket
from typing import NamedTuple

from gateway.dataplane.netlink.sockets import enable_udp_encap, exempt_ike_socket
from gateway.dataplane.netlink.xfrm import XfrmDataPlane
from gateway.errors import DataplaneError, StartupError


class ProbeResult(NamedTuple):
    feature: str
    ok: bool
    detail: str


async def probe() -> list[ProbeResult]:
    """Try ESP with AES-256-GCM and ESN over IPv4 and IPv6, and the IKE sockets' options.

    Adds SAs between documentation addresses and removes them. Never raises for what is missing.
    """
    plane = XfrmDataPlane()
    results = []
    try:
        await plane.open_sockets()
    except StartupError as error:
        results.append(ProbeResult("XFRM", False, str(error)))
    else:
        direction = "yes" if plane.knows_sa_direction else "no (Linux 6.10 has it), not needed"
        results.append(ProbeResult("XFRM", True, f"checks the direction of SAs: {direction}"))
        results += [await _probe_esp(plane, version) for version in (4, 6)]
    finally:
        await plane.close()
    results += [_probe_sockets(version) for version in (4, 6)]
    return results


async def _probe_esp(plane: XfrmDataPlane, version: int) -> ProbeResult:
    feature = f"ESP AES-256-GCM ESN over IPv{version}"
    try:
        await plane.try_esp(version)
    except DataplaneError as error:
        return ProbeResult(feature, False, str(error))
    return ProbeResult(feature, True, "SAs accepted in both directions")


def _probe_sockets(version: int) -> ProbeResult:
    feature = f"IKE sockets over IPv{version}"
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            exempt_ike_socket(sock)
            enable_udp_encap(sock)
    except (OSError, StartupError) as error:
        return ProbeResult(feature, False, str(error))
    return ProbeResult(feature, True, "policy exemption and ESP in UDP")
