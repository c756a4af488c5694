"""Opening what people pass: a model, parts, the path of either → a model with its plan, or parts and their whole."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from graphsplit.errors import CutError, FormatError
from graphsplit.formats import Model, ModelFile, ModelLike, as_graphdef, as_model, load
from graphsplit.parts.manifest import find_manifest, load_parts
from graphsplit.parts.parts import Parts, Source
from graphsplit.planning.plan import Plan
from graphsplit.rewrites.rewriting import fused, rewrite_again
from graphsplit.splitting.request import CutOptions, PlanOptions, named_options
from graphsplit.splitting.surgery import plan, plan_whole, split

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Planned", "check_no_cut", "open_model_or_parts", "open_parts", "plan_model", "whole_of"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A model with the plan of its split.

    Attributes:
        model: The model to cut, with the rewrites that were asked for.
        plan: Its plan.
    """

    model: Model
    plan: Plan


def open_model_or_parts(what: ModelLike | Parts, *, trust: bool = False) -> Model | Parts:
    """Parts, or the model: what was passed, or what its path leads to.

    Args:
        what: Parts, the folder of a split or its manifest, a model, or anything that `graphsplit.load` takes.
        trust: Load a SavedModel that reaches files, the network or Python.

    Raises:
        FormatError: for a path that leads to neither.
        TrustError: for a SavedModel that needs trust.
    """
    if isinstance(what, (str, PathLike)) and (manifest := find_manifest(what)) is not None:
        if isinstance(what, ModelFile):
            raise CutError("a split states the signature of its model; pass the model to choose another (signature=…, tags=…)")
        return load_parts(manifest)
    return what if isinstance(what, Parts) else as_model(what, trust=trust)


def plan_model(
    model: Model, *, fuse_nms: bool = False, whole: bool = False, shapes: bool = True, **cut: Unpack[CutOptions]
) -> Planned:
    """Plan the split of a model, with its non-maximum suppression fused if asked.

    Args:
        model: The model.
        fuse_nms: One op for the non-maximum suppression of all classes; proven by `graphsplit.rewrites.proof`.
        whole: Leave the model in one section.
        shapes: Whether a search for the cut may infer the sizes of tensors.
        **cut: Where to cut, as of `graphsplit.plan`.

    Raises:
        FormatError: if a model that is not a GraphDef is to be rewritten.
        CutError: as of `graphsplit.plan`; also for a cut at what is replaced, or a cut of what is to stay whole.
    """
    if whole:
        if named := [k for k in named_options(cut) if k != "model_outputs"]:
            raise CutError(f"{', '.join(sorted(named))} says where to cut, but the model is to run whole")
        planned = plan_whole(model, outputs=cut.get("model_outputs"))
    else:
        planned = plan(model, shapes=shapes, isolate=False, **cut)  # what is opened is run in this process anyway
    if fuse_nms:
        return Planned(*fused(as_graphdef(model, "fusing the non-maximum suppression"), planned, shapes=shapes))
    return Planned(model, planned)


def open_parts(
    what: ModelLike | Parts,
    *,
    fuse_nms: bool = False,
    whole: bool = False,
    shapes: bool = False,
    trust: bool = False,
    **cut: Unpack[CutOptions],
) -> Parts:
    """Parts to run: those that were passed, those of a folder, or those of a model that is split now, without proof.

    Args:
        what: Parts, the folder of a split, a model, or anything that `graphsplit.load` takes.
        fuse_nms: As of `plan_model`.
        whole: One section that holds the whole; of a split, the model that was split.
        shapes: Whether to infer shapes of border tensors that the file does not state.
        trust: Load a SavedModel that reaches files, the network or Python.
        **cut: Where to cut, as of `graphsplit.plan`.

    Raises:
        CutError: for a split together with a cut or a rewrite, and as of `plan_model`.
        FormatError, TrustError: as of `graphsplit.load`.
    """
    opened = open_model_or_parts(what, trust=trust)
    if isinstance(opened, Parts):
        if fuse_nms and not whole:
            raise CutError("a split was passed; fuse the suppression when splitting, or pass the model")
        check_no_cut(cut)
        if not whole:
            return opened
        opened = whole_of(opened, trust=trust)
    planned = plan_model(opened, fuse_nms=fuse_nms, whole=whole, shapes=shapes, **cut)
    return split(planned.model, planned.plan, shapes=shapes, isolate=False)


def check_no_cut(cut: CutOptions | PlanOptions) -> None:
    """Refuse a cut of what is split already. Raises CutError."""
    if named := named_options(cut):
        raise CutError(f"a split and {named[0]} both say where to cut; pass the model to cut it anew")


def whole_of(
    parts: Parts,
    model: ModelLike | None = None,
    *,
    rewritten: bool = False,
    trust: bool = False,
    remedy: str = "pass the model instead of its split",
) -> Model:
    """The model that was split.

    Args:
        parts: Its parts.
        model: The model, if it is not at hand and not where the manifest says.
        rewritten: Apply the rewrites that the split lists, so that whole and sections do the same work; otherwise the
            model is as it was exported, which is what the proof compares with.
        trust: Load a SavedModel that reaches files, the network or Python.
        remedy: What to do if the model is not there, for the message.

    Raises:
        FormatError: if the model is not where the manifest says, or is not the one that was split.
        CutError: for rewrites that this version does not know.
    """
    whole = _source(parts, model, trust, remedy).fed_with(parts.inputs)
    if rewritten and parts.rewrites:
        return rewrite_again(as_graphdef(whole, "a rewrite"), parts.rewrites)
    return whole


def _source(parts: Parts, model: ModelLike | None, trust: bool, remedy: str) -> Model:
    source = parts.source
    if model is None:
        if source.model is not None:
            return source.model
        if source.path is None or not source.path.exists():
            raise FormatError(f"the whole model is not there ({source.path}); {remedy}")
        model = source.path
    whole = load(model, trust=trust, **_choice(parts.source, model))
    if whole.sha256 != source.sha256:
        raise FormatError(
            f"not the file that was split (its checksum is {whole.sha256[:16]}…, the manifest says {source.sha256[:16]}…); "
            f"split it again, or {remedy}",
            path=whole.path if not isinstance(model, (str, PathLike)) else Path(model),
        )
    return whole


class _Choice(TypedDict, total=False):
    signature: str | None
    tags: tuple[str, ...] | None


def _choice(source: Source, model: ModelLike) -> _Choice:
    """Which signature of a file to load: that of the split, unless the path itself says."""
    if isinstance(model, ModelFile) or not isinstance(model, (str, PathLike)):
        return {}
    return {"signature": source.signature, "tags": source.tags}
