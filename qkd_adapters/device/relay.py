"""Bob's side of handing keys over: passes messages on, and fills in the keys, which he has."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from kms_client.secret import Secret
from qkd_adapters.device.messages import KmeLost, KmeSaid, Message
from qkd_adapters.link.messages import (
    Accepted,
    FromKme,
    FromLink,
    Hello,
    LinkState,
    Offer,
    decode_from_link,
)

# More than Alice keeps waiting, so that a key she offers is here.
MAX_HELD = 8192

_encode = msgspec.msgpack.Encoder().encode


class Relay:
    """No I/O of its own. ``book`` is told how many keys were handed over, and given up."""

    def __init__(
        self,
        *,
        tell_kme: Callable[[FromLink], None],
        tell_alice: Callable[[Message], None],
        book: Callable[[int, int], None] = lambda _delivered, _discarded: None,
    ) -> None:
        self._tell_kme = tell_kme
        self._tell_alice = tell_alice
        self._book = book
        self._hello: Hello | None = None
        self._held: dict[str, tuple[int, Secret]] = {}
        self.state: LinkState | None = None  # as Alice said it last, in this session
        self.handed_over = 0
        self.dropped = 0

    @property
    def held(self) -> int:
        return len(self._held)

    # --- keys ---

    def hold(self, block: int, keys: Iterable[tuple[str, Secret]]) -> None:
        for key_id, key in keys:
            self._held[key_id] = (block, key)
        while len(self._held) > MAX_HELD:
            self.forget([next(iter(self._held))])

    def forget(self, key_ids: Iterable[str]) -> None:
        for key_id in key_ids:
            entry = self._held.pop(key_id, None)
            if entry is not None:
                entry[1].wipe()
                self.dropped += 1
                self._book(0, 1)

    def forget_blocks(self, blocks: Iterable[int]) -> None:
        wanted = set(blocks)
        self.forget([key_id for key_id, (block, _) in self._held.items() if block in wanted])

    def forget_all(self) -> None:
        self.forget(list(self._held))

    # --- Alice and the KME ---

    def session_began(self) -> None:
        """Alice takes stock anew, as if the KME had just come."""
        if self._hello is not None:
            self._pass(self._hello)

    def session_ended(self) -> None:
        self.state = None

    def kme_said(self, message: FromKme) -> None:
        if isinstance(message, Hello):
            self._hello = message
        self._pass(message)

    def kme_lost(self) -> None:
        self._hello = None
        self._tell_alice(KmeLost())

    def alice_said(self, body: bytes) -> None:
        """A message for the KME. Raises msgspec.DecodeError."""
        message = decode_from_link(body)
        match message:
            case Offer():
                self._offer(message)
            case LinkState():
                self.state = message
                self._tell_kme(message)
            case _:
                self._tell_kme(message)

    def _offer(self, offer: Offer) -> None:
        entry = self._held.pop(offer.key_id, None)
        if entry is None:
            # Refused in the KME's name: then neither KME keeps the key.
            self._pass(Accepted(key_id=offer.key_id, ok=False))
            return
        _, key = entry
        self._tell_kme(msgspec.structs.replace(offer, key=key.expose()))
        key.wipe()
        self.handed_over += 1
        self._book(1, 0)

    def _pass(self, message: FromKme) -> None:
        self._tell_alice(KmeSaid(body=_encode(message)))
