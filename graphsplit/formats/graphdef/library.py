"""The function library of a GraphDef: what its functions hold and which of them call one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from graphsplit.formats.graphdef.calls import functions_named
from graphsplit.formats.graphdef.messages import Message
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.wire import BYTES, GraphError, NodeRange, attributes, fields, walk_node
from graphsplit.graph.traversal import reachable

if TYPE_CHECKING:
    from graphsplit.formats.graphdef.reader import GraphDefReader

__all__ = ["CALLERS", "FunctionRange", "Library"]

#: Ops that only call a function: they hold state if the function does, regardless of the registry.
CALLERS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"}


@dataclass(frozen=True, slots=True)
class FunctionRange:
    """A library function.

    Attributes:
        begin: Where its field begins.
        end: Where it ends.
        nodes: The nodes of its body.
        signature: An OpDef message.
        implements: The values of its attribute ``api_implements``, of which one is usual.
    """

    begin: int
    end: int
    nodes: tuple[NodeRange, ...]
    signature: Message
    implements: frozenset[bytes] = frozenset()

    @property
    def defaults(self) -> dict[str, Message]:
        """Attribute → AttrValue, where a caller need not bind it."""
        return {a.name: a.default_value for a in self.signature.attr if a.HasField("default_value")}


class Library:
    """The functions of a graph, read when they are asked for."""

    def __init__(self, reader: GraphDefReader) -> None:
        self._reader = reader

    @cached_property
    def functions(self) -> dict[str, FunctionRange]:
        """Functions by name. Raises GraphError for a name used twice."""
        reader = self._reader
        found: dict[str, FunctionRange] = {}
        for span in reader.library_spans:
            for number, wire, begin, start, end in fields(reader.data, *span):
                if number != 1 or wire != BYTES:
                    continue
                signature, nodes, implements = None, [], set()
                for inner, inner_wire, first, low, high in fields(reader.data, start, end):
                    if inner == 1 and inner_wire == BYTES:
                        if signature is not None:
                            raise GraphError(f"the function {signature.name!r} has two signatures")
                        signature = reader.parse("OpDef", low, high)
                    elif inner == 3 and inner_wire == BYTES:
                        nodes.append(walk_node(reader.data, first, low, high))
                    elif inner == 5 and inner_wire == BYTES:
                        entry = reader.parse("AttrEntry", low, high)
                        if entry.key == "api_implements":
                            implements.add(entry.value.s)
                if signature is not None:
                    if signature.name in found:
                        raise GraphError(f"two functions are named {signature.name!r}")
                    found[signature.name] = FunctionRange(begin, end, tuple(nodes), signature, frozenset(implements))
        return found

    @cached_property
    def gradients(self) -> dict[str, str]:
        """Function name → name of its gradient function."""
        reader = self._reader
        found: dict[str, str] = {}
        for span in reader.library_spans:
            for number, wire, _, start, end in fields(reader.data, *span):
                if number == 2 and wire == BYTES:
                    entry = reader.parse("GradientDef", start, end)
                    found[entry.function_name] = entry.gradient_func
        return found

    @cached_property
    def calls(self) -> dict[str, tuple[str, ...]]:
        """Function name → names of the functions that its nodes call, or that a default of its attributes names."""
        body = self._reader.calls.body
        return {name: tuple(dict.fromkeys(called for called, _ in body(name).named)) for name in self.functions}

    def called(self, node: NodeRange) -> tuple[str, ...]:
        """Names of the functions that a node calls, through attributes or by its op."""
        if not self.functions:
            return ()
        names = [node.op] if node.op in self.functions else []
        names += self._named(node)
        return tuple(dict.fromkeys(n for n in names if n in self.functions))

    def check_calls(self) -> None:
        """Refuse calls of functions that are not there, which crash TensorFlow. Raises GraphError that names one."""
        for node in (*self._reader.nodes, *(n for f in self.functions.values() for n in f.nodes)):
            for name in self._named(node):
                if name and name not in self.functions:
                    raise GraphError(f"node {node.name!r} calls the function {name!r}, which is not there")
        for function, f in self.functions.items():
            for value in f.defaults.values():
                for name, _ in functions_named(value):
                    if name and name not in self.functions:
                        raise GraphError(f"the function {function!r} calls the function {name!r}, which is not there")

    def check_recursion(self) -> None:
        """Refuse functions that call themselves, which crash TensorFlow. Raises GraphError that names one."""
        done: set[str] = set()
        for first in self.calls:
            path: dict[str, Iterator[str]] = {}  # the calls that led here, each with what else it calls
            waiting = [] if first in done else [first]
            while waiting or path:
                if waiting:
                    name = waiting.pop()
                    path[name] = iter(self.calls[name])
                for called in path[next(reversed(path))]:
                    if called in path:
                        chain = [*path][[*path].index(called) :]
                        shown = " → ".join(map(repr, [*chain[:5], *(["…"] if len(chain) > 5 else []), called]))
                        raise GraphError(f"a function calls itself: {shown}; no graph that TensorFlow exports does")
                    if called not in done:
                        waiting.append(called)
                        break
                else:
                    done.add(path.popitem()[0])

    def reached(self, names: Iterable[str]) -> frozenset[str]:
        """The named functions and all that they call, gradients included."""
        there = self.functions

        def used(name: str) -> Iterator[str]:
            if name in there:
                yield from self.calls[name]
                if name in self.gradients:
                    yield self.gradients[name]

        return frozenset(reachable(names, used) & there.keys())

    def reaching(self, names: Iterable[str]) -> frozenset[str]:
        """The named functions and all that call one of them, directly or through others."""
        callers: dict[str, list[str]] = {}
        for name in self.functions:
            gradient = self.gradients.get(name)
            for called in (*self.calls[name], *([] if gradient is None else [gradient])):
                callers.setdefault(called, []).append(name)
        return frozenset(reachable(names, lambda name: callers.get(name, ())))

    @cached_property
    def stateful(self) -> frozenset[str]:
        """Functions that hold state, themselves or through what they call."""

        def holds_state(f: FunctionRange) -> bool:
            for node in f.nodes:
                info = op_table().get(node.op)
                if node.op not in CALLERS and node.op not in self.functions and (info is None or info.stateful):
                    return True
            return False

        return self.reaching(name for name, f in self.functions.items() if holds_state(f))

    def _named(self, node: NodeRange) -> Iterator[str]:
        """The functions that a node's attributes name, whether they are there or not."""
        data = self._reader.data
        for _, _, _, start, end in attributes(data, node.start, node.end):
            # AttrValue: list = 1 and func = 10 are the only values that can name a function. All its fields are looked
            # at: the last one counts, and a harmless one before it must not hide a call.
            if any(number in (1, 10) for number, *_ in fields(data, start, end)):
                yield from (name for name, _ in functions_named(self._reader.parse("AttrValue", start, end)))
