"""docs/snapshot.schema.json is what ``qsgw status --json`` and MQTT give.

To change it on purpose: ``python -m tests.unit.control.test_snapshot_schema``, and raise
``schema`` when something was removed or changed its meaning.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.model import Snapshot
from gateway.telemetry.payloads import snapshot_payloads
from tests.support.snapshots import alarm, kme_view, macsec_view, snapshot, tunnel_view

FILE = Path(__file__).parents[3] / "docs" / "snapshot.schema.json"
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}

SNAPSHOTS = [
    snapshot(),
    snapshot(tunnels=(), kmes=(), drops={}),
    snapshot(
        tunnels=(tunnel_view(ike=None, children=(), keys=None, last_error="x"),),
        kmes=(kme_view(last_error="x"),),
        alarms=(alarm(),),
    ),
    snapshot(macsec=(macsec_view(),)),
    snapshot(
        tunnels=(),
        macsec=(
            macsec_view(
                connection=None, caks=(), peers=(), saks=(), counters=None, mtu=None, cak_at=None
            ),
        ),
    ),
]


def generated() -> dict[str, Any]:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qsgw snapshot, schema 1",
        **msgspec.json.schema(Snapshot),
    }
    return dict(json.loads(json.dumps(schema)))  # a default that is a tuple, as the file has it


def violations(value: Any, schema: dict[str, Any], whole: dict[str, Any], at: str) -> list[str]:
    """The part of JSON Schema that msgspec writes."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return violations(value, whole["$defs"][name], whole, at)
    if "anyOf" in schema:
        tried = [violations(value, option, whole, at) for option in schema["anyOf"]]
        return [] if [] in tried else [f"{at}: none of anyOf"]
    found = []
    if "type" in schema and not isinstance(value, _TYPES[schema["type"]]):
        return [f"{at}: not {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} not in enum")
    for index, item in enumerate(value if isinstance(value, list) else ()):
        found += violations(item, schema["items"], whole, f"{at}[{index}]")
    if isinstance(value, dict):
        found += [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
        for name, member in value.items():
            part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if part is None:
                found.append(f"{at}: unknown {name}")
            else:
                found += violations(member, part, whole, f"{at}.{name}")
    return found


def test_the_file_is_up_to_date() -> None:
    assert json.loads(FILE.read_text()) == generated()


@pytest.mark.parametrize("shown", SNAPSHOTS)
def test_output_follows_the_schema(shown: Snapshot) -> None:
    schema = json.loads(FILE.read_text())
    assert violations(json.loads(msgspec.json.encode(shown)), schema, schema, "$") == []
    over_mqtt, _ = snapshot_payloads(shown, key_ids=False)
    assert violations(json.loads(over_mqtt), schema, schema, "$") == []


def test_the_check_would_notice() -> None:
    schema = json.loads(FILE.read_text())
    wrong = json.loads(msgspec.json.encode(snapshot()))
    wrong["tunnels"][0]["protection"] = "MAYBE"
    wrong["extra"] = 1
    del wrong["gateway"]
    assert len(violations(wrong, schema, schema, "$")) == 3


if __name__ == "__main__":
    FILE.write_text(json.dumps(generated(), indent=2) + "\n")
