"""Sets of branches that share what they have in common: conds inside conds take no more room than conds in turn.

A set is a binary tree over the high bits of its items, with a mask of 256 items at each leaf. Equal trees are one number, so that
two sets are compared, and joined where they are equal, in one step (Filliâtre and Conchon, "Type-safe modular hash-consing", 2006).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphsplit.formats.graphdef.wire import GraphError

__all__ = ["EMPTY", "BranchSets"]

#: The set without items.
EMPTY = 0
_LEAF = 8  # bits of an item that a mask takes
_MOST = 600_000  # trees and joined sets, about 200 MB; 50,000 conds inside one another take less than half


class BranchSets:
    """Sets of the integers below a number. Each set is known by an integer; equal sets have the same one.

    Args:
        size: How many items there may be.
    """

    def __init__(self, size: int) -> None:
        self._height = max(0, (size - 1).bit_length() - _LEAF)
        self._halves: list[tuple[int, int]] = [(EMPTY, EMPTY)]
        self._known: dict[tuple[int, int], int] = {}
        self._joined: dict[tuple[bool, int, int], int] = {}

    def with_item(self, tree: int, item: int) -> int:
        """A set with one item more. Raises GraphError if there are too many different sets."""
        path = []
        for bit in range(self._height + _LEAF - 1, _LEAF - 1, -1):
            low, high = self._halves[tree]
            path.append((item >> bit & 1, low, high))
            tree = high if item >> bit & 1 else low
        tree |= 1 << item % (1 << _LEAF)
        for right, low, high in reversed(path):
            tree = self._tree(low, tree) if right else self._tree(tree, high)
        return tree

    def union(self, sets: Iterable[int]) -> int:
        """The items of any of some sets. Raises GraphError if there are too many different sets."""
        union = EMPTY
        for one in sets:
            union = self._join(union, one, self._height, common=False)
        return union

    def intersection(self, sets: Sequence[int]) -> int:
        """The items that some sets have in common; the empty set for no sets. Raises GraphError as `union` does."""
        if not sets:
            return EMPTY
        common = sets[0]
        for one in sets[1:]:
            common = self._join(common, one, self._height, common=True)
        return common

    def _join(self, a: int, b: int, height: int, *, common: bool) -> int:
        if a == b:
            return a
        if not a or not b:
            return EMPTY if common else a or b
        if not height:
            return a & b if common else a | b
        key = (common, a, b) if a < b else (common, b, a)
        tree = self._joined.get(key)
        if tree is None:
            low, high = (
                self._join(*halves, height - 1, common=common) for halves in zip(self._halves[a], self._halves[b], strict=True)
            )
            tree = self._joined[key] = self._tree(low, high)
            self._check()
        return tree

    def _tree(self, low: int, high: int) -> int:
        if not low and not high:
            return EMPTY
        tree = self._known.get((low, high))
        if tree is None:
            tree = self._known[low, high] = len(self._halves)
            self._halves.append((low, high))
            self._check()
        return tree

    def _check(self) -> None:
        if len(self._halves) + len(self._joined) > _MOST:
            raise GraphError("the branches of its conds are mixed in too many ways to follow; no graph that TensorFlow exports is")
