"""Which outputs of a graph are for inference, and which only training needs: those that depend on labels or a loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from graphsplit.graph.index import GraphIndex
from graphsplit.graph.traversal import reachable

__all__ = ["for_inference", "model_outputs_text", "training_note"]

_LABELS = re.compile(r"(^|[/_])(labels?|targets?|y_true|ground_?truth|gt)([/_\d]|$)", re.IGNORECASE)
_LOSSES = re.compile(r"\w*CrossEntropy\w*|L2Loss|InTopK(V2)?|CTCLoss(V2)?")
_TRAINING = re.compile(r"gradients(_\d+)?/|(.*/)?(Adam|GradientDescent|Momentum|RMSProp)(_\d+)?($|/)")
_MOST = 8  # names in a message
_PLAIN = re.compile(r"[\w./:;-]+")  # written on a command line without quotes


def for_inference(index: GraphIndex, outputs: Sequence[str]) -> list[str]:
    """Those outputs that are computed from inputs, and from neither labels nor a loss; no gradients and no summaries."""
    nodes = index.name_to_node_map
    inputs = [n.name for n in index.nodes if n.kind == "input"]

    def after(name: str) -> Iterable[str]:
        return index.followers.get(name, ())

    fed = reachable(inputs, after)
    labels = [n.name for n in index.nodes if (n.kind == "input" and _LABELS.search(n.name)) or _LOSSES.fullmatch(n.op)]
    trained = reachable(labels, after)
    names = {t: index.producer[t] for t in outputs}
    return [
        tensor
        for tensor, name in names.items()
        if name in fed
        and name not in trained
        and nodes[name].kind == "op"
        and not _TRAINING.match(name)
        and not nodes[name].op.endswith("Summary")
    ]


def training_note(index: GraphIndex, outputs: Sequence[str]) -> str:
    """What to say of outputs that depend on labels; empty where there are none, or nothing else."""
    labels = [n.name for n in index.nodes if n.kind == "input" and _LABELS.search(n.name)]
    kept = for_inference(index, outputs) if labels else []
    if not kept or len(kept) == len(set(outputs)):
        return ""
    return f"some outputs depend on {labels[0]!r}, as in training; {model_outputs_text(kept)} leaves them out"


def model_outputs_text(tensors: Sequence[str]) -> str:
    """The option that keeps some tensors: ``model_outputs="scores,ids"``."""
    names = [t.removesuffix(":0") for t in tensors]
    if len(names) > _MOST or not all(map(_PLAIN.fullmatch, names)):
        return "model_outputs=…"
    return f'model_outputs="{",".join(names)}"'
