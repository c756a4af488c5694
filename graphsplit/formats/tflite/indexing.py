"""A TFLite model as a GraphIndex: operators are nodes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from types import MappingProxyType

from graphsplit.formats.tflite.outside import KNOWN_CUSTOM, holds_state
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.roles import ROLES, role_of
from graphsplit.formats.tflite.specs import tensor_spec
from graphsplit.formats.tflite.validation import Operator, TFLiteError
from graphsplit.formats.tflite.variables import shared_state
from graphsplit.graph.index import Function, GraphIndex, Group, Node, Role
from graphsplit.graph.traversal import reachable

__all__ = ["index_model"]

_HANDLES = {"resource", "variant"}
_VIEWS = {"RESHAPE", "CAST"}


def index_model(reader: TFLiteReader) -> GraphIndex:
    """The index of a model. Raises TFLiteError for a tensor that no operator outputs, or two do."""
    graph, names = reader.subgraphs[0], reader.names
    operators = tuple(zip(reader.operator_names, graph.operators, strict=True))
    producer = _producers(reader)
    inputs = set(graph.inputs)
    read = dict.fromkeys(t for o in graph.operators for t in o.inputs if t != -1) | dict.fromkeys(graph.outputs)
    variables = {t for t in read.keys() - producer.keys() - inputs if graph.tensors[t].number("is_variable")}
    variables |= _scratch(reader, read.keys() - producer.keys() - inputs - variables - set(graph.outputs))
    for tensor in variables.intersection(graph.outputs):
        raise TFLiteError(f"{names[tensor]!r} is an output and a variable that no operator outputs")
    nodes = [Node(names[t], "Placeholder", outputs=(names[t],), kind="input") for t in dict.fromkeys(graph.inputs)]
    for tensor in sorted(read.keys() - producer.keys() - inputs - variables):
        if not reader.is_constant(graph.tensors[tensor]):
            raise TFLiteError(f"nothing outputs {names[tensor]!r}: it is not an input, a constant or an output of an operator")
        nodes.append(Node(names[tensor], "Const", outputs=(names[tensor],), kind="const"))
    stateful = _stateful_subgraphs(reader)
    sharing, setters = shared_state(reader)
    for name, operator in operators:
        reads = tuple(names[t] for t in operator.inputs if t != -1 and t not in variables)
        outputs = tuple(names[t] for t in operator.outputs if t != -1)
        state = holds_state(operator) or any(t in variables for t in operator.inputs) or not stateful.isdisjoint(operator.calls)
        kept = setters.get(name, ())  # nothing reads them in this run
        nodes.append(Node(name, operator.op, reads, outputs, kept, stateful=state, role=_role(reader, operator)))
    tensors = {names[t]: tensor_spec(reader, t) for t in {*producer, *inputs, *(read.keys() - variables)}}
    entering = {names[t] for t in inputs}
    captive = frozenset(t for t, spec in tensors.items() if spec.dtype in _HANDLES and t not in entering)
    groups = _groups(reader, nodes, captive, variables, sharing.values())
    of_node = {n: group.name for group in groups.values() for n in group.nodes}
    return GraphIndex(
        nodes=tuple(replace(n, group=of_node[n.name]) if n.name in of_node else n for n in nodes),
        tensors=MappingProxyType(tensors),
        inputs=tuple(dict.fromkeys(names[t] for t in graph.inputs)),
        outputs=tuple(dict.fromkeys(names[t] for t in graph.outputs)),
        groups=MappingProxyType(groups),
        captive=captive,
        handles=captive,
        functions=_functions(reader),
        calls=MappingProxyType({name: tuple(map(reader.function_name, o.calls)) for name, o in operators if o.calls}),
    )


def _scratch(reader: TFLiteReader, tensors: Set[int]) -> set[int]:
    """Those of some tensors that are memory for custom ops, as compilers of accelerators add: no value, read by nothing else."""
    graph = reader.subgraphs[0]
    readers: dict[int, list[bool]] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            readers.setdefault(tensor, []).append(operator.custom and operator.op not in KNOWN_CUSTOM)
    return {t for t in tensors if not reader.is_constant(graph.tensors[t]) and all(readers.get(t, [False]))}


def _role(reader: TFLiteReader, operator: Operator) -> Role:
    """The role of an operator; "same" for a view that changes neither shape nor type, TFLite's only Identity."""
    if operator.op not in _VIEWS or len(operator.outputs) != 1 or not operator.inputs or -1 in operator.inputs:
        return role_of(operator)
    tensors = [reader.subgraphs[0].tensors[t] for t in (operator.inputs[0], operator.outputs[0])]
    read, output = (replace(tensor_spec(reader, t), name="") for t in (operator.inputs[0], operator.outputs[0]))
    scaled = any((table := t.table("quantization")) is not None and table.numbers("scale") for t in tensors)
    known = read.shape is not None and None not in read.shape
    return "same" if known and read == output and not scaled else role_of(operator)


