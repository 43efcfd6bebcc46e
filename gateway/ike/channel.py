"""Sealing and opening the messages of one IKE SA, generation by generation of its keys.

The keys change after every IKE_INTERMEDIATE that carries a key exchange or a PPK. A request
of the generation before may still come again, so its opener is kept until the next change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.crypto.aead import IkeAead
from gateway.crypto.secret import Secret
from gateway.errors import QsgwError
from gateway.ike.encrypted import (
    CounterIv,
    Envelope,
    Inner,
    Reassembler,
    find_encrypted,
    open_fragment,
    open_message,
    seal,
)
from gateway.ike.errors import FragmentError
from gateway.ike.fragments import FragmentShare
from gateway.ike.keymat import IkeKeys
from gateway.ike.message import Header
from gateway.ike.payloads import Payload
from gateway.ike.registry import EncryptionId
from gateway.model import Role


class NotEncryptedError(QsgwError):
    """A message that must be protected is not."""


@dataclass(frozen=True, slots=True)
class _Generation:
    sealer: IkeAead
    opener: IkeAead
    ivs: CounterIv


class Channel:
    """Both directions of one IKE SA."""

    __slots__ = (
        "_current",
        "_encryption",
        "_fragments",
        "_last_sealing_key",
        "_previous",
        "_requests",
        "_responses",
        "_role",
    )

    def __init__(
        self,
        role: Role,
        encryption: EncryptionId,
        keys: IkeKeys,
        *,
        memory: FragmentShare,
        fragments: bool,
    ) -> None:
        """``fragments``: both sides can do RFC 7383."""
        self._role = role
        self._encryption = encryption
        self._fragments = fragments
        self._requests = Reassembler(memory)
        self._responses = Reassembler(memory)
        self._previous: _Generation | None = None
        self._last_sealing_key: Secret | None = None
        self._current = self._generation(keys)

    def rotate(self, keys: IkeKeys) -> None:
        """New SK_ei and SK_er from now on."""
        self._previous = self._current
        self._current = self._generation(keys)
        self.forget_fragments()

    def forget_fragments(self) -> None:
        """Messages that are not whole yet never will be."""
        self._requests.clear()
        self._responses.clear()

    def seal(
        self,
        header: Header,
        payloads: Sequence[Payload],
        *,
        fragment_size: int | None,
        ip_version: int,
        again: bool = False,
    ) -> tuple[bytes, ...]:
        """The datagrams of one message, under the current keys.

        ``again``: of an answer that went out before, under the keys it was sealed with then,
        which are those of its request (see ``is_retransmission``). Their IVs go on.
        """
        generation = (self._previous if again else None) or self._current
        return tuple(
            seal(
                header,
                payloads,
                generation.sealer,
                generation.ivs,
                fragment_size,
                ip_version=ip_version,
            )
        )

    def open(self, data: bytes, header: Header) -> Inner | None:
        """The message's content, or None while fragments are missing.

        NotEncryptedError where it is in the clear, CryptoError where the ICV does not verify,
        ProtocolError where the outside is malformed, FragmentError where it is to be dropped.
        """
        envelope = self._envelope(data, header)
        opener = self._current.opener
        if not envelope.fragment:
            return open_message(data, opener, envelope)
        reassembler = self._responses if header.response else self._requests
        return reassembler.add(data, opener, envelope)

    def is_retransmission(self, data: bytes, header: Header) -> bool:
        """Whether this is the answered request again, and the answer is due for it.

        It is opened with the keys in force when it came first: the current ones, or those
        before them where its answer changed the keys. Errors as ``open``.
        """
        envelope = self._envelope(data, header)
        if envelope.fragment and envelope.number != 1:  # RFC 7383 2.6.1
            return False
        generation = self._previous or self._current
        opener = open_fragment if envelope.fragment else open_message
        opener(data, generation.opener, envelope)
        return True

    def settle_keys(self) -> None:
        """A request was answered under the current keys: the ones before are history."""
        self._previous = None

    def _generation(self, keys: IkeKeys) -> _Generation:
        ours, theirs = keys.sk_ei, keys.sk_er
        if self._role is Role.RESPONDER:
            ours, theirs = theirs, ours
        if ours == self._last_sealing_key:
            # The IV counter starts anew with a generation: the same key would see one twice.
            raise RuntimeError("key generation changed without a new key")
        self._last_sealing_key = ours
        return _Generation(
            IkeAead(ours, self._encryption), IkeAead(theirs, self._encryption), CounterIv()
        )

    def _envelope(self, data: bytes, header: Header) -> Envelope:
        envelope = find_encrypted(data, header)
        if envelope is None:
            raise NotEncryptedError("message is not encrypted")
        if envelope.fragment and not self._fragments:  # RFC 7383 2.3
            raise FragmentError("a fragment, and fragmentation was not agreed on")
        return envelope
