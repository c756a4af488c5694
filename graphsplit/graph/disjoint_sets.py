"""Items that belong together: sets that are joined two at a time (Tarjan 1975)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["DisjointSets"]

T = TypeVar("T", bound=Hashable)


class DisjointSets(Generic[T]):
    """Sets without common items. An item that was never mentioned is in none."""

    def __init__(self) -> None:
        self._parent: dict[T, T] = {}
        self._size: dict[T, int] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._parent

    def __iter__(self) -> Iterator[T]:
        return iter(self._parent)

    def root(self, item: T) -> T:
        """The item that represents the set of an item, which is a set of its own if it was in none."""
        parent = self._parent
        if item not in parent:
            parent[item] = item
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, one: T, other: T) -> None:
        """Join the sets of two items."""
        small, large = self.root(one), self.root(other)
        if small == large:
            return
        if self._size.get(small, 1) > self._size.get(large, 1):
            small, large = large, small
        self._parent[small] = large
        self._size[large] = self._size.get(small, 1) + self._size.get(large, 1)
