"""Further KEMs from liboqs, between qsgw peers: a hedge against lattices.

The one module that imports ``oqs`` (liboqs-python). That import looks for the shared library
by itself and, where it finds none, clones, compiles and installs one. So here the library is
found and loaded first, and ``oqs`` is led to that very file.

The private key stays in the one buffer in which liboqs made it, and is wiped with it. A shared
secret passes through a buffer and a ``bytes`` of liboqs-python on its way to ``Secret``; those
two copies are freed but not wiped, as in ``mlkem``.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import logging
import os
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

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
_NO_PACKAGE: Final = "liboqs-python is not installed (pip install 'qsgw[liboqs]')"
_NO_LIBRARY: Final = "there is no liboqs.so (make liboqs)"


def find_library() -> str | None:
    """What to hand to the dynamic linker, or None.

    Looked for under the prefixes $QSGW_LIBOQS, $OQS_INSTALL_PATH and the repository's
    ``.cache/liboqs``, then where the linker looks by itself.
    """
    named = (os.environ.get("QSGW_LIBOQS"), os.environ.get("OQS_INSTALL_PATH"))
    for prefix in (*(Path(text).absolute() for text in named if text), _REPOSITORY_CACHE):
        for folder in ("lib", "lib64"):
            if (path := prefix / folder / _LIBRARY).is_file():
                return str(path)
    return ctypes.util.find_library("oqs")


@contextmanager
def _only_this(library: str) -> Iterator[None]:
    """While ``oqs`` is imported: this library and no other, no download, not a word."""
    path = Path(library)
    environment = {
        # No release has this name: were it to come to a download, it would be refused.
        "PYOQS_VERSION": "none",
        # A bare name is the linker's to find, and needs no prefix.
        **({"OQS_INSTALL_PATH": str(path.parents[1])} if path.is_absolute() else {}),
    }
    saved = {name: os.environ.get(name) for name in environment}
    # What find_library gives is tried before the prefix, so a liboqs of the distribution would
    # win over the one that the operator named; and it starts ldconfig, cc and ld to find it.
    search = ctypes.util.find_library
    answers = {"oqs": library, "liboqs": None}
    ctypes.util.find_library = lambda name: answers[name] if name in answers else search(name)
    os.environ.update(environment)
    # Its logger has a handler of its own for standard output, where the CLI writes JSON.
    logging.getLogger("oqs.oqs").disabled = True
    try:
        with warnings.catch_warnings():
            # It warns where the releases of package and library differ. What it needs of a
            # library it looks up on import, so one that does not fit fails there.
            warnings.simplefilter("ignore")
            yield
    finally:
        ctypes.util.find_library = search
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@cache
def _load() -> tuple[Any, str]:
    """The module ``oqs`` and "", or None and what is missing. Tried once per process."""
    library = find_library()
    lacking = [
        *([] if importlib.util.find_spec("oqs") else [_NO_PACKAGE]),
        *([] if library else [_NO_LIBRARY]),
    ]
    if library is None or lacking:
        return None, "; ".join(lacking)
    try:
        ctypes.CDLL(library)  # stays loaded, so ``oqs`` cannot miss it
        with _only_this(library):
            import oqs  # noqa: PLC0415  not before there is a library for it
    except (ImportError, AttributeError, OSError, RuntimeError, ValueError, SystemExit) as error:
        # AttributeError: a function that this release of the package needs and this release
        # of the library lacks.
        reason = " ".join(str(error).split())
        return None, f"liboqs-python cannot use {library} (make liboqs): {reason}"
    return oqs, ""


def problem(method: int) -> str:
    """In one line why this method cannot be used and how to get it; "" if it can be."""
    if method not in _NAMES:
        return "not a KEM of liboqs"
    oqs, missing = _load()
    if oqs is None:
        return missing
    built_in = _NAMES[method] in oqs.get_enabled_kem_mechanisms()
    return "" if built_in else f"{find_library()} is built without it"


def supports(method: int) -> bool:
    """Whether liboqs and liboqs-python are here and this KEM is built in."""
    return not problem(method)


def _mechanism(method: int) -> Any:
    """A new ``oqs.KeyEncapsulation``, to be freed once."""
    if reason := problem(method):
        raise CryptoError(f"{ke_name(method)} is not available: {reason}")
    oqs, _ = _load()
    return oqs.KeyEncapsulation(_NAMES[method])


def _check(method: KeMethod, value: bytes, size: int, what: str) -> None:
    if len(value) != size:
        raise CryptoError(f"{ke_name(method)}: {what} has {len(value)} octets, not {size}")


class _Initiator:
    __slots__ = ("__weakref__", "_kem", "_method", "public")

    def __init__(self, method: KeMethod) -> None:
        self._method = method
        self._kem = _mechanism(method)
        # Wipes the private key; also when the interpreter ends. Freeing twice would crash.
        weakref.finalize(self, self._kem.free)
        try:
            self.public: bytes = self._kem.generate_keypair()
        except RuntimeError as error:
            raise CryptoError(f"{ke_name(method)}: {error}") from None

    def finish(self, peer: bytes) -> Secret:
        _check(self._method, peer, self._kem.length_ciphertext, "ciphertext")
        try:
            return Secret(self._kem.decap_secret(peer))
        except RuntimeError as error:
            raise CryptoError(f"{ke_name(self._method)}: {error}") from None


def initiate(method: KeMethod) -> _Initiator:
    """A fresh key pair."""
    return _Initiator(method)


def respond(method: KeMethod, peer: bytes) -> tuple[bytes, Secret]:
    """Ciphertext and shared secret for the peer's public key."""
    with _mechanism(method) as kem:
        _check(method, peer, kem.length_public_key, "public key")
        try:
            ciphertext, shared = kem.encap_secret(peer)
        except RuntimeError as error:
            raise CryptoError(f"{ke_name(method)}: {error}") from None
    return ciphertext, Secret(shared)
