"""Numbers of the protocol, one enum per field we use.

A number on the wire that is not here stays an ``int``; it is never an error by itself.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

PAE_GROUP_ADDRESS: Final = bytes.fromhex("0180c2000003")  # 11.1.1: no bridge forwards it
ETHERTYPE_EAPOL: Final = 0x888E  # 11.1.4
EAPOL_VERSION: Final = 3  # 11.3.1
EAPOL_MKA: Final = 5  # Table 11-3
MKA_VERSION: Final = 3  # 802.1Xck-2018: the key server's peer list is in SSCI order
MKA_VERSION_SSCI: Final = 3  # from this one on
ALGORITHM_AGILITY: Final = 0x0080_C201  # Table 11-8: AES-CMAC ICV, AES key wrap, KDF of 6.2.1


class SetType(IntEnum):
    """Parameter set type (Table 11-7). The basic one comes first and has none."""

    LIVE_PEER_LIST = 1
    POTENTIAL_PEER_LIST = 2
    SAK_USE = 3
    DISTRIBUTED_SAK = 4
    DISTRIBUTED_CAK = 5
    KMD = 6
    ANNOUNCEMENT = 7
    XPN = 8  # 802.1Xbx-2014
    ICV_INDICATOR = 255


class Capability(IntEnum):
    """MACsec capability (Table 11-6)."""

    NONE = 0
    INTEGRITY = 1
    CONFIDENTIALITY = 2  # with offset 0
    CONFIDENTIALITY_OFFSETS = 3  # with offset 0, 30 or 50


class Confidentiality(IntEnum):
    """How frames are protected, as a distributed SAK says it (Figure 11-11)."""

    NONE = 0  # integrity only
    OFFSET_0 = 1  # all of the user data is encrypted
    OFFSET_30 = 2  # its first 30 octets are not
    OFFSET_50 = 3

    @property
    def needs(self) -> Capability:
        """What a member must be capable of."""
        match self:
            case Confidentiality.NONE:
                return Capability.INTEGRITY
            case Confidentiality.OFFSET_0:
                return Capability.CONFIDENTIALITY
            case Confidentiality.OFFSET_30 | Confidentiality.OFFSET_50:
                return Capability.CONFIDENTIALITY_OFFSETS


class CipherSuite(IntEnum):
    """802.1AE Table 14-1, 802.1AEbn and 802.1AEbw."""

    GCM_AES_128 = 0x0080_C200_0100_0001
    GCM_AES_256 = 0x0080_C200_0100_0002
    GCM_AES_XPN_128 = 0x0080_C200_0100_0003
    GCM_AES_XPN_256 = 0x0080_C200_0100_0004

    @property
    def key_size(self) -> int:
        """Octets of the SAK."""
        return 32 if self in (CipherSuite.GCM_AES_256, CipherSuite.GCM_AES_XPN_256) else 16

    @property
    def xpn(self) -> bool:
        """Packet numbers of 64 bits."""
        return self in (CipherSuite.GCM_AES_XPN_128, CipherSuite.GCM_AES_XPN_256)


GCM_AES_128_OLD: Final = 0x0080_0200_0100_0001  # as 802.1AE-2006 printed it; some still send it


def cipher_suite(number: int) -> CipherSuite | None:
    """None for one that is not known here."""
    if number == GCM_AES_128_OLD:
        return CipherSuite.GCM_AES_128
    try:
        return CipherSuite(number)
    except ValueError:
        return None
