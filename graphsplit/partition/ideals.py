"""The sets of units that hold all that their units need: what can be done when a section ends."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["all_ideals", "prefixes"]


def all_ideals(needs: list[int], limit: int) -> list[int] | None:
    """Every ideal as a bit mask, smaller ones first.

    Args:
        needs: Unit → mask of the units whose tensors it reads; units are numbered in topological order.
        limit: None is returned if there are more.
    """
    readers: list[list[int]] = [[] for _ in needs]
    for unit, mask in enumerate(needs):
        for needed in _bits(mask):
            readers[needed].append(unit)
    first = sum(1 << unit for unit, mask in enumerate(needs) if not mask)
    layer, found = {0: first}, [0]  # ideal → the units that may join it
    while layer:
        following: dict[int, int] = {}
        for ideal, joining in layer.items():
            for unit in _bits(joining):
                larger = ideal | 1 << unit
                if larger not in following:
                    ready = sum(1 << r for r in readers[unit] if not needs[r] & ~larger)
                    following[larger] = joining & ~(1 << unit) | ready
        found.extend(following)
        if len(found) > limit:
            return None
        layer = following
    return found


def prefixes(count: int) -> list[int]:
    """The ideals of a topological order."""
    return [(1 << length) - 1 for length in range(count + 1)]


def _bits(mask: int) -> Iterable[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
