"""The rewrites, as data: a name, a sentence, and one function per step.

    find     model → what can be replaced (`Finding`), or why it is left alone (`Unfit`); needs no TensorFlow
    replace  (model, writer, finding) → writes nodes; {tensor: the tensor that replaces it}
    samples  (model, finding) → feeds on which the proof runs both

Another rewrite takes a module with these three functions and a line here: pruning, wiring, the proof and the commands are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.rewrites.batched_map import find_maps, write_batched
from graphsplit.rewrites.fused_nms import write_fused
from graphsplit.rewrites.matching import Unfit
from graphsplit.rewrites.multiclass import find_multiclass
from graphsplit.rewrites.samples import Samples, image_samples, nms_samples

__all__ = ["REGISTRY", "Finding", "Rewrite"]


class Finding(Protocol):
    """A place where a rewrite applies.

    Attributes:
        where: Name of the place, for people.
        scope: Name scope of the new nodes.
    """

    @property
    def where(self) -> str: ...
    @property
    def scope(self) -> tuple[str, ...]: ...
    def summary(self) -> dict[str, object]:
        """Its parameters, as JSON."""
        ...


F = TypeVar("F", bound=Finding)


@dataclass(frozen=True, slots=True)
class Rewrite(Generic[F]):
    """One kind of rewrite.

    Attributes:
        name: Its name in manifests, and the keyword of `graphsplit.rewrite`.
        summary: One line.
        find: Finds the places where it applies.
        replace: Writes the replacement of one.
        samples: Feeds for the proof of one.
        inside: The tensor that new constants wait for, if the place is inside a loop.
    """

    name: str
    summary: str
    find: Callable[[GraphDefModel], Iterable[F | Unfit]]
    replace: Callable[[GraphDefModel, NodeWriter, F], Mapping[str, str]]
    samples: Callable[[GraphDefModel, F], Samples]
    inside: Callable[[F], str | None] = lambda finding: None


#: By name, in the order they are applied.
REGISTRY: Mapping[str, Rewrite[Any]] = {
    r.name: r
    for r in (
        Rewrite(
            name="fuse_nms",
            summary="one CombinedNonMaxSuppression instead of a suppression per class",
            find=find_multiclass,
            replace=lambda model, write, nms: write_fused(write, nms),
            samples=nms_samples,
            inside=lambda nms: nms.scores,
        ),
        Rewrite(
            name="batch_preprocess",
            summary="the loop over images before the network, as ops over the whole batch",
            find=find_maps,
            replace=write_batched,
            samples=image_samples,
        ),
    )
}
