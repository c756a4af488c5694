"""Tables as HTML: tensors, sections, borders, reports. Every name is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from graphsplit.diagram.view import Scene
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import bytes_text, frame_bytes_of, shape_text
from graphsplit.planning.plan import Added
from graphsplit.verification.report import Report

__all__ = ["added_table", "border_table", "report_table", "section_table", "table", "tensor_table"]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are text."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table style="text-align:left"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def tensor_table(groups: Iterable[tuple[str, Iterable[TensorSpec]]]) -> str:
    """Tensors with dtype and shape, in groups: ("input", specs), …"""
    return table(
        ["", "tensor", "dtype", "shape"],
        [(name, s.name, s.dtype or "?", shape_text(s.shape)) for name, specs in groups for s in specs],
    )


def section_table(scene: Scene) -> str:
    """Sections with what they are given and give."""
    rows = [(b.name, f"{b.size:,}", ", ".join(b.reads) or "nothing", ", ".join(b.makes) or "nothing") for b in scene.blocks]
    return table(["section", "nodes", "given", "gives"], rows)


def border_table(scene: Scene) -> str:
    """Border tensors with dtype, shape and bytes a frame."""
    made = {t: b.name for b in scene.blocks for t in b.makes}
    rows = []
    for tensor in scene.borders:
        spec = scene.specs.get(tensor, TensorSpec(tensor))
        readers = ", ".join(b.name for b in scene.blocks if tensor in b.reads and b.name != made[tensor])
        how = "added" if tensor in scene.added else "named"
        size = bytes_text(frame_bytes_of(spec))
        rows.append((tensor, spec.dtype or "?", shape_text(spec.shape), size, f"{made[tensor]} → {readers}", how))
    return table(["border tensor", "dtype", "shape", "bytes a frame", "crosses", ""], rows)


def added_table(added: Iterable[Added]) -> str:
    """Border tensors that were added, each with its reader and the reason."""
    return table(["added to the border", "read by", "why"], [(a.tensor, a.consumer, a.reason) for a in added])


def report_table(report: Report) -> str:
    """A verification, output by output."""
    rows = [
        (
            o.tensor,
            o.dtype,
            shape_text(o.shape),
            "equal" if o.equal and not o.max_abs_error else o.note or _difference(o.max_abs_error),
        )
        for o in report.outputs
    ]
    mark = "✔" if report.equal else "✘"
    return f"<p><b>{mark} {escape(report.summary())}</b></p>" + table(["output", "dtype", "shape", "whole and sections"], rows)


def _difference(error: float | None) -> str:
    return "differs" if error is None else f"differs by up to {error:g}"
