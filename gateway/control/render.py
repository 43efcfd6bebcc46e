"""A snapshot as people read it: warnings first, then one block per tunnel, protection first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.control import render_macsec
from gateway.control.text import (
    PROTECTION_COLOURS,
    Style,
    ago,
    between,
    clean,
    columns,
    duration,
    mixed,
    plural,
    rekeying,
    row,
    short_key_id,
    size,
)

Json = dict[str, Any]

_SEVERITY_COLOURS = {"info": (), "warning": ("yellow",), "critical": ("red", "bold")}


def render_status(snapshot: Json, style: Style) -> str:
    """``qsgw status``: alarms, one block per tunnel and MACsec link, the KMEs."""
    blocks = [_headline(snapshot)]
    alarms = list(_alarms(snapshot, style))
    if alarms:
        blocks.insert(0, "\n".join(alarms))
    now = snapshot["time"]
    blocks += ["\n".join(_tunnel(tunnel, now, style)) for tunnel in snapshot["tunnels"]]
    blocks += ["\n".join(render_macsec.status(link, now, style)) for link in links_of(snapshot)]
    if snapshot["kmes"]:
        blocks.append(_kmes(snapshot["kmes"]))
    return "\n\n".join(blocks)


def render_sas(snapshot: Json, style: Style) -> str:
    """``qsgw sas``: every IKE SA and its Child SAs, and the SAs of every MACsec link."""
    now = snapshot["time"]
    blocks = ["\n".join(_sas(tunnel, now, style)) for tunnel in snapshot["tunnels"]]
    blocks += ["\n".join(render_macsec.sas(link, now, style)) for link in links_of(snapshot)]
    return "\n\n".join(blocks) or "no tunnels"


def render_links(snapshot: Json, style: Style) -> str:
    """``qsgw macsec``: every link with CAKs, members, SAKs and counters."""
    blocks = [
        "\n".join(render_macsec.detail(link, snapshot["time"], style))
        for link in links_of(snapshot)
    ]
    return "\n\n".join(blocks) or "no MACsec links"


def links_of(snapshot: Json) -> list[Json]:
    """The MACsec links; a daemon of an earlier version has none."""
    return list(snapshot.get("macsec", ()))


def render_keys(snapshot: Json) -> str:
    """``qsgw keys``: QKD keys per tunnel, then the KMEs they come from."""
    header = ("TUNNEL", "PEER SAE", "READY", "AT KME", "KEYS/S", "USED", "BURNED", "REUSED")
    rows = []
    for tunnel in snapshot["tunnels"]:
        keys = tunnel["keys"]
        if keys is None:
            rows.append((clean(tunnel["name"]), "-", "-", "-", "-", "-", "-", "-"))
            continue
        stored = keys["stored_at_kme"]
        rows.append(
            (
                clean(tunnel["name"]),
                clean(keys["peer_sae"]),
                f"{keys['pool']}/{keys['pool_target']}",
                "?" if stored is None else str(stored),
                f"{keys['rate']:.2f}",
                str(keys["used"]),
                str(keys["burned"]),
                str(keys["reused"]),
            )
        )
    parts = [columns(header, rows)]
    if snapshot["kmes"]:
        parts.append(_kmes(snapshot["kmes"]))
    return "\n\n".join(parts)


def render_event(event: Json, style: Style) -> str:
    """``qsgw monitor``: one line per event."""
    moment = clean(event["time"])
    tunnel = f"{clean(event['tunnel'])}: " if event["tunnel"] else ""
    return f"{style.paint(moment, 'dim')} {clean(event['type']):<16} {tunnel}{clean(event['text'])}"


# --- what is wrong ---------------------------------------------------------------------------


def complaints(snapshot: Json) -> list[str]:
    """Why ``status --check`` calls this degraded; empty when all is as the operator wants it."""
    found = []
    for tunnel in (*snapshot["tunnels"], *links_of(snapshot)):
        protection, wants_qkd = tunnel["protection"], tunnel["qkd"] != "off"
        if protection == "HYBRID" or (protection == "PQC_ONLY" and not wants_qkd):
            continue
        if protection == "DOWN" and tunnel.get("on_demand"):
            continue  # nobody needs it; where it cannot be set up, an alarm stands
        found.append(f"{clean(tunnel['name'])} is {protection}: {clean(tunnel['reason'])}")
    found += [
        _with_subject(alarm) for alarm in snapshot["alarms"] if alarm["severity"] == "critical"
    ]
    return found


def summary(snapshot: Json) -> str:
    """``status --check`` in one line when all is well."""
    shown = (*snapshot["tunnels"], *links_of(snapshot))
    names = ", ".join(f"{clean(one['name'])} {one['protection']}" for one in shown)
    return names or "no tunnels configured"


def _alarms(snapshot: Json, style: Style) -> Iterator[str]:
    for alarm in snapshot["alarms"]:
        since = duration(between(alarm["since"], snapshot["time"]))
        line = f"! {alarm['severity']}: {_with_subject(alarm)} ({alarm['id']}, since {since})"
        yield style.paint(line, *_SEVERITY_COLOURS[alarm["severity"]])


def _with_subject(alarm: Json) -> str:
    """The alarm's text, which may name the tunnel or KME itself."""
    text, subject = clean(alarm["text"]), clean(alarm["subject"])
    return text if subject in text else f"{subject}: {text}"


