"""The secret two devices share before their first photon, and how none of it is used twice.

The file holds ``HANDSHAKE_KEY`` octets that key the handshake's HMAC, then regions of
``REGION`` octets, numbered from 0. A region is the first stock of one-time pad for two processes
that meet for the first time; no other two ever get it: before the first bit of it is used, the
number of the next free region is on the disk. Both ends start from the higher of their two
numbers, so a crash or a lost disk write costs at most regions, never a second use.

Two processes that lose their connection and find each other again go on with the pads they
hold (``handshake``): only restarts cost regions.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

import msgspec

from kms_client.secret import Secret
from qkd_adapters.errors import BootstrapError, KmeStartupError

HANDSHAKE_KEY = 32  # octets
REGION = 1024  # octets; a block's tags take about 100 until the first key refills the stock
_MAX_FILE = 64 * 1024 * 1024


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    psk: str
    next_region: int


def make_psk(path: Path, regions: int) -> None:
    """Write a new secret for two devices, mode 0600. Raises KmeStartupError if it exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(HANDSHAKE_KEY + regions * REGION))
    except OSError as error:
        raise KmeStartupError(f"cannot write {path}: {error.strerror}") from error


class Bootstrap:
    """The file, and the number of its next free region in a second file beside it."""

    def __init__(self, psk: Path, state: Path) -> None:
        """Raises KmeStartupError."""
        self._state_file = state
        data = _read(psk)
        self.regions, rest = divmod(len(data) - HANDSHAKE_KEY, REGION)
        if self.regions < 1 or rest:
            raise KmeStartupError(
                f"{psk}: {len(data)} octets; {HANDSHAKE_KEY} and a multiple of {REGION} are wanted"
            )
        self.handshake_key = Secret(data[:HANDSHAKE_KEY])
        self._pad = Secret(data[HANDSHAKE_KEY:])
        self._fingerprint = hmac.digest(data[:HANDSHAKE_KEY], b"qsgw psk", "sha256").hex()[:16]
        self.next_region = self._load()

    @property
    def left(self) -> int:
        return max(self.regions - self.next_region, 0)

    def claim(self, region: int) -> Secret:
        """The region's octets, now used. Raises BootstrapError for one that is not free."""
        if region < self.next_region:
            raise BootstrapError(f"region {region} of the bootstrap secret was used before")
        if region >= self.regions:
            raise BootstrapError(f"the bootstrap secret has no region {region}: it is used up")
        self._store(region + 1)
        start = region * REGION
        return Secret(self._pad.expose()[start : start + REGION])

    def wipe(self) -> None:
        self.handshake_key.wipe()
        self._pad.wipe()

    def _load(self) -> int:
        try:
            state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except FileNotFoundError:
            return 0
        except (OSError, msgspec.DecodeError) as error:
            # To start from 0 here might use pad twice.
            raise KmeStartupError(f"{self._state_file}: cannot be read: {error}") from error
        return state.next_region if state.psk == self._fingerprint else 0

    def _store(self, next_region: int) -> None:
        state = _State(psk=self._fingerprint, next_region=next_region)
        fresh = self._state_file.with_name(self._state_file.name + ".new")
        try:
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(state))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._state_file)
            _sync_directory(self._state_file.parent)
        except OSError as error:
            raise BootstrapError(f"cannot write {self._state_file}: {error.strerror}") from error
        self.next_region = next_region


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise KmeStartupError(f"{path}: others may read it; its mode must be 0600")
            return file.read(_MAX_FILE)
    except OSError as error:
        raise KmeStartupError(f"{path}: {error.strerror}") from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
