"""Bytes of a GraphDef → GraphIndex, without TensorFlow and without decoding a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from graphsplit.errors import FormatError
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
from graphsplit.graph.index import Function, GraphIndex, Node, Shape, TensorSpec
from graphsplit.graph.traversal import reachable

__all__ = ["GraphDefReader", "GraphError", "function_names"]

# Ops that do nothing but call a function: they hold state when the function does, whatever the registry says.
_CALLERS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"}
_INPUTS = {"Placeholder", "PlaceholderV2"}
_SIDE_ONLY = {"Assert", "NoOp"}
_NOT_FROZEN = {
    "Variable", "VariableV2", "VarHandleOp", "ReadVariableOp", "AutoReloadVariable", "TemporaryVariable",
    "HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2", "AnonymousHashTable",
    "MutableDenseHashTable", "MutableDenseHashTableV2", "Assign", "AssignVariableOp",
}  # fmt: skip
_SCALAR_MEANS_UNKNOWN = 22  # below this producer version a Placeholder of shape [] has an unknown shape
_MOST_PORTS = 2**16  # of all nodes together, beyond 16 for each; a graph that asks for more is damaged or hostile


class GraphError(FormatError):
    """A well-formed message that is no legal graph. Models raise it again with the path of their file."""


@dataclass(frozen=True, slots=True)
class FunctionRange:
    """A library function: where it lies, its nodes, its signature (an OpDef message)."""

    begin: int
    end: int
    nodes: tuple[NodeRange, ...]
    signature: Any


class GraphDefReader:
    """Walks a GraphDef once and answers questions about it from byte ranges.

    path  the file, to name it in errors

    Raises WireError for bytes that are no message and GraphError for messages that are no graph.
    """

    def __init__(self, data: Buffer, path: Path | None = None) -> None:
        self.data, self.path = data, path
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
                    version = int(self.parse("VersionDef", start, stop).producer) or version
        return version

    # attributes

    def attribute(self, node: NodeRange, key: str) -> Any:
        """The AttrValue message of an attribute, or None. The last one counts where it is written twice, as in protobuf."""
        found: tuple[int, int] | None = None
        for name, _, _, start, end in attributes(self.data, node.start, node.end):
            if name == key:
                found = (start, end)
        return None if found is None else self.parse("AttrValue", *found)

    def attributes(self, node: NodeRange, *, skip: tuple[str, ...] = ("value",)) -> dict[str, Any]:
        """All attributes of a node as AttrValue messages, but for those to skip (a constant's value, say)."""
        return {
            name: self.parse("AttrValue", start, end)
            for name, _, _, start, end in attributes(self.data, node.start, node.end)
            if name not in skip
        }

    def parse(self, kind: str, start: int, end: int) -> Any:
        """The message of that kind in a range of bytes. Raises WireError."""
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
                        if signature is not None:
                            raise GraphError(f"the function {signature.name!r} has two signatures")
                        signature = self.parse("OpDef", low, high)
                    elif inner == 3 and inner_wire == BYTES:
                        nodes.append(walk_node(self.data, first, low, high))
                if signature is not None:
                    if signature.name in found:
                        raise GraphError(f"two functions are named {signature.name!r}")
                    found[signature.name] = FunctionRange(begin, end, tuple(nodes), signature)
        return found

    @cached_property
    def gradients(self) -> dict[str, str]:
        """Function name → name of its gradient function."""
        found: dict[str, str] = {}
        for span in self.library_spans:
            for number, wire, _, start, end in fields(self.data, *span):
                if number == 2 and wire == BYTES:
                    entry = self.parse("GradientDef", start, end)
                    found[entry.function_name] = entry.gradient_func
        return found

    def called(self, node: NodeRange) -> tuple[str, ...]:
        """Names of the library functions that a node calls, through attributes or by its op."""
        if not self.functions:
            return ()
        names = [node.op] if node.op in self.functions else []
        for _, _, _, start, end in attributes(self.data, node.start, node.end):
            # AttrValue: list = 1 and func = 10 are the only values that can name a function. All its fields are looked
            # at: the last one counts, and a harmless one before it must not hide a call.
            if any(number in (1, 10) for number, *_ in fields(self.data, start, end)):
                value = self.parse("AttrValue", start, end)
                names += function_names(value)
        return tuple(dict.fromkeys(n for n in names if n in self.functions))

    def check_calls(self) -> None:
        """Refuse calls of functions that are not there, which crash TensorFlow. Raises GraphError that names one."""
        there = self.functions
        for node in (*self.nodes, *(n for f in there.values() for n in f.nodes)):
            for _, _, _, start, end in attributes(self.data, node.start, node.end):
                if any(number in (1, 10) for number, *_ in fields(self.data, start, end)):  # AttrValue: list, func
                    for name in function_names(self.parse("AttrValue", start, end)):
                        if name and name not in there:
                            raise GraphError(f"node {node.name!r} calls the function {name!r}, which is not there")

    @cached_property
    def _function_calls(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(dict.fromkeys(c for node in f.nodes for c in self.called(node))) for name, f in self.functions.items()}

    def reachable_functions(self, names: tuple[str, ...]) -> frozenset[str]:
        """The named functions and all that they call, gradients included."""
        there = self.functions

        def used(name: str) -> Iterator[str]:
            if name in there:
                yield from self._function_calls[name]
                if name in self.gradients:
                    yield self.gradients[name]

        return frozenset(reachable(names, used) & there.keys())

    def _functions_calling(self, names: set[str]) -> set[str]:
        """The named functions and all that reach one of them."""
        callers: dict[str, list[str]] = {}
        for name in self.functions:
            gradient = self.gradients.get(name)
            for called in (*self._function_calls[name], *([] if gradient is None else [gradient])):
                callers.setdefault(called, []).append(name)
        return reachable(names, lambda name: callers.get(name, ()))

    # what reaches outside

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """Names of the nodes that reach files, the network, Python or unknown native code; a call counts for its functions."""
        library = frozenset(self.functions)

        def reaches(node: NodeRange) -> bool:
            return reaches_outside(node.op, lambda key: self.attribute(node, key), library=library)

        bad = {name for name, f in self.functions.items() if any(reaches(n) for n in f.nodes)}
        bad = self._functions_calling(bad)
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
            plain.append((node, tuple(data), tuple(dict.fromkeys(after)) if after else ()))

        stateful_functions = self._stateful_functions()
        nodes = []
        total = 0
        for node, data_inputs, control in plain:
            info = op_table().get(node.op)
            count = self._ports(node, highest)
            total += count
            if total > _MOST_PORTS + 16 * len(self.nodes):
                raise GraphError(f"node {node.name!r} asks for {count:,} outputs, which makes {total:,} in all: too many")
            # The same string object where somebody reads it: looking it up is twice as fast then.
            first = canonical.get(node.name) or f"{node.name}:0"
            outputs = (first,) if count == 1 else tuple([first if not p else f"{node.name}:{p}" for p in range(count)])
            stateful = info is None or info.stateful
            if node.name in calls and (node.op in _CALLERS or info is None):
                stateful = not stateful_functions.isdisjoint(calls[node.name])
            kind = "const" if node.op == "Const" else "input" if node.op in _INPUTS else "op"
            nodes.append(Node(node.name, node.op, data_inputs, outputs, control, stateful, kind))
        tensors = _Tensors(self, nodes)
        if missing := set(canonical.values()) - tensors.maker.keys():
            reader, tensor = next((n.name, t) for n in nodes for t in n.inputs if t in missing)
            raise GraphError(f"node {reader!r} reads {tensor!r}, but that node has no such output")
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

    def split_input(self, raw: str) -> tuple[str, str]:
        """Node and port (digits) of a data input as it is written: ``node``, ``node:0``, ``node:00`` are the same tensor."""
        base, colon, port = raw.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or raw in self.by_name:
            return raw, "0"
        return base, port.lstrip("0") or "0"

    def _input(self, reader: str, raw: str, highest: dict[str, int]) -> str:
        if raw in self.by_name:  # port 0, nearly always
            highest.setdefault(raw, 0)
            return f"{raw}:0"
        base, port = self.split_input(raw)
        if base not in self.by_name:
            raise GraphError(_missing(reader, base))
        if len(port) > 6:
            raise GraphError(f"node {reader!r} reads port {port[:20]} of {base!r}: no op has as many")
        highest[base] = max(highest.get(base, -1), int(port))
        return f"{base}:{port}"

    def _ports(self, node: NodeRange, highest: Mapping[str, int]) -> int:
        info = op_table().get(node.op)
        if info is not None and info.fixed is not None:
            return info.fixed
        dtypes = self.output_dtypes(node)
        if dtypes or info is not None or node.op in self.functions:
            return len(dtypes)
        return highest.get(node.name, 0) + 1  # an op nobody knows: what is read of it, and one where that is nothing

    def output_dtypes(self, node: NodeRange) -> list[str | None]:
        """The dtype of each output of a node, as far as the file and the op table tell."""
        info = op_table().get(node.op)
        attr = _attribute_getter(self, node)
        try:
            if info is not None:
                return port_dtypes(info.outputs, attr, info.defaults)
            if node.op in self.functions:
                return port_dtypes([_notation(arg) for arg in self.functions[node.op].signature.output_arg], attr, {})
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

        return frozenset(self._functions_calling({name for name, f in self.functions.items() if holds_state(f)}))

    def _frame_name(self, name: str) -> str:
        value = self.attribute(self.by_name[name], "frame_name")
        return value.s.decode(errors="replace") if value is not None else name

    @cached_property
    def not_frozen(self) -> NodeRange | None:
        """The first node that keeps a value outside of the graph (a variable, a table, a handle to be given), or None."""
        for node in self.nodes:
            if node.op in _NOT_FROZEN or (node.op in _INPUTS and self.output_dtypes(node) == ["resource"]):
                return node
        for function in self.functions.values():
            for node in function.nodes:
                if node.op in _NOT_FROZEN:
                    return node
        return None


def function_names(value: Any) -> Iterator[str]:
    """The functions that an AttrValue names, with those given to a function as its own attributes."""
    for function in [value.func] if value.HasField("func") else value.list.func:
        yield function.name
        for entry in function.attr:
            yield from function_names(entry.value)


def _missing(reader: str, name: str) -> str:
    return f"node {reader!r} reads {name!r}, which is not in the graph; the file is damaged or was cut without its inputs"


def _notation(arg: Any) -> str:
    """An ArgDef of a function in the notation of the op table; empty for one that is damaged."""
    if not all(name.isidentifier() for name in (arg.type_list_attr, arg.type_attr, arg.number_attr) if name):
        return ""
    if arg.type_list_attr:
        return f"@{arg.type_list_attr}[]"
    dtype = f"@{arg.type_attr}" if arg.type_attr else op_table().dtypes.get(arg.type % 100, "")
    return f"{arg.number_attr}*{dtype}" if arg.number_attr else dtype


def _attribute_getter(reader: GraphDefReader, node: NodeRange) -> Callable[[str], Any]:
    return lambda key: reader.attribute(node, key)


def _outputs(nodes: list[Node], captive: frozenset[str]) -> tuple[str, ...]:
    """Tensors of the nodes that nobody reads. Constants count only where there is nothing else."""
    read = {t.rpartition(":")[0] for n in nodes for t in n.inputs} | {c for n in nodes for c in n.control_inputs}
    sinks = [n for n in nodes if n.name not in read and n.outputs and n.op not in _SIDE_ONLY and n.kind != "input"]
    chosen = [n for n in sinks if n.kind == "op"] or sinks
    return tuple(t for n in chosen for t in n.outputs if t not in captive)


class _Tensors(Mapping[str, TensorSpec]):
    """Specs of all tensors, each computed when it is asked for. Raises FormatError for an attribute that is damaged."""

    def __init__(self, reader: GraphDefReader, nodes: list[Node]) -> None:
        self._reader = reader
        self.maker = {t: n.name for n in nodes for t in n.outputs}
        self._known: dict[str, TensorSpec] = {}
        self._dtypes: dict[str, list[str | None]] = {}

    def __getitem__(self, name: str) -> TensorSpec:
        spec = self._known.get(name)
        if spec is None:
            node_name, port = self.maker[name], int(name.rpartition(":")[2])
            node = self._reader.by_name[node_name]
            try:
                if node_name not in self._dtypes:
                    self._dtypes[node_name] = self._reader.output_dtypes(node)
                dtypes = self._dtypes[node_name]
                dtype = dtypes[port] if port < len(dtypes) else None
                spec = self._known[name] = TensorSpec(name, dtype, self._shape(node, port))
            except (WireError, GraphError) as error:
                raise FormatError(f"node {node_name!r} is damaged: {error}", path=self._reader.path) from error
        return spec

    def __contains__(self, name: object) -> bool:
        return name in self.maker

    def __iter__(self) -> Iterator[str]:
        return iter(self.maker)

    def __len__(self) -> int:
        return len(self.maker)

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
    shape: Shape | None = None
    for key, _, _, start, end in attributes(data, node.start, node.end):
        if key == "value":
            for number, wire, _, low, high in fields(data, start, end):
                if number == 8 and wire == BYTES:
                    stated = [(a, b) for inner, kind, _, a, b in fields(data, low, high) if inner == 2 and kind == BYTES]
                    shape = read_shape(reader.parse("TensorShapeProto", *stated[-1])) if stated else ()
    return shape
