"""What a broker keeps: prints the retained messages of some topics as one JSON object.

    python -m netns_lab.mqtt qsgw/moon/availability qsgw/moon/status

The topics must exist. Uses paho directly, not what the gateway publishes with.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from paho.mqtt import subscribe


def retained(topics: list[str], host: str = "127.0.0.1", port: int = 1883) -> dict[str, str]:
    """Topic -> payload, one retained message for each of ``topics``."""
    simple: Any = subscribe.simple  # paho has no types here
    messages = simple(topics, qos=1, msg_count=len(topics), retained=True, hostname=host, port=port)
    found = messages if isinstance(messages, list) else [messages]
    return {message.topic: message.payload.decode() for message in found}


if __name__ == "__main__":
    print(json.dumps(retained(sys.argv[1:])))
