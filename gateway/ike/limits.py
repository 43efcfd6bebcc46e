"""Every timeout, retry count and size limit of the IKE core, with its source.

Times are seconds, sizes are octets. "ours" marks a choice where the RFCs leave one.

The timers of a session, in prose:

- *retransmit*: after ``RETRANSMIT_BASE`` without a response the request goes out again, each
  wait ``RETRANSMIT_FACTOR`` times the last; after ``RETRANSMIT_TRIES`` retransmissions and one
  more wait the peer counts as lost.
- *half-open*: a responder forgets an IKE SA that is not authenticated within
  ``HALF_OPEN_TIMEOUT``.
- *command*: an answer from outside (SPI, key, kernel) must come within ``COMMAND_TIMEOUT``
  (``PPK_TIMEOUT`` for a key), or it counts as failed.
- *liveness*: no protected message from the peer for ``LIVENESS_INTERVAL``: an empty
  INFORMATIONAL asks whether it still lives.
- *follow-up*: a responder forgets a CREATE_CHILD_SA whose IKE_FOLLOWUP_KE does not arrive
  within ``FOLLOWUP_TIMEOUT``.
- *keepalive*: behind a NAT ourselves, and nothing sent to the peer for
  ``NAT_KEEPALIVE_INTERVAL``: one octet keeps the NAT's mapping.
- *linger*: the inbound half of a replaced Child SA stays ``LINGER`` for packets in flight.
"""

from __future__ import annotations

from typing import Final

# --- retransmission (RFC 7296 2.4: "at least a dozen times over a period of at least several
# minutes" is a suggestion for hosts; a gateway pair wants to know sooner) ---------------------
RETRANSMIT_BASE: Final = 1.0  # ours; strongSwan 4.0
RETRANSMIT_FACTOR: Final = 1.8  # strongSwan's retransmit_base
RETRANSMIT_TRIES: Final = 6  # ours: gives up after 75 s with the two values above
CLOSE_TRIES: Final = 3  # ours: an operator's "terminate" does not wait a minute

# --- lifetimes of half-done things ------------------------------------------------------------
HALF_OPEN_TIMEOUT: Final = 30.0  # strongSwan half_open_timeout
COMMAND_TIMEOUT: Final = 5.0  # ours: netlink answers in milliseconds
PPK_TIMEOUT: Final = 10.0  # ours: below the initiator's retransmission budget
FOLLOWUP_TIMEOUT: Final = 30.0  # RFC 9370 2.2.4: "a reasonable time"; XFRM keeps a reservation 30 s
LIVENESS_INTERVAL: Final = 30.0  # RFC 7296 2.4 leaves it open; strongSwan dpd_delay default 30
NAT_KEEPALIVE_INTERVAL: Final = 20.0  # RFC 3948 4: default 20 seconds
LINGER: Final = 5.0  # strongSwan delete_rekeyed_delay
REPLACE_RETRY: Final = 1.0  # ours: an IKE SA that goes waits for what is under way in it
MOVE_TRIES: Final = 3  # ours: then an IKE SA goes though a tunnel found no place in the other
REPLACED_GRACE: Final = 30.0  # ours: for the peer to delete what it replaced; strongSwan 90
IKE_REKEY_SHARE: Final = 0.9  # of the lifetime: then rekey, or up to IKE_REKEY_JITTER of it earlier
IKE_REKEY_JITTER: Final = 0.1  # ours; strongSwan's rand_time is as large as over_time: 10 %
IKE_REKEY_RETRY: Final = 60.0  # ours: between attempts to rekey an IKE SA, at most
IKE_REKEY_RETRY_SHARE: Final = 0.01  # ours: of the lifetime, where that is less
IKE_REKEY_RETRY_JITTER: Final = 0.5  # ours: up to this share earlier
IKE_REPLACE_SHARE: Final = 0.95  # ours: of the lifetime, then a new IKE SA instead of a rekey
ANSWERED_MEMORY: Final = 30.0  # ours: a closed IKE SA still repeats its last answer
INIT_ERROR_GRACE: Final = 3.0  # ours: how long a better answer may follow an unprotected error

# --- IKE_SA_INIT under load (RFC 7296 2.6) ----------------------------------------------------
COOKIE_THRESHOLD: Final = 10  # half-open IKE SAs; strongSwan cookie_threshold default 30
COOKIE_SECRET_LIFETIME: Final = 60.0  # ours; the previous secret is accepted as long again
COOKIE_SIZE_MAX: Final = 64  # RFC 7296 2.6
COOKIE_THRESHOLD_PER_SOURCE: Final = 3  # strongSwan cookie_threshold_ip
HALF_OPEN_MAX: Final = 256  # ours
HALF_OPEN_PER_SOURCE_MAX: Final = 5  # strongSwan block_threshold
ENDED_MAX: Final = 64  # ours: closed IKE SAs kept for ANSWERED_MEMORY
COOKIE_ROUNDS_MAX: Final = 3  # RFC 7296 2.6: limit the number of cookie exchanges
KE_ROUNDS_MAX: Final = 2  # RFC 7296 2.7: once is normal, more smells of an attack
UNPROTECTED_REPLIES_PER_SECOND: Final = 10.0  # RFC 7296 1.5: "rate limited"
UNPROTECTED_REPLIES_BURST: Final = 20.0  # ours

