"""The automatic cut: a minimum cut between what must be on the accelerator and what must be on the host.

    image ─▶ loop: resize ─▶ conv ─▶ … ─▶ conv ─▶ sigmoid ─▶ loop: NMS ─▶ boxes
             host, before      neural, tied to     either      host, tied
             any neural op     the accelerator                 to the host

Every neural op, with the bias, normalisation and activation fused after it, is tied to the accelerator; every host op
that no neural op depends on is tied to the host. An edge costs the bytes of its tensor for one frame, counted once however
many read it; an edge against the flow costs infinitely much, so data flows forward only; groups are one node; constants
and inputs of the whole cost nothing. Among equal cuts after the network the latest is used, before it the earliest.

Minimum cut: Ford and Fulkerson 1956.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from graphsplit.errors import CutError
from graphsplit.graph.index import Function, GraphIndex, Node
from graphsplit.graph.traversal import reachable, walk
from graphsplit.planning.affinity import Affinity, Side
from graphsplit.planning.max_flow import FlowLimitError, FlowNetwork

__all__ = ["Crop", "find_crop"]

_LOOPS = {"While", "StatelessWhile"}
_SOURCE, _SINK = 0, 1
_SIDES: tuple[Side, ...] = ("accelerator", "host")


@dataclass(frozen=True, slots=True)
class Crop:
    """Where to crop a graph.

    Attributes:
        back: Border tensors after the network; empty if nothing after it belongs on a host.
        heads: Outputs of the last neural op of each head.
        front: Border tensors before the network; empty if nothing before it belongs on a host.
        reason: Why `back` is where it is, or why there is nothing to crop.
        before: Why `front` is where it is.
    """

    back: tuple[str, ...]
    heads: tuple[str, ...]
    front: tuple[str, ...]
    reason: str
    before: str


def find_crop(index: GraphIndex, nbytes: Callable[[str], int], affinity: Affinity, outputs: Sequence[str] | None = None) -> Crop:
    """Find where to crop a graph.

    Args:
        index: The graph.
        nbytes: Bytes of a tensor for one frame.
        affinity: Which op belongs where.
        outputs: Outputs of the whole to keep (default: all).
    """
    return _Search(index, nbytes, affinity, outputs if outputs is not None else index.outputs).run()


class _Search:
    """The graph with each group as one unit. A unit is named by its group, or by its only node."""

    def __init__(self, index: GraphIndex, nbytes: Callable[[str], int], affinity: Affinity, outputs: Iterable[str]) -> None:
        self.index, self.nbytes, self.affinity = index, nbytes, affinity
        self.functions = {side: index.functions_with(partial(self._belongs, side)) for side in _SIDES}
        needed = index.ancestors(index.producer[t] for t in outputs)
        self.nodes = [n for n in index.nodes if n.name in needed and n.kind != "input" and not n.is_shared_constant]
        self.unit = {n.name: (n.name if n.group is None else f"group {n.group}") for n in self.nodes}
        self.members: dict[str, list[Node]] = {}
        for node in self.nodes:
            self.members.setdefault(self.unit[node.name], []).append(node)
        self.next: dict[str, dict[str, None]] = {u: {} for u in self.members}
        self.previous: dict[str, dict[str, None]] = {u: {} for u in self.members}
        for node in self.nodes:
            for name in index.edges[node.name]:
                if name in self.unit and self.unit[name] != self.unit[node.name]:
                    self.next[self.unit[name]][self.unit[node.name]] = None
                    self.previous[self.unit[node.name]][self.unit[name]] = None

    def run(self) -> Crop:
        sides = {u: self._side(nodes) for u, nodes in self.members.items()}
        neural = {u for u, s in sides.items() if s == "accelerator"}
        if not neural:
            return Crop((), (), (), "nothing to crop: no op of the model belongs on an accelerator", "")
        fused = self._fused(neural)
        before_network = reachable(neural, self.previous.__getitem__)
        after_network = reachable(neural, self.next.__getitem__)
        before_fused = reachable(fused, self.previous.__getitem__)
        host_after = {u for u, s in sides.items() if s == "host" and u not in before_fused}
        host_before = {u for u, s in sides.items() if s == "host" and u in before_network and u not in after_network}
        front = self._front(host_before, neural)
        before = f"work for the host before the network: {self._examples(host_before)}" if front else ""
        above: set[str] = reachable((p for u in fused for p in self.previous[u]), self.previous.__getitem__)
        last = fused - above
        heads = self._border(last)
        if not host_after:
            return Crop((), heads, front, "nothing to crop after the network: no op there belongs on a host", before)
        return Crop(self._back(fused, host_after), heads, front, self._examples(host_after), before)

    # sides

    def _side(self, nodes: list[Node]) -> str:
        """The side of a unit: the accelerator if it holds a neural op; a loop without one belongs on the host."""
        sides: set[str] = {self.affinity.side(node.op) for node in nodes}
        called = {name for node in nodes for name in self.index.calls.get(node.name, ())}
        sides |= {side for side, functions in self.functions.items() if not functions.isdisjoint(called)}
        if "accelerator" in sides:
            return "accelerator"
        group = nodes[0].group
        loop = group is not None and self.index.groups[group].kind == "loop"
        if "host" in sides or loop or any(n.op in _LOOPS for n in nodes):
            return "host"
        return "either"

    def _belongs(self, side: Side, op: str) -> bool:
        return self.affinity.side(op) == side

    def _fused(self, neural: set[str]) -> set[str]:
        """Neural units and what is fused after them: a chain of biases, normalisations and activations with one reader each."""

        def following(unit: str) -> Iterable[str]:
            readers = list(self.next[unit])
            nodes = self.members[readers[0]] if len(readers) == 1 else []
            return readers if len(nodes) == 1 and nodes[0].op in self.affinity.fused else ()

        return reachable(neural, following)

    def _examples(self, units: set[str]) -> str:
        """The host ops of some units, each with a place, for a sentence; those that the user's own table names come first."""
        ops: dict[str, str] = {}
        seen: set[str] = set()  # functions, each with the first that calls it
        for unit in sorted(units, key=lambda u: self.index.node_seq[self.members[u][0].name]):
            for node in self.members[unit]:
                inner = self._called(node, seen)
                for op in sorted({node.op, *(op for function in inner for op in function.ops)}):
                    if self.affinity.side(op) == "host":
                        ops.setdefault(op, node.name)
            if unit.startswith("group ") and not any(self.affinity.side(n.op) == "host" for n in self.members[unit]):
                first = self.members[unit][0].name
                ops.setdefault("a loop", first.rpartition("/")[0] or first)
        ordered = sorted(ops, key=lambda op: op not in self.affinity.own)
        return ", ".join(f"{op} ({ops[op]})" for op in ordered[:3]) + (" …" if len(ordered) > 3 else "")

    def _called(self, node: Node, seen: set[str]) -> list[Function]:
        """The functions that a node calls, directly or through others, without those in `seen`, to which they are added."""
        functions = self.index.functions
        names = walk(self.index.calls.get(node.name, ()), lambda f: functions[f].calls if f in functions else (), skip=seen)
        found = [name for name in names if name in functions]
        seen.update(found)
        return [functions[name] for name in found]

    # cuts

    def _sides(self, first: set[str], last: set[str], *, latest: bool) -> set[str]:
        """The units before a minimum cut between units with all that they need, `first`, and others with all that need them."""
        number = {u: _SOURCE if u in first else _SINK for u in (*first, *last)}
        middle = [u for u in self.members if u not in number]
        number |= {u: 2 + place for place, u in enumerate(middle)}
        crossing: list[tuple[int, int, set[int]]] = []
        for node in self.nodes:
            unit = number[self.unit[node.name]]
            for tensor in node.outputs if unit != _SINK else ():
                readers = {number[self.unit[r]] for r in self.index.consumers.get(tensor, ()) if r in self.unit} - {unit}
                if readers - ({_SINK} if unit == _SOURCE else set()):  # from source to sink it crosses anyway
                    crossing.append((unit, max(1, self.nbytes(tensor)), readers))
        endless = 1 + sum(size for _, size, _ in crossing)
        network = FlowNetwork(2 + len(middle) + len(crossing))
        for place, (unit, size, readers) in enumerate(crossing, 2 + len(middle)):
            # The bytes are on the edge from the unit to its tensor, so that many readers cost no more than one.
            network.add(unit, place, size)
            for reader in readers:
                network.add(place, reader, endless)
        for unit_name in middle:
            for other in self.previous[unit_name]:
                if other not in first:  # what a section needs is never after it
                    network.add(number[unit_name], number[other], endless)
        try:
            network.fill(_SOURCE, _SINK)
        except FlowLimitError as error:
            raise CutError(
                "the graph is too tangled to search it for a minimum cut; name the tensors to cut at with outputs=…"
            ) from error
        if latest:
            later = network.can_reach(_SINK)
            return first | {u for u in middle if number[u] not in later}
        earlier = network.reached_from(_SOURCE)
        return first | {u for u in middle if number[u] in earlier}

    def _back(self, fused: set[str], host: set[str]) -> tuple[str, ...]:
        first, last = reachable(fused, self.previous.__getitem__), reachable(host, self.next.__getitem__)
        return self._border(self._sides(first, last, latest=True))

    def _front(self, host: set[str], neural: set[str]) -> tuple[str, ...]:
        if not host:
            return ()
        first, last = reachable(host, self.previous.__getitem__), reachable(neural, self.next.__getitem__)
        return self._border(self._sides(first, last, latest=False))

    def _border(self, first: set[str]) -> tuple[str, ...]:
        """Tensors that leave a set of units, in file order."""
        return tuple(t for n in self.nodes if self.unit[n.name] in first for t in self._leaving(n, first))

    def _leaving(self, node: Node, units: set[str]) -> list[str]:
        consumers = self.index.consumers
        return [t for t in node.outputs if any(self.unit.get(r, self.unit[node.name]) not in units for r in consumers.get(t, ()))]
