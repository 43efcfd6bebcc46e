"""X25519 (RFC 8031) and the NIST curves P-256 and P-384 (RFC 5903)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.crypto.algorithms import KeMethod, ke_name
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError

METHODS: Final = frozenset({KeMethod.X25519, KeMethod.SECP256R1, KeMethod.SECP384R1})

_X25519_SIZE: Final = 32
_CURVES: Final[dict[int, tuple[ec.EllipticCurve, int]]] = {
    KeMethod.SECP256R1: (ec.SECP256R1(), 64),  # size: X | Y (RFC 5903 7)
    KeMethod.SECP384R1: (ec.SECP384R1(), 96),
}
_UNCOMPRESSED: Final = b"\x04"  # SEC 1 2.3.3; not on the wire (RFC 5903 7)


class _X25519Initiator:
    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()

    def finish(self, peer: bytes) -> Secret:
        if len(peer) != _X25519_SIZE:
            raise _wrong_size(KeMethod.X25519, peer, _X25519_SIZE)
        try:
            # RFC 7748 6.1 allows, and OpenSSL makes, the check for the all-zero result.
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise CryptoError("X25519: peer's value is of small order") from None
        return Secret(shared)


class _NistInitiator:
    __slots__ = ("_method", "_private", "public")

    def __init__(self, method: KeMethod, private: ec.EllipticCurvePrivateKey) -> None:
        self._method = method
        self._private = private
        point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public: bytes = point[1:]

    def finish(self, peer: bytes) -> Secret:
        curve, size = _CURVES[self._method]
        if len(peer) != size:
            raise _wrong_size(self._method, peer, size)
        try:
            # Refuses a point that is not on the curve (RFC 6989 2.3).
            public = ec.EllipticCurvePublicKey.from_encoded_point(curve, _UNCOMPRESSED + peer)
        except ValueError:
            raise CryptoError(
                f"{ke_name(self._method)}: peer's point is not on the curve"
            ) from None
        # The result is the X coordinate alone (RFC 5903 9).
        return Secret(self._private.exchange(ec.ECDH(), public))


def _wrong_size(method: KeMethod, peer: bytes, size: int) -> CryptoError:
    return CryptoError(f"{ke_name(method)}: peer sent {len(peer)} octets, not {size}")


def initiate(method: KeMethod) -> _X25519Initiator | _NistInitiator:
    """A fresh key pair."""
    if method is KeMethod.X25519:
        return _X25519Initiator(X25519PrivateKey.generate())
    return _NistInitiator(method, ec.generate_private_key(_CURVES[method][0]))


def from_private(method: KeMethod, private: bytes) -> _X25519Initiator | _NistInitiator:
    """A given key pair: X25519's 32 octets, or the scalar big-endian. For known answers."""
    if method is KeMethod.X25519:
        return _X25519Initiator(X25519PrivateKey.from_private_bytes(private))
    scalar = int.from_bytes(private, "big")
    return _NistInitiator(method, ec.derive_private_key(scalar, _CURVES[method][0]))


def respond(method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
    """Diffie-Hellman is symmetric: a key pair of our own, finished at once."""
    ours = initiate(method)
    return ours.public, ours.finish(peer)
