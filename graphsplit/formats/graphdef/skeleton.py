"""A graph without its weights, for the inference of shapes.

TensorFlow infers shapes while it imports a graph, and for that it evaluates constant subgraphs. So the graph has to be small and
harmless: large constants become placeholders of their dtype and shape, and so does every op that reaches files, the network or
Python (importing a ReadFile of a constant path was seen to open the file). Everything downstream of an op that TensorFlow does not
know is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.writer import SectionBytes, write_section
from graphsplit.graph.index import GraphIndex, Node, Shape, TensorSpec
from graphsplit.graph.traversal import reachable

__all__ = ["LARGE", "make_skeleton"]

#: Bytes of a NodeDef at which a constant becomes a placeholder. Shapes, axes and sizes are far smaller.
LARGE = 4096


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
    stops = {n for n in all_needed if n in outside or _states_its_shape(reader, index, nodes[n])}
    needed = index.ancestors((index.producer[t] for t in asked), known=stops)

    foreign = [n for n in needed if op_table().get(nodes[n].op) is None and nodes[n].op not in reader.library.functions]
    foreign += [n for n in stops if any(index.tensors[t].dtype is None for t in nodes[n].outputs)]
    # What TensorFlow could not import, and everything downstream of it.
    unknown = reachable(foreign, lambda n: (r for t in nodes[n].outputs for r in index.consumers.get(t, ())))

    fed = {index.producer[t] for t in index.inputs}  # TensorFlow takes no constant from an input that has a default, either
    replaced = (stops | needed & fed) - unknown
    keep = [n.name for n in reader.nodes if n.name in needed and n.name not in unknown and n.name not in replaced]
    entering = [
        _batched(replace(index.tensors[t], shape=stated.get(t, index.tensors[t].shape)), batch)
        for n in replaced
        for t in nodes[n].outputs
    ]
    held = tuple(t for t in asked if index.producer[t] not in unknown)
    return write_section(reader, keep, entering, held, own_placeholders=False), held


def _batched(spec: TensorSpec, batch: int | None) -> TensorSpec:
    if batch is None or not spec.shape or spec.shape[0] is not None:
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
