"""Generic netlink, and the family "macsec" in it (linux/genetlink.h, linux/if_macsec.h).

Declarations, no behaviour.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyroute2.netlink import nla, nlmsg

from gateway.dataplane.netlink.layout import Fields, NetlinkFamily, declare

GENERIC: Final = NetlinkFamily(16, "generic netlink", "")  # NETLINK_GENERIC
GENL_ID_CTRL: Final = 0x10
CTRL_CMD_GETFAMILY: Final = 3
MACSEC_FAMILY: Final = "macsec"
MACSEC_VERSION: Final = 1

VALIDATE_CHECK: Final = 1  # MACSEC_VALIDATE_*
VALIDATE_STRICT: Final = 2


class MacsecCommand(IntEnum):
    """MACSEC_CMD_*."""

    GET_TXSC = 0
    ADD_RXSC = 1
    DEL_RXSC = 2
    UPD_RXSC = 3
    ADD_TXSA = 4
    DEL_TXSA = 5
    UPD_TXSA = 6
    ADD_RXSA = 7
    DEL_RXSA = 8
    UPD_RXSA = 9
    UPD_OFFLOAD = 10


GENLMSGHDR: Fields = (("cmd", "B"), ("version", "B"), ("reserved", "2x"))

# --- attributes: number, name, type ----------------------------------------------------------

_SA_COMMON = (
    (1, "MACSEC_SA_ATTR_AN", "uint8"),
    (2, "MACSEC_SA_ATTR_ACTIVE", "uint8"),
    (3, "MACSEC_SA_ATTR_PN", "cdata"),  # 4 octets, with XPN 8
    (5, "MACSEC_SA_ATTR_KEYID", "cdata"),  # 16
)
_SA_REQUEST = (
    *_SA_COMMON,
    (4, "MACSEC_SA_ATTR_KEY", "cdata"),
    (8, "MACSEC_SA_ATTR_SSCI", "be32"),
    (9, "MACSEC_SA_ATTR_SALT", "cdata"),  # 12
)
# The kernel gives no key back, but a refusal has the request in it. There the key is not decoded:
# "flag" only tells that it is there. So it cannot get into a message that pyroute2 prints at log
# level DEBUG.
_SA_REPLY = (*_SA_COMMON, (4, "MACSEC_SA_ATTR_KEY", "flag"), (9, "MACSEC_SA_ATTR_SALT", "flag"))
_RXSC_REQUEST = (
    (1, "MACSEC_RXSC_ATTR_SCI", "cdata"),  # 8
    (2, "MACSEC_RXSC_ATTR_ACTIVE", "uint8"),
)
_RXSC_REPLY = (
    *_RXSC_REQUEST,
    (3, "MACSEC_RXSC_ATTR_SA_LIST", "*sa"),
    (4, "MACSEC_RXSC_ATTR_STATS", "rxsc_stats"),
)
_SECY = (
    (1, "MACSEC_SECY_ATTR_SCI", "cdata"),
    (2, "MACSEC_SECY_ATTR_ENCODING_SA", "uint8"),
    (3, "MACSEC_SECY_ATTR_WINDOW", "uint32"),
    (4, "MACSEC_SECY_ATTR_CIPHER_SUITE", "uint64"),
    (5, "MACSEC_SECY_ATTR_ICV_LEN", "uint8"),
    (6, "MACSEC_SECY_ATTR_PROTECT", "uint8"),
    (7, "MACSEC_SECY_ATTR_REPLAY", "uint8"),
    (8, "MACSEC_SECY_ATTR_OPER", "uint8"),
    (9, "MACSEC_SECY_ATTR_VALIDATE", "uint8"),
    (10, "MACSEC_SECY_ATTR_ENCRYPT", "uint8"),
    (11, "MACSEC_SECY_ATTR_INC_SCI", "uint8"),
    (12, "MACSEC_SECY_ATTR_ES", "uint8"),
    (13, "MACSEC_SECY_ATTR_SCB", "uint8"),
)
_RXSC_STATS = (
    (1, "MACSEC_RXSC_STATS_ATTR_IN_OCTETS_VALIDATED", "uint64"),
    (2, "MACSEC_RXSC_STATS_ATTR_IN_OCTETS_DECRYPTED", "uint64"),
    (3, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_UNCHECKED", "uint64"),
    (4, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_DELAYED", "uint64"),
    (5, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_OK", "uint64"),
    (6, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_INVALID", "uint64"),
    (7, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_LATE", "uint64"),
    (8, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_NOT_VALID", "uint64"),
    (9, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_NOT_USING_SA", "uint64"),
    (10, "MACSEC_RXSC_STATS_ATTR_IN_PKTS_UNUSED_SA", "uint64"),
)
_TXSC_STATS = (
    (1, "MACSEC_TXSC_STATS_ATTR_OUT_PKTS_PROTECTED", "uint64"),
    (2, "MACSEC_TXSC_STATS_ATTR_OUT_PKTS_ENCRYPTED", "uint64"),
    (3, "MACSEC_TXSC_STATS_ATTR_OUT_OCTETS_PROTECTED", "uint64"),
    (4, "MACSEC_TXSC_STATS_ATTR_OUT_OCTETS_ENCRYPTED", "uint64"),
)
_SECY_STATS = (
    (1, "MACSEC_SECY_STATS_ATTR_OUT_PKTS_UNTAGGED", "uint64"),
    (2, "MACSEC_SECY_STATS_ATTR_IN_PKTS_UNTAGGED", "uint64"),
    (3, "MACSEC_SECY_STATS_ATTR_OUT_PKTS_TOO_LONG", "uint64"),
    (4, "MACSEC_SECY_STATS_ATTR_IN_PKTS_NO_TAG", "uint64"),
    (5, "MACSEC_SECY_STATS_ATTR_IN_PKTS_BAD_TAG", "uint64"),
    (6, "MACSEC_SECY_STATS_ATTR_IN_PKTS_UNKNOWN_SCI", "uint64"),
    (7, "MACSEC_SECY_STATS_ATTR_IN_PKTS_NO_SCI", "uint64"),
    (8, "MACSEC_SECY_STATS_ATTR_IN_PKTS_OVERRUN", "uint64"),
)

# --- classes ---------------------------------------------------------------------------------

_sa_reply = declare(nla, "macsec_sa_reply", (), _SA_REPLY)
macsec_request = declare(
    nlmsg,
    "macsec_request",
    GENLMSGHDR,
    (
        (1, "MACSEC_ATTR_IFINDEX", "uint32"),
        (2, "MACSEC_ATTR_RXSC_CONFIG", "rxsc"),
        (3, "MACSEC_ATTR_SA_CONFIG", "sa"),
    ),
    rxsc=declare(nla, "macsec_rxsc_request", (), _RXSC_REQUEST),
    sa=declare(nla, "macsec_sa_request", (), _SA_REQUEST),
)
macsec_reply = declare(
    nlmsg,
    "macsec_reply",
    GENLMSGHDR,
    (
        (1, "MACSEC_ATTR_IFINDEX", "uint32"),
        (3, "MACSEC_ATTR_SA_CONFIG", "sa"),
        (4, "MACSEC_ATTR_SECY", "secy"),
        (5, "MACSEC_ATTR_TXSA_LIST", "*sa"),
        (6, "MACSEC_ATTR_RXSC_LIST", "*rxsc"),
        (7, "MACSEC_ATTR_TXSC_STATS", "txsc_stats"),
        (8, "MACSEC_ATTR_SECY_STATS", "secy_stats"),
    ),
    sa=_sa_reply,
    secy=declare(nla, "macsec_secy", (), _SECY),
    rxsc=declare(
        nla,
        "macsec_rxsc_reply",
        (),
        _RXSC_REPLY,
        sa=_sa_reply,
        rxsc_stats=declare(nla, "macsec_rxsc_stats", (), _RXSC_STATS),
    ),
    txsc_stats=declare(nla, "macsec_txsc_stats", (), _TXSC_STATS),
    secy_stats=declare(nla, "macsec_secy_stats", (), _SECY_STATS),
)
family_message = declare(
    nlmsg,
    "ctrl_family",
    GENLMSGHDR,
    ((1, "CTRL_ATTR_FAMILY_ID", "uint16"), (2, "CTRL_ATTR_FAMILY_NAME", "asciiz")),
)
