"""Every timer, count and size limit of the MKA core, with its source.

Times are seconds, sizes are octets. "ours" marks a choice where the standard leaves one. Clauses
are those of IEEE 802.1X-2010 unless another document is named.
"""

from __future__ import annotations

from typing import Final

# --- timers (Table 9-3) -----------------------------------------------------------------------
HELLO_TIME: Final = 2.0  # MKA Hello Time
BOUNDED_HELLO_TIME: Final = 0.5  # MKA Bounded Hello Time: with delay protection
HELLO_AHEAD: Final = 0.1  # ours: sent so much sooner, the third is there within the Life Time
LIFE_TIME: Final = 6.0  # MKA Life Time: a peer that proves nothing so long is gone
RETIRE_DELAY: Final = 3.0  # SAK Retire Time: old receive SAs stay for frames in flight
RETIRE_HURRIED: Final = 0.5  # ours: where another SAK waits and all transmit under this one
TRANSMIT_DELAY: Final = 6.0  # 12.4: the key server waits no longer for a member to receive
SEND_SPACING: Final = 0.1  # ours: between two MKPDUs of one participant, whatever changes
SCI_SILENCE: Final = 3.0  # ours: one and a half Hello Times; then a restarted peer takes its place
INHERITED_GRACE: Final = 12.0  # ours: two Life Times to find a peer; then inherited SAs go
COMMAND_TIMEOUT: Final = 5.0  # ours: netlink answers in milliseconds

# --- key server -------------------------------------------------------------------------------
PRIORITY_NEVER: Final = 0xFF  # 9.5: this participant does not want to be key server
PN_PENDING_EXHAUSTION: Final = 0xC000_0000  # 9.8: a new SAK from here on
XPN_PENDING_EXHAUSTION: Final = 0xC000_0000_0000_0000  # 802.1AEbw, 10.7.22
KN_MAX: Final = 0xFFFF_FFFF  # 9.8: 32 bits; then a new MI
MN_MAX: Final = 0xFFFF_FFFF  # 9.4.2: before it wraps, a new MI
ASSOCIATION_NUMBERS: Final = 4  # 802.1AE 9.6: two bits

# --- what others may make us keep -------------------------------------------------------------
PEERS_MAX: Final = 30  # ours: of one participant; both lists fit into one Ethernet frame
KEY_SERVERS_REMEMBERED: Final = (
    1024  # ours: restarts of them; then the participant starts over under a new MI
)
PARTICIPANTS_MAX: Final = 4  # ours: CAKs of one port; two in a rollover

# --- sizes ------------------------------------------------------------------------------------
MAC_SIZE: Final = 6
ETHERNET_HEADER_SIZE: Final = 14
EAPOL_HEADER_SIZE: Final = 4  # 11.3
MKPDU_SIZE_MIN: Final = 32  # 11.11.2
ALIGNMENT: Final = 4  # 11.11: parameter sets begin at multiples of four octets
MI_SIZE: Final = 12  # 9.4.2
SCI_SIZE: Final = 8  # 802.1AE 9.9
CKN_SIZE_MAX: Final = 32  # 9.3.1: 1 to 32 octets
ICV_SIZE: Final = 16  # 9.4.1: AES-CMAC
KEY_SIZES: Final = (16, 32)  # 9.3: AES-128 and AES-256
WRAP_OVERHEAD: Final = 8  # RFC 3394 2.2
BASIC_BODY_MIN: Final = 28  # Figure 11-8, without the CKN
PEER_SIZE: Final = 16  # Figure 11-9: MI and MN
SAK_USE_BODY: Final = 40  # Figure 11-10
KMD_SIZE_MAX: Final = 253  # 12.6: KMD, UTF-8 text
XPN_BODY: Final = 8  # 802.1Xbx-2014, Figure 11-16
SALT_SIZE: Final = 12  # 802.1AEbw 10.7.8