# --- blocks ----------------------------------------------------------------------------------


def _headline(snapshot: Json) -> str:
    up = duration(between(snapshot["started_at"], snapshot["time"]))
    links = links_of(snapshot)
    count = [plural(len(snapshot["tunnels"]), "tunnel")] * bool(snapshot["tunnels"] or not links)
    count += [plural(len(links), "MACsec link")] * bool(links)
    return (
        f"gateway {clean(snapshot['gateway'])}, qsgw {clean(snapshot['version'])}, up {up}, "
        f"{', '.join(count)}"
    )


def _tunnel_line(tunnel: Json, now: str, style: Style) -> str:
    protection = tunnel["protection"]
    since = duration(between(tunnel["since"], now))
    reason = f" ({clean(tunnel['reason'])})" if tunnel["reason"] else ""
    painted = style.paint(f"{protection:<9}", *PROTECTION_COLOURS[protection])
    return f"{painted} {clean(tunnel['name'])}: for {since}{reason}, qkd {tunnel['qkd']}"


def _tunnel(tunnel: Json, now: str, style: Style) -> Iterator[str]:
    yield _tunnel_line(tunnel, now, style)
    yield _ends("local", tunnel["local_id"], tunnel["local_address"], tunnel["local_subnets"])
    yield _ends("remote", tunnel["remote_id"], tunnel["remote_address"], tunnel["remote_subnets"])
    if tunnel["ike"] is not None:
        ike = tunnel["ike"]
        yield row("ike", _whose(tunnel) + clean(ike["proposal"] or ike["state"]))
        if tunnel.get("childless") and ike["established_at"]:
            yield row("", _ike_times(tunnel, now))
        if ike["remote_proof"]:
            yield row("auth", _proofs(ike))
    for child in tunnel["children"]:
        if child["carries_outbound"]:
            yield row("esp", _child_algorithms(child))
            yield row("", _child_times(child, now))
            yield row("traffic", _child_traffic(child))
    keys = tunnel["keys"]
    if keys is not None:
        yield row("keys", _keys(keys))
    if tunnel["rekeys"] or tunnel["ike_rekeys"] or tunnel["failures"]:
        yield row(
            "rekeys",
            f"{tunnel['rekeys']} ({tunnel['rekeys_hybrid']} HYBRID, "
            f"{tunnel['rekeys_pqc_only']} PQC_ONLY), {tunnel['ike_rekeys']} of the IKE SA, "
            f"{plural(tunnel['failures'], 'failure')}",
        )
    if tunnel["last_error"] and tunnel["protection"] != "HYBRID":
        yield row("error", clean(tunnel["last_error"]))


def _sas(tunnel: Json, now: str, style: Style) -> Iterator[str]:
    yield _tunnel_line(tunnel, now, style)
    ike = tunnel["ike"]
    if ike is None:
        yield row("ike", "no IKE SA")
    elif tunnel["connection"] != tunnel["name"]:  # its SPIs and more are shown there
        yield row("ike", f"{_whose(tunnel)}{clean(ike['state'])}")
    else:
        ours = ike["role"] == "initiator"
        spis = f"{ike['spi_i']}_i{'*' if ours else ''} {ike['spi_r']}_r{'' if ours else '*'}"
        yield row("ike", f"{clean(ike['state'])}, {ike['role']}, IKEv2, {spis}")
        yield row("", f"{clean(ike['local'])} - {clean(ike['remote'])}{_ike_traits(ike)}")
        if ike["proposal"]:
            yield row("", clean(ike["proposal"]))
        if ike["remote_proof"]:
            yield row("", f"authenticated: {_proofs(ike)}")
        if ike["established_at"]:
            yield row("", f"established {ago(ike['established_at'], now)}{_ppk(ike)}")
    for child in tunnel["children"]:
        state = "carries traffic" if child["carries_outbound"] else "being replaced"
        kernel = "in the kernel" if child["in_kernel"] else "NOT IN THE KERNEL"
        yield row("child", f"in {child['spi_in']} out {child['spi_out']}, {state}, {kernel}")
        yield row("", _child_algorithms(child))
        yield row("", _child_times(child, now) + _ppk(child))
        yield row("", _child_traffic(child))
        yield row("", _child_limits(child))


