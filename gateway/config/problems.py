"""Collects everything that is wrong with a configuration, so that one run shows it all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeVar, cast

from gateway.errors import ConfigProblem, CredentialError

T = TypeVar("T")

LISTED_MAX = 8  # names that still make one line


@dataclass(slots=True)
class Problems:
    """Errors make a configuration unusable, warnings do not."""

    errors: list[ConfigProblem] = field(default_factory=list)
    warnings: list[ConfigProblem] = field(default_factory=list)

    def at(self, table: str) -> TableProblems:
        return TableProblems(self, table)

    def add(self, others: Problems, *, leaving_out: Collection[str] = ()) -> None:
        """Those of ``others``, but for some keys."""
        self.errors += [one for one in others.errors if one.key not in leaving_out]
        self.warnings += [one for one in others.warnings if one.key not in leaving_out]


@dataclass(slots=True)
class TableProblems:
    """The problems of one table."""

    problems: Problems
    table: str
    failed: bool = False

    def error(self, key: str, message: str) -> None:
        self.failed = True
        self.problems.errors.append(ConfigProblem(self.table, key, message))

    def has(self, key: str) -> bool:
        """Whether something is wrong with this key already."""
        return any((one.table, one.key) == (self.table, key) for one in self.problems.errors)

    def warn(self, key: str, message: str) -> None:
        self.problems.warnings.append(ConfigProblem(self.table, key, message))

    def read(self, key: str, parse: Callable[[str], T], text: str) -> T:
        """``parse(text)``. When it fails, the error is noted and the table is lost:

        look at ``failed`` or ``has`` before using any value read. A key with an error already
        (missing, or no text at all) is left alone.
        """
        return cast("T", None) if self.has(key) else self._parsed(key, parse, text)

    def _parsed(self, key: str, parse: Callable[[str], T], text: str) -> T:
        try:
            return parse(text)
        except (ValueError, CredentialError) as error:
            self.error(key, str(error))
            return cast("T", None)

    def read_optional(self, key: str, parse: Callable[[str], T], text: str | None) -> T | None:
        return None if text is None else self.read(key, parse, text)

    def read_list(self, key: str, parse: Callable[[str], T], texts: Iterable[str]) -> tuple[T, ...]:
        return () if self.has(key) else tuple(self._parsed(key, parse, text) for text in texts)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` or the list of what is known."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(names)}" if 0 < len(names) <= LISTED_MAX else ""
