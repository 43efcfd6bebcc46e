"""Error notifies in the operator's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.ike.config import ChildConfig
from gateway.ike.flow import ExchangeError
from gateway.ike.payloads import NotifyPayload
from gateway.ike.proposals import ProposalSpec
from gateway.ike.received import Received
from gateway.ike.registry import NotifyType, notify_name
from gateway.model import IpNetwork


def networks_text(networks: Iterable[IpNetwork]) -> str:
    return ", ".join(str(network) for network in networks)


def traffic_text(child: ChildConfig) -> str:
    """E.g. "10.1.0.0/24 -> 10.2.0.0/24"."""
    ours = networks_text(child.local_networks)
    return f"{ours} -> {networks_text(child.remote_networks)}"


def proposals_text(specs: Sequence[ProposalSpec]) -> str:
    return ", ".join(str(spec) for spec in specs)


def refusal(
    notify: NotifyPayload, specs: Sequence[ProposalSpec], child: ChildConfig | None = None
) -> str:
    """What a peer's error notify means here. ``specs``: what we had proposed, for ``child``."""
    match notify.type:
        case NotifyType.NO_PROPOSAL_CHOSEN:
            return (
                f"no proposal in common: peer refused {proposals_text(specs)} (NO_PROPOSAL_CHOSEN)"
            )
        case NotifyType.TS_UNACCEPTABLE:
            ours = "" if child is None else f": ours {traffic_text(child)}"
            return f"peer refused our traffic selectors (TS_UNACCEPTABLE){ours}"
        case NotifyType.AUTHENTICATION_FAILED:
            return (
                "peer refused our authentication (AUTHENTICATION_FAILED): wrong pre-shared key, "
                "certificate or identity, or it insists on a QKD key"
            )
        case NotifyType.TEMPORARY_FAILURE:
            return "peer cannot do this now (TEMPORARY_FAILURE)"
        case NotifyType.NO_ADDITIONAL_SAS:
            return "peer takes no more Child SAs (NO_ADDITIONAL_SAS)"
        case NotifyType.CHILD_SA_NOT_FOUND:
            return "peer does not know the Child SA (CHILD_SA_NOT_FOUND)"
        case NotifyType.STATE_NOT_FOUND:
            return "peer has forgotten the exchange half-way (STATE_NOT_FOUND)"
        case NotifyType.INVALID_SYNTAX:
            return "peer could not make sense of our message (INVALID_SYNTAX)"
        case _:
            return f"peer answered {notify_name(notify.type)}"


def raise_on_error(
    received: Received, specs: Sequence[ProposalSpec], child: ChildConfig | None = None
) -> None:
    """ExchangeError where a response carries an error notify."""
    notify = received.error()
    if notify is not None:
        raise ExchangeError(
            refusal(notify, specs, child), notify=notify_name(notify.type), from_peer=True
        )
