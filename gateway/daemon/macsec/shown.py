"""What protects a link now: from the SA that sends in the kernel, and what its CAK was made of."""

from __future__ import annotations

from gateway.daemon.macsec.caks import Caks, Origin
from gateway.dataplane.macsec_port import SecySaState, SecyState
from gateway.mka.views import PortFacts, SakFacts
from gateway.model import PortState, Protection
from gateway.protection.machine import TunnelProtection

Shown = tuple[Protection, str]

EARLIER_RUN = "SAs of an earlier run carry traffic meanwhile"


def sending(state: SecyState | None) -> SecySaState | None:
    """The SA that frames leave with, read back; None where they do not leave protected."""
    if state is None or state.port is not PortState.SECURED or not state.running:
        return None
    found = next((sa for sa in state.transmit if sa.an == state.encoding_an), None)
    return found if found is not None and found.active else None


def sak_in_kernel(facts: PortFacts, state: SecyState | None) -> SakFacts | None:
    """The SAK that sends. While another takes its place the kernel is a step ahead of the core."""
    sa = sending(state)
    if sa is None or facts.port is not PortState.SECURED:
        return None
    return next((sak for sak in facts.saks if (sak.an, sak.ki.encode()) == (sa.an, sa.ki)), None)


def shown(
    facts: PortFacts | None,
    state: SecyState | None,
    caks: Caks,
    policy: TunnelProtection | None,
    *,
    trouble: str | None,
) -> Shown:
    """``policy``: of the connection; None with a static CAK. ``trouble``: why there is no SAK."""
    sak = None if facts is None else sak_in_kernel(facts, state)
    if sak is not None:
        origin = caks.origin_of(sak.ki, sak.ckn)
        if origin is None:
            return Protection.DOWN, EARLIER_RUN
        return origin.protection, _why(origin, policy)
    if policy is not None and policy.protection is Protection.BLOCKED:
        return Protection.BLOCKED, policy.reason
    if facts is not None and facts.port is PortState.CLEAR:
        return Protection.DOWN, f"traffic passes unprotected: {trouble or _nobody(facts, policy)}"
    return Protection.DOWN, trouble or _nobody(facts, policy)


def _why(origin: Origin, policy: TunnelProtection | None) -> str:
    if policy is None:
        return "the CAK was agreed by hand"
    if policy.protection is origin.protection:
        return policy.reason
    parts = [*origin.mixed.key_exchanges, *(["QKD"] if origin.mixed.key_id else [])]
    return f"the CAK in use has {' + '.join(parts)}"


def _nobody(facts: PortFacts | None, policy: TunnelProtection | None) -> str:
    if facts is None:
        return "starting"
    if not facts.participants:
        return "no CAK" if policy is None else f"no CAK yet: {policy.reason}"
    if any(peer.live for item in facts.participants for peer in item.peers):
        return "no SAK in use yet"
    return "no live peer on the link"
