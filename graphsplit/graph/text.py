"""Shapes, sizes and sections in words, the same in reprs, tables, pictures and the browser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphsplit.graph.index import Shape, TensorSpec

__all__ = ["bytes_text", "count_text", "escaped", "flow_text", "list_text", "shape_text", "shortened", "spec_text"]

_MOST = 5  # sections that are listed
_LONG = 60  # characters of a name in a list


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


def spec_text(spec: TensorSpec) -> str:
    """``float32 [?, 1917, 90] · 690.1 KB``: dtype, shape, bytes a frame."""
    size = spec.frame().nbytes
    known = f"{spec.dtype or '?'} {shape_text(spec.shape)}"
    return known if size is None else f"{known} · {bytes_text(size)}"


def shortened(text: str, limit: int) -> str:
    """A text with its middle left out where it is too long; the end of a name says more than its start."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def escaped(text: str, keep: str = "") -> str:
    r"""Text with what a terminal would obey, and what is not seen, as in a Python string: ``\x1b``, ``\u202e`` (right to left).

    Args:
        text: The text.
        keep: Characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def count_text(count: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def list_text(names: Iterable[str], most: int = 3) -> str:
    """The first few names, long ones shortened, and an ellipsis if there are more."""
    names = list(names)
    return ", ".join(shortened(name, _LONG) for name in names[:most]) + (", …" if len(names) > most else "")


def flow_text(sections: Sequence[tuple[str, Iterable[str], Iterable[str]]]) -> str:
    """``main 990 nodes → 3 tensors → post 673 nodes``: labels of sections, and how many tensors cross between them.

    Args:
        sections: Label, inputs and outputs of each section, in order.
    """
    text = ""
    produced: set[str] = set()
    for number, (label, _, outputs) in enumerate(sections):
        if number and (number < _MOST or number == len(sections) - 1):  # what is not listed is not counted
            needed = {tensor for _, inputs, _ in sections[number:] for tensor in inputs}
            crossing = count_text(len(produced & needed), "tensor")
            if number < _MOST - 1 or number == len(sections) - 1:
                text += f" → {crossing} → {label}"
            elif number == _MOST - 1:
                text += " → …"
        elif not number:
            text = label
        produced |= set(outputs)
    return text
