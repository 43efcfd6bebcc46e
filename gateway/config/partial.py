"""Checks of tables that could be read in part only: each runs as far as its values are there."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TypeVar, cast

from gateway.config.problems import Problems

TableT = TypeVar("TableT")


class UnreadError(Exception):
    """A check needs a value that could not be read, which is told already."""


class _Readable:
    """Stands for a table; to look at a value that could not be read ends the check."""

    def __init__(self, table: object, unread: AbstractSet[str]) -> None:
        self._table = table
        self._unread = unread

    def __getattr__(self, name: str) -> object:
        if self._table is None or name in self._unread:
            raise UnreadError(name)
        return getattr(self._table, name)


def readable(table: TableT | None, problems: Problems, *names: str) -> TableT:
    """``table`` without the values that ``problems`` has errors about by now.

    ``names``: of the table, and of another one it has values from.
    """
    unread = {problem.key for problem in problems.errors if problem.table in names}
    return cast("TableT", _Readable(table, unread))


def attempt(check: Callable[..., None], *arguments: object) -> None:
    """Run a check to its end, or to the first value that could not be read."""
    with suppress(UnreadError):
        check(*arguments)
