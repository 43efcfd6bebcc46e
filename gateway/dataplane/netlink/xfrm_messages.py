"""XFRM messages (linux/xfrm.h) for pyroute2's netlink core: declarations, no behaviour.

Layouts are those of 64-bit Linux.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, Final

from pyroute2.netlink import nla, nlmsg

from gateway.dataplane.netlink.layout import Fields, NetlinkFamily, declare

XFRM: Final = NetlinkFamily(6, "XFRM", "xfrm_user")  # NETLINK_XFRM
XFRM_INF: Final = 2**64 - 1
IPPROTO_ESP: Final = 50
XFRM_MODE_TRANSPORT: Final = 0
XFRM_MODE_TUNNEL: Final = 1
UDP_ENCAP_ESPINUDP: Final = 2
ALL_ALGORITHMS: Final = 0xFFFF_FFFF  # a template's masks: any algorithm the SA has

AEAD_NAME: Final = b"rfc4106(gcm(aes))"
AEAD_KEY_SIZE: Final = 36  # octets: AES-256 key | salt, RFC 4106 8.1
AEAD_ICV_BITS: Final = 128


class XfrmMessage(IntEnum):
    """XFRM_MSG_*."""

    NEWSA = 0x10
    DELSA = 0x11
    GETSA = 0x12
    NEWPOLICY = 0x13
    DELPOLICY = 0x14
    GETPOLICY = 0x15
    ALLOCSPI = 0x16
    ACQUIRE = 0x17
    EXPIRE = 0x18
    UPDPOLICY = 0x19
    UPDSA = 0x1A
    MAPPING = 0x26


class XfrmGroup(IntEnum):
    """XFRMNLGRP_*, for NETLINK_ADD_MEMBERSHIP."""

    ACQUIRE = 1
    EXPIRE = 2
    MAPPING = 8


class SaFlag(IntFlag):
    """XFRM_STATE_*."""

    AF_UNSPEC = 32  # IPv4 and IPv6 inside, whatever the outer family
    ESN = 128


class SaDir(IntEnum):
    """XFRM_SA_DIR_*, kernels from 6.10."""

    IN = 1
    OUT = 2


class PolicyDir(IntEnum):
    """XFRM_POLICY_IN/OUT/FWD."""

    IN = 0
    OUT = 1
    FWD = 2


class PolicyVerdict(IntEnum):
    """XFRM_POLICY_ALLOW/BLOCK."""

    ALLOW = 0
    BLOCK = 1


# --- field tuples ----------------------------------------------------------------------------

SELECTOR: Fields = (  # xfrm_selector, 56 octets
    ("sel_daddr", "16s"),
    ("sel_saddr", "16s"),
    ("sel_dport", ">H"),
    ("sel_dport_mask", ">H"),
    ("sel_sport", ">H"),
    ("sel_sport_mask", ">H"),
    ("sel_family", "H"),
    ("sel_prefixlen_d", "B"),
    ("sel_prefixlen_s", "B"),
    ("sel_proto", "B"),
    ("sel_pad", "3x"),
    ("sel_ifindex", "i"),
    ("sel_user", "I"),
)
XFRM_ID: Fields = (  # xfrm_id, 24
    ("daddr", "16s"),
    ("spi", ">I"),
    ("proto", "B"),
    ("id_pad", "3x"),
)
LIFETIME: Fields = tuple(  # xfrm_lifetime_cfg 64, xfrm_lifetime_cur 32
    (name, "Q")
    for name in (
        "soft_byte_limit",
        "hard_byte_limit",
        "soft_packet_limit",
        "hard_packet_limit",
        "soft_add_expires_seconds",
        "hard_add_expires_seconds",
        "soft_use_expires_seconds",
        "hard_use_expires_seconds",
        "bytes",
        "packets",
        "add_time",
        "use_time",
    )
)
USERSA_INFO: Fields = (  # xfrm_usersa_info, 224
    *SELECTOR,
    *XFRM_ID,
    ("saddr", "16s"),
    *LIFETIME,
    ("replay_window_drops", "I"),
    ("replay_drops", "I"),
    ("integrity_failed", "I"),
    ("seq", "I"),
    ("reqid", "I"),
    ("family", "H"),
    ("mode", "B"),
    ("replay_window", "B"),
    ("flags", "B"),
    ("info_pad", "7x"),
)
USERSA_ID: Fields = (  # xfrm_usersa_id, 24
    ("daddr", "16s"),
    ("spi", ">I"),
    ("family", "H"),
    ("proto", "B"),
    ("id_pad", "1x"),
)
USERSPI_INFO: Fields = (*USERSA_INFO, ("min", "I"), ("max", "I"))  # xfrm_userspi_info, 232
USERPOLICY_INFO: Fields = (  # xfrm_userpolicy_info, 168
    *SELECTOR,
    *LIFETIME,
    ("priority", "I"),
    ("index", "I"),
    ("dir", "B"),
    ("action", "B"),
    ("flags", "B"),
    ("share", "B"),
    ("policy_pad", "4x"),
)
USERPOLICY_ID: Fields = (*SELECTOR, ("index", "I"), ("dir", "B"), ("id_pad", "3x"))  # 64
USER_TMPL: Fields = (  # xfrm_user_tmpl, 64
    *XFRM_ID,
    ("family", "H"),
    ("family_pad", "2x"),
    ("saddr", "16s"),
    ("reqid", "I"),
    ("mode", "B"),
    ("share", "B"),
    ("optional", "B"),
    ("tmpl_pad", "1x"),
    ("aalgos", "I"),
    ("ealgos", "I"),
    ("calgos", "I"),
)
USER_EXPIRE: Fields = (*USERSA_INFO, ("hard", "B"), ("expire_pad", "7x"))  # 232
USER_ACQUIRE: Fields = (  # xfrm_user_acquire, 280
    *XFRM_ID,
    ("saddr", "16s"),
    *SELECTOR,
    ("policy", "168s"),
    ("aalgos", "I"),
    ("ealgos", "I"),
    ("calgos", "I"),
    ("seq", "I"),
)
USER_MAPPING: Fields = (  # xfrm_user_mapping, 64
    *USERSA_ID,
    ("reqid", "I"),
    ("old_saddr", "16s"),
    ("new_saddr", "16s"),
    ("old_sport", ">H"),
    ("new_sport", ">H"),
)


# --- classes ---------------------------------------------------------------------------------


_aead = declare(
    nla,
    "xfrm_algo_aead",
    (
        ("alg_name", "64s"),
        ("alg_key_len", "I"),  # bits
        ("alg_icv_len", "I"),  # bits
        ("alg_key", f"{AEAD_KEY_SIZE}s"),
    ),
)
_encap = declare(
    nla,
    "xfrm_encap_tmpl",
    (
        ("encap_type", "H"),
        ("encap_sport", ">H"),
        ("encap_dport", ">H"),
        ("encap_pad", "2x"),
        ("encap_oa", "16s"),
    ),
)
_replay_esn = declare(  # the bitmap that follows may be left out: then it is zero
    nla,
    "xfrm_replay_state_esn",
    tuple((name, "I") for name in ("bmp_len", "oseq", "seq", "oseq_hi", "seq_hi", "replay_window")),
)
_tmpl = declare(nla, "xfrm_user_tmpl", USER_TMPL)

_SA_REQUEST = (
    (4, "XFRMA_ENCAP", "encap"),
    (18, "XFRMA_ALG_AEAD", "aead"),
    (23, "XFRMA_REPLAY_ESN_VAL", "replay_esn"),
    (32, "XFRMA_MTIMER_THRESH", "uint32"),  # kernels from 5.17
    (33, "XFRMA_SA_DIR", "uint8"),
)
# In what the kernel sends, the key is not decoded: "flag" only tells that it is there. So a key
# cannot get into a message that pyroute2 prints at log level DEBUG.
_SA_REPLY = (
    (4, "XFRMA_ENCAP", "encap"),
    (18, "XFRMA_ALG_AEAD", "flag"),
    (23, "XFRMA_REPLAY_ESN_VAL", "replay_esn"),
    (33, "XFRMA_SA_DIR", "uint8"),
)
_POLICY = ((5, "XFRMA_TMPL", "tmpl"),)
_DIRECTION = ((33, "XFRMA_SA_DIR", "uint8"),)

sa_request = declare(
    nlmsg,
    "xfrm_usersa_info",
    USERSA_INFO,
    _SA_REQUEST,
    aead=_aead,
    encap=_encap,
    replay_esn=_replay_esn,
)
sa_reply = declare(
    nlmsg, "xfrm_usersa_reply", USERSA_INFO, _SA_REPLY, encap=_encap, replay_esn=_replay_esn
)
sa_id_request = declare(nlmsg, "xfrm_usersa_id", USERSA_ID, _DIRECTION)
spi_request = declare(nlmsg, "xfrm_userspi_info", USERSPI_INFO, _DIRECTION)
policy_message = declare(nlmsg, "xfrm_userpolicy_info", USERPOLICY_INFO, _POLICY, tmpl=_tmpl)
policy_id_request = declare(nlmsg, "xfrm_userpolicy_id", USERPOLICY_ID)
expire_event = declare(nlmsg, "xfrm_user_expire", USER_EXPIRE)
acquire_event = declare(nlmsg, "xfrm_user_acquire", USER_ACQUIRE, _POLICY, tmpl=_tmpl)
mapping_event = declare(nlmsg, "xfrm_user_mapping", USER_MAPPING)
dump_request = declare(nlmsg, "xfrm_dump", ())

REPLY_CLASSES: Final[dict[int, Any]] = {
    XfrmMessage.NEWSA: sa_reply,
    XfrmMessage.NEWPOLICY: policy_message,
}
EVENT_CLASSES: Final[dict[int, Any]] = {
    XfrmMessage.EXPIRE: expire_event,
    XfrmMessage.ACQUIRE: acquire_event,
    XfrmMessage.MAPPING: mapping_event,
}
