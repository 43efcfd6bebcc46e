"""Has somebody on the way taken an offer out of IKE_SA_INIT?

AUTH covers both messages, so what was stripped never leads to a weaker tunnel: none comes up.
From outside that looks like any other failure. What tells them apart is what a peer lacks now
and had in the last IKE SA that was authenticated, or what our policy cannot do without. An
attempt that lacks such a thing and fails is reported, once per episode.

A peer that really has changed proves so by its AUTH, and from then on is known as it is now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.ike.config import Connection
from gateway.ike.deadlines import Deadlines
from gateway.ike.events import DowngradeSuspected, DowngradeSuspicionOver
from gateway.ike.limits import DOWNGRADE_EPISODE
from gateway.ike.outbox import Outbox
from gateway.ike.payloads import SaPayload, VendorIdPayload
from gateway.ike.received import Received
from gateway.ike.registry import (
    ADDITIONAL_KE_TYPES,
    EncryptionId,
    NotifyType,
    PrfId,
    TransformType,
    ke_name,
)
from gateway.ike.transforms import Transform
from gateway.model import PQ_PREFIXES, Role

Offers = frozenset[str]
"""What one IKE_SA_INIT message offers or agrees to, by name."""

# USE_PPK is missing on purpose: who holds no QKD key at the moment does not send it.
_NOTIFIES: Final = (
    NotifyType.IKEV2_FRAGMENTATION_SUPPORTED,
    NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED,
    NotifyType.USE_PPK_INT,
    NotifyType.SIGNATURE_HASH_ALGORITHMS,
    NotifyType.NAT_DETECTION_SOURCE_IP,
    NotifyType.NAT_DETECTION_DESTINATION_IP,
)
_ALGORITHMS: Final[dict[int, dict[int, str]]] = {
    TransformType.ENCR: {one.value: one.name for one in EncryptionId},
    TransformType.PRF: {one.value: one.name for one in PrfId},
}
_KE_TYPES: Final = {TransformType.KE, *ADDITIONAL_KE_TYPES}


def offers_in(received: Received, vendor_id: bytes) -> Offers:
    """The names of everything in this message whose loss would make us weaker."""
    found = {kind.name for kind in _NOTIFIES if received.has(kind)}
    if any(payload.data == vendor_id for payload in received.all(VendorIdPayload)):
        found.add("Vendor ID")
    transforms = (
        transform
        for payload in received.all(SaPayload)
        for proposal in payload.proposals
        for transform in proposal.transforms
    )
    return frozenset(found | {name for one in transforms if (name := _name(one))})


def _name(transform: Transform) -> str:
    bits = "" if transform.key_length is None else f"-{transform.key_length}"
    if transform.type in _KE_TYPES:
        return ke_name(transform.id) if transform.id else ""
    names = _ALGORITHMS.get(transform.type, {})
    return names[transform.id] + bits if transform.id in names else ""


def _wanted_by_policy(connection: Connection, found: Offers) -> set[str]:
    """What no peer of ours may be without, and is not there.

    A QKD key is not among it: a peer without QKD is told as such, by the policy's own alarms.
    """
    if connection.allow_classical or any(one.startswith(PQ_PREFIXES) for one in found):
        return set()
    return {"ML-KEM"}


class DowngradeWatch:
    """Of one connection."""

    def __init__(self, connection: str, outbox: Outbox, deadlines: Deadlines) -> None:
        self._connection = connection
        self._outbox = outbox
        self._deadlines = deadlines
        self._proved: dict[Role, Offers] = {}  # by our role: requests and responses differ
        self._told: frozenset[str] = frozenset()  # in the episode that runs

    def missing(self, connection: Connection, role: Role, found: Offers) -> tuple[str, ...]:
        """What the peer's message lacks. No proof of anything yet: see ``failed``."""
        lacks = self._proved.get(role, frozenset()) - found
        return tuple(sorted(lacks | _wanted_by_policy(connection, found)))

    def proved(self, role: Role, found: Offers) -> None:
        """AUTH was good, and it covers what the peer sent: this is what the peer is."""
        if not found:  # an IKE SA that did not begin with IKE_SA_INIT
            return
        self._proved[role] = found
        self._over(0.0)

    def failed(self, missing: Iterable[str], now: float) -> None:
        """An attempt that lacked these came to nothing."""
        lacks = frozenset(missing)
        if not lacks:
            return
        self._deadlines.set((self, "over"), now + DOWNGRADE_EPISODE, self._over)
        if not lacks <= self._told:
            self._told |= lacks
            self._outbox.events.append(
                DowngradeSuspected(connection=self._connection, missing=tuple(sorted(self._told)))
            )

    def _over(self, _now: float) -> None:
        self._deadlines.cancel((self, "over"))
        if self._told:
            self._told = frozenset()
            self._outbox.events.append(DowngradeSuspicionOver(connection=self._connection))
