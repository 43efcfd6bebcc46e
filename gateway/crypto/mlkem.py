"""ML-KEM-768 and -1024 (FIPS 203) from ``cryptography``, in IKEv2's raw encodings.

draft-ietf-ipsecme-ikev2-mlkem: KEi is the encapsulation key, KEr the ciphertext, and the
32-octet shared secret enters the key schedule unmodified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
    MLKEM1024PublicKey,
)

from gateway.crypto.algorithms import KeMethod, ke_name
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError


@dataclass(frozen=True, slots=True)
class _ParameterSet:
    private: type[MLKEM768PrivateKey | MLKEM1024PrivateKey]
    public: type[MLKEM768PublicKey | MLKEM1024PublicKey]
    encapsulation_key: int  # octets (FIPS 203 table 3)
    ciphertext: int


_SETS: Final[dict[int, _ParameterSet]] = {
    KeMethod.ML_KEM_768: _ParameterSet(MLKEM768PrivateKey, MLKEM768PublicKey, 1184, 1088),
    KeMethod.ML_KEM_1024: _ParameterSet(MLKEM1024PrivateKey, MLKEM1024PublicKey, 1568, 1568),
}
METHODS: Final = frozenset(_SETS)


class _Initiator:
    __slots__ = ("_method", "_private", "public")

    def __init__(self, method: KeMethod, private: MLKEM768PrivateKey | MLKEM1024PrivateKey) -> None:
        self._method = method
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()

    def finish(self, peer: bytes) -> Secret:
        """A ciphertext of the right size always gives a secret: a corrupt one gives another

        than the peer's (implicit rejection, FIPS 203 6.3), which shows as an ICV failure.
        """
        size = _SETS[self._method].ciphertext
        if len(peer) != size:  # ciphertext type check, FIPS 203 7.3
            raise CryptoError(
                f"{ke_name(self._method)}: ciphertext has {len(peer)} octets, not {size}"
            )
        return Secret(self._private.decapsulate(peer))


def initiate(method: KeMethod) -> _Initiator:
    """A fresh key pair."""
    return _Initiator(method, _SETS[method].private.generate())


def from_seed(method: KeMethod, seed: bytes) -> _Initiator:
    """The key pair of a 64-octet seed d | z (FIPS 203 7.1). For known answers."""
    return _Initiator(method, _SETS[method].private.from_seed_bytes(seed))


def respond(method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
    """Ciphertext and shared secret for the peer's encapsulation key."""
    parameters = _SETS[method]
    if len(peer) != parameters.encapsulation_key:
        raise CryptoError(
            f"{ke_name(method)}: encapsulation key has {len(peer)} octets, "
            f"not {parameters.encapsulation_key}"
        )
    try:
        # Makes the modulus check of FIPS 203 7.2.
        public = parameters.public.from_public_bytes(peer)
    except ValueError:
        raise CryptoError(f"{ke_name(method)}: encapsulation key fails the modulus check") from None
    shared, ciphertext = public.encapsulate()
    return ciphertext, Secret(shared)
