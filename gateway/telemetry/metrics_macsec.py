"""Metrics of MACsec links. No SCI, MI or CKN is a label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from gateway.model import MacsecCounters, MacsecView, PortState, Protection
from gateway.telemetry.families import counter, gauge, seconds

DROPPED: Final = {  # reason by counter (802.1AE 10.7.9)
    "in_no_tag": "no-tag",
    "in_bad_tag": "bad-tag",
    "in_no_sci": "no-sci",
    "in_not_using_sa": "not-using-sa",
    "in_not_valid": "not-valid",
    "in_late": "late",
    "in_overrun": "overrun",
}


def links(views: tuple[MacsecView, ...], now: str) -> Iterator[Metric]:
    yield from _state(views, now)
    yield from _keys(views, now)
    yield from _traffic(views)


def _state(views: tuple[MacsecView, ...], now: str) -> Iterator[Metric]:
    protection = gauge(
        "macsec_protection", "1 for what protects the link now.", "link", "protection"
    )
    since = gauge("macsec_protection_age_seconds", "How long it has been so.", "link")
    port = gauge("macsec_port", "1 for what the controlled port lets pass.", "link", "state")
    peers = gauge("macsec_peers", "Live members under the CAK in use.", "link")
    server = gauge("macsec_key_server", "1 while we are key server.", "link")
    for view in views:
        for kind in Protection:
            protection.add_metric((view.name, kind.value), int(view.protection is kind))
        since.add_metric((view.name,), seconds(now) - seconds(view.since))
        for state in PortState:
            port.add_metric((view.name, state.value), int(view.port is state))
        peers.add_metric((view.name,), sum(peer.live for peer in view.peers))
        server.add_metric((view.name,), int(view.we_are_key_server))
    yield from (protection, since, port, peers, server)


def _keys(views: tuple[MacsecView, ...], now: str) -> Iterator[Metric]:
    caks = gauge("macsec_caks", "CAKs of the link.", "link")
    age = gauge("macsec_cak_age_seconds", "Age of the CAK in use.", "link")
    saks = gauge("macsec_saks", "SAKs whose SAs are in the kernel.", "link")
    cak_rollovers = counter(
        "macsec_cak_rollovers", "CAKs that took another one's place.", "link", "protection"
    )
    sak_rollovers = counter("macsec_sak_rollovers", "SAKs that took another one's place.", "link")
    failures = counter("macsec_failures", "CAKs and SAKs that came to nothing.", "link")
    for view in views:
        caks.add_metric((view.name,), len(view.caks))
        for cak in view.caks:
            if cak.principal:
                age.add_metric((view.name,), seconds(now) - seconds(cak.since))
        saks.add_metric((view.name,), sum(sak.in_kernel for sak in view.saks))
        others = view.cak_rollovers - view.cak_rollovers_hybrid - view.cak_rollovers_pqc_only
        for kind, count in (
            (Protection.HYBRID, view.cak_rollovers_hybrid),
            (Protection.PQC_ONLY, view.cak_rollovers_pqc_only),
            (Protection.CLASSICAL, others),
        ):
            cak_rollovers.add_metric((view.name, kind.value), count)
        sak_rollovers.add_metric((view.name,), view.sak_rollovers)
        failures.add_metric((view.name,), view.failures)
    yield from (caks, age, saks, cak_rollovers, sak_rollovers, failures)


def _traffic(views: tuple[MacsecView, ...]) -> Iterator[Metric]:
    packets = counter("macsec_packets", "Protected packets.", "link", "direction")
    octets = counter("macsec_bytes", "Octets in them.", "link", "direction")
    clear = counter("macsec_clear_packets", "Packets without protection.", "link", "direction")
    dropped = counter("macsec_dropped_packets", "Packets not taken in.", "link", "reason")
    eapol = counter("macsec_eapol_dropped", "EAPOL frames without effect.", "link", "reason")
    for view in views:
        for reason, count in view.drops.items():
            eapol.add_metric((view.name, reason), count)
        seen: MacsecCounters | None = view.counters
        if seen is None:
            continue
        for direction, ok, size, untagged in (
            ("in", seen.in_ok, seen.in_octets, seen.in_untagged),
            ("out", seen.out_packets, seen.out_octets, seen.out_untagged),
        ):
            packets.add_metric((view.name, direction), ok)
            octets.add_metric((view.name, direction), size)
            clear.add_metric((view.name, direction), untagged)
        for member, reason in DROPPED.items():
            dropped.add_metric((view.name, reason), getattr(seen, member))
    yield from (packets, octets, clear, dropped, eapol)
