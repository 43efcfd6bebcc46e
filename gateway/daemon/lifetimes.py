"""How much one ESP SA may carry: the limits the kernel holds, soft and hard.

At the soft limit the kernel tells, and the policy rekeys; at the hard one, twice that, it
removes the SA: traffic is then dropped until there is another. Both SAs of a child get the same
limits, so each end sees both directions.

Which end rekeys: the initiator's soft limit lies up to ``SPREAD`` below the configured one,
drawn for each SA (strongSwan does the same at both ends with rand_bytes and rand_packets), the
responder's is the configured one. So the initiator comes first, two tunnels that began together
drift apart, and the responder still rekeys where the initiator does not.

Where the default of ``rekey_bytes`` comes from: what an attacker gains on AES-GCM grows with
the square of the blocks under one key, s^2 / 2^129; 2^36 blocks of 16 octets, 1 TiB, keep it
below 2^-57, the bound that RFC 8446 5.5 and RFC 9001 B.1 take for AES-GCM. That is our hard
limit, half of it the soft one. Nonces set no lower limit: ESP's are counters (RFC 4106 3.1), and
the 2^32 invocations of NIST SP 800-38D 8.3 are for nonces that are not.

Packets: without ESN the sequence number ends at 2^32 - 1 and must not come round (RFC 4303
3.3.3). The kernel sends nothing after it; ``rekey_packets`` is there to be long done by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.model import SaLifetime

SPREAD: Final = 0.1  # strongSwan: rand_bytes is by default life_bytes - rekey_bytes, 10 %
HARD_FACTOR: Final = 2  # ours
SEQUENCE_NUMBERS: Final = 2**32 - 1  # RFC 4303 3.3.3, without ESN
SEQUENCE_REKEY: Final = 2**31  # ours: half of them


@dataclass(frozen=True, slots=True, kw_only=True)
class SaLimits:
    """What the configuration says about one tunnel's SAs. None = unlimited."""

    octets: int | None
    packets: int | None
    seconds: int  # the kernel's own end of an SA
    early: bool  # we are the end that is to rekey first

    def draw(self, *, esn: bool, random: Callable[[], float]) -> SaLifetime:
        """The limits of one child's SAs. ``random`` gives 0 <= x < 1."""
        share = 1.0 - SPREAD * random() if self.early else 1.0
        packets, most = self.packets, None
        if not esn:
            packets = min(packets or SEQUENCE_REKEY, SEQUENCE_REKEY)
            most = SEQUENCE_NUMBERS
        return SaLifetime(
            soft_bytes=_soft(self.octets, share),
            hard_bytes=_hard(self.octets, None),
            soft_packets=_soft(packets, share),
            hard_packets=_hard(packets, most),
            hard_seconds=self.seconds,
        )


def _soft(limit: int | None, share: float) -> int | None:
    return None if limit is None else int(limit * share)


def _hard(limit: int | None, most: int | None) -> int | None:
    if limit is None:
        return most
    return limit * HARD_FACTOR if most is None else min(limit * HARD_FACTOR, most)
