"""The same SAs as our status, the peer's and both kernels tell of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from netns_lab.macsec_evidence import KernelSecy, ki_octets, sending
from netns_lab.peers.mka import MkaFacts

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Both ends at one moment."""

    view: Json  # our status
    ours: KernelSecy
    theirs: KernelSecy  # key identifiers as on the wire
    facts: MkaFacts  # the peer's status

    @property
    def ki(self) -> str:
        """What we say we send with: MI.KN; "" for none."""
        sak = sending(self.view)
        return str(sak["ki"]) if sak else ""


def as_on_the_wire(secy: KernelSecy, key_id: Callable[[str], str]) -> KernelSecy:
    """With key identifiers as MKA has them, whatever the peer gave to its kernel."""
    return replace(
        secy,
        transmit={an: key_id(ki) for an, ki in secy.transmit.items()},
        receive={place: key_id(ki) for place, ki in secy.receive.items()},
    )


def trouble(seen: Sighting, *, we_serve: bool) -> str:
    """What does not fit; "" if all of it does."""
    view, ours, theirs = seen.view, seen.ours, seen.theirs
    sak = sending(view)
    if sak is None or view["port"] != "secured":
        return f"we send with no SAK: {view['protection']}, {view['reason']}"
    if not sak["in_kernel"]:
        return "we did not read our SAK back"
    if view["protection"] != "CLASSICAL":  # a CAK that is agreed by hand
        return f"protection is {view['protection']}"
    if (view["we_are_key_server"], seen.facts.is_key_server) != (we_serve, not we_serve):
        return f"key server: we say {view['we_are_key_server']}, the peer {seen.facts}"
    server = ours.sci if we_serve else theirs.sci
    if (seen.facts.key_server, seen.facts.secured, seen.facts.live_peers) != (server, True, 1):
        return f"the peer says {seen.facts}"
    return _kernels(sak, ours, theirs)


def _kernels(sak: Json, ours: KernelSecy, theirs: KernelSecy) -> str:
    """One SAK of one AN in both, each receiving what the other sends."""
    wanted = {sak["an"]: ki_octets(sak["ki"])}
    for who, secy, other in (("our", ours, theirs), ("the peer's", theirs, ours)):
        if not secy.strict or secy.encrypts != sak["encrypted"]:
            return f"{who} kernel does not protect as it should"
        if secy.suite != sak["suite"]:
            return f"we say {sak['suite']}, {who} kernel {secy.suite}"
        if secy.sending != sak["an"] or secy.transmit != wanted:
            return f"{who} kernel sends with {secy.transmit} AN {secy.sending}, not {wanted}"
        if secy.receive != {(other.sci, an): ki for an, ki in wanted.items()}:
            return f"{who} kernel receives {secy.receive}, not {wanted} of {other.sci}"
    return ""
