"""Setting up an IKE SA with its first child, as initiator: the initial exchanges in order.

IKE_SA_INIT, IKE_INTERMEDIATE as often as agreed, IKE_AUTH, one INFORMATIONAL
"""

from __future__ import annotations

from gateway.ike.config import PpkMode
from gateway.ike.flow import ExchangeError, Flow
from gateway.ike.flows import ike_auth, intermediate, sa_init
from gateway.ike.ppk import HeldPpk
from gateway.ike.sa import IkeSa


def establish(sa: IkeSa, ppk: HeldPpk | None) -> Flow[None]:
    """``ppk`` is settled when this ends, one way or the other."""
    try:
        yield from sa_init.initiate(sa, offer_ppk=ppk is not None)
        if sa.tunnel is None and not sa.peer.childless:  # before the peer fetches a QKD key
            reason = "peer makes no IKE SA without a Child SA (RFC 6023)"
            raise ExchangeError(reason, from_peer=True)
        if ppk is not None and not (sa.peer.ppk_intermediate or sa.peer.ppk_auth):
            _no_ppk_support(sa, ppk)
            ppk = None
        yield from intermediate.initiate(sa, ppk)
        yield from ike_auth.initiate(sa, ppk if sa.peer.ppk_auth else None)
    finally:
        if ppk is not None:
            ppk.settle(used=False, reason="the IKE SA did not come up")


def _no_ppk_support(sa: IkeSa, ppk: HeldPpk) -> None:
    reason = "peer cannot use QKD keys: it agreed to neither USE_PPK_INT nor USE_PPK"
    ppk.settle(used=False, reason=reason)
    if sa.policy.mode is PpkMode.REQUIRE:
        raise ExchangeError(f"{reason}, and policy requires one", ppk_missing=True)
    sa.ppk_not_used(sa.policy, ppk.key_id, reason)
