"""What is exported: a model, a section of a split, or all sections of a split joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphsplit.errors import FormatError, SectionNotFoundError
from graphsplit.exports.joining import join
from graphsplit.formats import GraphDefModel, Model, as_graphdef
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.signature import Signature
from graphsplit.inference.adapters import runtime_of
from graphsplit.inference.sessions import check_runnable
from graphsplit.inference.shapes import infer
from graphsplit.parts.parts import Part, Parts, Port
from graphsplit.splitting.surgery import split

__all__ = ["Source", "Written", "find_source", "paths_of"]


@dataclass(frozen=True)
class Source:
    """A graph to export.

    Attributes:
        model: The graph.
        section: Name of the section; None for the whole.
        inputs: Its inputs, by their names in the whole and in `model`.
        outputs: Its outputs.
        sections: The section and those before it, in order; empty for a whole.
        parts: The split, if the graph is one or a section of one.
    """

    model: GraphDefModel
    section: str | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sections: tuple[Part, ...] = ()
    parts: Parts | None = None

    @property
    def signature(self) -> Signature:
        """The keys that the file of the whole states, of its inputs and outputs."""
        stated = self.model.signature if self.parts is None else self.parts.signature
        return stated.kept([p.tensor for p in self.inputs], [p.tensor for p in self.outputs])


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        inputs: Names to feed, in the order of the source.
        outputs: Names to fetch.
        rewrites: What was replaced first, since the target does not support it; as manifests list it.
        models: The models it consists of, if there are several.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rewrites: tuple[Mapping[str, object], ...] = ()
    models: tuple[Mapping[str, object], ...] = ()


def paths_of(what: Model | Parts) -> list[Path]:
    """The files and folders of a model or a split, which its export must not replace."""
    paths = [what.source.path, *(p.model.path for p in what)] if isinstance(what, Parts) else [what.path]
    return [path for path in paths if path is not None]


def find_source(what: Model | Parts, section: str | None, *, to: str, trust: bool, apart: bool = False) -> Source:
    """Find the graph to export. Nothing is run, but TensorFlow computes constants when it imports a graph.

    Args:
        what: A model, or the sections of a split.
        section: Name of a section; a model is split as `graphsplit.split` does by default. None: the whole.
        to: Name of the target.
        trust: Import graphs that reach files, the network or Python.
        apart: Whether the target takes sections, so that a model is split for the whole, too.

    Raises:
        TrustError: The model needs trust.
        FormatError: The graph is not a GraphDef, or not frozen.
        SectionNotFoundError: The split has no such section.
    """
    if isinstance(what, Parts):
        parts = what
    else:
        _check(what, "the model", to, trust)
        if section is None and not apart:
            return _whole(what)
        parts = split(what)
    if section is not None and section not in (names := [p.name for p in parts]):
        raise SectionNotFoundError(section, known=names)
    exported = [p for p in parts if section in (None, p.name)]
    for part in exported:
        _check(part.model, f"section {part.name!r}", to, trust)
    return _joined(parts) if section is None else _one(parts, exported[0], trust)


def _check(model: Model, what: str, to: str, trust: bool) -> None:
    runtime = runtime_of(model)
    if not runtime.imports_graphs:
        same = to == model.section_format
        then = "copy the file" if same else "export the model that it was converted from"
        raise FormatError(f"{what} is {runtime.name} {'already' if same else f'and cannot become {to}'}; {then}", path=model.path)
    check_runnable(model, trust)


def _whole(model: Model) -> Source:
    specs = infer(model, (*model.index.inputs, *model.index.outputs))
    graph = as_graphdef(model, "an export")
    return Source(graph, None, _ports(specs[t] for t in model.index.inputs), _ports(specs[t] for t in model.index.outputs))


def _one(parts: Parts, part: Part, trust: bool) -> Source:
    sections = parts.sections[: parts.sections.index(part) + 1]
    for earlier in sections:  # they run as well, to compute its inputs
        check_runnable(earlier.model, trust)
    return Source(as_graphdef(part.model, "an export"), part.name, part.inputs, part.outputs, sections, parts)


def _joined(parts: Parts) -> Source:
    model, names = join(parts.sections, parts.outputs)
    ports = {p.tensor: p for part in parts for p in (*part.inputs, *part.outputs)}

    def renamed(tensors: Sequence[str]) -> tuple[Port, ...]:
        return tuple(Port(t, names[t], ports[t].dtype, ports[t].shape) for t in tensors if t in names)

    return Source(model, None, renamed(parts.inputs), renamed(parts.outputs), parts=parts)


def _ports(specs: Iterable[TensorSpec]) -> tuple[Port, ...]:
    return tuple(Port(s.name, s.name, s.dtype, s.shape) for s in specs)
