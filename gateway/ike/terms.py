"""Whether IKE SAs made under one configuration of a connection hold under another."""

from __future__ import annotations

from dataclasses import replace

from gateway.ike.config import Connection
from gateway.ike.credentials import OwnKey, TrustedAuthorities


def same_terms(one: Connection, other: Connection) -> bool:
    """They differ in nothing but how we behave: IKE SAs made under one hold under the other."""
    behaving_alike = replace(
        other,
        timing=one.timing,
        fragment_size=one.fragment_size,
        ike_lifetime=one.ike_lifetime,
        children=one.children,
        ppk=one.ppk,
        nat_port_first=one.nat_port_first,
        local_auth=one.local_auth if _renewed(one, other) else other.local_auth,
        remote_auth=one.remote_auth if _still_certified(one, other) else other.remote_auth,
    )
    return behaving_alike == one


def _renewed(one: Connection, other: Connection) -> bool:
    """Our certificate, or key, is another one: it counts from the next IKE SA on."""
    return isinstance(one.local_auth, OwnKey) and isinstance(other.local_auth, OwnKey)


def _still_certified(one: Connection, other: Connection) -> bool:
    """The peer shows certificates as before, if perhaps of other authorities."""
    both = (one.remote_auth, other.remote_auth)
    return all(isinstance(auth, TrustedAuthorities) for auth in both)
