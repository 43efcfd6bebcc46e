"""Socket options of the IKE sockets."""

from __future__ import annotations

import socket
from typing import Final

from gateway.dataplane.netlink.layout import Layout
from gateway.dataplane.netlink.xfrm_messages import (
    UDP_ENCAP_ESPINUDP,
    USERPOLICY_INFO,
    XFRM_INF,
    PolicyDir,
    PolicyVerdict,
)
from gateway.errors import StartupError

IP_XFRM_POLICY: Final = 17  # linux/in.h
IPV6_XFRM_POLICY: Final = 35  # linux/in6.h
UDP_ENCAP: Final = 100  # linux/udp.h


def exempt_ike_socket(sock: socket.socket) -> None:
    """Let this socket's datagrams pass in the clear, whatever policies say.

    For tunnels whose networks hold the gateways' own addresses. Raises StartupError without
    CAP_NET_ADMIN.
    """
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, IPV6_XFRM_POLICY
    else:
        level, option = socket.IPPROTO_IP, IP_XFRM_POLICY
    for direction in (PolicyDir.IN, PolicyDir.OUT):
        policy = {
            "sel_family": int(sock.family),
            "soft_byte_limit": XFRM_INF,
            "hard_byte_limit": XFRM_INF,
            "soft_packet_limit": XFRM_INF,
            "hard_packet_limit": XFRM_INF,
            "dir": direction,
            "action": PolicyVerdict.ALLOW,
        }
        try:
            sock.setsockopt(level, option, Layout(USERPOLICY_INFO).pack(policy))
        except OSError as error:
            raise StartupError(
                f"cannot exempt the IKE socket from IPsec policies: {error.strerror}"
                " (CAP_NET_ADMIN, module xfrm_user)"
            ) from error


def enable_udp_encap(sock: socket.socket) -> None:
    """Have the kernel take ESP out of UDP on this socket (port 4500, RFC 3948).

    What starts with four zero octets (the non-ESP marker) still comes to us.
    """
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
    except OSError as error:
        raise StartupError(f"the kernel has no ESP in UDP: {error.strerror}") from error
