"""Shapes and sizes in words, the same in tables, pictures and the browser."""

from __future__ import annotations

from collections.abc import Sequence

from graphsplit.graph.index import Shape, TensorSpec

__all__ = ["bytes_text", "frame_bytes_of", "shape_text", "spec_text"]


def shape_text(shape: Shape | Sequence[int | None] | None) -> str:
    """``[?, 1917, 90]``; ``?`` alone for an unknown rank."""
    return "?" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def bytes_text(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "?"
    value = float(count)
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def frame_bytes_of(spec: TensorSpec) -> int | None:
    """Bytes of a tensor for one frame (an unknown leading size is a batch of 1); None when a size or the dtype is unknown."""
    shape = spec.shape
    if shape and shape[0] is None:
        shape = (1, *shape[1:])
    return TensorSpec(spec.name, spec.dtype, shape).nbytes


def spec_text(spec: TensorSpec) -> str:
    """``float32 [?, 1917, 90] · 690.1 KB``: dtype, shape, bytes a frame."""
    size = frame_bytes_of(spec)
    known = f"{spec.dtype or '?'} {shape_text(spec.shape)}"
    return known if size is None else f"{known} · {bytes_text(size)}"
