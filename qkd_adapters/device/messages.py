"""What the two devices say to each other about blocks and keys. No key bytes, ever.

Every message is signed with the session's HMAC key (``session``). The post-processing's own
messages are not among these: they are authenticated with Wegman-Carter tags.
"""

from __future__ import annotations

import msgspec

from qkd_adapters.records import Monitor


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Ping(_Message, frozen=True, kw_only=True, tag="ping"):
    """``at`` is the sender's own clock; the answer brings it back."""

    at: float


class Pong(_Message, frozen=True, kw_only=True, tag="pong"):
    at: float


class Seen(_Message, frozen=True, kw_only=True, tag="seen"):
    """Bob to Alice: a block arrived at my detectors, and this is how they were."""

    block: int  # as the optics number it
    start: float
    detections: int
    double: int
    clicks: tuple[int, int, int, int]  # Z0 Z1 X0 X1
    arrival_mean: float  # ps
    arrival_std: float  # ps
    monitor: Monitor
    random: bool  # the health tests of my random numbers passed


class Stock(_Message, frozen=True, kw_only=True, tag="stock"):
    """Either to the other when a session begins: which authentication key I hold, by name."""

    body: bytes


class Start(_Message, frozen=True, kw_only=True, tag="start"):
    """Alice to Bob: we both have this light, let us work on it as block ``number``."""

    number: int
    block: int
    start: float


class Missing(_Message, frozen=True, kw_only=True, tag="missing"):
    """Bob to Alice: I no longer have the light of this block; nothing was begun here."""

    number: int


class Done(_Message, frozen=True, kw_only=True, tag="done"):
    """Bob to Alice: I hold the keys of this block."""

    number: int


class Failed(_Message, frozen=True, kw_only=True, tag="failed"):
    """Bob to Alice: I gave the block up, and end the session.

    ``tampered``: because what came was not what Alice can have sent.
    """

    reason: str
    tampered: bool


class Forget(_Message, frozen=True, kw_only=True, tag="forget"):
    """Alice to Bob: wipe your copies of these keys, they will not be handed over."""

    key_ids: tuple[str, ...]


class KmeSaid(_Message, frozen=True, kw_only=True, tag="kme-said"):
    """Bob to Alice: a message of Bob's KME, encoded as on its own connection."""

    body: bytes


class KmeLost(_Message, frozen=True, kw_only=True, tag="kme-lost"):
    """Bob to Alice: my KME is not connected (any more)."""


class TellKme(_Message, frozen=True, kw_only=True, tag="tell-kme"):
    """Alice to Bob: pass this on to your KME; the key of an Offer is yours to fill in."""

    body: bytes


Message = (
    Ping
    | Pong
    | Seen
    | Stock
    | Start
    | Missing
    | Done
    | Failed
    | Forget
    | KmeSaid
    | KmeLost
    | TellKme
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode
