"""MACsec links as people read them: protection first, then what makes it so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.control.text import (
    PROTECTION_COLOURS,
    Style,
    ago,
    between,
    clean,
    duration,
    mixed,
    plural,
    rekeying,
    row,
    short_key_id,
    size,
)

Json = dict[str, Any]

CKN_SHOWN = 16  # hexadecimal digits; a longer CKN is shown by its first eight

_DROPPED = {  # by counter (802.1AE 10.7.9)
    "in_bad_tag": "with a bad tag",
    "in_no_sci": "of nobody known",
    "in_not_using_sa": "without an SA",
    "in_not_valid": "with a wrong ICV",
    "in_late": "late or replayed",
    "in_overrun": "for want of time",
}
_UNTAGGED = {"in_no_tag": "not taken in, MKA's own among them"}  # Linux counts EAPOL too
_TAKEN = {
    "in_unknown_sci": "of nobody known",
    "in_unused_sa": "without an SA",
    "in_invalid": "with a wrong ICV",
    "in_delayed": "late",
    "in_unchecked": "unchecked",
}


def status(link: Json, now: str, style: Style) -> Iterator[str]:
    """``qsgw status``: one link in a few lines."""
    yield _headline(link, now, style)
    yield _device(link, style)
    for cak in link["caks"]:
        if cak["principal"]:
            yield row("cak", f"{_made_of(cak)}, {_short_ckn(cak['ckn'])}")
            yield row("", f"{_cak_times(link, cak, now)}{_origin(link)}")
    for sak in link["saks"]:
        if sak["transmits"]:
            yield row("sak", f"{_sak(sak)}{', we are key server' * link['we_are_key_server']}")
    yield row("peers", ", ".join(map(_peer, link["peers"])) or "none")
    yield from _traffic(link, style)
    yield from _frames("dropped", _DROPPED, link)
    if link["cak_rollovers"] or link["sak_rollovers"] or link["failures"]:
        yield _rollovers(link)
    yield from _error(link)


def sas(link: Json, now: str, style: Style) -> Iterator[str]:
    """``qsgw sas``: the secure associations of a link."""
    yield _headline(link, now, style)
    yield from _saks(link)


def detail(link: Json, now: str, style: Style) -> Iterator[str]:
    """``qsgw macsec``: all there is to know."""
    yield _headline(link, now, style)
    yield _device(link, style)
    yield row("link", f"called {clean(link['link'])}{_origin(link)}")
    if link["sci"]:
        yield row("sci", f"{clean(link['sci'])}, {_who_is_key_server(link)}")
    for cak in reversed(link["caks"]):
        use = "in use" if cak["principal"] else "not in use"
        yield row("cak", clean(cak["ckn"]))
        peers = plural(cak["live_peers"], "live peer")
        yield row("", f"{use}, {_cak_times(link, cak, now)}, {peers}")
        yield row("", _made_of(cak) + _key(cak))
    if not link["caks"]:
        yield row("cak", "none")
    for peer in link["peers"]:
        yield row("peer", f"{_peer(peer)}, priority {peer['priority']}")
        yield row("", f"member {clean(peer['mi'])}")
    if not link["peers"]:
        yield row("peer", "none")
    yield from _saks(link)
    yield from _traffic(link, style)
    yield from _frames("dropped", _DROPPED, link)
    yield from _frames("no tag", _UNTAGGED, link)
    yield from _frames("taken", _TAKEN, link)
    if link["drops"]:
        counts = (f"{count} {clean(reason)}" for reason, count in sorted(link["drops"].items()))
        yield row("eapol", f"dropped: {', '.join(counts)}")
    yield _rollovers(link)
    yield from _error(link)


# --- lines -----------------------------------------------------------------------------------


def _headline(link: Json, now: str, style: Style) -> str:
    protection = link["protection"]
    since = duration(between(link["since"], now))
    reason = f" ({clean(link['reason'])})" if link["reason"] else ""
    painted = style.paint(f"{protection:<9}", *PROTECTION_COLOURS[protection])
    wants = "" if link["connection"] is None else f", qkd {link['qkd']}"
    return f"{painted} {clean(link['name'])}: for {since}{reason}{wants}"


def _device(link: Json, style: Style) -> str:
    device = f"{clean(link['device'])} on {clean(link['interface'])}"
    if link["counters"] is None:
        return row("device", style.paint(f"{device} IS NOT THERE", "red", "bold"))
    mtu = "" if link["mtu"] is None else f", mtu {link['mtu']}"
    port = style.paint("IN THE CLEAR", "red", "bold") if link["port"] == "clear" else link["port"]
    return row("device", f"{device}{mtu}, {link['security']}: {port}")


def _made_of(cak: Json) -> str:
    made = mixed(cak["key_exchanges"], cak["key_id"])
    return f"{cak['protection']}: {made or 'agreed by hand'}"


def _key(cak: Json) -> str:
    if cak["key_id"] is None:
        return ", no QKD key mixed"
    return f", QKD key {short_key_id(cak['key_id'])} by {clean(cak['ppk_method'])}"


def _cak_times(link: Json, cak: Json, now: str) -> str:
    newest = cak is link["caks"][-1]
    return f"made {ago(cak['since'], now)}{rekeying(link['cak_at'], now) if newest else ''}"


def _origin(link: Json) -> str:
    connection = link["connection"]
    return "" if connection is None else f", keyed by connection {clean(connection)}"


def _short_ckn(ckn: str) -> str:
    """A CKN as people compare it; the ones agreed by hand are short."""
    return f"CKN {clean(ckn) if len(ckn) <= CKN_SHOWN else f'{clean(ckn)[:8]}…'}"


def _sak(sak: Json) -> str:
    encrypted = "encrypted" if sak["encrypted"] else "INTEGRITY ONLY"
    kernel = "in the kernel" if sak["in_kernel"] else "NOT IN THE KERNEL"
    suite = clean(sak["suite"])
    return f"{suite}, {encrypted}, AN {sak['an']} KN {sak['kn']}, {kernel}"


def _saks(link: Json) -> Iterator[str]:
    for sak in link["saks"]:
        use = "carries traffic" if sak["transmits"] else "receives only"
        yield row("sak", _sak(sak))
        under = f"under {_short_ckn(sak['ckn'])}" if sak["ckn"] else "from before a restart"
        yield row("", f"{use}, {under}, next PN {sak['next_pn']}")
        yield row("", f"KI {clean(sak['ki'])}")
    if not link["saks"]:
        yield row("sak", "none")


def _who_is_key_server(link: Json) -> str:
    if link["we_are_key_server"]:
        return "we are key server"
    server = next((peer["sci"] for peer in link["peers"] if peer["key_server"]), None)
    return "no key server" if server is None else f"key server {clean(server)}"


def _peer(peer: Json) -> str:
    server = ", key server" if peer["key_server"] else ""
    return f"{clean(peer['sci'])} {'live' if peer['live'] else 'not live yet'}{server}"


def _traffic(link: Json, style: Style) -> Iterator[str]:
    counters = link["counters"]
    if counters is None:
        return
    yield row(
        "traffic",
        f"in {size(counters['in_octets'])}, {plural(counters['in_ok'], 'packet')}; "
        f"out {size(counters['out_octets'])}, {plural(counters['out_packets'], 'packet')}",
    )
    clear = [f"{counters['out_untagged']} out"] * bool(counters["out_untagged"])
    clear += [f"{counters['in_untagged']} in"] * bool(counters["in_untagged"])
    if clear:
        yield row("clear", style.paint(f"{', '.join(clear)}: UNPROTECTED", "red", "bold"))


def _frames(label: str, words: dict[str, str], link: Json) -> Iterator[str]:
    counters = link["counters"] or {}
    found = [f"{counters[key]} {text}" for key, text in words.items() if counters.get(key)]
    if found:
        yield row(label, ", ".join(found))


def _rollovers(link: Json) -> str:
    return row(
        "rekeys",
        f"{plural(link['cak_rollovers'], 'CAK')} ({link['cak_rollovers_hybrid']} HYBRID, "
        f"{link['cak_rollovers_pqc_only']} PQC_ONLY), {plural(link['sak_rollovers'], 'SAK')}, "
        f"{plural(link['failures'], 'failure')}",
    )


def _error(link: Json) -> Iterator[str]:
    if link["last_error"] and link["protection"] != "HYBRID":
        yield row("error", clean(link["last_error"]))
