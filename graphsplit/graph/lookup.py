"""Nodes and tensors by names that are nearly right: how they may be spelt, and what may be meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from graphsplit.graph.traversal import walk

if TYPE_CHECKING:
    from graphsplit.graph.index import GraphIndex, Node

__all__ = ["close_names", "enclosing_calls", "ending_with", "last_components", "spellings", "without_shapes"]

_MOST = 3
_QUOTES = " \t\r\n'\"`´“”„‘’«»"
_SHAPE = re.compile(r"[\[(][-\d\s,?x×*None]*[\])]")


def without_shapes(text: str) -> str:
    """A text without shapes, as other converters write them after a name: ``x:0[1,3,32,32]``."""
    return _SHAPE.sub("", text)


def spellings(text: str) -> Iterator[str]:
    """A name as it is written, and then without what people copy along with it, less each time.

    Blanks, quotes, ``^``, a shape, a second port, ``import/`` (the scope of `tf.import_graph_def`), a leading ``/``.
    """
    yield text
    for change in (
        lambda t: t.strip(),
        lambda t: t.strip(_QUOTES),
        lambda t: t.removeprefix("^"),
        lambda t: without_shapes(t).strip(_QUOTES),
        _one_port,
        lambda t: t.removeprefix("./").removeprefix("/"),
        _outside_of_import,
    ):
        changed = change(text)
        if changed not in (text, ""):
            text = changed
            yield text


def _one_port(text: str) -> str:
    base, _, port = text.rpartition(":")
    while port.isdigit() and base.rpartition(":")[2].isdigit():
        text = base
        base, _, port = text.rpartition(":")
    return text


def _outside_of_import(text: str) -> str:
    while text.startswith("import/"):
        text = text.removeprefix("import/")
    return text


def last_components(index: GraphIndex) -> dict[str, list[str]]:
    """Last component of a name, in lower case → tensors; of a fused name ``a/b;c/d`` that of each part."""
    found: dict[str, list[str]] = {}
    for node in index.nodes:
        for tensor in node.outputs:
            for part in {*_parts(_name_of(index, tensor))}:
                found.setdefault(part.rpartition("/")[2].casefold(), []).append(tensor)
    return found


def _name_of(index: GraphIndex, tensor: str) -> str:
    """The name of its node in a GraphDef, where a port is no part of it; its own in TFLite."""
    name, _, port = tensor.rpartition(":")
    return name if port.isdigit() and name == index.producer[tensor] else tensor


def _parts(name: str) -> tuple[str, ...]:
    return (name, *name.split(";")) if ";" in name else (name,)


def ending_with(index: GraphIndex, text: str, key: Callable[[str], str] = str) -> list[str]:
    """Tensors whose name ends with a text at ``/``, or one of whose names does, where several were fused: ``a;b``.

    Constants are left out unless there is nothing else.

    Args:
        index: The graph.
        text: The last components of a name, with or without a port; without, the first output of a node.
        key: What names are compared by.
    """
    base, _, port = text.rpartition(":")
    found: dict[bool, dict[str, None]] = {False: {}, True: {}}
    for asked, number in ((text, ""), (base, port)) if port.isdigit() else ((text, ""),):
        for tensor in index.last_components.get(asked.rpartition("/")[2].casefold(), ()) if asked else ():
            name, node = _name_of(index, tensor), index.name_to_node_map[index.producer[tensor]]
            ends = any(key(part) == key(asked) or key(part).endswith(key(f"/{asked}")) for part in _parts(name))
            meant = name == tensor or (tensor == f"{name}:{number}" if number else tensor == node.outputs[0])
            if ends and meant and not (number and name == tensor):
                found[node.kind == "const"][tensor] = None
    return list(found[False] or found[True])


def close_names(index: GraphIndex, name: str) -> tuple[str, ...]:
    """Names of nodes or tensors that may be meant by one that does not exist, the likeliest first."""
    *_, plain = spellings(name)
    base, _, port = plain.rpartition(":")
    nodes = index.name_to_node_map
    if port.isdigit() and base in nodes:
        return nodes[base].outputs or (base,)
    for key in (str, str.casefold):
        ends = [t for t in ending_with(index, plain, key) if nodes[index.producer[t]].kind != "const"]
        if ends:
            return _shortest(index, ends)
    if calls := enclosing_calls(index, plain):
        return tuple(t for call in calls[:1] for t in _ends_of(index, nodes[call]))[:_MOST]
    asked = base if port.isdigit() else plain
    # difflib is quadratic; constants are rarely meant and half the names.
    names = [n.name for n in index.nodes if n.kind != "const"] or list(nodes)
    if close := difflib.get_close_matches(asked, names, n=_MOST, cutoff=0.75):
        return tuple(close)
    last: dict[str, list[str]] = {}
    for some in names:
        last.setdefault(some.rpartition("/")[2], []).append(some)
    near = difflib.get_close_matches(asked.rpartition("/")[2], last, n=_MOST, cutoff=0.75)
    return tuple(n for some in near for n in last[some])[:_MOST]


def _shortest(index: GraphIndex, tensors: Iterable[str]) -> tuple[str, ...]:
    """The first few, those at which a graph can be cut first, without ``:0`` where that means the same."""
    likely = sorted(tensors, key=lambda t: (t in index.captive, len(t)))[:_MOST]
    return tuple(t.removesuffix(":0") if index.producer[t] == t.removesuffix(":0") else t for t in likely)


def _ends_of(index: GraphIndex, node: Node) -> Iterator[str]:
    """The tensors at which a call can be cut: its outputs, then its inputs that are computed."""
    yield from (t for t in node.outputs if t not in index.captive)
    yield from (t for t in node.inputs if index.name_to_node_map[index.producer[t]].kind == "op" and t not in index.captive)


def enclosing_calls(index: GraphIndex, name: str) -> list[str]:
    """Nodes that call a function which holds a node of this name, or of its last components, directly or through others.

    A scope of the name that is a call comes first: ``PartitionedCall/inner/x``.
    """
    base, _, port = name.rpartition(":")
    parts = (base if port.isdigit() else name).split("/")
    scopes = ("/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    if scope := next((s for s in scopes if index.calls.get(s)), None):
        return [scope]
    asked = {"/".join(parts[start:]) for start in range(len(parts))} if len(parts) < 100 else {name}
    functions = index.functions

    def holds(function: str) -> bool:
        return function in functions and not asked.isdisjoint(functions[function].nodes)

    if not any(map(holds, functions)):
        return []

    def called(function: str) -> Iterable[str]:
        return functions[function].calls if function in functions else ()

    return [node for node, first in index.calls.items() if any(map(holds, walk(first, called)))]
