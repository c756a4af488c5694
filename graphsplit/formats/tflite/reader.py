"""A TFLite file as an index: operators are nodes, in the order in which they run.

An operator has no name of its own; it goes by that of the first tensor it makes, so that a tensor and its maker are asked for by
the same name. Tensors go by the file's names; where one repeats or is empty it gets a number: ``x``, ``x_1``, ``tensor_12``.

Only the first subgraph is divided. The others are the bodies and conditions of loops and branches, and functions that are called:
they are the library of the index, and go where their caller goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

from graphsplit.formats.tflite.flatbuffer import SCALARS, FlatError, Table, root, verify
from graphsplit.formats.tflite.schema import IDENTIFIER, Field, fields, op_name, tensor_dtype
from graphsplit.formats.tflite.validation import (
    ELSEWHERE,
    Operator,
    Subgraph,
    TFLiteError,
    check_calls,
    check_options,
    check_order,
    check_size,
    in_range,
)
from graphsplit.graph.index import Function, GraphIndex, Group, Node, Shape, TensorSpec
from graphsplit.graph.traversal import reachable

__all__ = ["HOLDS_STATE", "TFLiteReader", "names_subgraph"]

#: Ops whose values live in the interpreter, from one run to the next.
HOLDS_STATE = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE", "HASHTABLE_IMPORT"})
_RANDOM = {"RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"}
_KNOWN_CUSTOM = {"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"}  # the runtime's own
_HANDLES = {"resource", "variant"}


class TFLiteReader:
    """Reads a file once and answers questions about it.

    Raises FlatError for bytes that are no flatbuffer, TFLiteError for one that is no model.
    """

    def __init__(self, data: memoryview) -> None:
        if bytes(data[4:8]) != IDENTIFIER:
            raise FlatError(f"bytes 4 to 8 are {bytes(data[4:8])!r}, not {IDENTIFIER!r}")
        self.data = data
        self.model = root(data, "Model")
        verify(self.model)
        if len(self.model.tables("external_buffers")):
            raise TFLiteError("its weights are in other files, which this version does not read")
        self.buffers = tuple(self.model.tables("buffers"))
        self.codes = tuple(_code(c) for c in self.model.tables("operator_codes"))
        count = len(self.model.tables("subgraphs"))
        self.subgraphs = tuple(self._subgraph(i, t, count) for i, t in enumerate(self.model.tables("subgraphs")))
        if not self.subgraphs:
            raise TFLiteError("there is no subgraph in it")
        check_calls(self.subgraphs)
        for metadata in self.model.tables("metadata"):
            in_range(metadata.number("buffer"), len(self.buffers), "metadata names buffer")
        for signature in self.model.tables("signature_defs"):
            graph = self.subgraphs[in_range(signature.number("subgraph_index"), count, "a signature names subgraph")]
            for entry in (*signature.tables("inputs"), *signature.tables("outputs")):
                in_range(entry.number("tensor_index"), len(graph.tensors), "a signature names tensor")

    def _subgraph(self, place: int, table: Table, count: int) -> Subgraph:
        tensors = tuple(table.tables("tensors"))
        where = f"subgraph {place}"
        for number, tensor in enumerate(tensors):
            in_range(tensor.number("buffer"), max(1, len(self.buffers)), f"{where}: a tensor names buffer")
            check_size(tensor, len(self.content(tensor.number("buffer"))), f"{where}: tensor {number}")

        def numbers(of: Table, name: str, *, optional: bool = False) -> tuple[int, ...]:
            found = of.numbers(name)
            for number in found:
                if number != -1 or not optional:
                    in_range(number, len(tensors), f"{where}: {of.kind}.{name} names tensor")
            return found

        operators = []
        for operator in table.tables("operators"):
            code = in_range(operator.number("opcode_index"), len(self.codes), f"{where}: an operator names code")
            calls = tuple(_calls(operator))
            for called in calls:
                in_range(called, count, f"{where}: an operator calls subgraph")
                if called == 0:
                    raise TFLiteError(f"{where}: an operator calls subgraph 0, the model itself")
            check_options(operator, self.codes[code][0], where, len(self.data))
            operators.append(
                Operator(
                    *self.codes[code],
                    inputs=numbers(operator, "inputs", optional=True),
                    outputs=numbers(operator, "outputs", optional=True),
                    intermediates=numbers(operator, "intermediates", optional=True),
                    calls=calls,
                    table=operator,
                )
            )
        check_order(tensors, operators, where)
        return Subgraph(tensors, numbers(table, "inputs"), numbers(table, "outputs"), tuple(operators), table)

    # values

    def content(self, buffer: int) -> memoryview:
        """The bytes of a buffer, inside the flatbuffer or behind it; of buffer 0, by convention the empty one, none."""
        if not self.buffers or not buffer:
            return self.data[:0]
        table = self.buffers[buffer]
        offset, size = table.number("offset"), table.number("size")
        if offset > ELSEWHERE:
            if offset + size > len(self.data):
                raise TFLiteError(f"buffer {buffer} ends at byte {offset + size:,}, the file has {len(self.data):,}")
            return self.data[offset : offset + size]
        return table.raw("data")

    def is_constant(self, tensor: Table) -> bool:
        """Whether the file holds the value of a tensor that nobody makes."""
        return len(self.content(tensor.number("buffer"))) > 0 or 0 in tensor.numbers("shape")

    # names

    @cached_property
    def raw_names(self) -> tuple[str, ...]:
        """The name of each tensor of the first subgraph, as the file has it: it may repeat or be empty."""
        return tuple(t.text("name").decode("utf-8", "backslashreplace") for t in self.subgraphs[0].tensors)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each tensor of the first subgraph, each once."""
        raw = self.raw_names
        taken = set(raw)
        seen: set[str] = set()
        again: Counter[str] = Counter()
        found = []
        for place, name in enumerate(raw):
            unique = name
            if not name or name in seen:
                unique = name or f"tensor_{place}"
                while unique in taken:
                    again[name] += 1
                    unique = f"{name or f'tensor_{place}'}_{again[name]}"
            taken.add(unique)
            seen.add(unique)
            found.append(unique)
        return tuple(found)

    @cached_property
    def operator_names(self) -> tuple[str, ...]:
        """The name of each operator of the first subgraph."""
        taken = set(self.names)
        found = []
        for place, operator in enumerate(self.subgraphs[0].operators):
            made = [t for t in operator.outputs if t != -1]
            name = self.names[made[0]] if made else f"{operator.op}_{place}"
            while not made and name in taken:
                name += "_"
            found.append(name)
        return tuple(found)

    # index

    def index(self) -> GraphIndex:
        """The index of the model. Raises TFLiteError for a tensor that nobody makes, or that two operators make."""
        graph = self.subgraphs[0]
        names = self.names
        maker: dict[int, str] = {}
        for name, operator in zip(self.operator_names, graph.operators, strict=True):
            for tensor in operator.outputs:
                if tensor in maker:
                    raise TFLiteError(f"two operators make {names[tensor]!r}: {maker[tensor]!r} and {name!r}")
                if tensor in graph.inputs:
                    raise TFLiteError(f"{names[tensor]!r} is an input of the model and made by {name!r}")
                if tensor != -1:
                    maker[tensor] = name
        nodes = [Node(names[t], "Placeholder", outputs=(names[t],), kind="input") for t in dict.fromkeys(graph.inputs)]
        given = set(graph.inputs)
        read = dict.fromkeys(t for o in graph.operators for t in o.inputs if t != -1) | dict.fromkeys(graph.outputs)
        variables = {i for i in read.keys() - maker.keys() - given if graph.tensors[i].number("is_variable")}
        for tensor in variables.intersection(graph.outputs):
            raise TFLiteError(f"{names[tensor]!r} is an output and a variable that no operator makes")
        for tensor in sorted(read.keys() - maker.keys() - given - variables):
            if not self.is_constant(graph.tensors[tensor]):
                raise TFLiteError(f"nothing makes {names[tensor]!r}: it is no input, no constant and no output of an operator")
            nodes.append(Node(names[tensor], "Const", outputs=(names[tensor],), kind="const"))
        stateful_functions = self._stateful
        for name, operator in zip(self.operator_names, graph.operators, strict=True):
            inputs = tuple(names[t] for t in operator.inputs if t != -1 and t not in variables)
            outputs = tuple(names[t] for t in operator.outputs if t != -1)
            stateful = _holds_state(operator) or any(t in variables for t in operator.inputs)
            stateful = stateful or not stateful_functions.isdisjoint(operator.calls)
            nodes.append(Node(name, operator.op, inputs, outputs, stateful=stateful))
        tensors = {names[i]: self.spec(i) for i in {*maker, *given, *(read.keys() - variables)}}
        captive = frozenset(t for t, spec in tensors.items() if spec.dtype in _HANDLES and t not in {names[i] for i in given})
        groups = self._groups(nodes, captive, variables)
        of_node = {n: group.name for group in groups.values() for n in group.nodes}
        return GraphIndex(
            nodes=tuple(replace(n, group=of_node[n.name]) if n.name in of_node else n for n in nodes),
            tensors=MappingProxyType(tensors),
            inputs=tuple(dict.fromkeys(names[t] for t in graph.inputs)),
            outputs=tuple(dict.fromkeys(names[t] for t in graph.outputs)),
            groups=MappingProxyType(groups),
            captive=captive,
            handles=captive,
            functions=self._functions,
            calls=MappingProxyType({
                name: tuple(self.function_name(c) for c in o.calls)
                for name, o in zip(self.operator_names, graph.operators, strict=True)
                if o.calls
            }),
        )  # fmt: skip

    def spec(self, tensor: int) -> TensorSpec:
        """What the file says of a tensor of the first subgraph. A custom op's outputs often have neither rank nor shape."""
        table = self.subgraphs[0].tensors[tensor]
        sizes = table.numbers("shape_signature") or table.numbers("shape")
        shape: Shape | None = tuple(s if s >= 0 else None for s in sizes)
        if not sizes and not table.number("has_rank") and not self.is_constant(table):
            shape = None
        return TensorSpec(self.names[tensor], tensor_dtype(table.number("type")), shape)

    def quantisation(self, name: str) -> tuple[float, int] | None:
        """Scale and zero point of a tensor of the first subgraph, where it has exactly one of each."""
        table = self.subgraphs[0].tensors[self.names.index(name)].table("quantization") if name in self.names else None
        scale = table.numbers("scale") if table is not None else ()
        zero = table.numbers("zero_point") if table is not None else ()
        return (float(scale[0]), int(zero[0])) if len(scale) == len(zero) == 1 and scale[0] > 0 else None

    def function_name(self, subgraph: int) -> str:
        """The name of a subgraph in the library: its own, and its number, since names may repeat."""
        name = self.subgraphs[subgraph].table.text("name").decode("utf-8", "backslashreplace")
        return f"{name or 'subgraph'} ({subgraph})"

    @cached_property
    def _functions(self) -> Mapping[str, Function]:
        return MappingProxyType({
            self.function_name(i): Function(
                self.function_name(i),
                tuple(sorted({o.op for o in graph.operators})),
                tuple(dict.fromkeys(self.function_name(c) for o in graph.operators for c in o.calls)),
            )
            for i, graph in enumerate(self.subgraphs)
            if i
        })  # fmt: skip

    def reachable(self, called: Sequence[int]) -> tuple[int, ...]:
        """The numbers of the subgraphs that are run by some, themselves among them, in file order."""
        return tuple(sorted(reachable(called, lambda g: (c for o in self.subgraphs[g].operators for c in o.calls))))

    @cached_property
    def _stateful(self) -> frozenset[int]:
        """Subgraphs that hold state, themselves or through what they call."""

        def holds(number: int) -> bool:
            graph = self.subgraphs[number]
            return any(_holds_state(o) for o in graph.operators) or any(t.number("is_variable") for t in graph.tensors)

        own = {i for i in range(len(self.subgraphs)) if holds(i)}
        return frozenset(i for i in range(1, len(self.subgraphs)) if not own.isdisjoint(self.reachable([i])))

    def _groups(self, nodes: Sequence[Node], captive: frozenset[str], variables: set[int]) -> dict[str, Group]:
        """What must stay together: makers and readers of handles, and operators that share a variable."""
        links: list[tuple[str, str]] = []
        maker = {t: n.name for n in nodes for t in n.outputs}
        links += [(maker[t], n.name) for n in nodes for t in n.inputs if t in captive]
        users: dict[int, list[str]] = {}
        for name, operator in zip(self.operator_names, self.subgraphs[0].operators, strict=True):
            for tensor in operator.inputs:
                if tensor in variables:
                    users.setdefault(tensor, []).append(name)
        links += [(names[0], other) for names in users.values() for other in names[1:]]
        if not links:
            return {}
        import networkx as nx

        graph: nx.Graph[str] = nx.Graph()
        graph.add_edges_from(links)
        place = {n.name: i for i, n in enumerate(nodes)}
        found = [tuple(sorted(c, key=place.__getitem__)) for c in nx.connected_components(graph)]
        return {members[0]: Group(members[0], "resource", members) for members in sorted(found, key=lambda c: place[c[0]])}

    def options(self, name: str) -> dict[str, str]:
        """The options of an operator as text; of another node none. Where its tensor has another name in the file, that too."""
        found: dict[str, str] = {}
        if name in self.names and (own := self.raw_names[self.names.index(name)]) != name:
            found["name_in_file"] = own
        if name not in self.operator_names:
            return found
        table = self.subgraphs[0].operators[self.operator_names.index(name)].table
        for where in ("builtin_options", "builtin_options_2"):
            options = table.table(where)
            for field in fields(options.kind).values() if options is not None else ():
                if options is not None and options.has(field.name):
                    found[field.name] = _text(options, field)
        if custom := len(table.raw("custom_options")):
            found["custom_options"] = f"{custom} bytes"
        return found

    # what it does

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """Names of the operators that run code nobody here knows, or run such a subgraph."""
        unknown = {i for i, g in enumerate(self.subgraphs) if any(o.custom and o.op not in _KNOWN_CUSTOM for o in g.operators)}
        return tuple(
            name
            for name, o in zip(self.operator_names, self.subgraphs[0].operators, strict=True)
            if (o.custom and o.op not in _KNOWN_CUSTOM) or not unknown.isdisjoint(self.reachable(o.calls))
        )

    @cached_property
    def not_frozen(self) -> tuple[str, str] | None:
        """Name and op of the first operator whose values outlive a run; None where there is none."""
        for number in (0, *self.reachable([c for o in self.subgraphs[0].operators for c in o.calls])):
            for place, operator in enumerate(self.subgraphs[number].operators):
                if operator.op in HOLDS_STATE:
                    return (self.operator_names[place] if number == 0 else self.function_name(number)), operator.op
        return None


