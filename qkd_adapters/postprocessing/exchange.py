"""The conversation of one block at one end: messages in order, a tag over each phase."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing.authentication import TAG_BITS, Authenticator, Tag
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.messages import Phase
from qkd_adapters.postprocessing.outcome import End
from qkd_adapters.postprocessing.randomness import Rng
from qkd_adapters.postprocessing.settings import Settings

M = TypeVar("M", bound=wire.Message)
N = TypeVar("N", bound=wire.Message)
T = TypeVar("T")
Steps = Generator[list[bytes], wire.Message, T]
"""Yields what is to be sent, is sent the next message, returns a result."""

_LABEL = b"qsgw post-processing\x00"


class Exchange:
    """``settings`` and ``rng`` ride along for the steps."""

    def __init__(
        self, *, end: End, block: int, settings: Settings, authenticator: Authenticator, rng: Rng
    ) -> None:
        self.end = end
        self.block = block
        self.settings = settings
        self.rng = rng
        self.auth_bits_used = 0
        self._authenticator = authenticator
        self._outbox: list[bytes] = []
        self._sent: list[bytes] = []  # since the last tag
        self._received: list[bytes] = []

    def flush(self) -> list[bytes]:
        """What is to be sent, once."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def note(self, data: bytes) -> wire.Message:
        """A message that came in. Raises PeerMessageError."""
        message = wire.decode(data)
        if message.block != self.block:
            raise PeerMessageError(f"message about block {message.block}, this is {self.block}")
        if not isinstance(message, wire.PhaseTag):
            self._received.append(data)
        return message

    def send(self, message: wire.Body) -> None:
        data = wire.encode(message)
        self._outbox.append(data)
        self._sent.append(data)

    def expect(self, kind: type[M]) -> Steps[M]:
        """The next message, which must be of this type."""
        return (yield from self.either(kind, kind))

    def either(self, kind: type[M], other: type[N]) -> Steps[M | N]:
        """The next message, which must be of one of these types."""
        message = yield self.flush()
        if not isinstance(message, (kind, other)):
            raise PeerMessageError(f"{type(message).__name__} has no place here")
        return message

    def send_tag(self, phase: Phase) -> None:
        """Over all this end sent since its last tag. Raises OutOfAuthKeyError."""
        tag = self._authenticator.tag(self._transcript(phase, self.end, self._sent))
        self._sent.clear()
        self.auth_bits_used += TAG_BITS
        self._outbox.append(
            wire.encode(
                wire.PhaseTag(
                    block=self.block,
                    phase=phase,
                    chunk=tag.chunk,
                    number=tag.number,
                    tag=tag.tag,
                )
            )
        )

    def check_tag(self, phase: Phase) -> Steps[None]:
        """Wait for the peer's tag. Raises AuthenticationError."""
        message = yield from self.expect(wire.PhaseTag)
        self.verify(message, phase)

    def verify(self, message: wire.PhaseTag, phase: Phase) -> None:
        """The peer's tag over all it sent since its last. Raises AuthenticationError."""
        if message.phase is not phase:
            raise PeerMessageError(f"tag of phase {message.phase.name} in {phase.name}")
        peer = End.RECEIVER if self.end is End.SENDER else End.SENDER
        self._authenticator.check(
            self._transcript(phase, peer, self._received),
            Tag(chunk=message.chunk, number=message.number, tag=message.tag),
        )
        self._received.clear()
        self.auth_bits_used += TAG_BITS

    def require_key(self, tags: int) -> None:
        """Raises OutOfAuthKeyError unless so many tags can be made and checked."""
        self._authenticator.require(tags)

    def _transcript(self, phase: Phase, end: End, messages: list[bytes]) -> bytes:
        """What a tag covers: where it belongs and every message, each with its length."""
        name = self.settings.link.encode()
        parts = [
            _LABEL,
            len(name).to_bytes(4, "big") + name,
            self.block.to_bytes(8, "big") + phase.to_bytes(1, "big"),
            end.value[:1].encode(),
        ]
        for message in messages:
            parts += [len(message).to_bytes(8, "big"), message]
        return b"".join(parts)
