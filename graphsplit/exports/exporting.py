"""Export: find the graph, write it beside its place, compare it with its source, put it in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import CutError, EquivalenceError
from graphsplit.exports.comparing import Comparison, compare_export, feeds_of
from graphsplit.exports.destination import check_destination
from graphsplit.exports.saved_model import SIGNATURE
from graphsplit.exports.signature_keys import signature_keys
from graphsplit.exports.sources import find_source, open_split, paths_of
from graphsplit.exports.targets import find_target
from graphsplit.formats import Model, load
from graphsplit.formats.atomic import landing
from graphsplit.graph.index import Shape
from graphsplit.graph.text import shortened
from graphsplit.parts.parts import Parts, Port
from graphsplit.verification.report import Report

__all__ = ["Exported", "ExportedPort", "export"]


@dataclass(frozen=True, slots=True)
class ExportedPort:
    """An input or output of an export.

    tensor  its name in the whole model
    key     its key in the signature
    name    the name to feed or fetch: of a SavedModel and of a Triton ensemble the key, of a TFLite file the tensor's own name
    """

    tensor: str
    key: str
    name: str
    dtype: str | None
    shape: Shape | None


@dataclass(frozen=True)
class Exported:
    """What was written.

    path      the file or folder
    to        "saved_model", "tflite", "triton"
    section   None for the whole
    report    the comparison with the source; None when not asked
    refused   feeds that the source takes and the export does not, each with the reason
    rewrites  what was replaced first, because the target cannot hold it: the loop over the images, for TFLite
    models    what a Triton repository holds: {"name", "section", "platform", "kind"}
    """

    path: Path
    to: str
    section: str | None
    inputs: tuple[ExportedPort, ...]
    outputs: tuple[ExportedPort, ...]
    report: Report | None
    refused: tuple[str, ...] = ()
    rewrites: tuple[Mapping[str, Any], ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    _split: Parts | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        what = "whole" if self.section is None else f"section {self.section}"
        proof = "not compared" if self.report is None else shortened(self.report.summary(), 200)
        return f"Exported({what} as {self.to} in {str(self.path)!r}; {proof})"

    @property
    def signature(self) -> str:
        """The key of the one signature that it holds."""
        return SIGNATURE

    @property
    def parts(self) -> Parts:
        """The split that the section is of, with the export in its place: `graphsplit.save` and `graphsplit.Pipeline` take it.

        It is pinned to the CPU, where LiteRT runs; `delegates` of a Pipeline take it elsewhere.

        Raises CutError for the whole, and for a target that sections do not have.
        """
        if self._split is None or self.section is None:
            raise CutError("the whole was exported, not a section of a split; give section=…")
        if not find_target(self.to).replaces:
            raise CutError(f"a section of a split is a GraphDef or TFLite, not {self.to}")
        names = {p.tensor: p.name for p in (*self.inputs, *self.outputs)}
        return self._split.replaced(self.section, load(self.path), names, device="/cpu:0")


def export(
    what: Model | Parts | str | PathLike[str],
    path: str | PathLike[str],
    *,
    to: str,
    section: str | None = None,
    overwrite: bool = False,
    verify: bool = True,
    feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    trust: bool = False,
) -> Exported:
    """Write a section or a whole where people deploy it: a SavedModel folder with a signature, a TFLite file, a Triton repository.

    what        a model, the sections of a split, or the path of either (a folder with split.json is a split)
    path        the folder (saved_model, triton) or file (tflite) to write, whole or not at all
    to          "saved_model", "tflite", or "triton": a model repository with each section and the ensemble of them
    section     name of a section; of a model, that of the split which `graphsplit.split` makes of it. None: the whole; the
                sections of a split are joined again
    overwrite   replace what is there; a folder only when it holds nothing but such an export
    verify      run source and export on the same feeds and compare every output
    feeds       {tensor: array} of what is exported, or several of these; None: made ones, for a section what the sections
                before it make of made pictures
    rtol, atol  how far outputs may differ; default: 0 and 0, for tflite 1e-3 and 1e-3: its kernels sum in another order
    trust       export a model that reaches files, the network or Python: TensorFlow runs parts of it even to write it

    Raises EquivalenceError when an output differs by more, FormatError for what cannot be written (the ops that the TFLite
    converter refuses, a TFLite source), OverwriteError, SectionNotFoundError, TrustError, FeedError,
    SectionRunError, MissingExtraError where LiteRT or Triton's client is not installed. Nothing is written then.
    """
    target = find_target(to)
    what = open_split(what)
    source = find_source(what, section, to=to, trust=trust, apart=target.apart)
    place = check_destination(Path(path), target.own(source), paths_of(what), overwrite=overwrite)
    keys = signature_keys(p.tensor for p in (*source.inputs, *source.outputs))
    fed = feeds_of(source, feeds) if verify else []
    with landing(place) as new:
        written = target.write(source, keys, new)
        found: Comparison | None = None
        if verify:
            rtol, atol = target.rtol if rtol is None else rtol, target.atol if atol is None else atol
            found = compare_export(source, target, new, written, fed, rtol=rtol, atol=atol)
            _check(found.report)
    return Exported(
        Path(path),
        to,
        source.section,
        _ports(source.inputs, written.inputs, keys),
        _ports(source.outputs, written.outputs, keys),
        None if found is None else found.report,
        () if found is None else found.refused,
        written.rewrites,
        written.models,
        None if source.section is None else source.parts,
    )


def _check(report: Report) -> None:
    if not report.equal:
        told = f"the export differs: {report.summary()}; nothing was written (rtol=… and atol=… allow a difference)"
        raise EquivalenceError(told, report=report)


def _ports(ports: Iterable[Port], names: Iterable[str], keys: Mapping[str, str]) -> tuple[ExportedPort, ...]:
    return tuple(ExportedPort(p.tensor, keys[p.tensor], n, p.dtype, p.shape) for p, n in zip(ports, names, strict=True))