def _code(table: Table) -> tuple[str, bool]:
    custom = table.text("custom_code").decode("utf-8", "backslashreplace")
    name = op_name(table.number("deprecated_builtin_code"), table.number("builtin_code"), custom)
    return name, name in (custom, "CUSTOM") and bool(name)


def _text(options: Table, field: Field) -> str:
    if field.kind in SCALARS:
        return str(options.number(field.name))
    if field.kind == "string":
        return options.text(field.name).decode("utf-8", "backslashreplace")
    if field.kind[1:-1] in SCALARS:
        return str(list(options.numbers(field.name)))
    return field.kind


def _calls(operator: Table) -> Iterator[int]:
    """Numbers of the subgraphs that an operator runs: the fields of its options that name one."""
    for name in ("builtin_options", "builtin_options_2"):
        options = operator.table(name)
        if options is None:
            continue
        for field in fields(options.kind).values():
            if names_subgraph(field) and options.has(field.name):
                yield from options.numbers(field.name) if field.kind == "[int32]" else (int(options.number(field.name)),)


def names_subgraph(field: Field) -> bool:
    """Whether a field of an operator's options holds numbers of subgraphs."""
    return "subgraph" in field.name or field.name == "called_computations"


def _holds_state(operator: Operator) -> bool:
    return operator.op in HOLDS_STATE or operator.op in _RANDOM or (operator.custom and operator.op not in _KNOWN_CUSTOM)
