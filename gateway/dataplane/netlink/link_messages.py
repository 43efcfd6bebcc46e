"""Interfaces, their addresses and their filters (linux/rtnetlink.h, if_link.h, pkt_sched.h,
pkt_cls.h). Declarations, no behaviour.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from pyroute2.netlink import nla, nlmsg

from gateway.dataplane.netlink.layout import Fields, NetlinkFamily, declare

ROUTE: Final = NetlinkFamily(0, "routing netlink", "")  # NETLINK_ROUTE
RTNLGRP_LINK: Final = 1
IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000

TC_H_CLSACT: Final = 0xFFFF_FFF1
CLSACT_HANDLE: Final = 0xFFFF_0000
TC_H_INGRESS: Final = 0xFFFF_FFF2  # the filters of a clsact qdisc on what comes in
TC_H_EGRESS: Final = 0xFFFF_FFF3  # and on what leaves
TC_ACT_OK: Final = 0
TC_ACT_SHOT: Final = 2


class RouteMessage(IntEnum):
    """RTM_*."""

    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    NEWADDR = 20
    DELADDR = 21
    GETADDR = 22
    NEWQDISC = 36
    DELQDISC = 37
    GETQDISC = 38
    NEWTFILTER = 44
    DELTFILTER = 45
    GETTFILTER = 46


IFINFOMSG: Fields = (  # 16 octets
    ("family", "B"),
    ("info_pad", "1x"),
    ("type", "H"),
    ("index", "i"),
    ("flags", "I"),
    ("change", "I"),
)
IFADDRMSG: Fields = (  # 8
    ("family", "B"),
    ("prefixlen", "B"),
    ("flags", "B"),
    ("scope", "B"),
    ("index", "I"),
)
TCMSG: Fields = (  # 20
    ("family", "B"),
    ("tc_pad", "3x"),
    ("index", "i"),
    ("handle", "I"),
    ("parent", "I"),
    ("info", "I"),
)
TC_GEN: Fields = (  # tc_gact, 20
    ("index", "I"),
    ("capab", "I"),
    ("action", "i"),
    ("refcnt", "i"),
    ("bindcnt", "i"),
)

# --- attributes: number, name, type ----------------------------------------------------------

_MACSEC = (
    (1, "IFLA_MACSEC_SCI", "cdata"),  # 8
    (2, "IFLA_MACSEC_PORT", "be16"),
    (3, "IFLA_MACSEC_ICV_LEN", "uint8"),
    (4, "IFLA_MACSEC_CIPHER_SUITE", "uint64"),
    (5, "IFLA_MACSEC_WINDOW", "uint32"),
    (6, "IFLA_MACSEC_ENCODING_SA", "uint8"),
    (7, "IFLA_MACSEC_ENCRYPT", "uint8"),
    (8, "IFLA_MACSEC_PROTECT", "uint8"),
    (9, "IFLA_MACSEC_INC_SCI", "uint8"),
    (10, "IFLA_MACSEC_ES", "uint8"),
    (11, "IFLA_MACSEC_SCB", "uint8"),
    (12, "IFLA_MACSEC_REPLAY_PROTECT", "uint8"),
    (13, "IFLA_MACSEC_VALIDATION", "uint8"),
    (15, "IFLA_MACSEC_OFFLOAD", "uint8"),
)
# The kind comes before the data in what the kernel sends; other kinds have other data, which is
# not looked at.
_LINKINFO = ((1, "IFLA_INFO_KIND", "asciiz"), (2, "IFLA_INFO_DATA", "macsec"))
_LINK = (
    (1, "IFLA_ADDRESS", "cdata"),
    (3, "IFLA_IFNAME", "asciiz"),
    (4, "IFLA_MTU", "uint32"),
    (5, "IFLA_LINK", "uint32"),
    (18, "IFLA_LINKINFO", "linkinfo"),
    (37, "IFLA_LINK_NETNSID", "int32"),
)
_ADDRESS = ((1, "IFA_ADDRESS", "cdata"), (2, "IFA_LOCAL", "cdata"))
_ACT = (
    (1, "TCA_ACT_KIND", "asciiz"),
    (2, "TCA_ACT_OPTIONS", "gact"),
)
_FILTER = (
    (1, "TCA_KIND", "asciiz"),
    (2, "TCA_OPTIONS", "matchall"),
    (11, "TCA_CHAIN", "uint32"),
)

# --- classes ---------------------------------------------------------------------------------

link_message = declare(
    nlmsg,
    "ifinfomsg",
    IFINFOMSG,
    _LINK,
    linkinfo=declare(
        nla, "linkinfo", (), _LINKINFO, macsec=declare(nla, "macsec_info", (), _MACSEC)
    ),
)
address_message = declare(nlmsg, "ifaddrmsg", IFADDRMSG, _ADDRESS)
filter_message = declare(
    nlmsg,
    "tcmsg_filter",
    TCMSG,
    _FILTER,
    matchall=declare(
        nla,
        "matchall",
        (),
        ((2, "TCA_MATCHALL_ACT", "*act"),),
        act=declare(
            nla,
            "act",
            (),
            _ACT,
            gact=declare(
                nla,
                "gact",
                (),
                ((2, "TCA_GACT_PARMS", "tc_gact"),),
                tc_gact=declare(nla, "tc_gact", TC_GEN),
            ),
        ),
    ),
)
qdisc_message = declare(nlmsg, "tcmsg_qdisc", TCMSG, ((1, "TCA_KIND", "asciiz"),))

LINK_CLASSES: Final[dict[int, Any]] = {
    RouteMessage.NEWLINK: link_message,
    RouteMessage.DELLINK: link_message,
}
REPLY_CLASSES: Final[dict[int, Any]] = {
    **LINK_CLASSES,
    RouteMessage.NEWADDR: address_message,
    RouteMessage.NEWQDISC: qdisc_message,
    RouteMessage.NEWTFILTER: filter_message,
}