def _ends(label: str, identity: str, address: str, subnets: list[str]) -> str:
    return row(label, f"'{clean(identity)}' @ {clean(address)}  {', '.join(subnets)}".rstrip())


def _child_algorithms(child: Json) -> str:
    """``AES_GCM_16-256/X25519/KE1_ML-KEM-768/ESN/PPK``."""
    modes = ["TRANSPORT"] * (child.get("mode") == "transport") + ["ESN"] * child["esn"]
    parts = [clean(child["encryption"]), mixed(child["key_exchanges"], child["key_id"], *modes)]
    return f"{child['protection']}: {'/'.join(part for part in parts if part)}"


def _child_times(child: Json, now: str) -> str:
    return f"installed {ago(child['established_at'], now)}{rekeying(child['rekey_at'], now)}"


def _ike_times(tunnel: Json, now: str) -> str:
    """Of an IKE SA that is held for its own sake."""
    ike = tunnel["ike"]
    due = rekeying(tunnel["rekey_at"], now)
    return f"established {ago(ike['established_at'], now)}{due}{_ppk(ike)}"


def _child_traffic(child: Json) -> str:
    return (
        f"in {size(child['bytes_in'])}, {plural(child['packets_in'], 'packet')}; "
        f"out {size(child['bytes_out'])}, {plural(child['packets_out'], 'packet')}"
    )


def _child_limits(child: Json) -> str:
    """Where the kernel's counters end; what a later daemon may leave out is no limit."""
    texts = []
    for label, octets, packets in (
        ("rekeying at", "rekey_bytes", "rekey_packets"),
        ("dropping at", "life_bytes", "life_packets"),
    ):
        limits = [size(child[octets])] if child.get(octets) is not None else []
        limits += [plural(child[packets], "packet")] if child.get(packets) is not None else []
        texts += [f"{label} {' or '.join(limits)}"] * bool(limits)
    return "; ".join(texts) or "no limit on bytes and packets"


def _whose(tunnel: Json) -> str:
    """Said of an IKE SA that is another tunnel's as well."""
    shares = tunnel["connection"] != tunnel["name"]
    return f"the IKE SA of {clean(tunnel['connection'])}, " if shares else ""


def _ppk(sa: Json) -> str:
    if sa["key_id"] is None:
        return ", no QKD key mixed"
    shared = ", shared with others in the IKE SA" if sa.get("key_shared") else ""
    if sa["protection"] == "PQC_ONLY":  # it is an IKE SA, rekeyed without a fresh one
        shared = ", of an IKE SA before this one"
    return f", QKD key {short_key_id(sa['key_id'])} by {clean(sa['ppk_method'])}{shared}"


def _proofs(ike: Json) -> str:
    return f"peer {clean(ike['remote_proof'])}, we {clean(ike['local_proof'])}"


def _ike_traits(ike: Json) -> str:
    traits = ["NAT"] * ike["nat"] + ["fragmentation"] * ike["fragmentation"]
    return f" ({', '.join(traits)})" if traits else ""


def _keys(keys: Json) -> str:
    stored = "?" if keys["stored_at_kme"] is None else keys["stored_at_kme"]
    reused = f", {keys['reused']} REUSED" if keys["reused"] else ""
    return (
        f"{keys['pool']} of {keys['pool_target']} ready, {stored} at the KME, "
        f"{keys['rate']:.2f}/s; {keys['used']} used, {keys['burned']} burned{reused}"
    )


def _kme_state(kme: Json) -> str:
    if not kme["healthy"]:
        return "failing"
    state = "in use" if kme["active"] else "standby"
    # A daemon of an earlier version does not say it.
    peers = ", ".join(clean(peer) for peer in kme.get("refused_by", ()))
    return f"{state}, keys not taken by {peers}" if peers else state


def _kmes(kmes: list[Json]) -> str:
    rows = [
        (
            clean(kme["name"]),
            clean(kme["url"]),
            _kme_state(kme),
            f"{kme['failures']}/{kme['requests']}",
            clean(kme["last_error"] or "") if not kme["healthy"] else "",
        )
        for kme in kmes
    ]
    return columns(("KME", "URL", "STATE", "FAILED", "LAST ERROR"), rows)
