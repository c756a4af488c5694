"""Questions about the structure of a graph, in which patterns are written. Names of nodes play no role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import Node
from graphsplit.graph.traversal import reachable
from graphsplit.runtimes.arrays import Array

__all__ = ["AttrValue", "Matcher", "NoMatch", "Unfit"]

_DTYPES = ("float32", "int32", "int64", "bool")  # of constants that are looked into
_ADD = ("Add", "AddV2")
_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")


class AttrValue(Protocol):
    """An attribute of a node (tensorflow/core/framework/attr_value.proto), as far as patterns look at it."""

    i: int
    b: bool
    type: int

    @property
    def list(self) -> _ListValue: ...


class _ListValue(Protocol):
    i: Sequence[int]


class NoMatch(Exception):
    """A pattern does not hold; the message says why. It never leaves the package."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A pattern that is left alone, though it begins like one that is replaced.

    Attributes:
        where: Name of its first op.
        reason: Why, in words.
    """

    where: str
    reason: str


class Matcher:
    """Questions about a model. Tensors are named ``node:port``; identities and entrances of loops are skipped."""

    def __init__(self, model: GraphDefModel) -> None:
        self.model, self.index = model, model.index
        self._constants: dict[str, Array | None] = {}
        self._attributes: dict[tuple[str, str], AttrValue | None] = {}
        self._seen: set[str] = set()

    @cached_property
    def readers(self) -> dict[str, tuple[Node, ...]]:
        """Tensor → nodes that read it."""
        nodes = self.index.name_to_node_map
        return {t: tuple(nodes[n] for n in names) for t, names in self.index.consumers.items()}

    def maker(self, tensor: str) -> Node:
        """The node that produces a tensor."""
        name = self.index.producer[tensor]
        self._seen.add(name)
        return self.index.name_to_node_map[name]

    @contextmanager
    def tracing(self) -> Iterator[set[str]]:
        """Record the names of the nodes that are looked at."""
        self._seen = set()
        yield self._seen
        self._seen = set()

    @cached_property
    def reaching(self) -> set[str]:
        """Names of the nodes whose values reach an output through tensors; control inputs do not count."""
        nodes, producer = self.index.name_to_node_map, self.index.producer
        return reachable((producer[t] for t in self.index.outputs), lambda name: (producer[t] for t in nodes[name].inputs))

    def here(self, tensor: str) -> str:
        """The source of a tensor through identities, within the same loop, so that new nodes beside its readers may read it."""
        while (node := self.maker(tensor)).op in ("Identity", "StopGradient"):
            tensor = node.inputs[0]
        return tensor

    def plain(self, tensor: str) -> str:
        """The source of a tensor through identities and entrances of loops."""
        while (node := self.maker(tensor)).op in ("Identity", "Enter", "StopGradient"):
            tensor = node.inputs[0]
        return tensor

    def node(self, tensor: str, *ops: str, port: int | None = 0) -> Node:
        """The node that produces a tensor, which has to be one of the ops. Raises NoMatch."""
        tensor = self.plain(tensor)
        node = self.maker(tensor)
        if node.op not in ops:
            raise NoMatch(f"{node.name!r} is a {node.op} instead of a {' or '.join(ops)}")
        if port is not None and self.port(tensor) != port:
            raise NoMatch(f"output {self.port(tensor)} of {node.name!r} is read instead of output {port}")
        return node

    @staticmethod
    def port(tensor: str) -> int:
        """Output number of a tensor."""
        return int(tensor.rpartition(":")[2])

    def same(self, one: str, other: str) -> bool:
        """Whether two names refer to the same tensor."""
        return self.plain(one) == self.plain(other)

    def attribute(self, node: Node, key: str) -> AttrValue | None:
        """An attribute of a node; None if the node does not state it."""
        if (node.name, key) not in self._attributes:
            reader = self.model.reader
            self._attributes[node.name, key] = reader.attribute(reader.by_name[node.name], key)
        return self._attributes[node.name, key]

    def value(self, tensor: str) -> Array | None:
        """The value of a small numeric constant; None for anything else."""
        node = self.maker(self.plain(tensor))
        if node.op != "Const":
            return None
        if node.name not in self._constants:
            value = self.model.constant(node.name)
            self._constants[node.name] = value if value is not None and value.dtype.name in _DTYPES else None
        return self._constants[node.name]

    def number(self, tensor: str, what: str) -> float:
        """The value of a scalar constant; `what` is its description in the reason. Raises NoMatch."""
        value = self.value(tensor)
        if value is None or value.size != 1:
            raise NoMatch(f"{what} is not a constant")
        return float(value.reshape(()))

    def is_number(self, tensor: str, number: float) -> bool:
        """Whether a tensor is a constant whose elements all equal a number."""
        value = self.value(tensor)
        return value is not None and value.size > 0 and bool((value == number).all())

    def rows_of(self, tensor: str) -> str:
        """x, for a tensor that is the number of rows of x: ``shape(x)[0]``. Raises NoMatch."""
        vector = self.element(tensor, 0)
        if vector is None:
            raise NoMatch(f"{tensor} is not a number of rows")
        return self.plain(self.node(vector, "Shape").inputs[0])

    def element(self, tensor: str, which: int) -> str | None:
        """v, for a tensor that is ``v[which]`` of a vector, or ``v[which:which + 1]``; else None."""
        tensor = self.plain(tensor)
        node = self.maker(tensor)
        if node.op == "Unpack" and self.port(tensor) == which:
            axis = self.attribute(node, "axis")
            return node.inputs[0] if axis is None or axis.i == 0 else None
        if node.op != "StridedSlice":
            return None
        masks = {k: 0 if (a := self.attribute(node, f"{k}_mask")) is None else a.i for k in _MASKS}
        begin, end, step = (None if v is None else v.tolist() for v in map(self.value, node.inputs[1:4]))
        scalar = masks["shrink_axis"] == 1  # then begin counts, masked or not, and end does not
        starts = begin == [which] if scalar or not masks["begin"] else which == 0
        ends = scalar or (end == [which + 1] and not masks["end"])
        plain = masks["ellipsis"] == masks["new_axis"] == 0 and step == [1]
        return node.inputs[0] if starts and ends and plain else None

    def gather(self, tensor: str) -> tuple[str, str]:
        """(x, indices), for a tensor that is rows of x. Raises NoMatch."""
        node = self.node(tensor, "GatherV2", "Gather")
        if node.op == "GatherV2" and not self.is_number(node.inputs[2], 0):
            raise NoMatch(f"{node.name!r} does not gather rows")
        return node.inputs[0], self.plain(node.inputs[1])

    def minimum(self, tensor: str) -> tuple[int, str | None]:
        """(c, x), for ``min(c, x)`` with a constant c; (c, None) for the constant alone. Raises NoMatch."""
        value = self.value(tensor)
        if value is not None and value.size == 1:
            return int(value.reshape(())), None
        node = self.node(tensor, "Minimum")
        for one, other in (node.inputs, node.inputs[::-1]):
            value = self.value(one)
            if value is not None and value.size == 1:
                return int(value.reshape(())), other
        raise NoMatch(f"{node.name!r} is not the minimum of a constant and another value")

    def first(self, tensor: str) -> str:
        """x, for ``range(0, x, 1)``. Raises NoMatch."""
        node = self.node(tensor, "Range")
        if not (self.is_number(node.inputs[0], 0) and self.is_number(node.inputs[2], 1)):
            raise NoMatch(f"{node.name!r} does not count from 0 by 1")
        return node.inputs[1]

    def plus(self, tensor: str) -> tuple[str, float]:
        """(x, c), for ``x + c`` with a constant c. Raises NoMatch."""
        node = self.node(tensor, *_ADD)
        for one, other in (node.inputs, node.inputs[::-1]):
            value = self.value(other)
            if value is not None and value.size == 1:
                return one, float(value.reshape(()))
        raise NoMatch(f"{node.name!r} does not add a constant")

    def fill(self, tensor: str, number: float) -> str | None:
        """n, for a vector [n] filled with a number (Fill, or the number times ones); None for a constant. Raises NoMatch."""
        if self.is_number(tensor, number):
            return None
        node = self.node(tensor, "Fill", "Mul")
        if node.op == "Fill" and self.is_number(node.inputs[1], number):
            size = self.node(node.inputs[0], "Pack", "Reshape", "ExpandDims", "StridedSlice")
            return node.inputs[0] if size.op == "StridedSlice" else size.inputs[0]
        for one, other in (node.inputs, node.inputs[::-1]) if node.op == "Mul" else ():
            if self.is_number(one, number):
                return self.fill(other, 1)
        raise NoMatch(f"{node.name!r} does not fill with {number:g}")
