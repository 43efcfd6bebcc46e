"""What several commands print alike."""

from __future__ import annotations

from typing import Any

import msgspec


def print_json(answer: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
