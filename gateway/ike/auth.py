"""What the AUTH payload proves, and proving it with a pre-shared key.

InitiatorSignedOctets = RealMessage1 | NonceRData | prf(SK_pi, IDi') [| IntAuth]
ResponderSignedOctets = RealMessage2 | NonceIData | prf(SK_pr, IDr') [| IntAuth]
AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), SignedOctets)      RFC 7296 2.15

IntAuth = IntAuth_iN | IntAuth_rN | IKE_AUTH_MID                       RFC 9242 3.3.2
IntAuth_in = prf(SK_pi(n), IntAuth_i(n-1) | A_in | P_in), responses likewise with SK_pr(n)
"""

from __future__ import annotations

import hmac
from typing import Final

from gateway.crypto.prf import Prf
from gateway.crypto.secret import Secret

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
