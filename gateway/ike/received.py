"""Typed access to the payloads of one received message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gateway.crypto.prf import Prf
from gateway.ike.payloads import NoncePayload, NotifyPayload, Payload, TsPayload
from gateway.ike.registry import FIRST_STATUS, NotifyType
from gateway.ike.wire import syntax_error

PayloadT = TypeVar("PayloadT")


class Received:
    """The payloads of one message. Notifies we do not know are simply never asked for."""

    __slots__ = ("_payloads",)

    def __init__(self, payloads: Sequence[Payload]) -> None:
        self._payloads = tuple(payloads)

    def find(self, kind: type[PayloadT]) -> PayloadT | None:
        """The only payload of this kind, or None. ProtocolError(INVALID_SYNTAX) if two."""
        found = self.all(kind)
        if len(found) > 1:
            raise syntax_error(f"{len(found)} {_name(kind)} payloads")
        return found[0] if found else None

    def need(self, kind: type[PayloadT]) -> PayloadT:
        """The only payload of this kind. ProtocolError(INVALID_SYNTAX) if there is none."""
        found = self.find(kind)
        if found is None:
            raise syntax_error(f"{_name(kind)} payload is missing")
        return found

    def all(self, kind: type[PayloadT]) -> list[PayloadT]:
        return [payload for payload in self._payloads if isinstance(payload, kind)]

    def nonce(self, prf: Prf) -> bytes:
        """ProtocolError(INVALID_SYNTAX) where it is missing or too short for this PRF."""
        nonce = self.need(NoncePayload).data
        if 2 * len(nonce) < prf.key_size:  # RFC 7296 2.10: at least half the key size
            raise syntax_error(f"nonce of {len(nonce)} octets is too short for the PRF")
        return nonce

    def selectors(self) -> tuple[TsPayload, TsPayload]:
        """TSi and TSr. ProtocolError(INVALID_SYNTAX) unless there is one of each."""
        both = self.all(TsPayload)
        of_initiator = [payload for payload in both if payload.initiator]
        of_responder = [payload for payload in both if not payload.initiator]
        if len(of_initiator) != 1 or len(of_responder) != 1:
            raise syntax_error("not one TSi and one TSr payload")
        return of_initiator[0], of_responder[0]

    def notifies(self, kind: NotifyType) -> list[NotifyPayload]:
        return [payload for payload in self.all(NotifyPayload) if payload.type == kind]

    def notify(self, kind: NotifyType) -> NotifyPayload | None:
        """The first notify of this type."""
        found = self.notifies(kind)
        return found[0] if found else None

    def has(self, kind: NotifyType) -> bool:
        return self.notify(kind) is not None

    def error(self) -> NotifyPayload | None:
        """The first notify that reports an error (RFC 7296 3.10.1: below 16384)."""
        for payload in self.all(NotifyPayload):
            if payload.type < FIRST_STATUS:
                return payload
        return None


def _name(kind: type[object]) -> str:
    return kind.__name__.removesuffix("Payload")
