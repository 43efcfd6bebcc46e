"""Further KEMs from liboqs, between qsgw peers: a hedge against lattices.

Binds the five C functions it needs. The Python package ``liboqs-python`` would do as well,
but importing it clones, compiles and installs liboqs when it finds none, and its releases
refuse every other release of the library. Here a library that is not found just means that
these methods are not supported.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from functools import cache
from pathlib import Path
from typing import Final

from gateway.crypto.algorithms import KeMethod, ke_name
from gateway.crypto.secret import Secret
from gateway.errors import CryptoError

_NAMES: Final[dict[int, str]] = {
    KeMethod.ML_KEM_512: "ML-KEM-512",
    KeMethod.ML_KEM_768: "ML-KEM-768",  # here for a second opinion on ``mlkem``
    KeMethod.ML_KEM_1024: "ML-KEM-1024",
    KeMethod.FRODOKEM_976_SHAKE: "FrodoKEM-976-SHAKE",
    KeMethod.FRODOKEM_1344_SHAKE: "FrodoKEM-1344-SHAKE",
    KeMethod.HQC_192: "HQC-192",
    KeMethod.HQC_256: "HQC-256",
}
METHODS: Final = frozenset(_NAMES)

_LIBRARY: Final = "liboqs.so"
_REPOSITORY_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "liboqs"
_SUCCESS: Final = 0  # OQS_SUCCESS, oqs/common.h


class _KemStruct(ctypes.Structure):
    """The beginning of struct OQS_KEM (oqs/kem.h); what follows is not read."""

    _fields_ = (
        ("method_name", ctypes.c_char_p),
        ("alg_version", ctypes.c_char_p),
        ("claimed_nist_level", ctypes.c_uint8),
        ("ind_cca", ctypes.c_bool),
        ("length_public_key", ctypes.c_size_t),
        ("length_secret_key", ctypes.c_size_t),
        ("length_ciphertext", ctypes.c_size_t),
        ("length_shared_secret", ctypes.c_size_t),
    )


def find_library() -> str | None:
    """What to hand to the dynamic linker, or None.

    Looked for under the prefixes $QSGW_LIBOQS, $OQS_INSTALL_PATH and the repository's
    ``.cache/liboqs``, then where the linker looks by itself.
    """
    named = (os.environ.get("QSGW_LIBOQS"), os.environ.get("OQS_INSTALL_PATH"))
    for prefix in (*(Path(text) for text in named if text), _REPOSITORY_CACHE):
        for folder in ("lib", "lib64"):
            if (path := prefix / folder / _LIBRARY).is_file():
                return str(path)
    return ctypes.util.find_library("oqs")


@cache
def _library() -> ctypes.CDLL | None:
    """The library, ready for use, or None. Looked for once per process."""
    path = find_library()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(path)
        library.OQS_init.restype = None
        library.OQS_KEM_free.restype = None
        library.OQS_KEM_free.argtypes = (ctypes.c_void_p,)
        library.OQS_KEM_new.restype = ctypes.POINTER(_KemStruct)
        library.OQS_KEM_new.argtypes = (ctypes.c_char_p,)
        library.OQS_KEM_alg_is_enabled.argtypes = (ctypes.c_char_p,)
        for name, count in (("keypair", 3), ("encaps", 4), ("decaps", 4)):
            getattr(library, f"OQS_KEM_{name}").argtypes = (ctypes.c_void_p,) * count
    except (OSError, AttributeError):
        return None
    library.OQS_init()
    return library


def supports(method: int) -> bool:
    """Whether liboqs is here and was built with this KEM."""
    name = _NAMES.get(method)
    library = _library()
    if name is None or library is None:
        return False
    return bool(library.OQS_KEM_alg_is_enabled(name.encode()))


class _Kem:
    """One OQS_KEM. Every call takes and gives whole buffers of the right size."""

    __slots__ = ("_library", "_pointer", "method", "sizes")

    def __init__(self, method: KeMethod) -> None:
        library = _library()
        pointer = library and library.OQS_KEM_new(_NAMES[method].encode())
        if not library or not pointer:
            raise CryptoError(f"{ke_name(method)} is not available")
        self.method = method
        self._library = library
        self._pointer = pointer
        self.sizes: _KemStruct = pointer.contents

    def __del__(self) -> None:
        if hasattr(self, "_pointer"):
            self._library.OQS_KEM_free(self._pointer)

    def keypair(self) -> tuple[bytes, Secret]:
        public = bytearray(self.sizes.length_public_key)
        private = bytearray(self.sizes.length_secret_key)
        self._call("keypair", public, private)
        return bytes(public), _take(private)

    def encapsulate(self, public: bytes) -> tuple[bytes, Secret]:
        self._check(public, self.sizes.length_public_key, "public key")
        ciphertext = bytearray(self.sizes.length_ciphertext)
        shared = bytearray(self.sizes.length_shared_secret)
        self._call("encaps", ciphertext, shared, bytearray(public))
        return bytes(ciphertext), _take(shared)

    def decapsulate(self, ciphertext: bytes, private: Secret) -> Secret:
        self._check(ciphertext, self.sizes.length_ciphertext, "ciphertext")
        shared = bytearray(self.sizes.length_shared_secret)
        copy = bytearray(private.expose())
        self._call("decaps", shared, bytearray(ciphertext), copy)
        _wipe(copy)
        return _take(shared)

    def _check(self, value: bytes, size: int, what: str) -> None:
        if len(value) != size:
            raise CryptoError(f"{ke_name(self.method)}: {what} has {len(value)} octets, not {size}")

    def _call(self, function: str, *buffers: bytearray) -> None:
        places = [(ctypes.c_char * len(buffer)).from_buffer(buffer) for buffer in buffers]
        status = getattr(self._library, f"OQS_KEM_{function}")(
            self._pointer, *(ctypes.addressof(place) for place in places)
        )
        if status != _SUCCESS:
            raise CryptoError(f"{ke_name(self.method)}: liboqs {function} failed")


def _take(buffer: bytearray) -> Secret:
    secret = Secret(buffer)
    _wipe(buffer)
    return secret


def _wipe(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))


class _Initiator:
    __slots__ = ("_kem", "_private", "public")

    def __init__(self, method: KeMethod) -> None:
        self._kem = _Kem(method)
        self.public, self._private = self._kem.keypair()

    def finish(self, peer: bytes) -> Secret:
        return self._kem.decapsulate(peer, self._private)


def initiate(method: KeMethod) -> _Initiator:
    """A fresh key pair."""
    return _Initiator(method)


def respond(method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
    """Ciphertext and shared secret for the peer's public key."""
    return _Kem(method).encapsulate(peer)
