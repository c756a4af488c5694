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
    users: dict[_Name, list[str]] = {}
    anything: list[str] = []
    within: dict[Call, frozenset[_Name | None]] = {}
    for node in reader.nodes:
        names = set(_names(reader, node, None))
        for call in reader.calls.reached(reader.calls.of(node)) if functions else ():
            if call not in within:
                within[call] = frozenset(n for inner in functions[call.function].nodes for n in _names(reader, inner, call))
            names |= within[call]
        for name in names:
            if name is not None:
                users.setdefault(name, []).append(node.name)
        if None in names:
            anything.append(node.name)
    if anything:
        anything += [n for found in users.values() for n in found]
    sets = [*users.values(), list(dict.fromkeys(anything))]
    return [tuple(found) for found in sets if len(found) > 1]


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
