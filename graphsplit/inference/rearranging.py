"""Shapes before ops that take dimensions away, add or permute them, from the shapes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphsplit.graph.index import Shape

__all__ = ["before_einsum", "before_slice", "before_split", "before_squeeze"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def before_squeeze(axes: Sequence[int], after: Shape | None) -> Shape | None:
    """Before Squeeze of stated dimensions; None where the rank stays unknown."""
    if not axes:
        return None
    if after is None:  # at least so many dimensions; most often the squeezed ones are the last
        rank = max(a + 1 if a >= 0 else -a for a in axes)
        return tuple(1 if i in {a % rank for a in axes} else None for i in range(rank)) if rank > 2 else None
    rank, rest = len(axes) + len(after), iter(after)
    squeezed = {a % rank for a in axes if -rank <= a < rank}
    if len(squeezed) != len(axes):
        return None
    return tuple(1 if i in squeezed else next(rest) for i in range(rank))


def before_split(axis: int, count: int, pieces: Sequence[Shape | None]) -> Shape | None:
    """Before Split into `count` pieces along a dimension, from the shapes that their readers require."""
    known = [p for p in pieces if p is not None]
    rank = len(known[0]) if known else max(axis + 1, -axis, 2)
    if any(len(p) != rank for p in known) or not -rank <= axis < rank:
        return None
    at = axis % rank
    dims: list[int | None] = [next((p[i] for p in known if p[i] is not None), None) for i in range(rank)]
    dims[at] = (dims[at] or 1) * count
    return tuple(dims)


def before_slice(begin: int, masks: Mapping[str, int], unit: Sequence[bool], after: Shape | None) -> Shape | None:
    """Before StridedSlice.

    Args:
        begin: How many entries its index has.
        masks: Its masks, by the names of the attributes.
        unit: Of each entry, whether its stride is 1 or -1.
        after: The shape that its readers require.
    """
    if after is None:
        return None
    marked = {name: [bool(masks.get(name, 0) >> i & 1) for i in range(begin)] for name in masks}

    def is_on(name: str, entry: int) -> bool:
        return name in marked and marked[name][entry]

    dims: list[int | None] = []
    rest = list(after)
    ellipsis = next((i for i in range(begin) if is_on("ellipsis_mask", i)), begin)
    behind = list(range(ellipsis + 1, begin))
    taken = sum(is_on("new_axis_mask", i) or not is_on("shrink_axis_mask", i) for i in behind)

    def entry(i: int) -> None:
        if is_on("new_axis_mask", i):
            if rest:
                rest.pop(0)
        elif is_on("shrink_axis_mask", i):
            dims.append(None)
        else:
            size = rest.pop(0) if rest else None
            dims.append(size if is_on("begin_mask", i) and is_on("end_mask", i) and unit[i] else None)

    for i in range(ellipsis):
        entry(i)
    while len(rest) > taken:
        dims.append(rest.pop(0))
    for i in behind:
        entry(i)
    return tuple(dims)


def before_einsum(equation: str, place: int, others: Sequence[Shape | None]) -> Shape | None:
    """An operand of Einsum, from its letters and the shapes of the other operands."""
    terms = equation.partition("->")[0].replace(" ", "").split(",")
    if place >= len(terms) or any(c not in _LETTERS for c in terms[place]):
        return None
    sizes: dict[str, int | None] = {}
    for number, (term, shape) in enumerate(zip(terms, others, strict=False)):
        if number != place and shape is not None and len(shape) == len(term):
            sizes |= dict(zip(term, shape, strict=True))
    return tuple(sizes.get(c) for c in terms[place])
