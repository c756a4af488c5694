"""Library functions as they are called: each with the names that its caller binds.

A node of a function may leave an attribute to the caller (AttrValue.placeholder), through any number of calls:

    c: PartitionedCall, f=g{s="file:///x"}  ─▶  g: op h, stream=$s  ─▶  h: PrintV2, output_stream=$stream

So what a node does is asked per call. The rules are those of TensorFlow's ``InstantiateFunction`` (core/framework/function.cc):
the attributes of the calling node bind where its op is the function, those of the NameAttrList where an attribute names it;
what is not bound takes the default of the signature. A gradient function, and a function that Grappler may put in place of
another because both state the same ``api_implements``, are bound alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from graphsplit.formats.graphdef.messages import Message, message
from graphsplit.formats.graphdef.wire import NodeRange, attributes, fields
from graphsplit.graph.traversal import reachable

if TYPE_CHECKING:
    from graphsplit.formats.graphdef.reader import GraphDefReader

__all__ = ["Call", "Calls", "functions_named"]

_MOST_WORK = 100_000  # attributes bound, and nodes seen again for them; a graph with more is hostile, the rest may be anything
_LONGEST = 4096  # bytes; no name of a stream or a container is longer

Attributes: TypeAlias = Callable[[str], Message]  # key → AttrValue, or None


@dataclass(frozen=True, slots=True)
class Call:
    """A function and what its caller binds.

    Attributes:
        function: Its name.
        bound: Attribute → the bytes of its AttrValue, for the strings that the nodes of the function leave to the caller.
    """

    function: str
    bound: tuple[tuple[str, bytes], ...] = ()


class Body(NamedTuple):
    """What the nodes of a function, and the defaults of its attributes, name and leave open.

    Attributes:
        named: The functions, each with what returns the AttrValue that is bound to one of its attributes.
        left_open: The attributes that its callers bind.
    """

    named: tuple[tuple[str, Attributes], ...]
    left_open: tuple[str, ...]


class Calls:
    """The calls of a graph, resolved when they are asked for."""

    def __init__(self, reader: GraphDefReader) -> None:
        self._reader = reader
        self._bodies: dict[str, Body] = {}
        self._alike: dict[str, tuple[str, ...]] = {}
        self._inside: dict[Call, tuple[Call, ...]] = {}
        self._work = 0

    def of(self, node: NodeRange, within: Call | None = None) -> tuple[Call, ...]:
        """The calls that a node makes, directly; `within` is the call of the function that holds it."""
        return self._bound(self._mentions(node, self._telling(node)), within) if self._reader.library.functions else ()

    def unbound(self, function: str) -> Call:
        """The call of a function by somebody who binds nothing: its attributes take their defaults."""
        return self._bind(function, lambda key: None, None)

    def value(self, node: NodeRange, key: str, within: Call | None = None) -> Message:
        """The AttrValue of a node's attribute as its caller binds it, or None; still a placeholder where that is not known."""
        value = self._reader.attribute(node, key)
        return value if value is None else _resolved(value, within)

    def inside(self, call: Call) -> tuple[Call, ...]:
        """The calls that the nodes of a called function make."""
        if call.bound and self._work > _MOST_WORK:
            return self.inside(Call(call.function))
        if call not in self._inside:
            self._inside[call] = self._bound(self.body(call.function).named, call)
        return self._inside[call]

    def body(self, function: str) -> Body:
        """What a function names and leaves open, read once."""
        if function not in self._bodies:
            functions = self._reader.library.functions
            named: list[tuple[str, Attributes]] = []
            left_open: set[str] = set()
            for node in functions[function].nodes:
                values = list(self._telling(node))
                named += self._mentions(node, values)
                left_open.update(key for value in values for key in _placeholders(value))
            named += [m for value in functions[function].defaults.values() for m in functions_named(value)]
            here = tuple(m for m in named if m[0] in functions)
            self._bodies[function] = Body(here, tuple(sorted(left_open)))
        return self._bodies[function]

    def reached(self, calls: Iterable[Call]) -> set[Call]:
        """Some calls and all that they lead to."""
        return reachable(calls, self.inside)

    def reaching(self, calls: Iterable[Call], test: Callable[[NodeRange, Call], bool]) -> frozenset[Call]:
        """Of some calls and all that they lead to, those that lead to a node for which `test` holds."""
        functions = self._reader.library.functions
        callers: dict[Call, list[Call]] = {}
        found = []
        for call in self.reached(calls):
            if any(test(node, call) for node in functions[call.function].nodes):
                found.append(call)
            for inner in self.inside(call):
                callers.setdefault(inner, []).append(call)
        return frozenset(reachable(found, lambda call: callers.get(call, ())))

    def _mentions(self, node: NodeRange, values: Iterable[Message]) -> Iterator[tuple[str, Attributes]]:
        """The functions that a node names, by its op or in these attributes, and where each gets its own attributes from."""
        if node.op in self._reader.library.functions:
            yield node.op, lambda key: self._reader.attribute(node, key)
        for value in values:
            yield from functions_named(value)

    def _bound(self, mentions: Iterable[tuple[str, Attributes]], within: Call | None) -> tuple[Call, ...]:
        return tuple(dict.fromkeys(self._bind(f, attribute, within) for name, attribute in mentions for f in self._instead(name)))

    def _bind(self, name: str, attribute: Attributes, within: Call | None) -> Call:
        keys = self.body(name).left_open
        if not keys:
            return Call(name)
        if self._work > _MOST_WORK:
            return Call(name)
        function = self._reader.library.functions[name]
        defaults = function.defaults
        bound = []
        for key in keys:
            value = attribute(key)
            value = defaults.get(key) if value is None else _resolved(value, within)
            if value is not None and (value.HasField("s") or value.list.s):
                content: bytes = value.SerializeToString(deterministic=True)
                if len(content) <= _LONGEST:
                    bound.append((key, content))
        if bound:
            self._work += len(keys) + len(function.nodes) // 8
        return Call(name, tuple(bound))

    def _instead(self, name: str) -> tuple[str, ...]:
        """A function, its gradient, and those that state the same interface; nothing for a name that is not a function's."""
        library = self._reader.library
        if name not in library.functions:
            return ()

        def others(name: str) -> Iterator[str]:
            if name in library.gradients:
                yield library.gradients[name]
            for interface in library.functions[name].implements if name in library.functions else ():
                yield from self._implementations[interface]

        if name not in self._alike:
            self._alike[name] = tuple(n for n in sorted(reachable([name], others)) if n in library.functions)
        return self._alike[name]

    @cached_property
    def _implementations(self) -> dict[bytes, list[str]]:
        found: dict[bytes, list[str]] = {}
        for name, function in self._reader.library.functions.items():
            for interface in function.implements:
                found.setdefault(interface, []).append(name)
        return found

    def _telling(self, node: NodeRange) -> Iterator[Message]:
        """The attributes of a node that can name a function or leave something open: list = 1, placeholder = 9, func = 10."""
        data = self._reader.data
        for _, _, _, start, end in attributes(data, node.start, node.end):
            # All fields are looked at: the last one counts, and a harmless one before it must not hide a call.
            if any(number in (1, 9, 10) for number, *_ in fields(data, start, end)):
                yield self._reader.parse("AttrValue", start, end)


def functions_named(value: Message) -> Iterator[tuple[str, Attributes]]:
    """The functions that an AttrValue names, with those passed to a function as its own attributes.

    Yields:
        The name, and what returns the AttrValue that is bound to one of its attributes.
    """
    for function in _functions(value):
        yield function.name, {entry.key: entry.value for entry in function.attr}.get
        for entry in function.attr:
            yield from functions_named(entry.value)


def _functions(value: Message) -> Message:
    return [value.func] if value.HasField("func") else value.list.func


def _placeholders(value: Message) -> Iterator[str]:
    """The attributes that an AttrValue leaves to the caller, itself or for a function that it names."""
    if value.HasField("placeholder"):
        yield value.placeholder
    for function in _functions(value):
        for entry in function.attr:
            yield from _placeholders(entry.value)


def _resolved(value: Message, within: Call | None) -> Message:
    """A value, or what the caller binds in its place."""
    if within is None or not value.HasField("placeholder"):
        return value
    bound = dict(within.bound).get(value.placeholder)
    return value if bound is None else message("AttrValue").FromString(bound)
