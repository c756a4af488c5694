"""Tables as HTML: tensors, sections, borders, reports. Every name is escaped, and nothing is imported to write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.graph.text import bytes_text, escaped, shape_text
from graphsplit.planning.targets.answer import grouped

if TYPE_CHECKING:
    from graphsplit.benchmark.measure import BenchReport
    from graphsplit.detection import Detector
    from graphsplit.diagram.view import Scene
    from graphsplit.execution.pipeline import Pipeline
    from graphsplit.execution.placement import Placed
    from graphsplit.exports import Exported
    from graphsplit.planning.plan import Added
    from graphsplit.planning.targets.answer import Answer
    from graphsplit.rewrites.proof import RewriteReport
    from graphsplit.splitting.suggestions import Suggestions
    from graphsplit.verification.compare import OutputReport
    from graphsplit.verification.report import Report

__all__ = [
    "added_table",
    "bench_table",
    "border_table",
    "detector_table",
    "exported_table",
    "html_text",
    "index_table",
    "pipeline_table",
    "placed_table",
    "report_table",
    "rewrite_table",
    "section_table",
    "suggestions_table",
    "table",
    "target_table",
    "tensor_table",
]

_OPS = 12  # ops listed of an index
_NAMES = 12  # tensors listed in one cell


def html_text(text: object) -> str:
    """Text for HTML: markup is escaped, and control characters and what would reorder the line are shown."""
    return escape(escaped(str(text)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are text."""
    head = "".join(f"<th>{html_text(c)}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table style="text-align:left"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _line(text: str) -> str:
    return f"<p>{html_text(text)}</p>"


def _title(text: str) -> str:
    return f"<p><b>{html_text(text)}</b></p>"


def _listed(names: Iterable[str]) -> str:
    """Names for one cell: the first few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more if names else "none"


# graphs and sections


def tensor_table(groups: Iterable[tuple[str, Iterable[TensorSpec]]]) -> str:
    """Tensors with dtype and shape, in groups: ("input", specs), …"""
    return table(
        ["", "tensor", "dtype", "shape"],
        [(name, s.name, s.dtype or "?", shape_text(s.shape)) for name, specs in groups for s in specs],
    )


def index_table(index: GraphIndex) -> str:
    """Inputs and outputs of a graph, and its most frequent ops."""

    def specs(tensors: Iterable[str]) -> Iterable[TensorSpec]:
        return (index.tensors.get(t, TensorSpec(t)) for t in tensors)

    ops = Counter(node.op for node in index.nodes).most_common()
    rows: list[tuple[str, str]] = [(op, f"{count:,}") for op, count in ops[:_OPS]]
    if len(ops) > _OPS:
        rows.append((f"{len(ops) - _OPS} other ops", f"{sum(count for _, count in ops[_OPS:]):,}"))
    tensors = tensor_table([("input", specs(index.inputs)), ("output", specs(index.outputs))])
    return _title(repr(index)) + tensors + table(["op", "nodes"], rows)


def section_table(scene: Scene) -> str:
    """Sections with their inputs and outputs."""
    rows = [(b.name, f"{b.size:,}", ", ".join(b.reads) or "none", ", ".join(b.makes) or "none") for b in scene.blocks]
    return table(["section", "nodes", "inputs", "outputs"], rows)


def border_table(scene: Scene) -> str:
    """Border tensors with dtype, shape and bytes per frame."""
    producer = {t: b.name for b in scene.blocks for t in b.makes}
    rows = []
    for tensor in scene.borders:
        spec = scene.specs.get(tensor, TensorSpec(tensor))
        readers = ", ".join(b.name for b in scene.blocks if tensor in b.reads and b.name != producer[tensor])
        how = "added" if tensor in scene.added else "named"
        size = bytes_text(spec.frame().nbytes)
        rows.append((tensor, spec.dtype or "?", shape_text(spec.shape), size, f"{producer[tensor]} → {readers}", how))
    return table(["border tensor", "dtype", "shape", "bytes per frame", "crosses", ""], rows)


def added_table(added: Iterable[Added]) -> str:
    """Border tensors that were added, each with its consumer and the reason."""
    return table(["added to the border", "consumer", "reason"], [(a.tensor, a.consumer, a.reason) for a in added])


def target_table(answer: Answer) -> str:
    """What a target takes of a split, and what it left on the host."""
    said = f"{'✔' if answer.whole else '✘'} {answer.target}: {answer.summary()}{f' ({answer.reason})' if answer.reason else ''}"
    rows = [(g.op, f"{len(g.tensors):,}", _listed(g.tensors), g.reason) for g in grouped(answer.refused)]
    return _title(said) + (table(["left on the host", "ops", "tensors", "reason"], rows) if rows else "")


def suggestions_table(suggestions: Suggestions) -> str:
    """Suggested cuts, best first."""
    rows = [
        (
            number,
            f"{cut.source}: {cut.name}",
            _listed(cut.inputs) if cut.inputs else "",
            _listed(f"{s.name} {s.dtype or '?'} {shape_text(s.shape)}" for s in cut.outputs),
            bytes_text(cut.nbytes),
            ", ".join(f"{section} {count:,}" for section, count in cut.nodes.items()),
            "" if cut.share is None else f"{cut.share:.0%}",
            cut.reason,
        )
        for number, cut in enumerate(suggestions)
    ]
    columns = ["", "cut", "main starts at", "main ends at", "bytes per frame", "nodes", "multiplications in main", "reason"]
    return table(columns, rows) if rows else _line(f"nothing to cut: {suggestions.reason}")


# what runs


def placed_table(placed: Placed) -> str:
    """Placed sections and their devices."""
    rows = []
    for part in placed.parts:
        device = placed.devices[part.name]
        where = f"{device} (not on this machine)" if device in placed.absent else device
        rows.append((part.name, where, _listed(p.tensor for p in part.inputs), _listed(p.tensor for p in part.outputs)))
    return table(["section", "device", "inputs", "outputs"], rows)


def pipeline_table(pipeline: Pipeline) -> str:
    """The stages of a pipeline, in the order a frame passes them."""
    rows = [(s.name, s.device, _listed(s.inputs), _listed(s.outputs)) for s in pipeline.stages]
    return table(["stage", "device", "inputs", "outputs"], rows)


def detector_table(detector: Detector) -> str:
    """The sections of a detector, with what was decided for it."""
    rows = [(f"section {name}", device) for name, device in detector.devices.items()]
    rows += [("cut", detector.cut), ("threshold", f"{detector.threshold:g}")]
    return table(["", ""], [*rows, *(("note", note) for note in detector.notes)])


def bench_table(report: BenchReport) -> str:
    """A measurement: whole, sequential and pipelined, and each section alone."""
    modes = (("whole", report.whole), ("sequential", report.sequential), ("pipelined", report.pipelined))
    rows = [(name, f"{mode.fps:.1f}", f"{mode.p50:.1f}", f"{mode.p95:.1f}") for name, mode in modes]
    sections = [(name, report.devices.get(name, "?"), f"{ms:.1f}") for name, ms in report.sections.items()]
    return (
        _title(f"{report.verdict}: {report.reason}")
        + table(["mode", "frames per second", "latency p50 (ms)", "latency p95 (ms)"], rows)
        + table(["section", "device", "median (ms)"], sections)
    )


# what was proven and written


def report_table(report: Report) -> str:
    """A verification, output by output."""
    rows = [(o.tensor, o.dtype, shape_text(o.shape), _compared(o)) for o in report.outputs]
    mark = "✔" if report.equal else "✘"
    return _title(f"{mark} {report.summary()}") + table(["output", "dtype", "shape", "whole and sections"], rows)


def _compared(output: OutputReport) -> str:
    if output.equal and not output.max_abs_error:
        return "equal"
    error = output.max_abs_error
    return output.note or ("differs" if error is None else f"differs by up to {error:g}")


def rewrite_table(report: RewriteReport) -> str:
    """The proof of a rewrite: the whole model, then each replacement on random tensors."""
    rows = [(s.name, s.where, f"{s.samples:,}", s.note or ("equal" if s.equal else "differs")) for s in report.samples]
    return report_table(report.whole) + table(["rewrite", "at", "random samples", "before and after"], rows)


def exported_table(exported: Exported) -> str:
    """An export: its tensors by key, and the comparison with its source."""
    ports = (("input", exported.inputs), ("output", exported.outputs))
    rows = [(kind, p.key, p.name, p.tensor, p.dtype or "?", shape_text(p.shape)) for kind, some in ports for p in some]
    what = "whole" if exported.section is None else f"section {exported.section}"
    text = _title(f"{exported.path}: {what} as {exported.to}")
    text += table(["", "key", "name", "tensor of the whole", "dtype", "shape"], rows)
    if exported.models:
        text += table(["model", "section", "platform", "kind"], [[_cell(m, k) for k in _MODEL] for m in exported.models])
    return text + (_line("not compared with its source") if exported.report is None else report_table(exported.report))


_MODEL = ("name", "section", "platform", "kind")


def _cell(model: Mapping[str, object], key: str) -> object:
    return "" if model[key] is None else model[key]
