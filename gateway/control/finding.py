"""One thing that ``qsgw doctor`` looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.control.text import Style, clean

_COLOURS = {"ok": ("green",), "warning": ("yellow",), "failed": ("red", "bold")}


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    state: State
    text: str
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "state": self.state.value,
            "text": self.text,
            "advice": self.advice,
        }

    def line(self, style: Style) -> str:
        state = style.paint(f"{self.state:<8}", *_COLOURS[self.state])
        advice = f" - {self.advice}" if self.advice else ""
        return f"{state} {self.check}: {clean(self.text)}{clean(advice)}"
