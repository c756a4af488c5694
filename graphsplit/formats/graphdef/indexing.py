"""A GraphDef as a GraphIndex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from types import MappingProxyType

from graphsplit.formats.graphdef.control_flow import find_groups
from graphsplit.formats.graphdef.library import CALLERS, Library
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.roles import ROLES, role_of
from graphsplit.formats.graphdef.shared_state import sharing_nodes
from graphsplit.formats.graphdef.specs import PLACEHOLDERS, WITH_DEFAULT, LazySpecs, output_dtypes
from graphsplit.formats.graphdef.wire import GraphError, NodeRange
from graphsplit.graph.index import Function, GraphIndex, Node

__all__ = ["index_graph"]

_RETVAL = "_Retval"
_LOOKUPS = {"LookupTableFind", "LookupTableFindV2", "LookupTableSize", "LookupTableSizeV2"}
_SIDE_ONLY = {"Assert", "NoOp"}
_HANDLES = {"resource", "variant"}
_MOST_PORTS = 2**16  # of all nodes together, beyond 16 for each; a graph that asks for more is damaged or hostile


def index_graph(reader: GraphDefReader, outputs: tuple[str, ...] | None = None, fed: Set[str] = frozenset()) -> GraphIndex:
    """The index of a graph.

    Args:
        reader: The graph.
        outputs: The tensors it outputs, if that is known; None: what no node reads.
        fed: Names of constants that are fed, so that they are inputs; those that are the empty content of a file always are.

    Raises:
        GraphError: A name repeats, an input does not exist, a node asks for an absurd number of outputs, or a function calls
            itself.
    """
    reader.library.check_recursion()
    calls = {n.name: c for n in reader.nodes if (c := reader.library.called(n))} if reader.library.functions else {}
    edges = _Edges(reader)
    nodes: list[Node] = []
    dtypes: dict[str, list[str | None]] = {}
    total = 0
    for node, (inputs, control_inputs) in zip(reader.nodes, edges.inputs, strict=True):
        info = op_table().get(node.op)
        count = _ports(reader, node, edges.highest, dtypes)
        total += count
        if total > _MOST_PORTS + 16 * len(reader.nodes):
            raise GraphError(f"node {node.name!r} asks for {count:,} outputs, {total:,} in all: too many")
        # The same string object where somebody reads it: looking it up is twice as fast then.
        first = edges.canonical.get(node.name) or f"{node.name}:0"
        ports = (first,) if count == 1 else tuple([first if not p else f"{node.name}:{p}" for p in range(count)])
        stateful = info is None or info.stateful
        if node.name in calls and (node.op in CALLERS or info is None):
            stateful = not reader.library.stateful.isdisjoint(calls[node.name])
        kind = "const" if node.op == "Const" else "input" if node.op in PLACEHOLDERS else "op"
        nodes.append(Node(node.name, node.op, inputs, ports, control_inputs, stateful, kind, role=role_of(node.op, node.name)))
    tensors = LazySpecs(reader, nodes, dtypes)
    if missing := set(edges.canonical.values()) - tensors.producer.keys():
        name, tensor = next((n.name, t) for n in nodes for t in n.inputs if t in missing)
        raise GraphError(f"node {name!r} reads {tensor!r}, but that node has no such output")

    def frame_name(name: str) -> str:
        value = reader.attribute(reader.by_name[name], "frame_name")
        return value.s.decode(errors="replace") if value is not None else name

    grouping = find_groups(nodes, dtype_of=tensors.dtype, frame_name=frame_name, sharing=sharing_nodes(reader))
    if grouping.of_node:
        group = grouping.of_node.get
        # By position: dataclasses.replace takes several times as long, for thousands of nodes.
        nodes = [
            Node(n.name, n.op, n.inputs, n.outputs, n.control_inputs, n.stateful, n.kind, group(n.name), n.role)
            if n.name in grouping.of_node
            else n
            for n in nodes
        ]
    nodes = _without_order_of_lookups(nodes)
    defaults = _defaults(nodes, tensors)
    if fed := {*fed, *_empty_files(reader, nodes)}:
        nodes = [replace(n, kind="input") if n.kind == "const" and n.group is None and n.name in fed else n for n in nodes]
    if defaults:
        nodes = [replace(n, kind="input") if n.outputs and defaults.get(n.outputs[0]) is not None else n for n in nodes]
    return GraphIndex(
        nodes=tuple(nodes),
        tensors=tensors,
        inputs=tuple(n.outputs[0] for n in nodes if n.kind == "input" or (n.outputs and n.outputs[0] in defaults)),
        outputs=(_returned(reader, nodes) or _unread(nodes, grouping.captive)) if outputs is None else outputs,
        groups=MappingProxyType(grouping.groups),
        captive=grouping.captive,
        handles=grouping.handles,
        functions=MappingProxyType({name: _function(reader.library, name) for name in reader.library.functions}),
        calls=MappingProxyType(calls),
        defaults=MappingProxyType(defaults),
    )


def _empty_files(reader: GraphDefReader, nodes: Sequence[Node]) -> Set[str]:
    """Constants that decoders of pictures read and that are empty: they cannot be run unless they are fed (Inception, 2015)."""
    read = {t for n in nodes if n.role == "decode" for t in n.inputs[:1]}
    constants = [n.name for n in nodes if n.kind == "const" and n.outputs[0] in read] if read else []
    values = {name: reader.attribute(reader.by_name[name], "value") for name in constants}
    return {name for name, value in values.items() if value is not None and not any(value.tensor.string_val)}


def _without_order_of_lookups(nodes: list[Node]) -> list[Node]:
    """Nodes that do not wait for the lookups of a table, which change nothing.

    A function of TensorFlow 2 has ``scores, ^NoOp`` and ``NoOp: ^LookupTableFindV2``: scores does not need the table.
    """
    lookups = {n.name for n in nodes if n.op in _LOOKUPS}
    if not lookups:
        return nodes
    waits = {n.name for n in nodes if n.op == "NoOp" and n.control_inputs and lookups.issuperset(n.control_inputs)} | lookups
    return [
        replace(n, control_inputs=tuple(c for c in n.control_inputs if c not in waits))
        if n.name not in waits and not waits.isdisjoint(n.control_inputs)
        else n
        for n in nodes
    ]


def _defaults(nodes: Sequence[Node], tensors: LazySpecs) -> dict[str, str | None]:
    """Inputs that have a default → the constant that is their default; None for one that is computed, or ordered after a node.

    One inside a loop or a cond is no input, since nothing outside knows whether it runs, or how often; nor is a handle.
    """
    some = [n for n in nodes if n.op == WITH_DEFAULT and n.group is None and len(n.inputs) == 1]
    if not some:
        return {}
    constant = {n.name for n in nodes if n.is_shared_constant and not n.control_inputs}
    sources = {n.outputs[0]: tensors.producer[n.inputs[0]] for n in some if tensors[n.outputs[0]].dtype not in _HANDLES}
    ordered = {n.outputs[0] for n in some if n.control_inputs}
    return {t: name if name in constant and t not in ordered else None for t, name in sources.items()}


class _Edges:
    """The inputs of all nodes, each tensor by its full name.

    Attributes:
        inputs: Data inputs and control inputs of each node, in file order.
        canonical: Name as it is written → full name, one string object for all readers.
        highest: Node → the highest of its ports that is read.
    """

    def __init__(self, reader: GraphDefReader) -> None:
        self._reader = reader
        self.canonical: dict[str, str] = {}
        self.highest: dict[str, int] = {}
        self.inputs: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        by_name, canonical = reader.by_name, self.canonical
        for node in reader.nodes:
            data, control = [], []
            for raw in node.inputs:
                if raw.startswith("^"):
                    if raw[1:] not in by_name:
                        raise GraphError(_missing(node.name, raw[1:]))
                    control.append(raw[1:])
                    continue
                full = canonical.get(raw)
                if full is None:
                    full = canonical[raw] = self._full_name(node.name, raw)
                data.append(full)
            self.inputs.append((tuple(data), tuple(dict.fromkeys(control)) if control else ()))

    def _full_name(self, reader: str, raw: str) -> str:
        by_name, highest = self._reader.by_name, self.highest
        if raw in by_name:  # port 0, nearly always
            highest.setdefault(raw, 0)
            return f"{raw}:0"
        base, port = self._reader.split_input(raw)
        if base not in by_name:
            raise GraphError(_missing(reader, base))
        if len(port) > 6:
            raise GraphError(f"node {reader!r} reads port {port[:20]} of {base!r}: no op has as many")
        highest[base] = max(highest.get(base, -1), int(port))
        return f"{base}:{port}"


def _missing(reader: str, name: str) -> str:
    return f"node {reader!r} reads {name!r}, which is not in the graph; the file is damaged or was cut without its inputs"


def _ports(reader: GraphDefReader, node: NodeRange, highest: Mapping[str, int], known: dict[str, list[str | None]]) -> int:
    """How many outputs a node has. Their dtypes are noted in `known` if they had to be found out for it."""
    info = op_table().get(node.op)
    if info is not None and info.fixed is not None:
        return info.fixed
    dtypes = known[node.name] = output_dtypes(reader, node)
    if dtypes or info is not None or node.op in reader.library.functions:
        return len(dtypes)
    return highest.get(node.name, 0) + 1  # an unknown op: what is read of it, and one where that is nothing


def _returned(reader: GraphDefReader, nodes: Sequence[Node]) -> tuple[str, ...]:
    """What the nodes ``_Retval`` of a graph that was a function read, in the order that they state."""

    def place(node: Node) -> int:
        value = reader.attribute(reader.by_name[node.name], "index")
        return 0 if value is None else int(value.i)

    returns = [n for n in nodes if n.op == _RETVAL and n.inputs]
    return tuple(dict.fromkeys(n.inputs[0] for n in sorted(returns, key=place))) if returns else ()


def _unread(nodes: Sequence[Node], captive: Set[str]) -> tuple[str, ...]:
    """Tensors of the nodes that no node reads; where there are none, of constants, and then of inputs that have a default."""
    read = {t.rpartition(":")[0] for n in nodes for t in n.inputs} | {c for n in nodes for c in n.control_inputs}
    sinks = [n for n in nodes if n.name not in read and n.outputs and n.op not in {*_SIDE_ONLY, *PLACEHOLDERS}]
    chosen = [n for n in sinks if n.kind == "op"] or [n for n in sinks if n.kind == "const"] or sinks
    return tuple(t for n in chosen for t in n.outputs if t not in captive)


def _function(library: Library, name: str) -> Function:
    body = library.functions[name].nodes
    ops = {n.op for n in body}
    roles = frozenset(ROLES[op] for op in ops if op in ROLES)
    return Function(name, tuple(sorted(ops)), library.calls[name], roles, frozenset(n.name for n in body))
