"""File references and the secrets behind them."""

from __future__ import annotations

import base64
import binascii
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from gateway.crypto.secret import Secret
from gateway.errors import CredentialError

CREDENTIAL_PREFIX = "credential:"
SECRET_FILE_MAX = 4096  # octets; a PSK or password is one line
PSK_MIN = 16  # octets: 128 bits, the strength of the weakest algorithm we negotiate
CAK_DIGITS = (32, 64)  # of a CAK in hexadecimal: 128 and 256 bits

_HEX = re.compile(rb"[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResolver:
    """Turns references in a configuration file into absolute paths.

    ``credentials`` is $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=), or None
    outside a service.
    """

    base: Path  # directory of the configuration file
    credentials: Path | None

    def resolve(self, reference: str) -> Path:
        """Raises ValueError when the reference cannot be one."""
        if not reference.startswith(CREDENTIAL_PREFIX):
            return self.base / reference
        name = reference.removeprefix(CREDENTIAL_PREFIX)
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError(f'"{reference}": write credential:NAME as in LoadCredential=NAME:PATH')
        if self.credentials is None:
            raise ValueError(
                f'"{reference}" needs $CREDENTIALS_DIRECTORY, which systemd sets for '
                "LoadCredential=; without systemd give a file path"
            )
        return self.credentials / name

    def is_credential(self, path: Path) -> bool:
        return self.credentials is not None and path.is_relative_to(self.credentials)


def why_unreadable(path: Path) -> str | None:
    """One line on why this file cannot be read, or None if it can."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return _in_words(path, error)
    return None


def _in_words(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"{path} does not exist"
        case IsADirectoryError():
            return f"{path} is a directory"
        case PermissionError():
            return f"{path} may not be read by this user"
        case _:
            return f"{path}: {error.strerror}"


def exposure(path: Path) -> str | None:
    """Who else may read this file: "world", "group" or None."""
    mode = path.stat().st_mode
    if mode & stat.S_IROTH:
        return "world"
    return "group" if mode & stat.S_IRGRP else None


def read_secret(path: Path) -> Secret:
    """The secret in a file, less one trailing line end. Raises CredentialError.

    ``0x`` introduces hexadecimal and ``0s`` base64 text, as in strongSwan's swanctl.conf.
    """
    return Secret(_decode(path, _read_line(path)))


def _read_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_FILE_MAX + 1)
    except OSError as error:
        raise CredentialError(_in_words(path, error)) from None
    if len(data) > SECRET_FILE_MAX:
        raise CredentialError(f"{path} is too long for a secret (over {SECRET_FILE_MAX} octets)")
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        raise CredentialError(f"{path} is empty")
    return data


def read_psk(path: Path) -> Secret:
    """A pre-shared key of at least ``PSK_MIN`` octets. Raises CredentialError."""
    secret = read_secret(path)
    if len(secret) < PSK_MIN:
        raise CredentialError(
            f"{path}: the key has {len(secret)} octets, at least {PSK_MIN} are needed "
            "(make one with: openssl rand -base64 32)"
        )
    return secret


def read_cak(path: Path) -> Secret:
    """A CAK of 16 or 32 octets, in hexadecimal as wpa_supplicant takes it (``mka_cak``).

    Raises CredentialError, which tells nothing of what is in the file.
    """
    digits = _read_line(path).strip().removeprefix(b"0x")
    if len(digits) not in CAK_DIGITS or not _HEX.fullmatch(digits):
        raise CredentialError(
            f"{path}: a CAK is 32 or 64 hexadecimal digits (make one with: openssl rand -hex 32)"
        )
    return Secret(bytes.fromhex(digits.decode("ascii")))


def _decode(path: Path, data: bytes) -> bytes:
    try:
        if data.startswith(b"0x"):
            return bytes.fromhex(data[2:].decode("ascii"))
        if data.startswith(b"0s"):
            return base64.b64decode(data[2:], validate=True)
    except (ValueError, binascii.Error):
        kind = "hexadecimal" if data.startswith(b"0x") else "base64"
        raise CredentialError(f'{path}: not {kind} after "{data[:2].decode()}"') from None
    return data
