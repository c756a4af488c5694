"""Values that a graph needs and does not hold: variables, tables, iterators, and what training left over.

    ids ─▶ LookupTableFindV2 ─▶ label        no cut helps label; scores does not need the table: keep it, and ids
              table ──▲
    scores

Each kind has a sentence of its own, which names what can be kept instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set
from typing import NamedTuple

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import NodeRange
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.text import list_text
from graphsplit.graph.training import for_inference, model_outputs_text
from graphsplit.graph.traversal import reachable

__all__ = ["Unfrozen", "kept_instead", "unfed_iterator", "unfrozen_node", "unfrozen_text"]

_VARIABLES = {
    "Variable", "VariableV2", "VarHandleOp", "ReadVariableOp", "AutoReloadVariable", "TemporaryVariable", "Assign",
    "AssignVariableOp",
}  # fmt: skip
_TABLES = {
    "HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2", "AnonymousHashTable", "AnonymousMutableHashTable",
    "MutableHashTableOfTensors", "MutableHashTableOfTensorsV2", "MutableDenseHashTable", "MutableDenseHashTableV2",
    "AnonymousMutableDenseHashTable", "AnonymousMutableHashTableOfTensors",
}  # fmt: skip
_NEXT = {"IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional"}


class Unfrozen(NamedTuple):
    """A node whose value is not in the graph.

    Attributes:
        node: The node.
        kind: "variable", "table" or "leftover" (it changes a variable that is a constant now).
    """

    node: NodeRange
    kind: str


def unfrozen_node(reader: GraphDefReader, needed: Collection[str] | None = None, *, tables: bool = True) -> Unfrozen | None:
    """The first node that keeps a value outside of the graph, or is left over from training, or None.

    Args:
        reader: The graph.
        needed: Names of the nodes that count, with the functions they call; None: all.
        tables: Whether tables count.
    """
    functions = reader.library.functions
    nodes = [n for n in reader.nodes if needed is None or n.name in needed]
    for node in nodes:
        if (kind := _kind(reader, node)) and (tables or kind != "table"):
            table = kind == "handle" and any(n.op.startswith("LookupTable") for n in _users(reader, node.name))
            if table and not tables:
                continue
            return Unfrozen(node, "table" if table else "variable" if kind == "handle" else kind)
    if not functions:
        return None
    called = functions.keys() if needed is None else reader.library.reached(f for n in nodes for f in reader.library.called(n))
    inner = ((n, kind) for name, f in functions.items() if name in called for n in f.nodes if (kind := _kept(n.op)))
    inner = ((n, kind) for n, kind in inner if tables or kind != "table")
    return next((Unfrozen(n, kind) for n, kind in inner), None)


def _kept(op: str) -> str:
    return "variable" if op in _VARIABLES else "table" if op in _TABLES else ""


def _kind(reader: GraphDefReader, node: NodeRange) -> str:
    info = op_table().get(node.op)
    if info is not None and info.changes:
        several = any("*" in arg for arg in info.inputs)
        read = [raw for number, raw in enumerate(node.inputs) if not raw.startswith("^") and (several or number in info.changes)]
        sources = (reader.by_name.get(reader.split_input(raw)[0]) for raw in read)
        if any(s is not None and (known := op_table().get(s.op)) is not None and not known.ref for s in sources):
            return "leftover"
    if node.op in ("Placeholder", "PlaceholderV2", "_Arg"):
        dtype = reader.attribute(node, "T" if node.op == "_Arg" else "dtype")
        return "handle" if dtype is not None and op_table().dtypes.get(dtype.type % 100) == "resource" else ""
    return _kept(node.op)


def _users(reader: GraphDefReader, name: str) -> list[NodeRange]:
    """The nodes that read the value of a node, also through Identity."""
    readers: dict[str, list[NodeRange]] = {}
    for node in reader.nodes:
        for raw in node.inputs:
            readers.setdefault(raw.removesuffix(":0"), []).append(node)
    same = reachable([name], lambda n: (r.name for r in readers.get(n, ()) if r.op == "Identity"))
    return [r for n in same for r in readers.get(n, ()) if r.op != "Identity"]


def unfrozen_text(reader: GraphDefReader, index: GraphIndex, outputs: Sequence[str], bad: Unfrozen, *, folder: bool) -> str:
    """What is wrong with it, and what to do.

    Args:
        reader: The graph.
        index: Its index.
        outputs: The outputs that are to be computed.
        bad: The node.
        folder: Whether the graph was frozen from a SavedModel folder, or such, so that to freeze it is no advice.
    """
    node = bad.node
    if node.name not in index.name_to_node_map:  # of a function
        holders = [n.name for n in index.nodes if any(map(_kept, index.ops_within(n)))]
        instead = kept_instead(index, outputs, holders)
    else:
        instead = kept_instead(index, outputs, [n.name for n in reader.nodes if _kind(reader, n)])
    keep = f"keep the outputs that do not need it ({instead})" if instead else ""
    if bad.kind == "leftover":
        changed = next((r for r in node.inputs if not r.startswith("^")), "")
        return (
            f"exported while training: {node.name!r} ({node.op}) changes a variable, but {changed!r} is a "
            f"{reader.by_name[reader.split_input(changed)[0]].op} and keeps its value, so TensorFlow refuses the graph; "
            f"{keep or 'export the model for inference'}"
        )
    if bad.kind == "table":
        users = [n.name for n in _users(reader, node.name)]
        read = f", read by {list_text(map(repr, users))}" if users else ""
        found = [t for u in users if u in index.name_to_node_map for t in index.name_to_node_map[u].outputs]
        border = [t.removesuffix(":0") for t in found if t in index.consumers and t not in index.captive]
        after = f'inputs="{",".join(border)}"' if border and all("," not in t for t in border) else "inputs=…"
        then = (
            f"keep what it is looked up with instead, and look it up after the split ({instead})"
            if instead
            else f"fill it in your program: cut after what is looked up ({after}) and write the sections unproven (verify=False)"
        )
        return f"not frozen: {node.name!r} is a {node.op}, a table whose entries are not in the graph{read}; {then}"
    first = "freeze the graph first (tf.compat.v1.graph_util.convert_variables_to_constants, or load the SavedModel folder)"
    if folder:
        first = "export the model without what changes it"
    return f"not frozen: {node.name!r} is a {node.op}, whose value is not in the file; {first}" + (f", or {keep}" if keep else "")


def kept_instead(index: GraphIndex, outputs: Iterable[str], bad: Iterable[str]) -> str:
    """The option that keeps what does not need some nodes, ``model_outputs="scores,ids"``; empty if there is nothing to keep.

    Outputs that depend on labels, which only training has, are left out if others remain. Where an output needs the nodes, the
    tensors that are read together with them are kept instead.
    """
    followers = index.followers
    tainted = reachable(bad, lambda n: followers.get(n, ()))
    kept = [t for t in outputs if t in index.producer and index.producer[t] not in tainted]
    lost = [t for t in outputs if t in index.producer and index.producer[t] in tainted]
    kept = for_inference(index, kept) or kept
    needed = index.ancestors(index.producer[t] for t in lost)
    inputs = [n.name for n in index.nodes if n.kind == "input"]
    fed = reachable(inputs, lambda n: followers.get(n, ())) - tainted - set(inputs)
    trained = {n for n in tainted if _trains(index.name_to_node_map[n].op)}
    border = [
        t
        for n in index.nodes
        if n.name in tainted and n.name in needed and n.name not in trained
        for t in n.inputs
        if index.producer[t] in fed and t not in index.captive and t not in index.handles
    ]
    before = index.ancestors(index.producer[t] for t in border)
    if not kept and 2 * _count(index, before) < _count(index, needed & tainted):
        return ""  # most of the model comes after the node: what is before it is of little use
    several = list(dict.fromkeys([*kept, *([] if kept and not _looked_up(index, tainted) else border)]))
    return model_outputs_text(several) if several else ""


def _count(index: GraphIndex, names: Iterable[str]) -> int:
    return sum(index.name_to_node_map[n].kind != "const" for n in names)


def _trains(op: str) -> bool:
    """Whether an op changes or holds a variable, so that what it reads is of no use to anyone else."""
    info = op_table().get(op)
    return info is not None and (bool(info.changes) or "state" in info.effects) and not op.startswith("LookupTable")


def _looked_up(index: GraphIndex, tainted: Set[str]) -> bool:
    return any(index.name_to_node_map[n].op.startswith("LookupTable") for n in tainted)


def unfed_iterator(index: GraphIndex, outputs: Iterable[str]) -> str | None:
    """The name of a node that takes elements from an iterator which nothing in the graph fills, or None."""
    takers = [n.name for n in index.nodes if n.op in _NEXT]
    if not takers:
        return None
    nodes = index.name_to_node_map
    needed = index.ancestors(index.producer[t] for t in outputs if t in index.producer)
    if any(nodes[n].op.startswith("MakeIterator") for n in needed):
        return None
    filled = reachable((n.name for n in index.nodes if n.op == "OneShotIterator"), lambda n: index.followers.get(n, ()))
    return next((n for n in takers if n in needed and n not in filled), None)
