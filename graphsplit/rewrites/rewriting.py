"""Applying rewrites: find, replace, rewire, prune."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from graphsplit.errors import CutError
from graphsplit.formats import GraphDefModel, ModelLike, as_graphdef, as_model
from graphsplit.formats.graphdef.edit import NodeWriter, edited
from graphsplit.formats.graphdef.writer import Chunk
from graphsplit.graph.options import hinted
from graphsplit.inference.shapes import Sizes
from graphsplit.planning.plan import Plan
from graphsplit.planning.planner import plan_sections
from graphsplit.rewrites.folding import fold_constants
from graphsplit.rewrites.matching import Unfit
from graphsplit.rewrites.registry import REGISTRY, Finding
from graphsplit.splitting.naming import Names, tensors_of

__all__ = ["RewrittenModel", "fused", "rewrite", "rewrite_again"]


class RewrittenModel(GraphDefModel):
    """A model after rewrites.

    Attributes:
        original: The model before the rewrites.
        rewrites: What was replaced, as manifests list it: name, where, parameters.
        left_alone: What was found and not replaced: name, where, reason.
        found: What was replaced, for the proof: name of the rewrite and the finding.
        replaced: Tensor of the original → the tensor that replaced it.
    """

    def __init__(
        self,
        chunks: Iterable[Chunk],
        original: GraphDefModel,
        *,
        output_names: Sequence[str],
        rewrites: Sequence[Mapping[str, object]] = (),
        left_alone: Sequence[Mapping[str, str]] = (),
        found: Sequence[tuple[str, Finding]] = (),
        replaced: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            chunks, path=original.path, format=original.format, output_names=output_names, signature=original.signature
        )
        self._original = original
        self.rewrites = tuple(rewrites)
        self.left_alone, self.found = tuple(left_alone), tuple(found)
        self.replaced = dict(replaced or {})

    @property
    def original(self) -> GraphDefModel:
        """The model before the rewrites."""
        return self._original


@hinted
def rewrite(
    model: ModelLike,
    *,
    fuse_nms: bool = False,
    batch_preprocess: bool = False,
    model_outputs: Names | None = None,
    trust: bool = False,
) -> RewrittenModel:
    """Rewrite a model to compute the same with fewer nodes. Nothing is run.

    Nodes that no output needs are pruned, and constants are folded where that is exact (`graphsplit.rewrites.folding`). Inputs and
    outputs keep their names. What is not known to be equivalent is left alone. `graphsplit.rewrites.proof.verify_rewrite` runs both
    models and compares them.

    Args:
        model: A frozen graph, or anything that `graphsplit.load` takes.
        fuse_nms: One op for the non-maximum suppression of all classes, see `graphsplit.rewrites.fused_nms`.
        batch_preprocess: Preprocess all images of a batch at once, see `graphsplit.rewrites.batched_map`.
        model_outputs: Outputs to keep (default: all).
        trust: Load a SavedModel that reaches files, the network or Python.

    Returns:
        The rewritten model; its ``left_alone`` lists what was not replaced, with reasons.

    Raises:
        TensorNotFoundError: The model has no such output.
        FormatError: The model is not a GraphDef, not legal or not frozen.
    """
    asked = {"fuse_nms": fuse_nms, "batch_preprocess": batch_preprocess}
    graph = as_graphdef(as_model(model, trust=trust), "a rewrite")
    return _rewrite(graph, [name for name in REGISTRY if asked[name]], model_outputs)


def rewrite_again(model: GraphDefModel, applied: Sequence[Mapping[str, object]]) -> GraphDefModel:
    """Apply the rewrites that a manifest lists to the model that it names.

    Args:
        model: The model before the rewrites.
        applied: ``rewrites`` of the manifest.

    Returns:
        The rewritten model; `model` if no rewrites are listed.

    Raises:
        CutError: This version does not know a rewrite.
    """
    names = dict.fromkeys(str(entry.get("name")) for entry in applied)
    unknown = [n for n in names if n not in REGISTRY]
    if unknown:
        raise CutError(f"unknown rewrite {unknown[0]!r}; this version knows {', '.join(REGISTRY)}")
    return _rewrite(model, list(names), None) if names else model


def _rewrite(model: GraphDefModel, names: Sequence[str], model_outputs: Names | None) -> RewrittenModel:
    outputs = model.index.outputs if model_outputs is None else tensors_of(model.index, model_outputs)
    model.check_frozen(outputs)
    applied: list[Mapping[str, object]] = []
    left: list[Mapping[str, str]] = []
    findings: list[tuple[str, Finding]] = []
    replaced: dict[str, str] = {}
    # Pruned first: what no output needs may prevent a rewrite.
    now = edited(model, outputs=outputs)
    for name in names:
        kind = REGISTRY[name]
        added: list[bytes] = []
        rewired: dict[str, str] = {}
        taken = set(now.reader.by_name)
        for found in kind.find(now):
            if isinstance(found, Unfit):
                left.append({"name": name, "where": found.where, "reason": found.reason})
                continue
            pivot = kind.inside(found)
            after = [now.index.producer[pivot]] if pivot is not None and pivot in now.index.captive else []
            write = NodeWriter("/".join([*found.scope, name]), taken, after=after)
            rewired |= kind.replace(now, write, found)
            taken |= write.names
            added += write.nodes
            findings.append((name, found))
            applied.append({"name": name, "where": found.where, **found.summary()})
        if rewired:
            now = edited(now, added=added, rewired=rewired, outputs=outputs)
            replaced |= rewired
    write = NodeWriter("constants", now.reader.by_name)
    folded = fold_constants(now, write)
    if folded:
        now = edited(now, added=write.nodes, rewired=folded, outputs=outputs)
    return RewrittenModel(
        [bytes(c) for c in now.chunks], model, output_names=outputs, rewrites=applied, left_alone=left, found=findings,
        replaced=replaced,
    )  # fmt: skip


def fused(model: GraphDefModel, plan: Plan, *, shapes: bool = True) -> tuple[RewrittenModel, Plan]:
    """A model with its non-maximum suppression fused, and its plan with the same cuts; the notes say what was left alone.

    Args:
        model: The model as it was exported.
        plan: Its plan.
        shapes: Whether sizes of tensors may be inferred for the smallest border.

    Raises:
        CutError: for a cut at a tensor that was replaced.
    """
    rewritten = rewrite(model, fuse_nms=True, model_outputs=plan.outputs)
    index = rewritten.index
    gone = [t for cut in plan.cuts for t in cut.tensors if t not in index.tensors]
    if gone:
        raise CutError(f"{gone[0]!r} is part of what the fused suppression replaces; cut elsewhere, or do not fuse", cut=gone)
    notes = [f"left alone: {entry['where']}: {entry['reason']}" for entry in rewritten.left_alone]
    if not rewritten.rewrites:
        notes.append("no non-maximum suppression was fused")
    else:
        nodes = len(model.index.nodes) - len(index.nodes)
        notes.append(f"non-maximum suppression fused: {nodes:,} nodes fewer" if nodes > 0 else "non-maximum suppression fused")
    sizes = Sizes(rewritten, shapes=shapes, isolate=False)  # what is fused is run in this process anyway
    planned = plan_sections(index, plan.cuts, last=plan.last, outputs=plan.outputs, repair=plan.repair, nbytes=sizes)
    return rewritten, replace(planned, origin=plan.origin, notes=(*plan.notes, *notes))
