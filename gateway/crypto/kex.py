"""Key exchange, one shape for Diffie-Hellman and KEM.

The initiator's public value goes out, the responder turns it into a public value and a
shared secret, the initiator finishes. A KEM fits: encapsulation key out, ciphertext back.

Key generation and encapsulation draw from OpenSSL's (or liboqs') own generator, which
cannot be replaced from Python. Whoever needs reproducible exchanges injects another
``KexFactory``.
"""

from __future__ import annotations

from typing import Protocol

from gateway.crypto import ecdh, kem_oqs, mlkem
from gateway.crypto.algorithms import KeMethod, ke_name
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError

__all__ = ["InitiatorKex", "KexFactory", "SystemKex", "available", "ke_name"]


class InitiatorKex(Protocol):
    """The initiator's half of one key exchange. Good for one ``finish``."""

    @property
    def public(self) -> bytes:
        """Key Exchange Data of our KE payload."""

    def finish(self, peer: bytes) -> Secret:
        """The shared secret, from the responder's Key Exchange Data. CryptoError if bad."""


class KexFactory(Protocol):
    """Where key exchanges come from."""

    def supports(self, method: int) -> bool:
        """Whether this method can be used here and now."""

    def initiate(self, method: KeMethod) -> InitiatorKex:
        """A fresh key pair. CryptoError where the method is not supported."""

    def respond(self, method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
        """Our Key Exchange Data and the shared secret. CryptoError where ``peer`` is bad."""


class SystemKex:
    """Elliptic curves and ML-KEM-768/1024 of ``cryptography``; the rest of liboqs, if found."""

    __slots__ = ()

    def supports(self, method: int) -> bool:
        return method in ecdh.METHODS or method in mlkem.METHODS or kem_oqs.supports(method)

    def initiate(self, method: KeMethod) -> InitiatorKex:
        if method in ecdh.METHODS:
            return ecdh.initiate(method)
        if method in mlkem.METHODS:
            return mlkem.initiate(method)
        if method in kem_oqs.METHODS:
            return kem_oqs.initiate(method)
        raise CryptoError(f"{ke_name(method)} is not available")

    def respond(self, method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
        if method in ecdh.METHODS:
            return ecdh.respond(method, peer)
        if method in mlkem.METHODS:
            return mlkem.respond(method, peer)
        if method in kem_oqs.METHODS:
            return kem_oqs.respond(method, peer)
        raise CryptoError(f"{ke_name(method)} is not available")


def available() -> tuple[KeMethod, ...]:
    """Every method usable here, in the order of their numbers."""
    system = SystemKex()
    return tuple(method for method in KeMethod if system.supports(method))
