"""AEAD ciphers as IKEv2 uses them (RFC 5282, RFC 7634): salt | IV as nonce, 16-octet ICV."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from gateway.crypto.algorithms import EncryptionId
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError

SALT_SIZE: Final = 4  # RFC 4106 4, RFC 5282 7.1, RFC 7634 2
IV_SIZE: Final = 8  # explicit in every message
ICV_SIZE: Final = 16


def keymat_size(encryption: EncryptionId, key_bits: int | None) -> int:
    """Octets of SK_e or of one direction's ESP key: cipher key and salt. ``key_bits`` for AES."""
    if encryption is EncryptionId.CHACHA20_POLY1305:
        return 32 + SALT_SIZE
    if key_bits not in (128, 256):
        raise ValueError(f"AES-GCM with a {key_bits}-bit key is not supported")
    return key_bits // 8 + SALT_SIZE


class IkeAead:
    """One direction's cipher. The caller gives every message an IV of its own."""

    __slots__ = ("_cipher", "_salt")

    def __init__(self, key: Secret, encryption: EncryptionId = EncryptionId.AES_GCM_16) -> None:
        """``key``: 36 octets (20 for AES-128), the last four being the salt."""
        octets = key.expose()
        secret, self._salt = octets[:-SALT_SIZE], octets[-SALT_SIZE:]
        try:
            self._cipher: AESGCM | ChaCha20Poly1305 = (
                AESGCM(secret)
                if encryption is EncryptionId.AES_GCM_16
                else ChaCha20Poly1305(secret)
            )
        except ValueError as error:
            raise CryptoError(f"{encryption.name}: {len(octets)} octets of key") from error

    def seal(self, iv: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Ciphertext followed by the ICV."""
        return self._cipher.encrypt(self._salt + iv, plaintext, aad)

    def open(self, iv: bytes, aad: bytes, sealed: bytes) -> bytes:
        """Plaintext of ``seal``'s result. CryptoError where the ICV does not verify."""
        if len(sealed) < ICV_SIZE:
            raise CryptoError("shorter than its ICV")
        try:
            return self._cipher.decrypt(self._salt + iv, sealed, aad)
        except InvalidTag:
            raise CryptoError("ICV does not verify") from None
