"""Further KEMs from liboqs, between qsgw peers: a hedge against lattices.

liboqs-python clones and compiles liboqs when it is imported and finds no library, and
writes to standard output. So this is the only module that imports it, it does so when a
method is first used, and only after the shared object was found.
"""

from __future__ import annotations

import ctypes.util
import importlib
import importlib.util
import os
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final

from gateway.crypto.algorithms import KeMethod, ke_name
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError

_NAMES: Final[dict[int, str]] = {
    KeMethod.ML_KEM_512: "ML-KEM-512",
    KeMethod.FRODOKEM_976_SHAKE: "FrodoKEM-976-SHAKE",
    KeMethod.FRODOKEM_1344_SHAKE: "FrodoKEM-1344-SHAKE",
    KeMethod.HQC_192: "HQC-192",
    KeMethod.HQC_256: "HQC-256",
}
METHODS: Final = frozenset(_NAMES)

_LIBRARY: Final = "liboqs.so"
_REPOSITORY_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "liboqs"


def find_library() -> Path | None:
    """The directory prefix that holds liboqs, or None.

    Looked for in $QSGW_LIBOQS, $OQS_INSTALL_PATH, the repository's ``.cache/liboqs``, and
    where the dynamic linker looks (then the answer is ``/``).
    """
    named = (os.environ.get("QSGW_LIBOQS"), os.environ.get("OQS_INSTALL_PATH"))
    for prefix in (*(Path(text) for text in named if text), _REPOSITORY_CACHE):
        if any((prefix / folder / _LIBRARY).exists() for folder in ("lib", "lib64")):
            return prefix
    return Path("/") if ctypes.util.find_library("oqs") else None


@cache
def _load() -> Any:
    """The ``oqs`` module, or None where it or the library is missing."""
    prefix = find_library()
    if prefix is None or importlib.util.find_spec("oqs") is None:
        return None
    if prefix != Path("/"):
        os.environ["OQS_INSTALL_PATH"] = str(prefix)
    with redirect_stdout(StringIO()):
        return importlib.import_module("oqs")


def supports(method: int) -> bool:
    """Whether liboqs is here and was built with this KEM."""
    name = _NAMES.get(method)
    if name is None:
        return False
    oqs = _load()
    return oqs is not None and name in oqs.get_enabled_kem_mechanisms()


class _Initiator:
    __slots__ = ("_kem", "_method", "public")

    def __init__(self, method: KeMethod) -> None:
        self._method = method
        self._kem = _load().KeyEncapsulation(_NAMES[method])
        self.public: bytes = bytes(self._kem.generate_keypair())

    def finish(self, peer: bytes) -> Secret:
        size = self._kem.details["length_ciphertext"]
        if len(peer) != size:
            raise CryptoError(
                f"{ke_name(self._method)}: ciphertext has {len(peer)} octets, not {size}"
            )
        return Secret(self._kem.decap_secret(peer))


def initiate(method: KeMethod) -> _Initiator:
    """A fresh key pair."""
    return _Initiator(method)


def respond(method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
    """Ciphertext and shared secret for the peer's public key."""
    with _load().KeyEncapsulation(_NAMES[method]) as kem:
        size = kem.details["length_public_key"]
        if len(peer) != size:
            raise CryptoError(f"{ke_name(method)}: public key has {len(peer)} octets, not {size}")
        ciphertext, shared = kem.encap_secret(peer)
    return bytes(ciphertext), Secret(shared)
