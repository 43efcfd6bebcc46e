"""What a KME remembers of keys it no longer holds: their ids, and of those only so many."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Item = TypeVar("_Item", bound=Hashable)


class Memory(Generic[_Item]):
    """A set that holds ``limit`` items; then the oldest is forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[_Item, None] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def add(self, item: _Item) -> None:
        self._items[item] = None
        if len(self._items) > self._limit:
            del self._items[next(iter(self._items))]

    def remove(self, item: _Item) -> bool:
        """Whether it was there."""
        return self._items.pop(item, self) is None
