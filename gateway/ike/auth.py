"""What the AUTH payload proves, and what it looks like: a MAC or a signature.

InitiatorSignedOctets = RealMessage1 | NonceRData | prf(SK_pi, IDi') [| IntAuth]
ResponderSignedOctets = RealMessage2 | NonceIData | prf(SK_pr, IDr') [| IntAuth]
AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), SignedOctets)      RFC 7296 2.15
AUTH = length of identifier (1 octet) | AlgorithmIdentifier | signature     RFC 7427 3

IntAuth = IntAuth_iN | IntAuth_rN | IKE_AUTH_MID                       RFC 9242 3.3.2
IntAuth_in = prf(SK_pi(n), IntAuth_i(n-1) | A_in | P_in), responses likewise with SK_pr(n)
"""

from __future__ import annotations

import hmac
from typing import Final

from gateway.crypto.algorithms import HashId
from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret
from gateway.crypto.signatures import (
    HASHES_OF,
    Family,
    KeyKind,
    Scheme,
    VerifyKey,
    ecdsa_from_fixed,
    ecdsa_to_fixed,
    scheme_for,
    scheme_of,
)
from gateway.ike.errors import ProtocolError
from gateway.ike.registry import AuthMethod, NotifyType
from gateway.ike.wire import syntax_error

KEY_PAD: Final = b"Key Pad for IKEv2"  # RFC 7296 2.15: 17 octets, no terminator


class IntAuth:
    """The running authentication of the IKE_INTERMEDIATE exchanges of one IKE SA."""

    __slots__ = ("_initiator", "_responder")

    def __init__(self) -> None:
        self._initiator = b""
        self._responder = b""

    def add_request(self, prf: Prf, sk_pi: Secret, octets: bytes) -> None:
        """``octets``: A | P of the request; ``sk_pi`` in force before the exchange."""
        self._initiator = prf.compute(sk_pi, self._initiator + octets)

    def add_response(self, prf: Prf, sk_pr: Secret, octets: bytes) -> None:
        """``octets``: A | P of the response; ``sk_pr`` in force before the exchange."""
        self._responder = prf.compute(sk_pr, self._responder + octets)

    def octets(self, auth_message_id: int) -> bytes:
        """What AUTH covers of them: empty where no IKE_INTERMEDIATE took place."""
        if not self._initiator:
            return b""
        return self._initiator + self._responder + auth_message_id.to_bytes(4, "big")


def signed_octets(
    *,
    prf: Prf,
    message: bytes,
    nonce: bytes,
    sk_p: Secret,
    identity: bytes,
    int_auth: bytes,
) -> bytes:
    """SignedOctets of one side.

    ``message`` is that side's IKE_SA_INIT message as it was answered, ``nonce`` the *other*
    side's, ``identity`` its ID payload without the generic header.
    """
    return message + nonce + prf.compute(sk_p, identity) + int_auth


def psk_auth(prf: Prf, psk: Secret, octets: bytes) -> bytes:
    """Authentication Data for a pre-shared key over SignedOctets."""
    return prf.compute(prf.compute(psk, KEY_PAD), octets)


def psk_verify(prf: Prf, psk: Secret, octets: bytes, received: bytes) -> bool:
    """Whether ``received`` is right; takes the same time either way."""
    return hmac.compare_digest(psk_auth(prf, psk, octets), received)


# --- signatures --------------------------------------------------------------------------------

_CLASSIC: Final = {
    KeyKind.RSA: (AuthMethod.RSA_SIGNATURE, Family.RSA_PKCS1, HashId.SHA2_256),
    KeyKind.P256: (AuthMethod.ECDSA_SHA256_P256, Family.ECDSA, HashId.SHA2_256),
    KeyKind.P384: (AuthMethod.ECDSA_SHA384_P384, Family.ECDSA, HashId.SHA2_384),
}
"""Methods from before RFC 7427. SHA-1, the default of method 1, is not made or accepted
(RFC 8247 3.1): the hash stands in the signature itself (RFC 8017 9.2)."""
_ECDSA_SIZES: Final = {  # RFC 4754 7: octets of r, and of s
    AuthMethod.ECDSA_SHA256_P256: 32,
    AuthMethod.ECDSA_SHA384_P384: 48,
}


def encode_signature(scheme: Scheme, signature: bytes) -> bytes:
    """Authentication Data of method 14."""
    return bytes((len(scheme.identifier),)) + scheme.identifier + signature


def decode_signature(data: bytes) -> tuple[Scheme, bytes]:
    """What method 14 carries. ProtocolError where it is cut short or not a scheme of ours."""
    size = data[0] if data else 0
    if not size or len(data) <= 1 + size:
        raise syntax_error(f"AUTH payload: signature of {len(data)} octets")
    identifier, signature = data[1 : 1 + size], data[1 + size :]
    scheme = scheme_of(identifier)
    if scheme is None:  # so none of the hashes we announced, too
        raise ProtocolError(
            NotifyType.AUTHENTICATION_FAILED,
            f"peer signs with an algorithm we do not accept: {identifier.hex()}",
        )
    return scheme, signature


def classic_scheme(kind: KeyKind) -> tuple[AuthMethod, Scheme] | None:
    """How a key of this kind signs for a peer without RFC 7427, if it can."""
    if kind not in _CLASSIC:
        return None
    method, family, hash_id = _CLASSIC[kind]
    return method, scheme_for(family, hash_id)


def encode_classic(method: AuthMethod, signature: bytes) -> bytes:
    """Authentication Data of methods 1, 9 and 10."""
    size = _ECDSA_SIZES.get(method)
    return signature if size is None else ecdsa_to_fixed(signature, size)


def verify_classic(key: VerifyKey, method: int, octets: bytes, data: bytes) -> Scheme | None:
    """The scheme of a good signature by method 1, 9 or 10; None where it is not good."""
    if key.kind not in _CLASSIC or _CLASSIC[key.kind][0] != method:
        return None
    _, family, hash_id = _CLASSIC[key.kind]
    size = _ECDSA_SIZES.get(AuthMethod(method))
    signature = data if size is None else ecdsa_from_fixed(data, size)
    if signature is None:
        return None
    for possible in HASHES_OF[key.kind] if family is Family.RSA_PKCS1 else (hash_id,):
        scheme = scheme_for(family, possible)
        if key.verify(scheme, signature, octets):
            return scheme
    return None
