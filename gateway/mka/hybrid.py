"""A CAK between two of our gateways, from an IKE SA that has everything mixed in (ours).

Both ends of an established IKE SA take ``EXPORT_SIZE`` octets from it, with
``Endpoint.export_key(label=EXPORT_LABEL)``: they come from SK_d, so ECDH, ML-KEM and the QKD key
of that IKE SA are in them, and each rekey gives others. What is derived here is bound to whose IKE
SA that is, to the link it is for, and to what was mixed: two ends that do not agree on one of these
have CAKs that do not fit, and MKA's ICV shows it.

```
seed = for each of initiator, responder, link, key exchanges (each), PPK method, key_ID:
       length (2 octets) | octets; the key exchanges with their number (1 octet) before them
CAK  = prf+(exported, "qsgw MKA CAK v1" | 0 | size (1) | seed)     HMAC-SHA-512
CKN  = prf+(exported, "qsgw MKA CKN v1" | 0 | size (1) | seed)     32 octets, public
```

The CKN tells nothing of the CAK, and a new IKE SA gives a new one, so no two CAKs share a CKN.
"""

from __future__ import annotations

from typing import Final

from gateway.crypto.algorithms import PrfId
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.mka.keys import Cak
from gateway.mka.limits import CKN_SIZE_MAX, KEY_SIZES
from gateway.model import Mixed

EXPORT_LABEL: Final = b"qsgw MACsec CAK v1"
EXPORT_SIZE: Final = 64  # octets: the key of HMAC-SHA-512

_CAK_LABEL: Final = b"qsgw MKA CAK v1"
_CKN_LABEL: Final = b"qsgw MKA CKN v1"


def hybrid_cak(
    exported: Secret,
    *,
    initiator: bytes,
    responder: bytes,
    link: str,
    mixed: Mixed,
    size: int = 32,
) -> Cak:
    """``initiator`` and ``responder``: the identities of the IKE SA's ends as they stand in its ID
    payloads. ``link``: the name both ends' configurations give the layer-2 link. ``size``: octets
    of the CAK, 16 or 32. ``exported`` stays the caller's to wipe. ValueError for what cannot be.
    """
    if len(exported) != EXPORT_SIZE:
        raise ValueError(f"{len(exported)} octets were exported, not {EXPORT_SIZE}")
    if size not in KEY_SIZES:
        raise ValueError(f"a CAK of {size} octets")
    if not (initiator and responder and link) or initiator == responder:
        raise ValueError("a CAK is for two ends and a link that have names")
    exchanges = [name.encode() for name in mixed.key_exchanges]
    seed = _field(initiator) + _field(responder) + _field(link.encode())
    seed += bytes((len(exchanges),)) + b"".join(map(_field, exchanges))
    seed += _field((mixed.ppk_method or "").encode()) + _field((mixed.key_id or "").encode())
    seed = bytes((0, size)) + seed
    prf = Prf(PrfId.HMAC_SHA2_512)
    ckn = prf.plus(exported, _CKN_LABEL + seed, CKN_SIZE_MAX)
    return Cak(prf.plus(exported, _CAK_LABEL + seed, size), ckn.expose())


def _field(octets: bytes) -> bytes:
    return len(octets).to_bytes(2, "big") + octets
