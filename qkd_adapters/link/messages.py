"""Messages between a KME and the link: the stand-in for a QKD device's own key interface.

A frame is a four-octet big-endian length and one MessagePack map, tagged by ``type``. The
connection is local (a Unix socket, or TCP inside the lab) and carries keys in the clear, as
the cable between a QKD device and its KME does inside one cabinet.

Hand-over of one key: the link sends ``Offer`` to both KMEs; each holds it undeliverable and
answers ``Accepted``; when both did, the link sends ``Settle(commit)`` to both, else
``Settle(discard)``. Whenever both KMEs are (again) connected the link takes stock
(``Survey``, ``Inventory``) and settles what only one of them holds.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Annotated, NamedTuple

import msgspec

from qkd_adapters.errors import LinkProtocolError

# Keys are handed to the KMEs in blocks of this size; the KME's default key_size.
BLOCK_BITS = 256

# An inventory of four directions with 10 000 keys each is 1.6 MB.
MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct("!I")


Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e12)]


class Direction(NamedTuple):
    """Keys the master SAE may ask for with enc_keys and the slave SAE with dec_keys."""

    master: str
    slave: str


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


# --- KME to link -------------------------------------------------------------------------


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """First message. ``pairs`` are (local SAE, remote SAE)."""

    kme: str
    peer: str
    pairs: tuple[tuple[str, str], ...]


class Inventory(_Message, frozen=True, kw_only=True, tag="inventory"):
    """Answer to Survey. ``delivered`` went to a master SAE and the peer may not know yet."""

    available: tuple[str, ...]
    pending: tuple[str, ...]
    delivered: tuple[str, ...]


class Room(_Message, frozen=True, kw_only=True, tag="room"):
    """The KME can take ``more`` further keys for this direction."""

    master: str
    slave: str
    more: int


class Accepted(_Message, frozen=True, kw_only=True, tag="accepted"):
    """The KME holds the offered key, or refuses it."""

    key_id: str
    ok: bool


# --- link to KME -------------------------------------------------------------------------


class Rejected(_Message, frozen=True, kw_only=True, tag="rejected"):
    """The Hello does not fit the link's configuration; the connection ends."""

    reason: str


class LinkState(_Message, frozen=True, kw_only=True, tag="state"):
    """State of the quantum link: ``up``, ``down`` or ``suspect``; also the heartbeat.

    ``since`` is RFC 3339, ``key_rate`` in 256-bit keys per second over all directions.
    ``suspect_age``: while suspect, how many seconds ago the link was last known to be good. A
    duration, so that no two clocks need agree; None where the link cannot tell.
    """

    state: str
    since: str
    alarms: tuple[str, ...]
    key_rate: float
    peer_connected: bool
    suspect_age: Seconds | None = None


class Survey(_Message, frozen=True, kw_only=True, tag="survey"):
    """Take stock: answer with Inventory and send no Room until the next Settle(final)."""


class Offer(_Message, frozen=True, kw_only=True, tag="offer"):
    """A new key, not deliverable before Settle(commit)."""

    key_id: str
    master: str
    slave: str
    key: bytes

    def __repr__(self) -> str:
        return f"Offer(key_id={self.key_id!r})"


class Settle(_Message, frozen=True, kw_only=True, tag="settle"):
    """Make pending keys available; drop keys that the peer does not hold.

    ``final`` ends a Survey: the KME answers with its whole Room and repeats its notices.
    """

    commit: tuple[str, ...] = ()
    discard: tuple[str, ...] = ()
    final: bool = False


class Quarantine(_Message, frozen=True, kw_only=True, tag="quarantine"):
    """Keys made while the link was suspect: drop them, and refuse who asks for them.

    The link repeats it to KMEs that come back; naming a key again changes nothing.
    """

    key_ids: tuple[str, ...]


# --- KME to KME, relayed by the link (the classical channel) -----------------------------


class Delivered(_Message, frozen=True, kw_only=True, tag="delivered"):
    """``parts`` of a direction went to the master SAE as one key of ``size`` bits.

    Every SAE in ``slave`` and ``additional`` may fetch its own copy once.
    """

    key_id: str
    master: str
    slave: str
    parts: tuple[str, ...]
    size: int
    additional: tuple[str, ...] = ()


class Expired(_Message, frozen=True, kw_only=True, tag="expired"):
    """Keys that grew too old before their master asked for them. ``key_id`` names the notice."""

    key_id: str
    master: str
    slave: str
    parts: tuple[str, ...]


class NoticeSeen(_Message, frozen=True, kw_only=True, tag="notice-seen"):
    """The peer KME has acted on the notice with this key_id."""

    key_id: str


Notice = Delivered | Expired
FromKme = Hello | Inventory | Room | Accepted | Delivered | Expired | NoticeSeen
FromLink = (
    Rejected | LinkState | Survey | Offer | Settle | Quarantine | Delivered | Expired | NoticeSeen
)

_encoder = msgspec.msgpack.Encoder()
decode_from_kme = msgspec.msgpack.Decoder(FromKme).decode
decode_from_link = msgspec.msgpack.Decoder(FromLink).decode


def frame(message: FromKme | FromLink) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One frame's body. Raises LinkProtocolError, or EOFError when the other end left."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_FRAME:
            raise LinkProtocolError(f"frame of {length} octets")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError("connection closed") from error
