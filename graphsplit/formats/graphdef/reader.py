"""Bytes of a GraphDef → GraphIndex, without TensorFlow and without decoding a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from graphsplit.formats.graphdef.control_flow import find_groups
from graphsplit.formats.graphdef.messages import message
from graphsplit.formats.graphdef.ops import op_table, port_dtypes
from graphsplit.formats.graphdef.outside import reaches_outside
from graphsplit.formats.graphdef.wire import (
    BYTES,
    Buffer,
    NodeRange,
    WireError,
    attributes,
    fields,
    walk_node,
)
from graphsplit.graph import Function, GraphIndex, Node, Shape, TensorSpec

__all__ = ["GraphDefReader", "GraphError"]

# Ops that do nothing but call a function: they hold state when the function does, whatever the registry says.
_CALLERS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"}
_INPUTS = {"Placeholder", "PlaceholderV2"}
_SIDE_ONLY = {"Assert", "NoOp"}
_NOT_FROZEN = {
    "Variable", "VariableV2", "VarHandleOp", "ReadVariableOp", "AutoReloadVariable", "TemporaryVariable",
    "HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2", "AnonymousHashTable",
    "MutableDenseHashTable", "MutableDenseHashTableV2", "Assign", "AssignVariableOp",
}  # fmt: skip
_SCALAR_MEANS_UNKNOWN = 24  # below this producer version a Placeholder of shape [] has an unknown shape


class GraphError(ValueError):
    """A well-formed message that is no legal graph."""


@dataclass(frozen=True, slots=True)
class FunctionRange:
    """A library function: where it lies, its nodes, its signature (an OpDef message)."""

    begin: int
    end: int
    nodes: tuple[NodeRange, ...]
    signature: Any


class GraphDefReader:
    """Walks a GraphDef once and answers questions about it from byte ranges.

    Raises WireError for bytes that are no message and GraphError for messages that are no graph.
    """

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.nodes: list[NodeRange] = []
        self.library_spans: list[tuple[int, int]] = []
        self.other_fields: list[tuple[int, int, int]] = []  # (number, begin, end): versions and what we do not know
        for number, wire, begin, start, end in fields(data, 0, len(data)):
            if number == 1 and wire == BYTES:
                self.nodes.append(walk_node(data, begin, start, end))
            elif number == 2 and wire == BYTES:
                self.library_spans.append((start, end))
            else:
                self.other_fields.append((number, begin, end))

    @cached_property
    def by_name(self) -> dict[str, NodeRange]:
        """Name → node. Raises GraphError for a nameless node or a name used twice."""
        found: dict[str, NodeRange] = {}
        for place, node in enumerate(self.nodes):
            if not node.name or not node.op:
                raise GraphError(f"node number {place} has no {'name' if not node.name else 'op'}")
            if node.name in found:
                raise GraphError(f"two nodes are named {node.name!r}")
            found[node.name] = node
        return found

    @cached_property
    def producer_version(self) -> int:
        """``versions.producer``: which rules the graph was written by; 0 where the file does not say."""
        version = 0
        for number, begin, end in self.other_fields:
            if number == 4:
                for _, _, _, start, stop in fields(self.data, begin, end):
                    version = int(message("VersionDef").FromString(self.data[start:stop]).producer)
        return version

    # attributes

    def attribute(self, node: NodeRange, key: str) -> Any:
        """The AttrValue message of an attribute, or None."""
        for name, _, _, start, end in attributes(self.data, node.start, node.end):
            if name == key:
                return self._parse("AttrValue", start, end)
        return None

    def attributes(self, node: NodeRange, *, skip: tuple[str, ...] = ("value",)) -> dict[str, Any]:
        """All attributes of a node as AttrValue messages, but for those to skip (a constant's value, say)."""
        return {
            name: self._parse("AttrValue", start, end)
            for name, _, _, start, end in attributes(self.data, node.start, node.end)
            if name not in skip
        }

    def _parse(self, kind: str, start: int, end: int) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return message(kind).FromString(self.data[start:end])
        except DecodeError as error:
            raise WireError(f"a damaged {kind} ({error})", start) from error

    # functions

    @cached_property
    def functions(self) -> dict[str, FunctionRange]:
        """Library functions by name."""
        found: dict[str, FunctionRange] = {}
        for span in self.library_spans:
            for number, wire, begin, start, end in fields(self.data, *span):
                if number != 1 or wire != BYTES:
                    continue
                signature, nodes = None, []
                for inner, inner_wire, first, low, high in fields(self.data, start, end):
                    if inner == 1 and inner_wire == BYTES:
                        signature = self._parse("OpDef", low, high)
                    elif inner == 3 and inner_wire == BYTES:
                        nodes.append(walk_node(self.data, first, low, high))
                if signature is not None:
                    found[signature.name] = FunctionRange(begin, end, tuple(nodes), signature)
        return found

    @cached_property
    def gradients(self) -> dict[str, str]:
        """Function name → name of its gradient function."""
        found: dict[str, str] = {}
        for span in self.library_spans:
            for number, wire, _, start, end in fields(self.data, *span):
                if number == 2 and wire == BYTES:
                    entry = self._parse("GradientDef", start, end)
                    found[entry.function_name] = entry.gradient_func
        return found

    def called(self, node: NodeRange) -> tuple[str, ...]:
        """Names of the library functions that a node calls, through attributes or by its op."""
        if not self.functions:
            return ()
        names = [node.op] if node.op in self.functions else []
        for _, _, _, start, end in attributes(self.data, node.start, node.end):
            # AttrValue: list = 1 and func = 10 are the only values that can name a function.
            if start < end and self.data[start] in (0x0A, 0x52):
                value = self._parse("AttrValue", start, end)
                names += [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
        return tuple(dict.fromkeys(n for n in names if n in self.functions))

    @cached_property
    def _function_calls(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(dict.fromkeys(c for node in f.nodes for c in self.called(node))) for name, f in self.functions.items()}

    def reachable_functions(self, names: tuple[str, ...]) -> frozenset[str]:
        """The named functions and all that they call, gradients included."""
        seen: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name in seen or name not in self.functions:
                continue
            seen.add(name)
            stack.extend(self._function_calls[name])
            if name in self.gradients:
                stack.append(self.gradients[name])
        return frozenset(seen)

    # what reaches outside

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """Names of the nodes that reach files, the network, Python or unknown native code; a call counts for its functions."""
        library = frozenset(self.functions)

        def reaches(node: NodeRange) -> bool:
            return reaches_outside(node.op, lambda key: self.attribute(node, key), library=library)

        bad = {name for name, f in self.functions.items() if any(reaches(n) for n in f.nodes)}
        bad = {name for name in self.functions if self.reachable_functions((name,)) & bad} if bad else bad
        safe: set[str] = set()  # ops seen to be fine whatever their attributes: nearly all
        found = []
        for node in self.nodes:
            if node.op not in safe:
                if reaches(node):
                    found.append(node.name)
                    continue
                if node.op != "PrintV2":
                    safe.add(node.op)
            if bad and not bad.isdisjoint(self.called(node)):
                found.append(node.name)
        return tuple(found)

    # index

    def index(self, gives: tuple[str, ...] | None = None) -> GraphIndex:
        """The index of the graph. Raises GraphError for duplicate names and for inputs that are not there.

        gives  the tensors the graph gives, where that is known; else what nobody reads
        """
        by_name = self.by_name
        calls = {n.name: c for n in self.nodes if (c := self.called(n))} if self.functions else {}
        canonical: dict[str, str] = {}
        plain: list[tuple[NodeRange, tuple[str, ...], tuple[str, ...]]] = []
        highest: dict[str, int] = {}
        for node in self.nodes:
            data, after = [], []
            for raw in node.inputs:
                if raw.startswith("^"):
                    if raw[1:] not in by_name:
                        raise GraphError(_missing(node.name, raw[1:]))
                    after.append(raw[1:])
                    continue
                full = canonical.get(raw)
                if full is None:
                    full = canonical[raw] = self._input(node.name, raw, highest)
                data.append(full)
            plain.append((node, tuple(data), tuple(dict.fromkeys(after))))

        stateful_functions = self._stateful_functions()
        nodes = []
        for node, data_inputs, control in plain:
            info = op_table().get(node.op)
            outputs = tuple([f"{node.name}:{p}" for p in range(self._ports(node, highest))])
            stateful = info is None or info.stateful
            if node.name in calls and (node.op in _CALLERS or info is None):
                stateful = not stateful_functions.isdisjoint(calls[node.name])
            kind = "const" if node.op == "Const" else "input" if node.op in _INPUTS else "op"
            nodes.append(Node(node.name, node.op, data_inputs, outputs, control, stateful, kind))
        made = {t for n in nodes for t in n.outputs}
        for n in nodes:
            for tensor in n.inputs:
                if tensor not in made:
                    raise GraphError(f"node {n.name!r} reads {tensor!r}, but that node has no such output")

        tensors = _Tensors(self, nodes)
        grouping = find_groups(nodes, dtype_of=lambda t: tensors[t].dtype, frame_name=self._frame_name)
        if grouping.of_node:
            nodes = [replace(n, group=grouping.of_node[n.name]) if n.name in grouping.of_node else n for n in nodes]
        return GraphIndex(
            nodes=tuple(nodes),
            tensors=tensors,
            inputs=tuple(n.outputs[0] for n in nodes if n.kind == "input"),
            outputs=_outputs(nodes, grouping.captive) if gives is None else gives,
            groups=MappingProxyType(grouping.groups),
            captive=grouping.captive,
            handles=grouping.handles,
            functions=MappingProxyType({
                name: Function(name, tuple(sorted({n.op for n in f.nodes})), self._function_calls[name])
                for name, f in self.functions.items()
            }),
            calls=MappingProxyType(calls),
        )  # fmt: skip

    def _input(self, reader: str, raw: str, highest: dict[str, int]) -> str:
        base, colon, port = raw.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or raw in self.by_name:
            base, port = raw, "0"
        if base not in self.by_name:
            raise GraphError(_missing(reader, base))
        if len(port) > 6:
            raise GraphError(f"node {reader!r} reads port {port} of {base!r}: no op has as many")
        highest[base] = max(highest.get(base, -1), int(port))
        return f"{base}:{int(port)}"

    def _ports(self, node: NodeRange, highest: Mapping[str, int]) -> int:
        info = op_table().get(node.op)
        if info is not None and info.fixed is not None:
            return info.fixed
        return len(self.output_dtypes(node)) or highest.get(node.name, 0 if info is not None else -1) + 1

    def output_dtypes(self, node: NodeRange) -> list[str | None]:
        """The dtype of each output of a node, as far as the file and the op table tell."""
        info = op_table().get(node.op)
        attr = _attribute_getter(self, node)
        try:
            if info is not None:
                return port_dtypes(info.outputs, attr, info.defaults)
            if node.op in self.functions:
                names = op_table().dtypes
                args = self.functions[node.op].signature.output_arg
                return [names.get(arg.type % 100) for arg in args]
            return port_dtypes(["@_output_types[]"], attr, {})
        except ValueError as error:
            raise GraphError(f"node {node.name!r}: {error}") from error

    def _stateful_functions(self) -> frozenset[str]:
        def holds_state(f: FunctionRange) -> bool:
            for node in f.nodes:
                info = op_table().get(node.op)
                if node.op not in _CALLERS and node.op not in self.functions and (info is None or info.stateful):
                    return True
            return False

        own = {name for name, f in self.functions.items() if holds_state(f)}
        return frozenset(name for name in self.functions if self.reachable_functions((name,)) & own) if own else frozenset()

    def _frame_name(self, name: str) -> str:
        value = self.attribute(self.by_name[name], "frame_name")
        return value.s.decode(errors="replace") if value is not None else name

    @cached_property
    def not_frozen(self) -> NodeRange | None:
        """The first node that keeps a value outside of the graph (a variable, a table), or None."""
        for node in self.nodes:
            if node.op in _NOT_FROZEN:
                return node
        for function in self.functions.values():
            for node in function.nodes:
                if node.op in _NOT_FROZEN:
                    return node
        return None


def _missing(reader: str, name: str) -> str:
    return f"node {reader!r} reads {name!r}, which is not in the graph; the file is damaged or was cut without its inputs"


def _attribute_getter(reader: GraphDefReader, node: NodeRange) -> Callable[[str], Any]:
    return lambda key: reader.attribute(node, key)


def _outputs(nodes: list[Node], captive: frozenset[str]) -> tuple[str, ...]:
    """Tensors of the nodes that nobody reads. Constants count only where there is nothing else."""
    read = {t.rpartition(":")[0] for n in nodes for t in n.inputs} | {c for n in nodes for c in n.after}
    sinks = [n for n in nodes if n.name not in read and n.outputs and n.op not in _SIDE_ONLY and n.kind != "input"]
    chosen = [n for n in sinks if n.kind == "op"] or sinks
    return tuple(t for n in chosen for t in n.outputs if t not in captive)


class _Tensors(Mapping[str, TensorSpec]):
    """Specs of all tensors, each computed when it is asked for."""

    def __init__(self, reader: GraphDefReader, nodes: list[Node]) -> None:
        self._reader = reader
        self._port = {t: (n.name, p) for n in nodes for p, t in enumerate(n.outputs)}
        self._known: dict[str, TensorSpec] = {}

    def __getitem__(self, name: str) -> TensorSpec:
        spec = self._known.get(name)
        if spec is None:
            node_name, port = self._port[name]
            node = self._reader.by_name[node_name]
            dtypes = self._reader.output_dtypes(node)
            dtype = dtypes[port] if port < len(dtypes) else None
            spec = self._known[name] = TensorSpec(name, dtype, self._shape(node, port))
        return spec

    def __contains__(self, name: object) -> bool:
        return name in self._port

    def __iter__(self) -> Iterator[str]:
        return iter(self._port)

    def __len__(self) -> int:
        return len(self._port)

    def _shape(self, node: NodeRange, port: int) -> Shape | None:
        reader = self._reader
        if node.op == "Const":
            return _const_shape(reader, node)
        if node.op in _INPUTS:
            value = reader.attribute(node, "shape")
            if value is None:
                return None
            if not value.shape.dim and reader.producer_version < _SCALAR_MEANS_UNKNOWN:
                return None
            return read_shape(value.shape)
        if node.op == "TensorArrayGatherV3":
            element = reader.attribute(node, "element_shape")
            shape = None if element is None else read_shape(element.shape)
            return None if shape is None else (None, *shape)
        stated = reader.attribute(node, "_output_shapes")
        if stated is not None and port < len(stated.list.shape):
            return read_shape(stated.list.shape[port])
        return None


def read_shape(shape: Any) -> Shape | None:
    """A TensorShapeProto as a tuple, None for an unknown rank."""
    return None if shape.unknown_rank else tuple(d.size if d.size >= 0 else None for d in shape.dim)


def _const_shape(reader: GraphDefReader, node: NodeRange) -> Shape | None:
    """The shape of a constant, read from beside its value (TensorProto: tensor_shape = 2)."""
    data = reader.data
    for key, _, _, start, end in attributes(data, node.start, node.end):
        if key == "value":
            for number, _, _, low, high in fields(data, start, end):
                if number == 8:
                    for inner, wire, _, a, b in fields(data, low, high):
                        if inner == 2 and wire == BYTES:
                            return read_shape(reader._parse("TensorShapeProto", a, b))
                    return ()
    return None
