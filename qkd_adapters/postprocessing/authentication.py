"""Wegman-Carter authentication of the classical channel, paid for with key, tag by tag.

The tag is Poly1305's: a polynomial over GF(2^130 - 5), evaluated at a secret point r that is the
same for the life of the pre-shared key, plus a one-time pad s of 128 bits that is never used twice.
With s from the key stock, not from a cipher, that is information-theoretically secure: a forger
succeeds with probability at most 8 ceil(L / 16) / 2^106 per attempt on a message of L octets
(Bernstein, FSE 2005; the pad hides r, so that it can stay): below 2^-80 for the longest message.

Pads come in chunks, number 0 from the pre-shared key and number b + 1 from block b. Each direction
has its own, so that the ends need no common order. A tag says which pad it used; pads that were
skipped over are lost, and none is ever used for a second tag.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.poly1305 import Poly1305

from kms_client.secret import Secret
from qkd_adapters.postprocessing.errors import (
    AuthenticationError,
    AuthSyncError,
    OutOfAuthKeyError,
)
from qkd_adapters.postprocessing.wire import Reader, Writer

TAG_BITS = 128
_TAG = TAG_BITS // 8
MIN_PSK = 256  # octets: the points of both directions and seven tags in each
# A block needs three tags per direction; an end may be ahead by what a lost block used.
_MAX_AHEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    chunk: int
    number: int  # of the pad in its chunk
    tag: bytes


@dataclass(slots=True)
class AuthAccount:
    """Bits of authentication key of one end, both directions: supplied = used + lost + left."""

    supplied: int = 0
    used: int = 0
    lost: int = 0


class _Pads:
    """The pads of one direction, oldest chunk first."""

    def __init__(self, account: AuthAccount) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._used: dict[int, int] = {}
        self._account = account

    def add(self, chunk: int, key: bytes) -> None:
        if chunk in self._chunks:
            raise ValueError(f"chunk {chunk} is there already")
        whole = len(key) - len(key) % _TAG
        self._chunks[chunk] = bytearray(key[:whole])
        self._used[chunk] = 0
        self._account.supplied += 8 * whole

    @property
    def left(self) -> int:
        """Bits."""
        return sum(8 * (len(key) - _TAG * self._used[chunk]) for chunk, key in self._items())

    def next(self) -> tuple[int, int]:
        """Chunk and number of the pad that is due. Raises OutOfAuthKeyError."""
        for chunk, key in self._items():
            if _TAG * self._used[chunk] < len(key):
                return chunk, self._used[chunk]
        raise OutOfAuthKeyError(TAG_BITS, 0)

    def look(self, chunk: int, number: int) -> bytes:
        """The pad, which stays. Raises AuthSyncError for one that is unknown or used."""
        key = self._chunks.get(chunk)
        if key is None:
            raise AuthSyncError(f"tag with key of chunk {chunk}, which is not here")
        if number < self._used[chunk] or _TAG * (number + 1) > len(key):
            raise AuthSyncError(f"tag with pad {number} of chunk {chunk}: used, or not there")
        return bytes(key[_TAG * number : _TAG * (number + 1)])

    def take(self, chunk: int, number: int) -> None:
        """Pads up to this one are gone; those before it unused."""
        before = self.left
        for older in [each for each in self._chunks if each < chunk]:
            self.drop(older)
        self._advance(chunk, number + 1)
        self._account.lost += before - self.left - TAG_BITS
        self._account.used += TAG_BITS

    def align(self, peer: dict[int, int]) -> set[int]:
        """Forget what the peer does not have or has used; the chunks that went.

        Raises AuthSyncError, with nothing changed, for what cannot come of a lost block.
        """
        gone = self._chunks.keys() - peer.keys()
        for chunk in gone:
            passed = chunk < min(peer, default=-1)  # the peer is through with it, we nearly
            left = len(self._chunks[chunk]) // _TAG - self._used[chunk]
            if not (passed and left <= _MAX_AHEAD) and chunk != max(self._chunks):
                raise AuthSyncError("the peer lacks authentication key of confirmed blocks")
        if gone == self._chunks.keys():
            raise AuthSyncError("the peer has none of our authentication key")
        kept = self._chunks.keys() & peer.keys()
        if any(peer[chunk] > self._used[chunk] + _MAX_AHEAD for chunk in kept):
            raise AuthSyncError("the peer claims to have used far more authentication key")
        before = self.left
        for chunk in gone:
            self.drop(chunk)
        for chunk in kept:
            self._advance(chunk, max(peer[chunk], self._used[chunk]))
        self._account.lost += before - self.left
        return gone

    def drop(self, chunk: int) -> None:
        key = self._chunks.pop(chunk)
        key[:] = bytes(len(key))
        del self._used[chunk]

    def state(self) -> dict[int, int]:
        return dict(self._used)

    def _advance(self, chunk: int, used: int) -> None:
        key = self._chunks[chunk]
        used = min(used, len(key) // _TAG)
        key[: _TAG * used] = bytes(_TAG * used)
        self._used[chunk] = used

    def _items(self) -> list[tuple[int, bytearray]]:
        return sorted(self._chunks.items())


class Authenticator:
    """Tags what one end sends, checks what it receives. ``first``: this end is the sender.

    Both ends are made with the same ``psk`` of at least ``MIN_PSK`` octets, which is used up.
    """

    def __init__(self, *, first: bool, psk: Secret) -> None:
        if len(psk) < MIN_PSK:
            raise ValueError(f"a pre-shared key of {len(psk)} octets; {MIN_PSK} are the least")
        key = psk.expose()
        points = (key[:_TAG], key[_TAG : 2 * _TAG])
        self._point_out, self._point_in = (Secret(each) for each in points[:: 1 if first else -1])
        self._first = first
        self.account = AuthAccount(supplied=8 * 2 * _TAG, used=8 * 2 * _TAG)
        self._out = _Pads(self.account)
        self._in = _Pads(self.account)
        self.replenish(0, key[2 * _TAG :])
        psk.wipe()

    def replenish(self, chunk: int, key: bytes) -> None:
        """Half of ``key`` for each direction; an odd rest is not used."""
        half = len(key) // 2 // _TAG * _TAG
        parts = (key[:half], key[half : 2 * half])
        for pads, part in zip(
            (self._out, self._in), parts[:: 1 if self._first else -1], strict=True
        ):
            pads.add(chunk, part)

    @property
    def left(self) -> tuple[int, int]:
        """Bits to send and to receive with."""
        return self._out.left, self._in.left

    def require(self, tags: int) -> None:
        """Raises OutOfAuthKeyError unless so many tags can be made and as many checked."""
        if min(self.left) < tags * TAG_BITS:
            raise OutOfAuthKeyError(tags * TAG_BITS, min(self.left))

    def tag(self, message: bytes) -> Tag:
        """Raises OutOfAuthKeyError."""
        chunk, number = self._out.next()
        value = _poly1305(self._point_out, self._out.look(chunk, number), message)
        self._out.take(chunk, number)
        return Tag(chunk=chunk, number=number, tag=value)

    def check(self, message: bytes, tag: Tag) -> None:
        """Raises AuthenticationError; the pad is then still there, for the genuine message."""
        pad = self._in.look(tag.chunk, tag.number)
        if not hmac.compare_digest(_poly1305(self._point_in, pad, message), tag.tag):
            raise AuthenticationError("authentication tag does not fit: channel tampered with")
        self._in.take(tag.chunk, tag.number)

    def inventory(self) -> bytes:
        """For the peer, after every connect."""
        out = Writer()
        for state in (self._out.state(), self._in.state()):
            out.number(len(state), 2)
            for chunk, used in sorted(state.items()):
                out.number(chunk)
                out.number(used, 4)
        return out.finish()

    def align(self, peer: bytes) -> tuple[int, ...]:
        """Forget what the peer does not have; the numbers of chunks that went.

        The peer's word is not authenticated here, so it can cost some key but never make a pad be
        used twice. What cannot come of lost blocks is refused: AuthSyncError, PeerMessageError.
        """
        source = Reader(peer)
        theirs = [
            {source.number(): source.number(4) for _ in range(source.number(2))} for _ in range(2)
        ]
        source.end()
        gone = {*self._out.align(theirs[1]), *self._in.align(theirs[0])}
        return tuple(sorted(gone))


def _poly1305(point: Secret, pad: bytes, message: bytes) -> bytes:
    return Poly1305.generate_tag(point.expose() + pad, message)
