"""Who a client is: its certificate says so, nothing in the request does.

A certificate presents names: ``uri:`` and ``dns:`` from subjectAltName; ``cn:`` from the
subject, only if there is no subjectAltName at all (RFC 9525 section 2 deprecates the CN).
The configuration gives each SAE the names it goes by; without any, SAE ``moon`` is whoever
presents ``uri:urn:qsgw:sae:moon``, ``dns:moon`` or ``cn:moon``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qkd_adapters.kme.config import SaeSettings


class SaeDirectory:
    """SAE ids by certificate name."""

    def __init__(self, saes: Iterable[SaeSettings]) -> None:
        self._owners = {name: sae.sae_id for sae in saes for name in sae.certificate_names}

    def identify(self, certificate: Mapping[str, Any] | None) -> str | None:
        """The SAE of a verified certificate in ``ssl.getpeercert()`` form.

        None if it presents no known name, or names of two SAEs.
        """
        owners = {self._owners.get(name) for name in certificate_names(certificate or {})}
        owners.discard(None)
        return owners.pop() if len(owners) == 1 else None


def certificate_names(certificate: Mapping[str, Any]) -> list[str]:
    alternatives = certificate.get("subjectAltName", ())
    if alternatives:
        prefixes = {"URI": "uri:", "DNS": "dns:"}
        return [prefixes[kind] + value for kind, value in alternatives if kind in prefixes]
    return [
        f"cn:{value}"
        for relative_name in certificate.get("subject", ())
        for attribute, value in relative_name
        if attribute == "commonName"
    ]
