"""Scripts of attacks: what to do at which moment of the channel's own clock.

A script is TOML. ``at`` counts seconds of light from the start of the script; ``do`` is what
one would type after ``qsgw-kme channelctl``::

    [[step]]
    at = "20s"
    do = "attack pns fraction=0.5"

    [[step]]
    at = "60s"
    do = "stop pns"
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from qkd_adapters.config_file import parse_duration
from qkd_adapters.errors import ControlRequestError

# Nobody watches longer; it bounds what a mistaken file can make us hold.
_MAX_STEPS = 10_000


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: str
    do: str


class _Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    step: list[_Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    at: float  # seconds of light since the script began
    words: tuple[str, ...]


def parse_script(text: str) -> tuple[Step, ...]:
    """Steps in order of time. Raises ControlRequestError with a text for the operator."""
    try:
        raw = msgspec.convert(tomllib.loads(text), _Script)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ControlRequestError(f"not a script: {error}") from error
    if len(raw.step) > _MAX_STEPS:
        raise ControlRequestError(f"a script has at most {_MAX_STEPS} steps")
    steps = []
    for number, step in enumerate(raw.step, start=1):
        try:
            seconds = 0.0 if step.at in {"0", "0s"} else parse_duration(step.at)
            words = tuple(shlex.split(step.do))
        except ValueError as error:
            raise ControlRequestError(f"step {number}: {error}") from error
        if not words or words[0] == "script":
            raise ControlRequestError(f"step {number}: {step.do!r} is nothing to do")
        steps.append(Step(at=seconds, words=words))
    return tuple(sorted(steps, key=lambda step: step.at))


class Timeline:
    """A script under way."""

    def __init__(self, steps: Sequence[Step], start: float) -> None:
        self._steps = list(steps)
        self._start = start

    @property
    def left(self) -> int:
        return len(self._steps)

    def due(self, now: float) -> list[tuple[str, ...]]:
        """The words of all steps whose moment has come; each is given once."""
        ready = [step for step in self._steps if self._start + step.at <= now]
        self._steps = self._steps[len(ready) :]
        return [step.words for step in ready]
