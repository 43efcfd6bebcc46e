"""What goes out over MQTT: the snapshot and its parts as JSON, QKD key_IDs left out by default."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.model import Snapshot, StatusEvent

SCHEMA = 1
WITHHELD = "(key_ID withheld)"
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAMES = frozenset({"peer_sae", "local_id", "remote_id", "name", "url"})  # may be UUIDs themselves


def snapshot_payloads(snapshot: Snapshot, *, key_ids: bool) -> tuple[bytes, dict[str, bytes]]:
    """The whole snapshot, and each tunnel by name, as UTF-8 JSON."""
    whole = _plain(snapshot, key_ids=key_ids)
    head = {key: whole[key] for key in ("schema", "gateway", "time")}
    tunnels = {
        tunnel["name"]: msgspec.json.encode({**head, "tunnel": tunnel})
        for tunnel in whole["tunnels"]
    }
    return msgspec.json.encode(whole), tunnels


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
