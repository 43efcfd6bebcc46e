"""What goes out over MQTT: the snapshot and its parts as JSON, QKD key_IDs left out by default."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.model import Snapshot, StatusEvent

SCHEMA = 1
PARTS = {"tunnel": "tunnels", "macsec": "macsec"}  # member of the snapshot by first topic level
WITHHELD = "(key_ID withheld)"
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAMES = frozenset(  # may be UUIDs themselves
    {"peer_sae", "local_id", "remote_id", "name", "connection", "link", "url"}
)


def snapshot_payloads(snapshot: Snapshot, *, key_ids: bool) -> tuple[bytes, dict[str, bytes]]:
    """The whole snapshot, and each tunnel and link by its topic, as UTF-8 JSON."""
    whole = _plain(snapshot, key_ids=key_ids)
    head = {key: whole[key] for key in ("schema", "gateway", "time")}
    parts = {
        f"{topic}/{one['name']}": msgspec.json.encode({**head, topic: one})
        for topic, member in PARTS.items()
        for one in whole[member]
    }
    return msgspec.json.encode(whole), parts


def event_payload(event: StatusEvent, *, key_ids: bool) -> bytes:
    """One event as UTF-8 JSON."""
    return msgspec.json.encode({"schema": SCHEMA, **_plain(event, key_ids=key_ids)})


def _plain(value: object, *, key_ids: bool) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain if key_ids else _withheld(plain)


def _withheld(value: Any, key: str = "") -> Any:
    """Members called key_id become null; a UUID in running text is cut out."""
    match value:
        case dict():
            return {name: _withheld(member, name) for name, member in value.items()}
        case list() | tuple():
            return [_withheld(member, key) for member in value]
        case str() if key == "key_id":
            return None
        case str() if key not in _NAMES:
            return _UUID.sub(WITHHELD, value)
        case _:
            return value
