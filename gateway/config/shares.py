"""``shares``: tunnels that run in the IKE SA of another one, and so have its peer in common."""

from __future__ import annotations

from typing import Any, Final

from gateway.config.problems import Problems, TableProblems, did_you_mean

OWN_KEYS: Final = frozenset(
    {
        "shares",
        "mode",
        "local_subnets",
        "remote_subnets",
        "start",
        "dpd_action",
        "close_action",
        "idle_timeout",
        "qkd",
        "kmes",
        "peer_sae",
        "pool_target",
        "restore_dwell",
        "degraded_max",
        "rekey_min",
        "rekey_max",
        "rekey_bytes",
        "rekey_packets",
        "key_reserve",
        "esp",
    }
)
"""What each tunnel has for itself."""

PEER_KEYS: Final = frozenset(
    {
        "local",
        "remote",
        "local_id",
        "remote_id",
        "psk",
        "certificate",
        "private_key",
        "ca",
        "crl",
        "revocation",
        "remote_public_key",
        "fragment_size",
        "port",
        "force_encap",
        "ike",
        "ike_rekey",
        "allow_classical",
        "liveness",
        "retransmit_base",
    }
)
"""What belongs to the peer and the IKE SA with it."""

INHERITED_KEYS: Final = frozenset({"kmes", "peer_sae"})
"""Own keys that are the other tunnel's unless they are given."""


def complete(entries: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """The tables ``[tunnel.NAME]``, each that shares with what it has from the other one.

    One that shares wrongly is left out; the error is noted.
    """
    made: dict[str, Any] = {}
    for name, entry in entries.items():
        if "shares" not in entry:
            made[name] = entry
            continue
        at = problems.at(f"tunnel.{name}")
        _check(at, name, entry, entries)
        if not at.failed:
            other = entries[entry["shares"]]
            taken = (PEER_KEYS | INHERITED_KEYS) & other.keys()
            made[name] = {**{key: other[key] for key in taken}, **entry}
    return made


def _check(at: TableProblems, name: str, entry: dict[str, Any], entries: dict[str, Any]) -> None:
    shares = entry["shares"]
    others = entries.keys() - {name}
    if not isinstance(shares, str):
        at.error("shares", "write the name of another tunnel in quotes")
    elif shares == name:
        at.error("shares", "names this tunnel itself")
    elif shares not in others:
        at.error("shares", f"there is no [tunnel.{shares}]{did_you_mean(shares, others)}")
    elif "shares" in entries[shares]:
        first = entries[shares]["shares"]
        hint = f': write shares = "{first}"' if first in others else ""
        at.error("shares", f"[tunnel.{shares}] has no IKE SA of its own{hint}")
    for key in sorted(PEER_KEYS & entry.keys()):
        at.error(key, f"is that of [tunnel.{shares}], whose IKE SA this tunnel shares: remove it")
