"""Reachability in anything that has neighbours: nodes, tensors, functions, subgraphs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from typing import TypeVar

__all__ = ["reachable", "walk"]

T = TypeVar("T", bound=Hashable)


def walk(start: Iterable[T], neighbours: Callable[[T], Iterable[T]], *, skip: Container[T] = ()) -> Iterator[T]:
    """Visit everything that can be reached, breadth first, each item once.

    Args:
        start: Where to begin; these items are visited first, in their order.
        neighbours: The items next to an item. Called once an item has been visited, and only if the caller asks for more.
        skip: Items that are neither visited nor passed through.

    Yields:
        Items in the order of discovery.
    """
    seen: set[T] = set()
    queue = deque(start)
    while queue:
        item = queue.popleft()
        if item not in seen and item not in skip:
            seen.add(item)
            yield item
            queue.extend(neighbours(item))


def reachable(start: Iterable[T], neighbours: Callable[[T], Iterable[T]], *, skip: Container[T] = ()) -> set[T]:
    """Everything that can be reached, `start` included.

    Args:
        start: Where to begin.
        neighbours: The items next to an item.
        skip: Items that are left out, and with them everything that only they lead to.
    """
    seen: set[T] = set()  # not built on `walk`: half as fast again, and planning does little else
    stack = list(start)
    while stack:
        item = stack.pop()
        if item not in seen and item not in skip:
            seen.add(item)
            stack.extend(neighbours(item))
    return seen
