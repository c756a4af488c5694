"""The loop over images before the network, as ops over the whole batch.

``tf.map_fn`` runs its body for one image after the other. The images of a batch are one tensor, so they have the same size, and
what the body does to one image (resize, scale, shift) can be done to all of them at once:

    images [b, h, w, c] ─ scatter ─ while: read, ExpandDims, Resize…, Squeeze, write ─ gather ─ [b, h', w', c]
    images [b, h, w, c] ──────────────────── Resize… ──────────────────────────────────────── [b, h', w', c]

The body is read backwards from what it writes. Each of its tensors is either the same for all images (constants, arithmetic on
the shape of an image) or specific to an image; to the latter only ops that treat each image independently may be applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.graph.index import Group, Node
from graphsplit.rewrites.counted_loop import counted_rows
from graphsplit.rewrites.lifting import RESIZERS, Lift
from graphsplit.rewrites.matching import Matcher, NoMatch, Unfit

__all__ = ["BatchedMap", "find_maps", "write_batched"]


@dataclass(frozen=True, slots=True)
class BatchedMap:
    """A loop over images that was read.

    Attributes:
        group: Name of the loop.
        images: What it runs over: [b, …].
        results: Stacked tensor and the value of the body that it stacks, for each result.
        ops: Ops of the body that are done to all images at once.
    """

    group: str
    images: str
    results: tuple[tuple[str, str], ...]
    ops: tuple[str, ...]

    @property
    def where(self) -> str:
        """The name of the loop."""
        return self.group

    @property
    def scope(self) -> tuple[str, ...]:
        """The name scope of the loop."""
        return tuple(self.group.split("/")[:-2])

    def summary(self) -> dict[str, object]:
        """The parameters, for people and manifests."""
        return {"images": self.images, "results": [r for r, _ in self.results], "ops": list(self.ops)}


def find_maps(model: GraphDefModel) -> Iterator[BatchedMap | Unfit]:
    """Find each loop that resizes images, without TensorFlow.

    Yields:
        Its parameters, or the reason why it is left alone.
    """
    match = Matcher(model)
    for group in model.index.groups.values():
        nodes = [match.index.name_to_node_map[n] for n in group.nodes]
        if group.kind != "loop" or not any(n.op in RESIZERS for n in nodes):
            continue
        try:
            yield _read(match, group, nodes)
        except NoMatch as why:
            yield Unfit(group.name, str(why))


def _read(match: Matcher, group: Group, nodes: list[Node]) -> BatchedMap:
    results: list[tuple[str, str]] = []
    images = ""
    for node in nodes:
        if node.op != "TensorArrayGatherV3":
            continue
        if node.outputs[0] in match.index.outputs:
            raise NoMatch(f"{node.outputs[0]} is an output of the model")
        writes = [n for n in nodes if n.op == "TensorArrayWriteV3" and match.same(n.inputs[0], node.inputs[0])]
        if len(writes) != 1:
            raise NoMatch(f"{node.name!r} stacks what is written {len(writes)} times")
        images = counted_rows(match, writes[0].inputs[1], match.first(node.inputs[1]))
        results.append((node.outputs[0], writes[0].inputs[2]))
    if not results:
        raise NoMatch("no result of the loop is stacked")
    dry = Lift(match, NodeWriter("dry", ()), group.name, images)
    if any(dry.value(value)[0] == "one" for _, value in results):
        raise NoMatch("a result keeps the batch of one of each image")
    return BatchedMap(group.name, images, tuple(results), tuple(sorted(dry.ops)))


def write_batched(model: GraphDefModel, write: NodeWriter, loop: BatchedMap) -> dict[str, str]:
    """Write the replacement; stacked tensor → the tensor that replaces it."""
    match = Matcher(model)
    lift = Lift(match, write, loop.group, loop.images)
    replaced = {}
    for result, value in loop.results:
        kind, tensor = lift.value(value)
        replaced[result] = tensor if kind == "each" else _repeated(match, write, loop, value, tensor)
    return replaced


def _repeated(match: Matcher, write: NodeWriter, loop: BatchedMap, value: str, tensor: str) -> str:
    """A value that is the same for all images, repeated for each."""
    image, same = (match.index.tensors[match.plain(t)].dtype or "float32" for t in (loop.images, value))
    batch = write("Shape", loop.images, T=image, out_type="int32")
    ends = [write.const([i]) for i in (0, 1, 1)]
    count = write("StridedSlice", batch, *ends, T="int32", Index="int32")
    shape = write("Shape", tensor, T=same, out_type="int32")
    full = write("ConcatV2", count, shape, write.const(0), T="int32", Tidx="int32", N=2)
    return write("BroadcastTo", tensor, full, T=same, Tidx="int32")
