"""A graph without its weights, for the inference of shapes.

TensorFlow infers shapes while it imports a graph, and for that it evaluates constant subgraphs. So the graph has to be small and
harmless: large constants become placeholders of their dtype and shape, and so does every op that reaches files, the network or
Python (importing a ReadFile of a constant path was seen to open the file). Everything downstream of an op that TensorFlow does not
know is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import ceil, isfinite, prod
from types import MappingProxyType

from graphsplit.formats.graphdef.constants import tensor_value
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.writer import SectionBytes, write_section
from graphsplit.graph.index import GraphIndex, Node, Shape, TensorSpec
from graphsplit.graph.traversal import reachable

__all__ = ["LARGE", "make_skeleton"]

#: Bytes of a NodeDef at which a constant becomes a placeholder. Shapes, axes and sizes are far smaller.
LARGE = 4096

_SAMPLES = {"float16", "bfloat16", "float32", "float64", "complex64"}  # a row of these is no batch, but a sound or a series
_MOST = 2**16  # elements of a constant that TensorFlow may compute
# Ops that turn a few numbers into many → the operands that say how many.
_FILLING = {"Fill": (0,), "BroadcastTo": (1,), "Range": (0, 1, 2), "LinSpace": (2,)}


def make_skeleton(
    reader: GraphDefReader,
    index: GraphIndex,
    tensors: Iterable[str],
    batch: int | None = None,
    stated: Mapping[str, Shape] = MappingProxyType({}),
) -> tuple[SectionBytes, tuple[str, ...]]:
    """The skeleton of everything that some tensors need.

    Args:
        reader: The graph.
        index: Its index.
        tensors: The tensors whose shapes are asked for.
        batch: A size for every unknown leading dimension of a placeholder.
        stated: Input → shape that somebody stated.

    Returns:
        The skeleton, whose names map the tensors to those in it, and the tensors that it holds.
    """
    asked = tuple(dict.fromkeys(tensors))
    nodes = index.name_to_node_map
    outside = set(reader.outside)
    all_needed = index.ancestors(index.producer[t] for t in asked)
    filled = {n: s for n in all_needed if nodes[n].op in _FILLING and (s := _filled(reader, index, nodes[n])) is not None}
    stops = {n for n in all_needed if n in outside or n in filled or _states_its_shape(reader, index, nodes[n])}
    needed = index.ancestors((index.producer[t] for t in asked), known=stops)

    foreign = [n for n in needed if op_table().get(nodes[n].op) is None and nodes[n].op not in reader.library.functions]
    foreign += [n for n in stops if any(index.tensors[t].dtype is None for t in nodes[n].outputs)]
    # What TensorFlow could not import, and everything downstream of it.
    unknown = reachable(foreign, lambda n: (r for t in nodes[n].outputs for r in index.consumers.get(t, ())))

    fed = {index.producer[t] for t in index.inputs}  # TensorFlow takes no constant from an input that has a default, either
    replaced = (stops | needed & fed) - unknown
    keep = [n.name for n in reader.nodes if n.name in needed and n.name not in unknown and n.name not in replaced]
    entering = [
        _batched(replace(index.tensors[t], shape=stated.get(t, filled.get(n, index.tensors[t].shape))), batch)
        for n in replaced
        for t in nodes[n].outputs
    ]
    held = tuple(t for t in asked if index.producer[t] not in unknown)
    return write_section(reader, keep, entering, held, own_placeholders=False), held


def _batched(spec: TensorSpec, batch: int | None) -> TensorSpec:
    if batch is None or not spec.shape or spec.shape[0] is not None or (len(spec.shape) == 1 and spec.dtype in _SAMPLES):
        return spec
    return TensorSpec(spec.name, spec.dtype, (batch, *spec.shape[1:]))


def _states_its_shape(reader: GraphDefReader, index: GraphIndex, node: Node) -> bool:
    """Nodes that a placeholder can replace: large constants, and TensorArrays gathered with a known element shape.

    TensorFlow (2.21) infers nothing downstream of the latter, although attribute ``element_shape`` states the shape: on an SSD
    the shape of the resized image, from which all later shapes follow.
    """
    if node.op == "Const":
        at = reader.by_name[node.name]
        return node.group is None and at.end - at.start >= LARGE
    return node.op == "TensorArrayGatherV3" and index.tensors[node.outputs[0]].shape is not None


def _filled(reader: GraphDefReader, index: GraphIndex, node: Node) -> Shape | None:
    """The shape of a large constant that an op of `_FILLING` makes of few numbers; TensorFlow would compute it to infer shapes."""
    numbers: list[float] = []
    for place in _FILLING[node.op]:
        producer = index.producer[node.inputs[place]] if place < len(node.inputs) else ""
        constant = reader.by_name.get(producer)
        if constant is None or constant.op != "Const" or constant.end - constant.start >= LARGE:
            return None
        attribute = reader.attribute(constant, "value")
        value = None if attribute is None else tensor_value(attribute.tensor)
        if value is None or value.dtype.kind not in "iuf":
            return None
        numbers += value.ravel().tolist()
    if node.op == "Range":
        if len(numbers) != 3 or not numbers[2] or not all(isfinite(n) for n in numbers):
            return None
        numbers = [max(0, ceil((numbers[1] - numbers[0]) / numbers[2]))]
    shape = tuple(int(n) for n in numbers if isfinite(n) and 0 <= n < 2**63)
    return shape if len(shape) == len(numbers) and prod(shape) > _MOST else None
