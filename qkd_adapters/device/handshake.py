"""How two devices begin a session on their classical channel. No I/O, no clock.

Alice speaks first::

    A -> B   Hello A
    B -> A   Hello B, HMAC("bob", Hello A, Hello B)
    A -> B   HMAC("alice", Hello A, Hello B)

Both Hellos carry a fresh nonce, so an old answer is worth nothing. The HMAC is keyed from the
bootstrap secret; it keeps strangers from making us burn pad. It is computational, and the
secrecy of keys does not hang on it: an attacker who could forge it can make the two ends choose
pads that do not fit, and then no tag fits either. That no pad is used twice rests on each
end's own account of what it used.

Pads live in *epochs*. An epoch begins when two processes meet that do not hold the pads of a
common one: with a region of the bootstrap secret. It ends when either forgets it: with its
process, or because it ran out of pad. A lost connection does not end it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

import msgspec

from kms_client.secret import Secret
from qkd_adapters.device.bootstrap import Bootstrap
from qkd_adapters.errors import HandshakeError
from qkd_adapters.records import Role

VERSION = 1
_NONCE = 16  # octets
_EPOCH_NAME = 16  # characters at most


class Hello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``epoch``: whose pads the speaker holds, or nothing."""

    version: int
    link: str
    role: Role
    nonce: bytes
    epoch: str
    next_region: int


class _Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    hello: bytes
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKeys:
    """``sign`` keys the HMAC of the devices' own messages.

    ``region``: where a new epoch begins, its first pad; None where the old one goes on.
    ``epoch``: its name; no other epoch of any link has it, so a block number that comes again
    after a restart names no key twice.
    """

    sign: Secret
    epoch: str
    region: Secret | None


class Handshake:
    """One end of one handshake. Alice: ``hello``, ``finish``. Bob: ``answer``, ``check``."""

    def __init__(self, *, link: str, role: Role, epoch: str, bootstrap: Bootstrap) -> None:
        self._link = link
        self._role = role
        self._epoch = epoch
        self._bootstrap = bootstrap
        self._own = msgspec.msgpack.encode(
            Hello(
                version=VERSION,
                link=link,
                role=role,
                nonce=secrets.token_bytes(_NONCE),
                epoch=epoch,
                next_region=bootstrap.next_region,
            )
        )
        self._peer = b""

    # --- Alice ---

    def hello(self) -> bytes:
        return self._own

    def finish(self, answer: bytes) -> tuple[bytes, SessionKeys]:
        """Last message and the keys. Raises HandshakeError, BootstrapError."""
        try:
            wire = msgspec.msgpack.decode(answer, type=_Answer)
        except msgspec.DecodeError as error:
            raise HandshakeError(f"not an answer: {error}") from error
        self._peer = wire.hello
        if not hmac.compare_digest(wire.mac, self._mac(b"bob")):
            raise HandshakeError("the answer is not from the holder of the bootstrap secret")
        keys = self._choose()
        return self._mac(b"alice"), keys

    # --- Bob ---

    def answer(self, hello: bytes) -> bytes:
        """Raises HandshakeError."""
        self._peer = hello
        _parse(hello, self._link, Role.ALICE)
        return msgspec.msgpack.encode(_Answer(self._own, self._mac(b"bob")))

    def check(self, confirmation: bytes) -> SessionKeys:
        """Raises HandshakeError, BootstrapError."""
        if not hmac.compare_digest(confirmation, self._mac(b"alice")):
            raise HandshakeError("the caller does not hold the bootstrap secret")
        return self._choose()

    # --- both ---

    @property
    def _transcript(self) -> bytes:
        first, second = self._own, self._peer
        if self._role is Role.BOB:
            first, second = second, first
        return len(first).to_bytes(4, "big") + first + second

    def _mac(self, label: bytes) -> bytes:
        key = self._bootstrap.handshake_key.expose()
        return hmac.digest(key, label + b"\0" + self._transcript, "sha256")

    def _choose(self) -> SessionKeys:
        other = Role.BOB if self._role is Role.ALICE else Role.ALICE
        peer = _parse(self._peer, self._link, other)
        sign = Secret(self._mac(b"sign"))
        if self._epoch and peer.epoch == self._epoch:
            return SessionKeys(sign=sign, epoch=self._epoch, region=None)
        number = max(self._bootstrap.next_region, peer.next_region)
        name = hashlib.sha256(self._transcript).hexdigest()[:_EPOCH_NAME]
        return SessionKeys(sign=sign, epoch=name, region=self._bootstrap.claim(number))


def _parse(data: bytes, link: str, role: Role) -> Hello:
    try:
        hello = msgspec.msgpack.decode(data, type=Hello)
    except msgspec.DecodeError as error:
        raise HandshakeError(f"not a Hello: {error}") from error
    if hello.version != VERSION:
        raise HandshakeError(f"the peer speaks version {hello.version}, we speak {VERSION}")
    if (hello.link, hello.role) != (link, role):
        raise HandshakeError(f"this is {hello.role} of {hello.link!r}, not {role} of {link!r}")
    if len(hello.epoch) > _EPOCH_NAME or hello.next_region < 0:
        raise HandshakeError("a Hello out of bounds")
    return hello