HINT_INTERVAL: Final = 10.0  # ours: RFC 7296 2.4, liveness checks because of unprotected hints
DOWNGRADE_EPISODE: Final = 600.0  # ours: without another sign the suspicion ends
STRANGER_FAILURES_PER_SECOND: Final = 0.2  # ours: reports of one tunnel; the rest is counted
STRANGER_FAILURES_BURST: Final = 10.0  # ours

# --- PPK fetches on behalf of a peer that is not authenticated yet ----------------------------
PPK_FETCHES_PENDING_PER_SOURCE: Final = 2  # ours
PPK_FETCHES_PENDING_PER_CONNECTION: Final = 4  # ours
PPK_FETCHES_PER_SECOND: Final = 0.5  # ours: for one tunnel; each takes a key for good
PPK_FETCHES_BURST: Final = 16.0  # ours
PPK_FETCHES_PER_EXCHANGE: Final = 2  # ours: each fetch takes a key from the KME for good
PPK_OFFERS_READ_MAX: Final = 8  # ours

# --- what a peer that is not authenticated yet may have us read -------------------------------
CERTIFICATES_MAX: Final = 8  # ours: in one message; two is usual
CERTIFICATE_OCTETS_MAX: Final = 49152  # ours, together; four with ML-DSA-87 are 31 KB
CERTIFICATE_REQUESTS_MAX: Final = 32  # ours: authorities we name; 20 octets each

# --- what one authentic peer may hold at once -------------------------------------------------
PEER_REQUESTS_PER_SECOND: Final = 20.0  # ours: in one IKE SA; beyond that they wait
PEER_REQUESTS_BURST: Final = 100.0  # ours
CHILD_REQUESTS_PER_SECOND: Final = 2.0  # ours: CREATE_CHILD_SA; beyond that TEMPORARY_FAILURE
CHILD_REQUESTS_BURST: Final = 40.0  # ours: every Child SA of a large IKE SA rekeyed at once
IKE_SAS_PER_PEER_MAX: Final = 8  # ours: one, two while one replaces another, and to spare
CHILDREN_PER_TUNNEL_MAX: Final = 4  # ours, in one IKE SA: one, three in a collision of rekeys
DELETED_EARLY_MAX: Final = 16  # ours: SPIs of Child SAs deleted before they are here
LINGERING_MAX: Final = 16  # ours: inbound SAs of one tunnel kept for packets in flight
SELECTED_NETWORKS_MAX: Final = 32  # ours, or as many as configured: they multiply to policies

# --- messages ---------------------------------------------------------------------------------
NONCE_SIZE: Final = 32  # RFC 7296 2.10: >= 16 and at least half the PRF's key size (64)
NONCE_SIZE_MIN: Final = 16  # RFC 7296 3.9
NONCE_SIZE_MAX: Final = 256
REASSEMBLY_PER_SOURCE_MAX: Final = 1 << 20  # ours: fragments kept for peers at one address
REASSEMBLY_MAX: Final = 8 << 20  # ours: and in all
FRAGMENT_SIZE: Final = 1280  # IP datagram, IPv6 minimum MTU; RFC 7383 2.5.1, strongSwan default
FRAGMENT_SIZE_MIN_IPV4: Final = 576  # RFC 7383 2.5.1, for a path of unknown MTU
FRAGMENT_SIZE_MIN_IPV6: Final = 1280  # the same: every IPv6 path takes that
FRAGMENT_SIZE_MAX: Final = 1500  # ours: Ethernet; IP would cut what is larger (RFC 7383 1)
REFRAGMENT_AFTER: Final = 2  # ours: repetitions before a message is cut smaller (RFC 7383 2.5.2)
LINK_SIZE: Final = 8  # RFC 9370 leaves it to the responder; libreswan 8
MESSAGE_ID_MAX: Final = 0xFFFFFFFF  # RFC 7296 2.2: close the IKE SA before it wraps
IKE_SPI_SIZE: Final = 8  # RFC 7296 3.1
ESP_SPI_SIZE: Final = 4  # RFC 7296 3.3.1
PPK_CONFIRMATION_SIZE: Final = 8  # RFC 9867 3.1

# --- ports ------------------------------------------------------------------------------------
IKE_PORT: Final = 500  # RFC 7296 2
NAT_PORT: Final = 4500  # RFC 7296 2.23
