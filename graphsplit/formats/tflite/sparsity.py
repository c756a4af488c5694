"""Sparse constants: whether the lists that place their values fit their shape.

A sparse tensor of rank n is a tree of n levels, and one more for each dimension that is divided into blocks. A level is dense (the
same number of branches everywhere) or lists, for every node of the level above, a segment of indices. Native code that unpacks the
tensor trusts these lists.

    [[1, 0],      level 0: dense, 2 rows
     [0, 2]]      level 1: segments 0 1 2, indices 0 1, values 1 2

Source: the comments on SparsityParameters in TFLite's schema.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphsplit.formats.tflite.flatbuffer import Table
from graphsplit.graph.index import whole_bytes

__all__ = ["fault"]

_DENSE, _SPARSE = 0, 1


def fault(sparsity: Table, shape: Sequence[int], size: float, held: int) -> str:
    """What is wrong with a sparse constant.

    Args:
        sparsity: The table that places its values.
        shape: Its shape.
        size: Bytes of an element.
        held: Bytes of its buffer.

    Returns:
        The fault in words; empty if everything fits.

    Raises:
        FlatError: The table is damaged.
    """
    order, blocks = sparsity.numbers("traversal_order"), sparsity.numbers("block_map")
    levels = list(sparsity.tables("dim_metadata"))
    rank = len(shape)
    if len(levels) != rank + len(blocks) or sorted(order) != list(range(len(levels))) or any(d >= rank for d in order[:rank]):
        return f"a traversal order of {list(order)} and {len(levels)} levels do not fit rank {rank} with {len(blocks)} blocks"
    if any(not 0 <= b < rank for b in blocks):
        return f"a block map of {list(blocks)} does not fit rank {rank}"
    sizes = [*shape, *(1 for _ in blocks)]
    for place, dimension in enumerate(blocks):
        # The levels of blocks come last, in the order of the block map, and are dense.
        level = levels[rank + place]
        width = level.number("dense_size")
        if level.number("format") != _DENSE or width <= 0 or sizes[dimension] % width:
            return f"blocks of {width} do not divide a dimension of {sizes[dimension]}"
        sizes[rank + place] = width
        sizes[dimension] //= width
    count = 1
    for dimension, level in zip(order, levels, strict=True):
        if level.number("format") == _DENSE:
            if level.number("dense_size") != sizes[dimension]:
                return f"a dense level of {level.number('dense_size')} for a dimension of {sizes[dimension]}"
            count *= sizes[dimension]
        elif level.number("format") == _SPARSE:
            segments, indices = _values(level, "array_segments"), _values(level, "array_indices")
            if len(segments) != count + 1 or segments[0] != 0 or segments[-1] != len(indices) or list(segments) != sorted(segments):
                return f"{len(segments)} segments over {len(indices)} indices do not fit the {count} nodes above them"
            if any(not 0 <= i < sizes[dimension] for i in indices):
                return f"an index is outside of a dimension of {sizes[dimension]}"
            count = len(indices)
        else:
            return f"a level is of a kind ({level.number('format')}) unknown to this version"
    needed = whole_bytes(count, size)
    return "" if needed <= held else f"it has {count:,} values, {needed:,} bytes; its buffer has {held:,}"


def _values(level: Table, name: str) -> tuple[int, ...]:
    vector = level.table(name)
    return () if vector is None else vector.numbers("values")
