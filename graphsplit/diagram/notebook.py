"""What notebooks show of a Model, a Plan, Parts and a Report. Nothing is run or inferred for it, so it takes no time."""

from __future__ import annotations

from html import escape
from typing import Any

from graphsplit.diagram.picture import draw
from graphsplit.diagram.tables import added_table, report_table, tensor_table
from graphsplit.errors import GraphSplitError
from graphsplit.planning.plan import Plan
from graphsplit.verification.report import Report

__all__ = ["html_of", "svg_of"]


def svg_of(what: Any) -> str | None:
    """The picture of a model, a plan or parts; None where there is nothing to draw it from."""
    try:
        return draw(what, shapes=False).svg
    except GraphSplitError:
        return None


def html_of(what: Any) -> str:
    """The HTML of a model, a plan, parts or a report; what cannot be drawn is told in words."""
    if isinstance(what, Report):
        return report_table(what)
    picture = svg_of(what)
    if picture is None:
        return f"<pre>{escape(repr(what))}</pre>"
    framed = f'<div style="max-width:100%;overflow:auto">{picture}</div>'
    if isinstance(what, Plan):
        return framed + (added_table(what.added) if what.added else "")
    added = getattr(what, "added", ())
    if added:
        return framed + added_table(added)
    if hasattr(what, "index"):
        head = f"<p><b>{escape(str(what.path or 'model'))}</b>: {escape(what.format)}, {len(what.index.nodes):,} nodes</p>"
        return head + tensor_table([("input", what.inputs), ("output", what.outputs)]) + framed
    return framed