def _producers(reader: TFLiteReader) -> dict[int, str]:
    """Tensor → the operator that outputs it. Raises TFLiteError where there are two."""
    graph, names = reader.subgraphs[0], reader.names
    producer: dict[int, str] = {}
    inputs = frozenset(graph.inputs)
    for name, operator in zip(reader.operator_names, graph.operators, strict=True):
        for tensor in operator.outputs:
            if tensor in producer:
                raise TFLiteError(f"two operators output {names[tensor]!r}: {producer[tensor]!r} and {name!r}")
            if tensor in inputs:
                raise TFLiteError(f"{names[tensor]!r} is an input of the model and an output of {name!r}")
            if tensor != -1:
                producer[tensor] = name
    return producer


def _functions(reader: TFLiteReader) -> Mapping[str, Function]:
    functions = {}
    for number, graph in enumerate(reader.subgraphs[1:], 1):
        name, ops = reader.function_name(number), {o.op for o in graph.operators}
        called = dict.fromkeys(reader.function_name(c) for o in graph.operators for c in o.calls)
        outputs = frozenset(
            graph.tensors[t].text("name").decode(errors="replace") for o in graph.operators for t in o.outputs if t != -1
        )
        roles = frozenset(ROLES[op] for op in ops if op in ROLES)
        functions[name] = Function(name, tuple(sorted(ops)), tuple(called), roles, outputs)
    return MappingProxyType(functions)


def _stateful_subgraphs(reader: TFLiteReader) -> frozenset[int]:
    """Subgraphs that hold state, themselves or through what they call."""

    def holds(number: int) -> bool:
        graph = reader.subgraphs[number]
        return any(map(holds_state, graph.operators)) or any(t.number("is_variable") for t in graph.tensors)

    callers: dict[int, list[int]] = {}
    for number, graph in enumerate(reader.subgraphs):
        for called in dict.fromkeys(c for o in graph.operators for c in o.calls):
            callers.setdefault(called, []).append(number)
    own = (i for i in range(len(reader.subgraphs)) if holds(i))
    return frozenset(reachable(own, lambda number: callers.get(number, ()))) - {0}


def _groups(
    reader: TFLiteReader, nodes: Sequence[Node], captive: Set[str], variables: Set[int], sharing: Iterable[Sequence[str]]
) -> dict[str, Group]:
    """What must stay together: producers and readers of handles, and operators that share a variable or a table."""
    producer = {t: n.name for n in nodes for t in n.outputs}
    links = [(producer[t], n.name) for n in nodes for t in n.inputs if t in captive]
    users: dict[int, list[str]] = {}
    for name, operator in zip(reader.operator_names, reader.subgraphs[0].operators, strict=True):
        for tensor in operator.inputs:
            if tensor in variables:
                users.setdefault(tensor, []).append(name)
    links += [(names[0], other) for names in (*users.values(), *sharing) for other in names[1:]]
    if not links:
        return {}
    import networkx as nx

    graph: nx.Graph[str] = nx.Graph()
    graph.add_edges_from(links)
    place = {n.name: i for i, n in enumerate(nodes)}
    found = [tuple(sorted(c, key=place.__getitem__)) for c in nx.connected_components(graph)]
    return {members[0]: Group(members[0], "resource", members) for members in sorted(found, key=lambda c: place[c[0]])}
