"""From a CAK to the keys in use: KDF, KEK, ICK, SAK, ICV, key wrap (clauses 6.2 and 9.3)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from gateway.crypto.secret import Secret
from gateway.errors import CryptoError
from gateway.mka.identifiers import KeyIdentifier, MemberId
from gateway.mka.limits import CKN_SIZE_MAX, KEY_SIZES, SALT_SIZE

_BLOCK = 16  # octets that AES-CMAC gives
_KEY_ID_SIZE = 16  # 9.3.3: as much of the CKN as goes into KEK and ICK


class Cak:
    """A secure Connectivity Association Key (16 or 32 octets) and its name (1 to 32, public)."""

    __slots__ = ("ckn", "key")

    def __init__(self, key: Secret, ckn: bytes) -> None:
        """ValueError for sizes that cannot be."""
        if len(key) not in KEY_SIZES:
            raise ValueError(f"a CAK of {len(key)} octets")
        if not 0 < len(ckn) <= CKN_SIZE_MAX:
            raise ValueError(f"a CKN of {len(ckn)} octets")
        self.key = key
        self.ckn = ckn

    def __repr__(self) -> str:
        return f"<Cak {self.ckn.hex()}>"

    def wipe(self) -> None:
        self.key.wipe()


def kdf(key: Secret, label: bytes, context: bytes, size: int) -> Secret:
    """``size`` octets (6.2.1): counter mode of NIST SP 800-108 with AES-CMAC.

    AES-128 or AES-256 as the key is long. The counter is one octet, the length is in bits.
    """
    suffix = label + b"\x00" + context + (8 * size).to_bytes(2, "big")
    out = bytearray()
    for counter in range(1, (size + _BLOCK - 1) // _BLOCK + 1):
        out += _cmac(key, bytes((counter,)) + suffix).finalize()
    derived = Secret(memoryview(out)[:size])
    out[:] = bytes(len(out))
    return derived


class MkaKeys:
    """What one participant derives from its CAK (9.3.3). Both are as long as the CAK."""

    __slots__ = ("ick", "kek")

    def __init__(self, cak: Cak) -> None:
        key_id = cak.ckn[:_KEY_ID_SIZE].ljust(_KEY_ID_SIZE, b"\x00")
        self.kek = kdf(cak.key, b"IEEE8021 KEK", key_id, len(cak.key))
        self.ick = kdf(cak.key, b"IEEE8021 ICK", key_id, len(cak.key))

    def icv(self, covered: bytes) -> bytes:
        """16 octets, over everything before it, from the destination address on (9.4.1)."""
        return _cmac(self.ick, covered).finalize()

    def verifies(self, covered: bytes, icv: bytes) -> bool:
        try:
            _cmac(self.ick, covered).verify(icv)
        except InvalidSignature:
            return False
        return True

    def wrap(self, sak: Secret) -> bytes:
        """A SAK as it is distributed, 8 octets longer (9.8.2; RFC 3394)."""
        return aes_key_wrap(self.kek.expose(), sak.expose())

    def unwrap(self, wrapped: bytes) -> Secret:
        """CryptoError where it was not wrapped with our KEK."""
        try:
            return Secret(aes_key_unwrap(self.kek.expose(), wrapped))
        except (InvalidUnwrap, ValueError):
            raise CryptoError("the distributed key does not unwrap with our KEK") from None

    def wipe(self) -> None:
        self.kek.wipe()
        self.ick.wipe()


@dataclass(frozen=True, slots=True, kw_only=True)
class SakInputs:
    """What goes into a new SAK besides the CAK."""

    nonce: bytes  # of the key server, as long as the SAK
    members: tuple[MemberId, ...]
    kn: int


def derive_sak(cak: Cak, inputs: SakInputs) -> Secret:
    """9.8.1: KS-nonce | MI-value list | KN. Only the key server does this; others unwrap."""
    context = inputs.nonce + b"".join(inputs.members) + inputs.kn.to_bytes(4, "big")
    return kdf(cak.key, b"IEEE8021 SAK", context, len(inputs.nonce))


def xpn_salt(ki: KeyIdentifier) -> bytes:
    """96 bits, public (802.1AEbw 10.7.8): the KI's MI with KN over its first 32 bits."""
    kn = ki.kn.to_bytes(4, "big")
    mask = kn[2:] + kn[:2]  # the low half first
    head = bytes(a ^ b for a, b in zip(ki.mi, mask, strict=False))
    return (head + ki.mi[len(mask) :])[:SALT_SIZE]


def _cmac(key: Secret, data: bytes) -> CMAC:
    mac = CMAC(AES(key.expose()))
    mac.update(data)
    return mac
