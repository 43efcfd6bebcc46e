"""Compares a device as it is with what the MKA core and the configuration want of it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dataplane.macsec_port import (
    MACSEC_OVERHEAD,
    ParentState,
    SecySaState,
    SecySpec,
    SecyState,
)
from gateway.mka.identifiers import Sci
from gateway.mka.views import PortFacts
from gateway.model import PortState


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is to be done, from the worst on. Nothing: all is as it should be."""

    lost: str | None = None  # keys are gone that only another SAK replaces: why
    changed: str | None = None  # the device is not as it was made: what differs
    send_with: int | None = None  # somebody has another AN send
    set_port: PortState | None = None
    strays: tuple[SecySaState, ...] = ()  # SAs of no SAK there is: left over, or somebody's


def compare(
    facts: PortFacts,
    state: SecyState | None,
    *,
    sci: Sci,
    spec: SecySpec,
    parent: ParentState,
) -> Findings:
    """To be asked while the kernel has all that the core wants."""
    if state is None:
        return Findings(lost="the device is gone")
    if state.parent != parent.index or state.sci != sci:
        return Findings(lost="the device is another one")
    changed = _differs(state, spec, parent)
    lost = _lost_sa(facts, state)
    if lost is not None:
        return Findings(lost=lost)
    wrong_port = (facts.port is PortState.CLEAR) != (state.port is PortState.CLEAR)
    current = next((sak for sak in facts.saks if sak.transmits), None)
    strays = current is not None and state.encoding_an != current.an
    return Findings(
        changed=changed,
        send_with=current.an if current is not None and strays else None,
        set_port=facts.port if wrong_port else None,
        strays=_strays(facts, state),
    )


def complete(facts: PortFacts, state: SecyState, ki: bytes) -> bool:
    """Whether a SAK has its transmit SA and a receive SA of every live peer."""
    live = {
        peer.sci
        for item in facts.participants
        if item.principal
        for peer in item.peers
        if peer.live
    }
    sends = any(sa.ki == ki for sa in state.transmit)
    return sends and live <= {sa.sci for sa in state.receive if sa.ki == ki and sa.active}


def _differs(state: SecyState, spec: SecySpec, parent: ParentState) -> str | None:
    wanted_mtu = parent.mtu - MACSEC_OVERHEAD if spec.mtu is None else spec.mtu
    if not state.running:
        return "it is down"
    if state.mtu != wanted_mtu:
        return f"its MTU is {state.mtu}, not {wanted_mtu}"
    if state.filtered != spec.filtered:
        return f"the filter of {spec.parent} is {'there' if state.filtered else 'gone'}"
    if state.encrypt != spec.encrypt:
        return f"encryption is {'on' if state.encrypt else 'off'}"
    return None


def _strays(facts: PortFacts, state: SecyState) -> tuple[SecySaState, ...]:
    """None while SAs of an earlier run are in use: peers may send under more of them."""
    if any(not sak.ckn for sak in facts.saks):
        return ()
    known = {(sak.an, sak.ki.encode()) for sak in facts.saks}
    return tuple(sa for sa in (*state.transmit, *state.receive) if (sa.an, sa.ki) not in known)


def _lost_sa(facts: PortFacts, state: SecyState) -> str | None:
    """Of the SAK that sends; the one before it is on its way out."""
    sending = {(sa.an, sa.ki): sa.active for sa in state.transmit}
    hearing = {(sa.sci, sa.an, sa.ki) for sa in state.receive if sa.active}
    for sak in facts.saks:
        # One of another suite went when the device was made anew for its successor.
        if not sak.transmits or sak.suite is not state.suite:
            continue
        ki = sak.ki.encode()
        active = sending.get((sak.an, ki))
        if not active:
            return f"the transmit SA with AN {sak.an} is {'gone' if active is None else 'disabled'}"
        for sci in sak.receivers:
            if (sci, sak.an, ki) not in hearing:
                return f"the receive SA of {sci} with AN {sak.an} is gone"
    return None
