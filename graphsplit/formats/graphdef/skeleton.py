"""A graph without its weights, for the inference of shapes.

TensorFlow infers shapes while it imports a graph, and for that it evaluates constant subgraphs. So what it is given
must be small and harmless: large constants become placeholders of their dtype and shape, and every op that reaches
files, the network or Python becomes a placeholder too (an imported ReadFile of a constant path was seen to open the
file). What lies behind an op that TensorFlow does not know is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.writer import SectionBytes, write_section
from graphsplit.graph import GraphIndex, TensorSpec

__all__ = ["LARGE", "make_skeleton"]

#: Bytes of a NodeDef from which on a constant becomes a placeholder. Shapes, axes and sizes are far smaller.
LARGE = 4096


def make_skeleton(reader: GraphDefReader, index: GraphIndex, tensors: Iterable[str]) -> tuple[SectionBytes, tuple[str, ...]]:
    """The skeleton of all that some tensors need, and those of the tensors that it holds.

    The names of `SectionBytes` tell what each asked tensor is called in it.
    """
    wanted = tuple(dict.fromkeys(tensors))
    outside = set(reader.outside)
    nodes = index.name_to_node_map
    needed = index.ancestors(index.producer[t] for t in wanted)

    unknown: set[str] = set()  # what TensorFlow could not import, and all behind it
    stack = [n for n in needed if n not in outside and op_table().get(nodes[n].op) is None and nodes[n].op not in reader.functions]
    stack += [n for n in outside & needed if any(index.tensors[t].dtype is None for t in nodes[n].outputs)]
    while stack:
        name = stack.pop()
        if name not in unknown:
            unknown.add(name)
            stack += [r for t in nodes[name].outputs for r in index.consumers.get(t, ())]

    keep: list[str] = []
    given: list[TensorSpec] = []
    for node in reader.nodes:
        name = node.name
        if name not in needed or name in unknown:
            continue
        if name in outside or (node.op == "Const" and node.end - node.start >= LARGE and nodes[name].group is None):
            given += [index.tensors[t] for t in nodes[name].outputs]
        else:
            keep.append(name)
    held = tuple(t for t in wanted if index.producer[t] not in unknown)
    return write_section(reader, keep, given, held), held
