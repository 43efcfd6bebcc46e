"""Faults of a KME that a client must survive; switched on and off while it runs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any
from uuid import uuid4

from qkd_adapters.errors import ControlRequestError
from qkd_adapters.kme.store import DeliveredKey

SLOW_ANSWER = 10.0  # seconds; longer than any sensible client timeout


class Fault(StrEnum):
    """What goes wrong with every enc_keys and dec_keys while the fault is on."""

    LOST_ANSWER = "lost-answer"  # keys are consumed, the connection ends without an answer
    SLOW = "slow"  # nothing happens for SLOW_ANSWER seconds, then all is well
    UNAVAILABLE = "unavailable"  # 503, nothing consumed
    GARBAGE = "garbage"  # 200 and octets that are not JSON; keys are consumed
    TRUNCATED = "truncated"  # the connection ends in the middle of the body; consumed
    WRONG_SIZE = "wrong-size"  # keys one octet too short
    DUPLICATE_ID = "duplicate-id"  # the first key comes twice
    WRONG_KEY = "wrong-key"  # keys of the right size that are not what the other KME has
    DESYNCHRONISED = "desynchronised"  # keys the other KME has never heard of
    EXPIRED = "expired"  # whatever the slave asks for has just become too old


def _shorten(answer: dict[str, Any]) -> None:
    for entry in answer["keys"]:
        # Four base64 digits are three octets; a key of 8 n bits loses at least one octet.
        entry["key"] = entry["key"][:-4]


def _duplicate(answer: dict[str, Any]) -> None:
    answer["keys"].append(dict(answer["keys"][0]))


def _falsify(answer: dict[str, Any]) -> None:
    for entry in answer["keys"]:
        inverted = bytes(octet ^ 0xFF for octet in base64.b64decode(entry["key"]))
        entry["key"] = base64.b64encode(inverted).decode()


# Faults that change the key container; the others change the exchange (server.py).
CONTAINER_FAULTS: dict[Fault, Callable[[dict[str, Any]], None]] = {
    Fault.WRONG_SIZE: _shorten,
    Fault.DUPLICATE_ID: _duplicate,
    Fault.WRONG_KEY: _falsify,
}


def unsynchronised(keys: Iterable[DeliveredKey]) -> tuple[DeliveredKey, ...]:
    """The keys under key_IDs that stand in no other store."""
    return tuple(replace(each, key_id=str(uuid4())) for each in keys)


class FaultSwitches:
    def __init__(self) -> None:
        self._on: set[Fault] = set()

    def is_on(self, fault: Fault) -> bool:
        return fault in self._on

    def names(self) -> list[str]:
        return sorted(self._on)

    def command(self, words: Sequence[str]) -> list[str]:
        """``NAME on|off``; gives the names that are on. Raises ControlRequestError."""
        match list(words):
            case [name, "on" | "off" as switch] if name in set(Fault):
                if switch == "on":
                    self._on.add(Fault(name))
                else:
                    self._on.discard(Fault(name))
                return self.names()
            case _:
                raise ControlRequestError(f"fault {'|'.join(Fault)} on|off")
