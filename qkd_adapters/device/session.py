"""Frames of one session on the classical channel, in and out. No I/O.

Two kinds of frames. ``BLOCK`` carries a message of the post-processing as it is: those are
authenticated phase by phase with Wegman-Carter tags, which cost pad. ``SIGNED`` carries our own
messages about blocks and keys under HMAC-SHA-256 with a key of this session: a tag each would
eat more key than is made, and no secrecy hangs on them. Each SIGNED frame has its number, so
none can be left out, repeated or reordered.
"""

from __future__ import annotations

import hmac
from enum import Enum

import msgspec

from kms_client.secret import Secret
from qkd_adapters.device import messages
from qkd_adapters.device.handshake import SessionKeys
from qkd_adapters.errors import ChannelTamperedError
from qkd_adapters.records import Role

_MAC = 32  # octets


class Kind(bytes, Enum):
    """First octet of a frame."""

    BLOCK = b"B"
    SIGNED = b"S"


class Session:
    """One end of a session; ``wipe`` when it ends."""

    def __init__(self, role: Role, keys: SessionKeys) -> None:
        self.epoch = keys.epoch
        self.region = keys.region
        self._key: Secret = keys.sign
        self._out = role.value.encode()
        self._in = (Role.BOB if role is Role.ALICE else Role.ALICE).value.encode()
        self._sent = 0
        self._received = 0

    def sign(self, message: messages.Message) -> bytes:
        """A frame's body."""
        body = messages.encode(message)
        mac = self._mac(self._out, self._sent, body)
        self._sent += 1
        return Kind.SIGNED.value + mac + body

    @staticmethod
    def block(message: bytes) -> bytes:
        """A frame's body around a message of the post-processing."""
        return Kind.BLOCK.value + message

    def open(self, body: bytes) -> messages.Message:
        """The message in a SIGNED frame. Raises ChannelTamperedError."""
        kind, mac, text = body[:1], body[1 : 1 + _MAC], body[1 + _MAC :]
        if kind != Kind.SIGNED.value:
            raise ChannelTamperedError("a frame of no known kind")
        if not hmac.compare_digest(mac, self._mac(self._in, self._received, text)):
            raise ChannelTamperedError("a message does not carry the peer's HMAC")
        self._received += 1
        try:
            message: messages.Message = messages.decode(text)
        except msgspec.DecodeError as error:
            # The peer itself said it: not an attack, but nothing to go on with either.
            raise ChannelTamperedError(f"a message we cannot read: {error}") from error
        return message

    def wipe(self) -> None:
        self._key.wipe()
        if self.region is not None:
            self.region.wipe()

    def _mac(self, speaker: bytes, number: int, body: bytes) -> bytes:
        text = speaker + number.to_bytes(8, "big") + body
        return hmac.digest(self._key.expose(), text, "sha256")
