"""What IPython shows of graphsplit's objects: pictures of graphs, tables of everything else. Nothing is run or inferred for it.

Classes are registered by name, and what draws them is imported when one of them is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from graphsplit.diagram.tables import (
    added_table,
    bench_table,
    detector_table,
    exported_table,
    html_text,
    index_table,
    pipeline_table,
    placed_table,
    report_table,
    rewrite_table,
    suggestions_table,
    target_table,
    tensor_table,
)
from graphsplit.errors import GraphSplitError

if TYPE_CHECKING:
    from graphsplit.diagram.picture import Drawable
    from graphsplit.formats import Model
    from graphsplit.parts.parts import Parts
    from graphsplit.planning.plan import Plan

__all__ = ["PICTURES", "TABLES", "register"]

_Html = Callable[[Any], str]  # takes an instance of the class that it is registered for


class _Formatter(Protocol):
    def for_type_by_name(self, type_module: str, type_name: str, func: Callable[[Any], str | None]) -> object: ...


class _DisplayFormatter(Protocol):
    @property
    def formatters(self) -> Mapping[str, _Formatter]: ...


class Shell(Protocol):
    """An IPython shell, as far as display needs it."""

    @property
    def display_formatter(self) -> _DisplayFormatter: ...


def register(shell: Shell) -> None:
    """Register pictures and tables with an IPython shell. Imports no framework."""
    formatters = shell.display_formatter.formatters
    for (module, name), html in {**TABLES, **PICTURES}.items():
        formatters["text/html"].for_type_by_name(module, name, _unless_it_fails(html))
    for module, name in PICTURES:
        formatters["image/svg+xml"].for_type_by_name(module, name, _unless_it_fails(_svg))


def _unless_it_fails(html: _Html) -> Callable[[Any], str | None]:
    """The same, but None for an object that cannot be drawn, so that IPython shows its repr."""

    def shown(what: Any) -> str | None:
        try:
            return html(what)
        except GraphSplitError:
            return None

    return shown


def _svg(what: Drawable) -> str:
    from graphsplit.diagram.picture import draw

    return draw(what, shapes=False).svg


def _framed(what: Drawable) -> str:
    return f'<div style="max-width:100%;overflow:auto">{_svg(what)}</div>'


def _model(model: Model) -> str:
    title = f"<p><b>{html_text(model.path or 'model')}</b>: {html_text(model.format)}, {len(model.index.nodes):,} nodes</p>"
    return title + tensor_table([("input", model.inputs), ("output", model.outputs)]) + _framed(model)


def _split(split: Plan | Parts) -> str:
    said = "" if split.target is None else target_table(split.target)
    return _framed(split) + said + (added_table(split.added) if split.added else "")


#: (module, class) → its HTML, a picture first; these have a picture as SVG as well.
PICTURES: Mapping[tuple[str, str], _Html] = {
    ("graphsplit.formats.graphdef.model", "GraphDefModel"): _model,
    ("graphsplit.formats.tflite.model", "TFLiteModel"): _model,
    ("graphsplit.planning.plan", "Plan"): _split,
    ("graphsplit.parts.parts", "Parts"): _split,
    ("graphsplit.parts.parts", "Part"): _framed,
}

#: (module, class) → its HTML, a table.
TABLES: Mapping[tuple[str, str], _Html] = {
    ("graphsplit.graph.index", "GraphIndex"): index_table,
    ("graphsplit.splitting.suggestions", "Suggestions"): suggestions_table,
    ("graphsplit.verification.report", "Report"): report_table,
    ("graphsplit.execution.placement", "Placed"): placed_table,
    ("graphsplit.execution.pipeline", "Pipeline"): pipeline_table,
    ("graphsplit.exports.exporting", "Exported"): exported_table,
    ("graphsplit.rewrites.proof", "RewriteReport"): rewrite_table,
    ("graphsplit.detection.detector", "Detector"): detector_table,
    ("graphsplit.benchmark.measure", "BenchReport"): bench_table,
}
