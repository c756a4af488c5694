"""Export: find the graph, write it to a temporary place, compare it with its source, move it to its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from numpy.typing import ArrayLike

from graphsplit.errors import CutError, EquivalenceError
from graphsplit.exports.comparing import Comparison, compare_export, feeds_of
from graphsplit.exports.destination import check_destination
from graphsplit.exports.saved_model import SIGNATURE
from graphsplit.exports.signature_keys import signature_keys
from graphsplit.exports.sources import find_source, paths_of
from graphsplit.exports.targets import find_target
from graphsplit.formats import ModelLike, load
from graphsplit.formats.atomic import landing
from graphsplit.graph.index import Shape
from graphsplit.graph.options import check_path, hinted
from graphsplit.graph.text import shortened
from graphsplit.parts.parts import Parts, Port
from graphsplit.rewrites.opening import open_model_or_parts
from graphsplit.verification.report import Report

__all__ = ["Exported", "ExportedPort", "export"]


@dataclass(frozen=True, slots=True)
class ExportedPort:
    """An input or output of an export.

    Attributes:
        tensor: Its name in the whole model.
        key: Its key in the signature.
        name: The name to feed or fetch: the key in a SavedModel and a Triton ensemble, the tensor's own name in a TFLite file.
        dtype: ``float32`` …
        shape: None if the rank is unknown; None inside of it for an unknown dimension.
    """

    tensor: str
    key: str
    name: str
    dtype: str | None
    shape: Shape | None


@dataclass(frozen=True)
class Exported:
    """An export.

    Attributes:
        path: The file or folder.
        to: "saved_model", "tflite" or "triton".
        section: Name of the section; None for the whole.
        inputs: What to feed.
        outputs: What to fetch.
        report: The comparison with the source; None if not asked for.
        refused: Feeds that the source accepts and the export does not, each with the reason.
        rewrites: What was replaced first, since the target does not support it: for TFLite, the loop over the images.
        models: The models of a Triton repository: {"name", "section", "platform", "kind"}.
    """

    path: Path
    to: str
    section: str | None
    inputs: tuple[ExportedPort, ...]
    outputs: tuple[ExportedPort, ...]
    report: Report | None
    refused: tuple[str, ...] = ()
    rewrites: tuple[Mapping[str, object], ...] = ()
    models: tuple[Mapping[str, object], ...] = ()
    _split: Parts | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        what = "whole" if self.section is None else f"section {self.section}"
        proof = "not compared" if self.report is None else shortened(self.report.summary(), 200)
        return f"Exported({what} as {self.to} in {str(self.path)!r}; {proof})"

    @property
    def signature(self) -> str:
        """The key of its signature."""
        return SIGNATURE

    @property
    def parts(self) -> Parts:
        """The split with the export in place of the section, for `graphsplit.save` and `graphsplit.Pipeline`.

        The section is pinned to the CPU, where LiteRT runs; `delegates` of a Pipeline take it elsewhere.

        Raises:
            CutError: The whole was exported, or the target is not a format of sections.
        """
        if self._split is None or self.section is None:
            raise CutError("the whole was exported, not a section of a split; pass section=…")
        if not find_target(self.to).replaces:
            raise CutError(f"a section of a split is a GraphDef or TFLite, not {self.to}")
        names = {p.tensor: p.name for p in (*self.inputs, *self.outputs)}
        return self._split.replaced(self.section, load(self.path), names, device="/cpu:0")


@hinted
def export(
    what: ModelLike | Parts,
    path: str | PathLike[str],
    *,
    to: str,
    section: str | None = None,
    overwrite: bool = False,
    verify: bool = True,
    feeds: Mapping[str, ArrayLike] | Iterable[Mapping[str, ArrayLike]] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    trust: bool = False,
) -> Exported:
    """Export a section or a whole: a SavedModel folder with a signature, a TFLite file, or a Triton repository.

    The export is written whole or not at all, after it has been compared with its source.

        gs.export("frozen_inference_graph.pb", "serving/1", to="saved_model")
        gs.export("out", "main.tflite", to="tflite", section="main")

    Args:
        what: A model, the sections of a split, or the path of either (a folder with split.json is a split).
        path: The folder (saved_model, triton) or file (tflite) to write.
        to: "saved_model", "tflite", or "triton": a model repository with each section and their ensemble.
        section: Name of a section; a model is split first, as `graphsplit.split` does by default. None: the whole; the sections
            of a split are joined.
        overwrite: Replace an earlier export; a folder only if it holds nothing else.
        verify: Run source and export on the same feeds and compare every output.
        feeds: {tensor: array} for what is exported, or several of these. None: synthetic ones; a section gets what the sections
            before it compute from synthetic images. Inputs of a whole that a single one leaves out get synthetic values.
        shapes: Input → shape that the file does not state, for synthetic feeds; None in it: unknown.
        rtol: Relative tolerance (default: 0; for tflite 1e-3, since its kernels sum in another order).
        atol: Absolute tolerance (default: 0; for tflite 1e-3).
        trust: Export a model that reaches files, the network or Python; TensorFlow runs parts of it even to write it.

    Returns:
        What was written, with the names to feed and fetch.

    Raises:
        EquivalenceError: An output differs by more than the tolerance.
        FormatError: The target is unknown, or the graph cannot be written for it: ops that the TFLite converter refuses, a TFLite
            source.
        OverwriteError: Something exists at `path`.
        SectionNotFoundError: The split has no such section.
        TrustError: The model needs trust.
        FeedError, SectionRunError: Feeds do not fit, or source or export fail to run.
        MissingExtraError: LiteRT or Triton's client is not installed.
    """
    check_path("path", path, "a file or folder")
    target = find_target(to)
    opened = open_model_or_parts(what, trust=trust)
    source = find_source(opened, section, to=to, trust=trust, apart=target.apart)
    place = check_destination(Path(path), target.own(source), paths_of(opened), overwrite=overwrite)
    keys = signature_keys((p.tensor for p in (*source.inputs, *source.outputs)), source.signature)
    fed = feeds_of(source, feeds, shapes) if verify else []
    with landing(place, overwrite=overwrite) as new:
        written = target.write(source, keys, new)
        comparison: Comparison | None = None
        if verify:
            rtol, atol = target.rtol if rtol is None else rtol, target.atol if atol is None else atol
            comparison = compare_export(source, target, new, written, fed, rtol=rtol, atol=atol)
            _check(comparison.report)
    return Exported(
        Path(path),
        to,
        source.section,
        _ports(source.inputs, written.inputs, keys),
        _ports(source.outputs, written.outputs, keys),
        None if comparison is None else comparison.report,
        () if comparison is None else comparison.refused,
        written.rewrites,
        written.models,
        None if source.section is None else source.parts,
    )


def _check(report: Report) -> None:
    if not report.equal:
        message = f"the export differs: {report.summary()}; nothing was written (rtol=… and atol=… allow a difference)"
        raise EquivalenceError(message, report=report)


def _ports(ports: Iterable[Port], names: Iterable[str], keys: Mapping[str, str]) -> tuple[ExportedPort, ...]:
    return tuple(ExportedPort(p.tensor, keys[p.tensor], n, p.dtype, p.shape) for p, n in zip(ports, names, strict=True))
