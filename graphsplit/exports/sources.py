"""What is exported: a model, a section of a split, or all sections of a split joined again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import FormatError, SectionNotFoundError
from graphsplit.exports.joining import join
from graphsplit.formats import GraphDefModel, Model, load
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.adapters import runtime_of
from graphsplit.inference.sessions import check_runnable
from graphsplit.inference.shapes import infer
from graphsplit.parts.manifest import MANIFEST, load_parts
from graphsplit.parts.parts import Part, Parts, Port
from graphsplit.splitting.surgery import split

__all__ = ["Source", "Written", "find_source", "open_split", "paths_of"]


@dataclass(frozen=True)
class Source:
    """A graph to export.

    section          its name; None for the whole
    inputs, outputs  by their names in the whole and in `model`
    sections         those before it and itself, in order; empty for a whole
    parts            the split that it is, or that it is a section of; None for a model that was not split
    """

    model: GraphDefModel
    section: str | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sections: tuple[Part, ...] = ()
    parts: Parts | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    inputs, outputs  the names to feed and fetch, in the order of the source
    rewrites         what was replaced first, because the target cannot hold it; as manifests list it
    models           what it consists of, where it is more than one model
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rewrites: tuple[Mapping[str, Any], ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()


def open_split(what: Model | Parts | str | PathLike[str]) -> Model | Parts | str | PathLike[str]:
    """The sections of a split where a path names one: its folder, or the manifest in it; else what was given."""
    if isinstance(what, (str, PathLike)) and (Path(what).name == MANIFEST or (Path(what) / MANIFEST).is_file()):
        return load_parts(what)
    return what


def paths_of(what: Model | Parts | str | PathLike[str]) -> list[Path]:
    """Files and folders that an export must not replace: what it is made of."""
    if isinstance(what, (str, PathLike)):
        return [Path(what)]
    found = [what.source.path, *(p.model.path for p in what)] if isinstance(what, Parts) else [what.path]
    return [path for path in found if path is not None]


def find_source(
    what: Model | Parts | str | PathLike[str], section: str | None, *, to: str, trust: bool, apart: bool = False
) -> Source:
    """What is to be exported.

    what     a model or its path, or the sections of a split
    section  name of a section; of a model it is that of the split which is made where nothing else is said. None: the whole
    apart    the target takes sections: a model is split for the whole, too

    Nothing is run, but TensorFlow computes constants when it imports a graph. Raises TrustError where that needs trust,
    FormatError for what is no GraphDef or not frozen, SectionNotFoundError for a section that does not exist.
    """
    given = load(what, trust=trust) if isinstance(what, (str, PathLike)) else what
    if not isinstance(given, Parts):
        _check(given, "the model", to, trust)
        if section is None and not apart:
            return _whole(given)
        given = split(given)
    if section is not None and section not in (names := [p.name for p in given]):
        raise SectionNotFoundError(section, known=names)
    wanted = [p for p in given if section in (None, p.name)]
    for part in wanted:
        _check(part.model, f"section {part.name!r}", to, trust)
    return _joined(given, to) if section is None else _one(given, wanted[0], trust)


def _check(model: Model, what: str, to: str, trust: bool) -> None:
    runtime = runtime_of(model)
    if not runtime.imports_graphs:
        same = to == model.section_format
        then = "copy the file" if same else "there is no way back: export the model that it was converted from"
        raise FormatError(f"{what} is {runtime.name} {'already' if same else f'and cannot become {to}'}; {then}", path=model.path)
    check_runnable(model, trust)


def _whole(model: Model) -> Source:
    assert isinstance(model, GraphDefModel)
    specs = infer(model, (*model.index.inputs, *model.index.outputs))
    return Source(model, None, _ports(specs[t] for t in model.index.inputs), _ports(specs[t] for t in model.index.outputs))


def _one(parts: Parts, part: Part, trust: bool) -> Source:
    assert isinstance(part.model, GraphDefModel)
    sections = parts.sections[: parts.sections.index(part) + 1]
    for earlier in sections:  # they run, too, to make what the section is fed
        check_runnable(earlier.model, trust)
    return Source(part.model, part.name, part.inputs, part.outputs, sections, parts)


def _joined(parts: Parts, to: str) -> Source:
    model, names = join(parts.sections, parts.outputs)
    ports = {p.tensor: p for part in parts for p in (*part.inputs, *part.outputs)}

    def renamed(tensors: Sequence[str]) -> tuple[Port, ...]:
        return tuple(Port(t, names[t], ports[t].dtype, ports[t].shape) for t in tensors if t in names)

    return Source(model, None, renamed(parts.inputs), renamed(parts.outputs), parts=parts)


def _ports(specs: Iterable[TensorSpec]) -> tuple[Port, ...]:
    return tuple(Port(s.name, s.name, s.dtype, s.shape) for s in specs)
