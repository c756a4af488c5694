"""The index of a graph: nodes, tensors, and which node feeds which. It knows no file format and no framework.

Names are the field's own: an edge goes from one output (a *port*) of a node to an input of another; a tensor is named
``node:port``; a control input orders two nodes without a tensor between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Literal

from graphsplit.errors import TensorNotFoundError
from graphsplit.graph.lookup import close_names, enclosing_calls, ending_with, last_components, spellings
from graphsplit.graph.text import count_text, list_text, shape_text, shortened
from graphsplit.graph.traversal import reachable, walk

__all__ = ["Function", "GraphIndex", "Group", "Node", "Role", "Shape", "TensorSpec", "itemsize", "whole_bytes"]

_BITS = {
    "bool": 8, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "int8": 8, "uint8": 8, "qint8": 8, "quint8": 8,
    "int16": 16, "uint16": 16, "qint16": 16, "quint16": 16, "float16": 16, "bfloat16": 16,
    "int32": 32, "uint32": 32, "qint32": 32, "float32": 32,
    "int64": 64, "uint64": 64, "float64": 64, "complex64": 64, "complex128": 128,
    "float8_e5m2": 8, "float8_e4m3fn": 8, "float8_e4m3fnuz": 8, "float8_e4m3b11fnuz": 8, "float8_e5m2fnuz": 8,
    "float4_e2m1fn": 4,
}  # fmt: skip

Shape = tuple[int | None, ...]

#: "shape": reads nothing of a tensor but its shape. "arithmetic": cheap enough to be computed again in another section.
#: "resize": scales pictures to a size, its last input. "decode": decodes pictures. "neural": a layer of a network.
#: "same": each output equals the input of the same number; further inputs are constants. "alias": the same, under a name that
#: a converter chose.
#: "custom": an op that the file format does not define. "": anything else.
#: Each format assigns the roles of its own ops, so that nothing above a format compares op names for it.
Role = Literal["", "shape", "arithmetic", "same", "alias", "resize", "decode", "neural", "custom"]

_SAME = frozenset({"same", "alias"})


def itemsize(dtype: str | None) -> float | None:
    """Bytes of one element (0.5 for int4); None for string, resource, variant and unknown dtypes."""
    bits = _BITS.get(dtype or "")
    return None if bits is None else bits / 8


_LONG = 60  # characters of a name in a repr


def whole_bytes(count: int, size: float) -> int:
    """Bytes of so many elements of an `itemsize`, rounded up; exact for any count, as floats are not."""
    return (count * int(8 * size) + 7) // 8


@dataclass(frozen=True, slots=True, repr=False)
class TensorSpec:
    """What is known about a tensor without running anything.

    Attributes:
        name: ``node:port`` in a GraphDef, the file's own name in TFLite.
        dtype: ``float32`` …; None if the file does not state it.
        shape: ``(None, 1917, 90)``; None inside it is an unknown dimension, None instead of it an unknown rank.
        optional: Whether it is an input that has a default, so that it need not be fed.
    """

    name: str
    dtype: str | None = None
    shape: Shape | None = None
    optional: bool = False

    def __repr__(self) -> str:
        return f"TensorSpec({shortened(self.name, _LONG)}, {self.dtype or '?'} {shortened(shape_text(self.shape), _LONG)})"

    @property
    def nbytes(self) -> int | None:
        """Bytes of the tensor, rounded up; None if a dimension or the dtype is unknown."""
        size = itemsize(self.dtype)
        if size is None or self.shape is None or None in self.shape:
            return None
        return whole_bytes(prod(d for d in self.shape if d is not None), size)

    def frame(self) -> TensorSpec:
        """The same tensor for one frame: an unknown leading dimension is a batch of one."""
        if self.shape and self.shape[0] is None:
            return replace(self, shape=(1, *self.shape[1:]))
        return self


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """One operation.

    Attributes:
        name: Unique in the graph.
        op: Type of the operation, as the file format names it.
        inputs: Tensors it reads, ``node:port``, in order; a tensor that is read twice is listed twice.
        outputs: Tensors it produces.
        control_inputs: Names of the nodes it must run after.
        stateful: Whether it may be neither copied nor reordered (random ops, variables, tables, queues, files).
        kind: "const", "input" or "op".
        group: Name of the group it belongs to (a loop with its TensorArrays, a cond region); None for most nodes.
        role: What kind of work the op does, as far as planning depends on it; see `Role`.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    control_inputs: tuple[str, ...] = ()
    stateful: bool = False
    kind: str = "op"
    group: str | None = None
    role: Role = ""

    def __repr__(self) -> str:
        counts = f"{count_text(len(self.inputs), 'input')}, {count_text(len(self.outputs), 'output')}"
        return f"Node({shortened(self.name, _LONG)}: {shortened(self.op, _LONG)}, {counts})"

    @property
    def is_shared_constant(self) -> bool:
        """Whether it is a constant outside of every loop, so that each section may have its own copy."""
        return self.kind == "const" and self.group is None

    @property
    def is_cheap(self) -> bool:
        """Whether it costs nearly nothing to compute it again in another section."""
        return self.role in ("shape", "arithmetic") or self.role in _SAME


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """Nodes that stay together: dividing them would cut through a loop, a cond, or a handle.

    Attributes:
        name: Unique in the graph.
        kind: "loop", "cond", "TensorArray" or "resource".
        nodes: Names, in file order.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Group({self.kind} {shortened(self.name, _LONG)}: {count_text(len(self.nodes), 'node')})"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the library.

    Attributes:
        name: Unique in the library.
        ops: The ops of its body.
        calls: Names of the functions that these call.
        roles: The roles of the ops of its body.
        nodes: The names of the nodes of its body.
    """

    name: str
    ops: tuple[str, ...]
    calls: tuple[str, ...]
    roles: frozenset[Role] = frozenset()
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GraphIndex:
    """A graph, indexed.

    Attributes:
        nodes: In file order.
        tensors: Name → TensorSpec, for every output of every node; a mapping that may compute its values on demand.
        inputs: Tensors to feed, or, of `defaults`, that may be fed.
        outputs: Tensors to fetch: those that no node reads.
        groups: Name → Group.
        captive: Tensors that cannot leave their group: inside a loop or cond, and all handles.
        handles: Those of them that are outside of loops but refer to something else: resource, variant, TensorArray flow.
        functions: Library functions by name.
        calls: Node name → names of the library functions that it calls.
        defaults: Inputs that need not be fed → name of the constant that is used instead, of kind "input" like any other, since
            each section may have its own copy; None: it is computed, by a node of kind "op" that is in one section only.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, TensorSpec]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    groups: Mapping[str, Group] = field(default_factory=lambda: MappingProxyType({}))
    captive: frozenset[str] = frozenset()
    handles: frozenset[str] = frozenset()
    functions: Mapping[str, Function] = field(default_factory=lambda: MappingProxyType({}))
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    defaults: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        counts = {"node": self.nodes, "input": self.inputs, "output": self.outputs, "group": self.groups}
        return f"GraphIndex({', '.join(count_text(len(some), noun) for noun, some in counts.items())})"

    @cached_property
    def name_to_node_map(self) -> Mapping[str, Node]:
        """Name → node."""
        return MappingProxyType({n.name: n for n in self.nodes})

    @cached_property
    def node_seq(self) -> Mapping[str, int]:
        """Name → position in the file."""
        return MappingProxyType({n.name: i for i, n in enumerate(self.nodes)})

    @cached_property
    def edges(self) -> Mapping[str, tuple[str, ...]]:
        """Node name → names of the nodes that it reads, control inputs last, each once."""
        return MappingProxyType({
            n.name: tuple(dict.fromkeys([*map(self.producer.__getitem__, n.inputs), *n.control_inputs])) for n in self.nodes
        })  # fmt: skip

    @cached_property
    def producer(self) -> Mapping[str, str]:
        """Tensor → name of the node that produces it."""
        return MappingProxyType({t: n.name for n in self.nodes for t in n.outputs})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Tensor → names of the nodes that read it, in file order, each once; unread tensors are left out."""
        found: dict[str, dict[str, None]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                found.setdefault(tensor, {})[node.name] = None
        return MappingProxyType({t: tuple(names) for t, names in found.items()})

    @cached_property
    def relays(self) -> frozenset[str]:
        """Nodes that pass inputs of the whole on, unchanged: each section that reads one may have its own copy, fed with the input.

        A chain of Identity nodes over an input, for example. What runs after state, and a default that is computed, is not.
        """
        nodes, producer, found = self.name_to_node_map, self.producer, set[str]()

        def is_everywhere(name: str) -> bool:
            return nodes[name].kind == "input" or nodes[name].is_shared_constant or name in found

        waiting = [n for n in self.nodes if n.kind == "input"]
        while waiting:
            for name in self.followers.get(waiting.pop().name, ()):
                node = nodes[name]
                if name not in found and self._passes_on(node) and all(is_everywhere(producer[t]) for t in node.inputs):
                    found.add(name)
                    waiting.append(node)
        return frozenset(found)

    def _passes_on(self, node: Node) -> bool:
        return (
            node.role in _SAME
            and node.kind == "op"
            and node.group is None
            and not node.stateful
            and 0 < len(node.outputs) <= len(node.inputs)
            and all(self.name_to_node_map[self.producer[t]].is_shared_constant for t in node.inputs[len(node.outputs) :])
            and not any(t in self.captive or t in self.defaults for t in node.outputs)
            and self._after_state.isdisjoint(node.control_inputs)
        )

    @cached_property
    def _after_state(self) -> Set[str]:
        """Nodes that hold state, and all that run after them, directly or not."""
        if not any(n.control_inputs for n in self.nodes if n.role in _SAME):
            return frozenset()
        return reachable((n.name for n in self.nodes if n.stateful and n.op != "Assert"), lambda n: self.followers.get(n, ()))

    def equal_to(self, tensor: str) -> str | None:
        """The tensor that a node passes on as this one, unchanged; None for a tensor that is computed."""
        node = self.name_to_node_map[self.producer[tensor]]
        return node.inputs[node.outputs.index(tensor)] if self._passes_on(node) else None

    @cached_property
    def followers(self) -> Mapping[str, tuple[str, ...]]:
        """Node name → names of the nodes that read it or run after it, in file order; nodes without any are left out."""
        found: dict[str, list[str]] = {}
        for name, edges in self.edges.items():
            for before in edges:
                found.setdefault(before, []).append(name)
        return MappingProxyType({name: tuple(after) for name, after in found.items()})

    @cached_property
    def last_components(self) -> Mapping[str, Sequence[str]]:
        """Last component of a name, in lower case → tensors, for names that are nearly right."""
        return MappingProxyType(last_components(self))

    def ancestors(
        self,
        names: Iterable[str],
        *,
        known: Set[str] = frozenset(),
        within: Set[str] | None = None,
    ) -> set[str]:
        """The named nodes and all they need, through tensors and control inputs.

        Plain reachability: a GraphDef of TensorFlow 1 has real cycles, so there is no topological order to follow.

        Args:
            names: Names of nodes.
            known: Nodes that are left out, and with them what only they need.
            within: Take groups whole, as far as this set goes; None: ignore groups.
        """
        nodes, edges = self.name_to_node_map, self.edges
        whole: set[str] = set()

        def needed(name: str) -> Iterable[str]:
            group = nodes[name].group
            if within is None or group is None or group in whole:
                return edges[name]
            whole.add(group)
            return (*edges[name], *(n for n in self.groups[group].nodes if n in within))

        return reachable(names, needed if within is not None and self.groups else edges.__getitem__, skip=known)

    def ops_within(self, node: Node) -> Iterator[str]:
        """The op of a node and those of the library functions it calls, directly or through others."""
        yield node.op
        functions = self.functions
        for name in walk(self.calls.get(node.name, ()), lambda f: functions[f].calls if f in functions else ()):
            if name in functions:
                yield from functions[name].ops

    def functions_with(self, test: Callable[[str], bool]) -> Set[str]:
        """Names of the library functions that hold an op for which `test` holds, directly or through others."""
        holders = (name for name, f in self.functions.items() if any(map(test, f.ops)))
        return reachable(holders, lambda name: self._callers.get(name, ()))

    @cached_property
    def _callers(self) -> Mapping[str, list[str]]:
        callers: dict[str, list[str]] = {}
        for name, function in self.functions.items():
            for called in function.calls:
                callers.setdefault(called, []).append(name)
        return callers

    def tensor(self, name: str) -> str:
        """The full name of a tensor written ``node``, ``node:port`` or ``^node``.

        A port is split off only where the suffix is digits and the node exists, since names may hold colons.

        Raises TensorNotFoundError with the closest names.
        """
        if (tensor := self.exact(name)) is not None:
            return tensor
        plain = name.strip().removeprefix("^")
        close = [c for c in close_names(self, plain) if c in self.producer or self.name_to_node_map[c].outputs]
        calls = enclosing_calls(self, plain)
        inside = f"{calls[0]!r} calls a function there, and functions stay whole" if calls else ""
        raise TensorNotFoundError(name, close=close, known=self._ends(), reason=inside)

    def exact(self, name: str) -> str | None:
        """The full name of a tensor, as of `tensor`; None for one that does not exist."""
        for text in (name, name.strip(), name.strip().removeprefix("^")):  # a TFLite name may begin or end with a blank
            if text in self.producer:
                return text
            node = self.name_to_node_map.get(text)
            if node is not None and node.outputs:
                return node.outputs[0]
        return None

    def node(self, name: str) -> Node:
        """The node of that name; ``node:port``, ``^node`` and the last components are enough. Raises TensorNotFoundError."""
        plain = name
        for plain in spellings(name):
            if plain in self.name_to_node_map or plain in self.producer:
                return self.name_to_node_map[self.producer.get(plain, plain)]
        ends = {self.producer[t] for t in ending_with(self, plain)}
        if len(ends) != 1:
            raise TensorNotFoundError(name, close=close_names(self, plain), kind="node", known=self._ends())
        return self.name_to_node_map[ends.pop()]

    def _ends(self) -> str:
        """The inputs and outputs, for an error about a name that resembles none."""
        ends = (("input", self.inputs), ("output", self.outputs))
        texts = [f"{noun}{'s' if len(tensors) > 1 else ''} {list_text(tensors)}" for noun, tensors in ends if tensors]
        return f"the model has {' and '.join(texts)}" if texts else ""
