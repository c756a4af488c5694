"""The automatic cut: a minimum cut between what must be on the accelerator and what must be on the host.

    image ─▶ loop: resize ─▶ conv ─▶ … ─▶ conv ─▶ sigmoid ─▶ loop: NMS ─▶ boxes
             host, before      neural, tied to     either      host, tied
             any neural op     the accelerator                 to the host

Every neural op, with the bias, normalisation and activation fused after it, is tied to the accelerator; every host op
that no neural op depends on is tied to the host. An edge costs the bytes of its tensor for one frame, counted once however
many read it; an edge against the flow costs infinitely much, so data flows forward only; groups are one node; constants
and inputs of the whole cost nothing. Among equal cuts after the network the latest is used, before it the earliest.

Minimum cut: Ford and Fulkerson 1956, by networkx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.traversal import reachable, walk
from graphsplit.planning.affinity import Affinity

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Crop", "find_crop"]

_LOOPS = {"While", "StatelessWhile"}


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
        host_after = {u for u, s in sides.items() if s == "host" and u not in before_network}
        host_before = {u for u, s in sides.items() if s == "host" and u in before_network and u not in after_network}
        front = self._front(host_before, neural)
        before = f"work for the host before the network: {self._examples(host_before)}" if front else ""
        last = {u for u in fused if not any(v in fused for v in walk(self.next[u], self.next.__getitem__, skip={u}))}
        heads = self._border(last)
        if not host_after:
            return Crop((), heads, front, "nothing to crop after the network: no op there belongs on a host", before)
        return Crop(self._back(fused, host_after), heads, front, self._examples(host_after), before)

    # sides

    def _side(self, nodes: list[Node]) -> str:
        """The side of a unit: the accelerator if it holds a neural op; a loop without one belongs on the host."""
        sides = {self._side_of_op(op) for node in nodes for op in self._ops(node)}
        if "accelerator" in sides:
            return "accelerator"
        group = nodes[0].group
        loop = group is not None and self.index.groups[group].kind == "loop"
        if "host" in sides or loop or any(n.op in _LOOPS for n in nodes):
            return "host"
        return "either"

    def _side_of_op(self, op: str) -> str:
        return self.affinity.side(op)

    def _ops(self, node: Node) -> set[str]:
        """The op of a node and those of the functions it calls, at any depth."""
        return set(self.index.ops_within(node))

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
        for unit in sorted(units, key=lambda u: self.index.node_seq[self.members[u][0].name]):
            for node in self.members[unit]:
                for op in sorted(self._ops(node)):
                    if self.affinity.side(op) == "host":
                        ops.setdefault(op, node.name)
            if unit.startswith("group ") and not any(self.affinity.side(n.op) == "host" for n in self.members[unit]):
                first = self.members[unit][0].name
                ops.setdefault("a loop", first.rpartition("/")[0] or first)
        ordered = sorted(ops, key=lambda op: op not in self.affinity.own)
        return ", ".join(f"{op} ({ops[op]})" for op in ordered[:3]) + (" …" if len(ordered) > 3 else "")

    # cuts

    def _flow_graph(self) -> nx.DiGraph[Any]:
        import networkx as nx

        graph: nx.DiGraph[Any] = nx.DiGraph()
        for node in self.nodes:
            unit = self.unit[node.name]
            graph.add_node(unit)
            for tensor in node.outputs:
                readers = {self.unit[r] for r in self.index.consumers.get(tensor, ()) if r in self.unit} - {unit}
                if readers:
                    # The bytes are on the edge from the unit to its tensor, so that many readers cost no more than one.
                    graph.add_edge(unit, ("tensor", tensor), capacity=max(1, self.nbytes(tensor)))
                    for reader in readers:
                        graph.add_edge(("tensor", tensor), reader)
        for unit, earlier in self.previous.items():
            for other in earlier:
                graph.add_edge(unit, other)  # no capacity: infinite; what a section needs is never after it
        return graph

    def _back(self, fused: set[str], host: set[str]) -> tuple[str, ...]:
        graph = self._flow_graph()
        graph.add_edges_from(("accelerator", u) for u in fused)
        graph.add_edges_from((u, "host") for u in host)
        later = _can_reach_sink(graph, "accelerator", "host")
        return self._border({u for u in self.members if u not in later})

    def _front(self, host: set[str], neural: set[str]) -> tuple[str, ...]:
        if not host:
            return ()
        graph = self._flow_graph()
        graph.add_edges_from(("host", u) for u in host)
        graph.add_edges_from((u, "accelerator") for u in neural)
        return self._border({u for u in _reached_by_source(graph, "host", "accelerator") if u in self.members})

    def _border(self, first: set[str]) -> tuple[str, ...]:
        """Tensors that leave a set of units, in file order."""
        return tuple(t for n in self.nodes if self.unit[n.name] in first for t in self._leaving(n, first))

    def _leaving(self, node: Node, units: set[str]) -> list[str]:
        consumers = self.index.consumers
        return [t for t in node.outputs if any(self.unit.get(r, self.unit[node.name]) not in units for r in consumers.get(t, ()))]


def _residual(graph: nx.DiGraph[Any], source: str, sink: str) -> nx.DiGraph[Any]:
    from networkx.algorithms.flow import shortest_augmenting_path

    residual: nx.DiGraph[Any] = shortest_augmenting_path(graph, source, sink)
    return residual


def _reached_by_source(graph: nx.DiGraph[Any], source: str, sink: str) -> set[Any]:
    """The smallest source side of a minimum cut: the earliest one."""
    residual = _residual(graph, source, sink)
    return reachable([source], _not_full(residual.succ))


def _can_reach_sink(graph: nx.DiGraph[Any], source: str, sink: str) -> set[Any]:
    """The smallest sink side of a minimum cut: what remains for the source is the latest one."""
    residual = _residual(graph, source, sink)
    return reachable([sink], _not_full(residual.pred))


def _not_full(neighbours: Any) -> Callable[[Any], Iterable[Any]]:
    return lambda node: (other for other, edge in neighbours[node].items() if edge["flow"] < edge["capacity"])
