"""A small evaluator of graphs, so that *whole == parts* can be checked without TensorFlow. Used by tests only.

It follows TensorFlow's rules where a split could go wrong:

  values     integers modulo a prime, mixed so that ports, the order of inputs and the op all matter; equal is exact
  loops      Enter ─▶ Merge ─▶ Switch ─▶ body ─▶ NextIteration ─▶ (Merge), Switch ─▶ Exit: really iterated, nested too
  conds      Switch sends its value to one port and a *dead* tensor to the other; Merge takes the one that is alive
  state      a stateful node runs in one section only; its value depends on the stateful nodes it was ordered after,
             through tensors or control inputs, so that a lost order changes it (an Assert has nothing to order). State
             behind a handle or in a loop is touched in one section only, so only there its order can be observed
  handles    a resource, a variant, a TensorArray's flow is worth nothing in another section

Whatever would fail at import or at run in TensorFlow raises IllegalGraph: a node that reads what is not there, a
tensor that leaves its loop other than through Exit, a dead tensor that is fetched.

Evaluation is by demand, as in a session: only what the fetched tensors need is run. A *tag* tells the iteration a node
runs in, e.g. (("outer", 2), ("inner", 0)); () is outside of loops.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from graphsplit.formats.graphdef.control_flow import find_groups
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.roles import ROLES
from graphsplit.graph.index import GraphIndex, Node, TensorSpec

_PRIME = (1 << 61) - 1
_MOST_ITERATIONS = 32

# What they make stands for something else, and so does what only passes it on.
_MAKES_HANDLES = {
    "VarHandleOp", "TensorListReserve", "TensorListSetItem",
    "TensorArrayV3", "TensorArrayWriteV3", "TensorArrayScatterV3",
}  # fmt: skip
_PASSES_ON = {"Enter", "Exit", "Switch", "Merge", "NextIteration", "Identity"}

_ARITHMETIC: dict[str, Callable[..., int]] = {
    "LoopCond": lambda a: a,
    "AddV2": lambda a, b: (a + b) % _PRIME,
    "Less": lambda a, b: int(a < b),
    "FloorMod": lambda a, b: a % b if b else 0,
}


class IllegalGraph(Exception):
    """What TensorFlow would refuse to import or to run."""


class RanTwice(Exception):
    """A stateful node was evaluated in two sections."""


class Token(NamedTuple):
    """What flows along an edge.

    value   the number
    past    the stateful nodes that have run before it, one bit each
    handle  whether it only stands for something that lives in its section
    """

    value: int
    past: int = 0
    handle: bool = False


class Fired(NamedTuple):
    """What a node gave: a token a port, None where it is dead, and what a control edge from the node carries."""

    ports: tuple[Token | None, ...]
    past: int
    alive: bool


_DEAD_PORT = (None,)


@dataclass(frozen=True)
class Program:
    """A graph with what the index leaves out: the attributes that evaluation needs.

    frames      Enter node → its frame_name
    invariants  Enter nodes that are is_constant: seen in every iteration
    values      constant → its value; one that is not here has a value of its own
    """

    index: GraphIndex
    frames: Mapping[str, str] = field(default_factory=dict)
    invariants: frozenset[str] = frozenset()
    values: Mapping[str, int] = field(default_factory=dict)

    def feeds(self) -> dict[str, Token]:
        """A value for every input of the whole."""
        return {t: Token(mix(digest("feed"), digest(t))) for t in self.index.inputs}

    def run(
        self,
        fetches: Iterable[str],
        *,
        nodes: Iterable[str] | None = None,
        given: Mapping[str, Token] | None = None,
        section: str = "whole",
        log: dict[str, str] | None = None,
        homes: Mapping[str, str] | None = None,
    ) -> dict[str, Token]:
        """The fetched tensors of the whole, or of a section that sees its nodes and what it is given, and nothing else.

        log    stateful node → section that ran it; shared by the sections of one request
        homes  stateful node → section that it will run in; None: all in one
        """
        if nodes is None:
            nodes = [n.name for n in self.index.nodes if n.kind != "input"]
        return Run(self, nodes, self.feeds() if given is None else given, section, log, homes).fetch(fetches)


def written(text: str) -> Program:
    """A program from one node a line: name, op, inputs, control inputs.

        i      Enter/while             zero              frame_name after the slash
        limit  Enter/while/constant    ten               is_constant
        ten    Const=10                ^pivot            a value; ^ for control inputs
        two    Unpack*2                x                 ports, where the op table does not tell

    Its outputs are what nobody reads. Groups are found as they are for a file.
    """
    nodes, dtypes = [], {}
    frames: dict[str, str] = {}
    invariants, values = set(), {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, what, *reads = line.split()
        op, _, number = what.partition("=")
        op, _, ports = op.partition("*")
        op, *frame = op.split("/")
        info = op_table().get(op)
        kind = {"Const": "const", "Placeholder": "input"}.get(op, "op")
        made = list(info.outputs) if info.fixed is not None else ["float32"] * int(ports)
        outputs = tuple([f"{name}:{port}" for port in range(len(made))])
        inputs = tuple([r if ":" in r else f"{r}:0" for r in reads if not r.startswith("^")])
        control = tuple([r[1:] for r in reads if r.startswith("^")])
        nodes.append(Node(name, op, inputs, outputs, control, info.stateful, kind, role=ROLES.get(op, "")))
        dtypes.update(zip(outputs, made, strict=True))
        if frame:
            frames[name] = frame[0]
            if frame[1:]:
                invariants.add(name)
        if number:
            values[name] = int(number)
    return assemble(nodes, dtypes, frames, frozenset(invariants), values)


def assemble(
    nodes: Iterable[Node],
    dtypes: Mapping[str, str],
    frames: Mapping[str, str],
    invariants: frozenset[str],
    values: Mapping[str, int],
) -> Program:
    """A program from nodes without groups."""
    nodes = list(nodes)
    grouping = find_groups(nodes, dtype_of=dtypes.__getitem__, frame_name=frames.__getitem__)
    nodes = [replace(n, group=grouping.of_node.get(n.name)) for n in nodes]
    read = {t.rpartition(":")[0] for n in nodes for t in n.inputs} | {c for n in nodes for c in n.control_inputs}
    ends = [t for n in nodes if n.name not in read and n.kind == "op" for t in n.outputs if t not in grouping.captive]
    index = GraphIndex(
        nodes=tuple(nodes),
        tensors=MappingProxyType({t: TensorSpec(t, dtypes[t]) for n in nodes for t in n.outputs}),
        inputs=tuple(n.outputs[0] for n in nodes if n.kind == "input"),
        outputs=tuple(ends),
        groups=MappingProxyType(grouping.groups),
        captive=grouping.captive,
        handles=grouping.handles,
    )
    return Program(index, frames, invariants, values)


@cache
def digest(text: str) -> int:
    """A number that is the same in every process."""
    return zlib.crc32(text.encode())


def mix(*numbers: int) -> int:
    """One number from many; their order matters."""
    mixed = 7
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % _PRIME
    return mixed


Tag = tuple[tuple[str, int], ...]


class Run:
    """One evaluation of some nodes of a program."""

    def __init__(
        self,
        program: Program,
        nodes: Iterable[str],
        given: Mapping[str, Token],
        section: str,
        log: dict[str, str] | None,
        homes: Mapping[str, str] | None,
    ) -> None:
        index = program.index
        self.program, self.section, self.given = program, section, given
        self.log: dict[str, str] = {} if log is None else log
        self.bits = index.node_seq
        self.observable = _observable(index, homes)
        self.nodes = {name: index.name_to_node_map[name] for name in nodes}
        self.maker = {t: n for n in self.nodes.values() for t in n.outputs}
        self.fired: dict[tuple[str, Tag], Fired] = {}
        self._import()

    def _import(self) -> None:
        """What import_graph_def checks. Control inputs on nodes of other sections are dropped, as a section's file does."""
        for node in self.nodes.values():
            if node.kind == "input":
                raise IllegalGraph(f"{node.name} is an input of the whole: section {self.section} can only be given it")
            for tensor in node.inputs:
                if tensor not in self.maker and tensor not in self.given:
                    raise IllegalGraph(f"{node.name} reads {tensor}, which section {self.section} neither makes nor is given")

    def fetch(self, tensors: Iterable[str]) -> dict[str, Token]:
        """Values of tensors outside of loops."""
        found = {}
        for tensor in tensors:
            token = self.read(tensor, ())
            if token is None:
                raise IllegalGraph(f"{tensor} is dead, so that section {self.section} cannot give it")
            if token.handle:
                raise IllegalGraph(f"{tensor} is a handle: it is worth nothing outside of section {self.section}")
            found[tensor] = token
        return found

    def read(self, tensor: str, tag: Tag) -> Token | None:
        """The token of a tensor in an iteration; None when it is dead there."""
        if tensor in self.given:
            if tag:
                raise IllegalGraph(f"{tensor} is given from outside and read inside of the loop {tag[-1][0]!r} without an Enter")
            return self.given[tensor]
        node = self.maker.get(tensor)
        if node is None:
            raise IllegalGraph(f"nothing makes {tensor} in section {self.section}")
        return self.fire(node, tag).ports[node.outputs.index(tensor)]

    def fire(self, node: Node, tag: Tag) -> Fired:
        """Run a node in an iteration, once."""
        key = (node.name, tag)
        fired = self.fired.get(key)
        if fired is None:
            fired = self.fired[key] = self._fire(node, tag)
        return fired

    def _fire(self, node: Node, tag: Tag) -> Fired:
        past = 0
        for name in node.control_inputs:
            before = self.nodes.get(name)
            if before is not None:
                control = self.fire(before, tag)
                if not control.alive:
                    return self._dead(node)
                past |= control.past
        if node.op == "Exit":
            return self._exit(node, tag)
        if node.op == "Merge":
            return self._merge(node, tag, past)
        if node.op == "Enter":
            frame = self.program.frames[node.name]
            if not tag or tag[-1][0] != frame or (tag[-1][1] and node.name not in self.program.invariants):
                raise IllegalGraph(f"{node.name} enters the loop {frame!r} and is read in {tag or 'no loop'}")
            tag = tag[:-1]
        elif node.op == "NextIteration":
            if not tag or not tag[-1][1]:
                raise IllegalGraph(f"{node.name} is read in {tag or 'no loop'}, where there was no iteration before")
            tag = (*tag[:-1], (tag[-1][0], tag[-1][1] - 1))
        elif not node.inputs and not node.control_inputs and tag:
            raise IllegalGraph(f"{node.name} is outside of loops and read inside of {tag[-1][0]!r} without an Enter")
        tokens = []
        for tensor in node.inputs:
            token = self.read(tensor, tag)
            if token is None:
                return self._dead(node)
            tokens.append(token)
            past |= token.past
        return self._compute(node, tag, tokens, past)

    def _compute(self, node: Node, tag: Tag, tokens: list[Token], past: int) -> Fired:
        values = [t.value for t in tokens]
        handle = node.op in _MAKES_HANDLES or (node.op in _PASSES_ON and tokens[0].handle)
        if node.op == "Switch":
            taken = Token(values[0], past, handle)
            return Fired((None, taken) if values[1] % 2 else (taken, None), past, True)
        if node.stateful:
            ran = self.log.setdefault(node.name, self.section)
            if ran != self.section:
                raise RanTwice(f"{node.name} holds state and ran in {ran} and in {self.section}")
            values += [digest(node.name), (past & self.observable(node.name)) % _PRIME, *(count for _, count in tag)]
            if node.op != "Assert":
                past |= 1 << self.bits[node.name]
        if node.kind == "const":
            number = self.program.values.get(node.name)
            ports = (Token(mix(digest(node.name)) if number is None else number, past),)
        elif node.op in _PASSES_ON:
            ports = (Token(values[0], past, handle),)
        elif node.op in _ARITHMETIC:
            ports = (Token(_ARITHMETIC[node.op](*values), past, handle),)
        else:
            ports = tuple([Token(mix(digest(node.op), port, *values), past, handle) for port in range(len(node.outputs))])
        return Fired(ports, past, True)

    def _merge(self, node: Node, tag: Tag, past: int) -> Fired:
        """The input that is alive. In a loop: the one from Enter first, the one from NextIteration later."""
        backward = [t for t in node.inputs if t in self.maker and self.maker[t].op == "NextIteration"]
        candidates: Iterable[str] = node.inputs
        if backward:
            if not tag:
                raise IllegalGraph(f"{node.name} lies in a loop and is read outside of it")
            candidates = backward if tag[-1][1] else [t for t in node.inputs if t not in backward]
        alive = [(t, token) for t in candidates if (token := self.read(t, tag)) is not None]
        if not alive:
            return self._dead(node)
        if len(alive) > 1:
            raise IllegalGraph(f"{node.name} merges two tensors that are alive: {alive[0][0]} and {alive[1][0]}")
        tensor, token = alive[0]
        past |= token.past
        which = Token(node.inputs.index(tensor), past)
        return Fired((Token(token.value, past, token.handle), which)[: len(node.outputs)], past, True)

    def _exit(self, node: Node, tag: Tag) -> Fired:
        """Turn the loop until the Switch before it lets the value out; dead when the loop never started."""
        switch = self._behind(node, "Switch")
        merge = self._behind(switch, "Merge")
        frame = self.program.frames[self._behind(merge, "Enter").name]
        for iteration in range(_MOST_ITERATIONS):
            inside = (*tag, (frame, iteration))
            token = self.read(node.inputs[0], inside)
            if token is not None:
                return Fired((token,), token.past, True)
            going_on = self.read(switch.inputs[1], inside)
            if going_on is None or not going_on.value % 2:
                return self._dead(node)
        raise IllegalGraph(f"the loop {frame!r} does not end")

    def _behind(self, node: Node, op: str) -> Node:
        found = self.maker.get(node.inputs[0])
        if found is None or found.op != op:
            raise IllegalGraph(f"{node.name} reads {node.inputs[0]}, and no {op} makes it in section {self.section}")
        return found

    @staticmethod
    def _dead(node: Node) -> Fired:
        return Fired(_DEAD_PORT * len(node.outputs), 0, False)


def _observable(index: GraphIndex, homes: Mapping[str, str] | None) -> Callable[[str], int]:
    """Stateful node → the stateful nodes, one bit each, whose running before it changes its value."""
    if homes is None:
        return lambda name: -1
    alone = {n for n in homes if index.name_to_node_map[n].group is None}
    everywhere = sum(1 << index.node_seq[n] for n in alone)
    there: dict[str | None, int] = {}
    for name, home in homes.items():
        there[home] = there.get(home, 0) | 1 << index.node_seq[name]
    return lambda name: there.get(homes.get(name), 0) | (everywhere if name in alone else 0)
