"""The rewrites there are, as data: a name, a sentence, and one small function for each step.

    find     model → what was found and read, or why it is left alone (`Unfit`); needs no TensorFlow
    replace  (model, writer, what was found) → writes nodes; {tensor: the tensor that takes its place}
    samples  (model, what was found) → what the proof runs old and new on

A third one is a module with these three and a line here; pruning, wiring, the proof and the commands come by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.rewrites.batched_map import find_maps, write_batched
from graphsplit.rewrites.fused_nms import write_fused
from graphsplit.rewrites.matching import Unfit
from graphsplit.rewrites.multiclass import find_multiclass
from graphsplit.rewrites.samples import Samples, image_samples, nms_samples

__all__ = ["REGISTRY", "Rewrite"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One kind of rewrite.

    What ``find`` gives has ``where`` (a name for people), ``scope`` (the name scope of new nodes) and ``summary()`` (its
    parameters as JSON).

    inside  the tensor that new constants wait for, where what is replaced lies inside of a loop
    """

    name: str
    summary: str
    find: Callable[[GraphDefModel], Iterable[Any | Unfit]]
    replace: Callable[[GraphDefModel, NodeWriter, Any], Mapping[str, str]]
    samples: Callable[[GraphDefModel, Any], Samples]
    inside: Callable[[Any], str | None] = lambda found: None


#: By name, in the order they are applied.
REGISTRY: Mapping[str, Rewrite] = {
    r.name: r
    for r in (
        Rewrite(
            name="fuse_nms",
            summary="one CombinedNonMaxSuppression for the suppression of each class",
            find=find_multiclass,
            replace=lambda model, write, found: write_fused(write, found),
            samples=nms_samples,
            inside=lambda found: found.scores,
        ),
        Rewrite(
            name="batch_preprocess",
            summary="the loop over images in front of the network, as ops over the whole batch",
            find=find_maps,
            replace=write_batched,
            samples=image_samples,
        ),
    )
}
