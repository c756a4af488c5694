"""State that nodes share without an edge: by the attributes ``container`` and ``shared_name``, in the graph and in functions.

    x ─▶ Stage (shared_name "s")          Unstage (shared_name "s") ─▶ y          one group, though nothing joins them

A node that states no name is found by its own (core/framework/resource_mgr.cc, ``ContainerInfo::Init``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from graphsplit.formats.graphdef.calls import Call
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import NodeRange
from graphsplit.graph.disjoint_sets import DisjointSets

__all__ = ["sharing_nodes"]

# The name by which TensorFlow asks for a variable that nothing else can find (ResourceHandle::ANONYMOUS_NAME).
_ANONYMOUS = b"cd2c89b7-88b7-44c8-ad83-06c2a9158347"
_TEMPORARY = {"TemporaryVariable", "DestroyTemporaryVariable"}


class _Name(NamedTuple):
    container: bytes
    name: bytes


def sharing_nodes(reader: GraphDefReader) -> list[tuple[str, ...]]:
    """The nodes that may share state, in sets of two or more: names, in file order.

    A node counts for the functions it calls, each with what it binds. A name that no caller binds may be any.
    """
    functions = reader.library.functions
    if not any(map(_shares, {n.op for n in (*reader.nodes, *(n for f in functions.values() for n in f.nodes))})):
        return []
    # A call joins its callers to what it leads to, since all of them have that name in reach.
    sets = DisjointSets[str | Call | _Name | None]()
    calls = {n.name: found for n in reader.nodes if (found := reader.calls.of(n))} if functions else {}
    made = dict.fromkeys(call for found in calls.values() for call in found)
    leading = reader.calls.reaching(made, lambda node, call: any(True for _ in _names(reader, node, call)))
    for call in leading:
        for inner in functions[call.function].nodes:
            for name in _names(reader, inner, call):
                sets.join(call, name)
        for called in reader.calls.inside(call):
            if called in leading:
                sets.join(call, called)
    for node in reader.nodes:
        for name in _names(reader, node, None):
            sets.join(node.name, name)
        for call in calls.get(node.name, ()):
            if call in leading:
                sets.join(node.name, call)
    if None in sets:
        for item in list(sets):
            if isinstance(item, _Name):
                sets.join(item, None)
    together: dict[object, list[str]] = {}
    for node in reader.nodes:
        if node.name in sets:
            together.setdefault(sets.root(node.name), []).append(node.name)
    return [tuple(names) for names in together.values() if len(names) > 1]


def _shares(op: str) -> bool:
    info = op_table().get(op)
    return op in _TEMPORARY or op == "_VarHandlesOp" or (info is not None and info.shared)


def _names(reader: GraphDefReader, node: NodeRange, within: Call | None) -> Iterator[_Name | None]:
    """The names under which a node keeps its state; None for one that is not known."""
    if not _shares(node.op):
        return

    def value(key: str) -> Any:
        return reader.calls.value(node, key, within)

    own = node.name.encode()
    if node.op == "_VarHandlesOp":
        containers, names = value("containers"), value("shared_names")
        if containers is None or names is None or len(containers.list.s) != len(names.list.s) or not names.list.s:
            yield None
        else:
            yield from map(_Name, containers.list.s, names.list.s)
        return
    key = "var_name" if node.op in _TEMPORARY else "shared_name"
    stated = [value("container"), value(key)]
    if any(v is not None and not v.HasField("s") for v in stated):
        yield None
        return
    container, name = (b"" if v is None else v.s for v in stated)
    if node.op.endswith("VarHandleOp"):  # which takes an empty name as it is
        if name != _ANONYMOUS:
            yield _Name(container, name)
        if name:
            return
    yield _Name(container, name or own)
