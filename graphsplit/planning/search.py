"""The search for a cut: a chain pre → main → post whose main holds what the accelerator is for, and nothing that it refuses.

    image ─▶ decode ─▶ resize ─▶ conv ─▶ … ─▶ conv ─▶ sigmoid ─▶ reshape ─▶ NMS ─▶ boxes
             host      host     layer        layer   doubtful   doubtful    host
             └──── pre ───────┘ └──── main ────────┘ └────────── post ──────────┘

Three questions, in this order:

1. *Which host ops are before main, which after it?* Main is everything between two closed sets, A ⊆ B: pre is A, post is what
   lies outside of B. A host op must be in A or outside of B. Both conditions bind two vertices of one network, so the choice
   that leaves most multiplications in main is a minimum cut. Where no host op lies between layers, the answer is plain.
2. *Which ops after the network are doubtful?* Those that no table names, on the way to a host op. A compiler may refuse them,
   so they go to post: main ends right after the last layer of each head.
3. *Where do the fewest bytes cross?* A minimum cut before the network, the earliest of equal ones, and one after it, the latest.
   A tensor counts once however many read it; groups are one unit; constants and inputs of the whole cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from graphsplit.graph.index import Node
from graphsplit.planning.affinity import Affinity
from graphsplit.planning.flow import SINK, SOURCE, Network
from graphsplit.planning.units import Units

__all__ = ["Crop", "Island", "Search", "Stuck"]

_LOOPS = {"While", "StatelessWhile"}
_SOFTMAX = {"Softmax", "SOFTMAX"}
_VIEWS = frozenset(
    {"Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "ConcatV2", "Pack", "DepthToSpace"}
    | {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "QUANTIZE", "DEQUANTIZE", "CONCATENATION", "PACK", "DEPTH_TO_SPACE"}
)
_ACTIVATIONS = frozenset({"Softmax", "Sigmoid", "Tanh", "LogSoftmax", "SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX"})
_SUMS = {"Add", "AddV2", "ADD"}
_STEPS = 4  # views between a softmax and what weighs its outputs
_NOTHING_AFTER = "nothing to crop after the network: no op there belongs on a host"


@dataclass(frozen=True, slots=True)
class Crop:
    """A chain pre → main → post.

    Attributes:
        front: Border tensors at which main starts; empty: at the inputs of the model.
        back: Border tensors at which main ends, with the outputs of the whole that it computes; empty: nothing is after main.
        share: Part of the multiplications of all layers that main holds, from 0 to 1.
        reason: Why main ends there, or why nothing is after it.
        before: Why main starts there.
    """

    front: tuple[str, ...]
    back: tuple[str, ...]
    share: float
    reason: str
    before: str = ""

    @property
    def cuts(self) -> bool:
        """Whether there is more than one section."""
        return bool(self.front or self.back)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A host op between layers.

    Attributes:
        op: The op.
        place: The name of its node, or of the loop that holds it.
        layer: Name of the first layer after it.
        reason: Why it must stay on the host, if that is known of this node.
    """

    op: str
    place: str
    layer: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Island:
    """One of the sections of a split that alternates between accelerator and host.

    Attributes:
        accelerated: Whether it is for the accelerator.
        ends: Tensors that it outputs for others, outputs of the whole included.
    """

    accelerated: bool
    ends: tuple[str, ...]


class Search:
    """Cuts of one graph for one accelerator.

    Args:
        units: The graph.
        nbytes: Bytes of a tensor for one frame.
        weight: Multiplications of a layer for one frame.
        affinity: Which op belongs where.
    """

    def __init__(self, units: Units, nbytes: Callable[[str], int], weight: Callable[[Node], int], affinity: Affinity) -> None:
        self.units, self.nbytes, self.affinity = units, nbytes, affinity
        self.refused = {u for u, nodes in units.members.items() if self._is_refused(nodes)}
        every = {u: [n for n in nodes if self._is_layer(n)] for u, nodes in units.members.items()}
        self.work = {u: sum(map(weight, nodes)) for u, nodes in every.items() if nodes}  # of all layers, refused ones too
        self.layers = self.work.keys() - self.refused
        self.before_layers = units.before(self.layers) - self.layers
        self.after_layers = units.after(self.layers) - self.layers
        self._crops: dict[tuple[frozenset[str], bool, frozenset[str]], Crop] = {}  # each chain is asked for several times

    # sides

    @cached_property
    def _functions(self) -> Mapping[str, Set[str]]:
        """Functions of the library that hold a layer, a host op, an op that is not certain."""
        affinity, those_with = self.affinity, self.units.index.functions_with
        return {
            "layer": those_with(affinity.is_layer),
            "host": those_with(lambda op: affinity.side(op) == "host"),
            "doubtful": those_with(lambda op: not affinity.is_certain(op)),
        }

    def _calls(self, node: Node, kind: str) -> bool:
        return not self._functions[kind].isdisjoint(self.units.index.calls.get(node.name, ()))

    def _is_layer(self, node: Node) -> bool:
        return (self.affinity.is_layer(node.op) or self._calls(node, "layer")) and not self._is_mean(node)

    def _is_mean(self, node: Node) -> bool:
        """Whether a convolution to one channel only weighs what a softmax outputs, as the decoders of YOLO do: no layer."""
        index, (tensor, *others) = self.units.index, node.inputs or ("",)
        shapes = [index.tensors[t].shape for t in others if index.name_to_node_map[index.producer[t]].kind == "const"]
        if not any(shape and len(shape) == 4 and sorted(d or 0 for d in shape)[:3] == [1, 1, 1] for shape in shapes):
            return False
        for _ in range(_STEPS):
            before = index.name_to_node_map[index.producer[tensor]]
            if before.op in _SOFTMAX:
                return True
            if before.op not in _VIEWS or not before.inputs:
                return False
            tensor = before.inputs[0]
        return False

    def _is_refused(self, nodes: list[Node]) -> bool:
        """Whether a unit is for the host: it holds a host op, or is a loop, and holds no layer."""
        tied = any(n.name in self.affinity.tied for n in nodes)
        if tied or self.affinity.complete:
            return tied
        if any(self._is_layer(n) for n in nodes):
            return False
        group = nodes[0].group
        loop = group is not None and self.units.index.groups[group].kind == "loop"
        return loop or any(self._is_host(n) or n.op in _LOOPS for n in nodes)

    def _is_host(self, node: Node) -> bool:
        index = self.units.index
        dtypes: frozenset[str | None] = frozenset()
        if node.outputs and not node.group:  # an Assert outputs nothing; handles of a loop are the loop's own
            read = (t for t in node.inputs if index.name_to_node_map[index.producer[t]].kind != "const")
            dtypes = frozenset(index.tensors[t].dtype for t in (*node.outputs, *read))
        return self.affinity.side(node.op, node.role, dtypes) == "host" or self._calls(node, "host")

    def _is_certain(self, unit: str) -> bool:
        nodes = self.units.members[unit]
        return all(self.affinity.is_certain(n.op) and not self._calls(n, "doubtful") for n in nodes)

    @cached_property
    def fused(self) -> set[str]:
        """Layers and what runs in one step with them: a chain of biases, normalisations and activations with one reader each,
        and a sum of such chains.
        """
        units, fused = self.units, set(self.layers)
        stack = self._in_order(self.layers)
        while stack:
            unit = stack.pop()
            readers = list(units.next[unit])
            for reader in readers:
                (node, *others) = units.members[reader]
                single = len(readers) == 1 and node.op in self.affinity.fused
                summed = node.op in _SUMS and len(units.previous[reader]) > 1 and units.previous[reader].keys() <= fused
                if (single or summed) and not others and reader not in self.refused | fused:
                    fused.add(reader)
                    stack.append(reader)
        return fused

    @cached_property
    def measures(self) -> set[str]:
        """Units that compute with shapes alone: a few bytes, wherever they run."""
        return self._derived(u for u, nodes in self.units.members.items() if all(n.role == "shape" for n in nodes))

    @cached_property
    def copies(self) -> set[str]:
        """Units that compute with constants alone, as the reader of a weight does: each section may have its own."""
        return self._derived(u for u, nodes in self.units.members.items() if self._is_derived(nodes, frozenset()))

    def _derived(self, start: Iterable[str]) -> set[str]:
        """Some units, and those that do arithmetic with nothing but their outputs and constants."""
        units = self.units
        found: set[str] = set()
        stack = list(start)
        while stack:
            unit = stack.pop()
            if unit not in found:
                found.add(unit)
                stack.extend(r for r in units.next[unit] if self._is_derived(units.members[r], found))
        return found - self.refused

    def _is_derived(self, nodes: list[Node], known: Set[str]) -> bool:
        index, unit = self.units.index, self.units.of[nodes[0].name]
        if not all(n.is_cheap and n.role != "shape" and not n.stateful and n.group is None for n in nodes):
            return False
        return self.units.previous[unit].keys() <= known and all(
            index.name_to_node_map[index.producer[t]].kind != "input" and index.producer[t] not in index.relays
            for n in nodes
            for t in n.inputs
        )

    @cached_property
    def between(self) -> set[str]:
        """Host units between layers."""
        return self.refused & self.before_layers & self.after_layers

    @property
    def stuck(self) -> tuple[Stuck, ...]:
        """Host ops between layers, in file order."""
        found = []
        for unit in self._in_order(self.between):
            later = self.units.after([unit]) & self.layers
            node = next((n for n in self.units.members[unit] if self._is_host(n)), self.units.members[unit][0])
            layer = next((n.name for u in self._in_order(later) for n in self.units.members[u] if self._is_layer(n)), "")
            found.append(Stuck(self._op(unit), node.name, layer, self.affinity.tied.get(node.name, "")))
        return tuple(found)

    def _op(self, unit: str) -> str:
        """The first host op of a unit, in words."""
        nodes = self.units.members[unit]
        tied = [n.op for n in nodes if n.name in self.affinity.tied]
        host = [op for n in nodes if self._is_host(n) for op in self.units.index.ops_within(n)]
        named = [op for op in host if self.affinity.side(op) == "host"]
        return next(iter((*tied, *named, *host)), "a loop")

    def _in_order(self, units: Iterable[str]) -> list[str]:
        sequence = self.units.index.node_seq
        return sorted(units, key=lambda u: sequence[self.units.members[u][0].name])

    def _examples(self, units: Iterable[str]) -> str:
        """The host ops of some units, each with a place, for a sentence; those that the user's own table names come first."""
        ops: dict[str, str] = {}
        for unit in self._in_order(units):
            ops.setdefault(self._op(unit), self.units.place(unit))
        ordered = sorted(ops, key=lambda op: op not in self.affinity.own)
        return ", ".join(f"{op} ({ops[op]})" for op in ordered[:3]) + (" …" if len(ordered) > 3 else "")

    @cached_property
    def fixed(self) -> frozenset[str]:
        """The nodes whose section is decided here: all but those that every section can compute for itself."""
        own = self.measures | self.copies
        return frozenset(n.name for n in self.units.nodes if self.units.of[n.name] not in own)

    # which host ops are before main

    @cached_property
    def _first(self) -> set[str]:
        """The host units before main with which it holds the most multiplications."""
        if not self.between:
            return self.refused & self.before_layers
        network, units = Network(), self.units
        for unit in units.members:
            a, b = ("a", unit), ("b", unit)
            network.bind(a, b)
            for earlier in units.previous[unit]:
                network.bind(a, ("a", earlier))
                network.bind(b, ("b", earlier))
            if unit in self.refused:
                network.bind(b, a)
            elif unit in self.work:
                network.cost(a, SINK, self.work[unit])
                network.cost(SOURCE, b, self.work[unit])
        source = network.smallest_source() if self.layers else set()
        return {unit for unit in self.refused if ("a", unit) in source}

    # cuts

    def best(self) -> Crop:
        """The chain with the most multiplications in main, and nothing doubtful after the network."""
        return self._crop(self._first, doubtful=False)

    def fewest_bytes(self) -> Crop:
        """The same, with doubtful ops wherever the fewest bytes cross."""
        return self._crop(self._first, doubtful=True)

    def starting_before(self) -> Crop:
        """The chain whose post begins at the first host op between layers."""
        return self._crop((self.refused & self.before_layers) - self.after_layers, doubtful=False)

    def starting_after(self) -> Crop:
        """The chain whose main starts after the last host op between layers."""
        return self._crop(self.refused & self.before_layers, doubtful=False)

    def heads(self) -> Crop:
        """The same as `best`, where nothing after the network is known to be the host's: main ends at the layers all the same.

        Nothing is after main if the outputs of the heads are only activated and laid out in another way.
        """
        tail = {u for u in self.units.members if u not in self.before_layers | self.fused | self._first}
        if not any(n.op not in _ACTIVATIONS | _VIEWS for u in tail for n in self.units.members[u]):
            return self.best()
        return self._crop(self._first, doubtful=False, tail=tail)

    def _crop(self, first: Set[str], *, doubtful: bool, tail: Set[str] = frozenset()) -> Crop:
        key = (frozenset(first), doubtful, frozenset(tail))
        if key not in self._crops:
            self._crops[key] = self._find(first, doubtful, tail)
        return self._crops[key]

    def _find(self, first: Set[str], doubtful: bool, tail: Set[str]) -> Crop:
        units = self.units
        if not self.layers:
            return Crop((), (), 0.0, "nothing to crop: no op of the model belongs on an accelerator")
        least = units.before(first)
        last = (self.refused | tail) - least
        never = units.after(last)  # outside of main, behind it
        anchors = self.layers - least - never
        pre = self._cut(least, units.after(anchors) | never, earliest=True) if first else set()
        kept = units.before(anchors | (self.fused & units.after(anchors) - never)) | pre
        if not doubtful:
            plain = kept | never | self.measures | self.copies
            never |= units.after(u for u in units.before(never) - plain if not self._is_certain(u))
        held = self._cut(kept, never, earliest=False) if never else set(units.members)
        main = held - pre
        # What every section can compute for itself is left to the planner: it needs no border.
        own = self.measures | self.copies
        front = units.leaving(pre, of=pre - own) if pre else ()
        back = units.leaving(held, of=main - own, whole=True) if len(held) < len(units.members) else ()
        before = f"work for the host before the network: {self._examples(first)}" if front else ""
        share = sum(self.work.get(u, 0) for u in main) / sum(self.work.values())
        return Crop(front, back, share, self._examples(self.refused & last) if back else _NOTHING_AFTER, before)

    def _cut(self, first: Set[str], last: Set[str], *, earliest: bool) -> set[str]:
        """The first of two sections: closed, with all of `first` and none of `last`; fewest bytes leave it."""
        units, index = self.units, self.units.index
        network = Network()

        def vertex(unit: str) -> object:
            return SOURCE if unit in first else SINK if unit in last else unit

        for node in units.nodes:
            here = vertex(units.of[node.name])
            for tensor in node.outputs:
                readers = {vertex(units.of[r]) for r in index.consumers.get(tensor, ()) if r in units.of} - {here}
                if readers and here != SINK and units.of[node.name] not in self.copies:
                    # The bytes are on the edge from the unit to its tensor, so that many readers cost no more than one.
                    network.cost(here, ("tensor", tensor), max(1, self.nbytes(tensor)))
                    for reader in readers:
                        network.bind(("tensor", tensor), reader)
        for unit, earlier in units.previous.items():
            for other in earlier:
                network.bind(vertex(unit), vertex(other))  # what a section needs is never after it
        if earliest:
            source = network.smallest_source()
            return {u for u in units.members if vertex(u) in source}
        sink = network.smallest_sink()
        return {u for u in units.members if vertex(u) not in sink}

    # islands

    @cached_property
    def islands(self) -> tuple[Island, ...]:
        """Accelerator and host in turn, as few sections as possible; empty where no host op lies between layers."""
        if not self.between:
            return ()
        chains = [self._levels(accelerated) for accelerated in (False, True)]
        accelerated, levels = min(zip((False, True), chains, strict=True), key=lambda c: max(c[1].values()))
        count = max(levels.values()) + 1
        found = []
        for number in range(count):
            until = {u for u, level in levels.items() if level <= number}
            here = {u for u in until if levels[u] == number}
            found.append(Island(accelerated == (number % 2 == 0), self.units.leaving(until, of=here, whole=True)))
        return tuple(found)

    def _levels(self, accelerated: bool) -> dict[str, int]:
        """Unit → section, if section 0 is for the accelerator, or for the host."""
        import networkx as nx

        units = self.units
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(units.members)
        graph.add_edges_from((earlier, u) for u, previous in units.previous.items() for earlier in previous)
        whole: nx.DiGraph[int] = nx.condensation(graph)  # groups may read each other
        levels: dict[str, int] = {}
        for number in nx.topological_sort(whole):
            members = whole.nodes[number]["members"]
            level = max((levels[p] for u in members for p in units.previous[u] if p not in members), default=0)
            side = self._is_accelerated(members, level % 2 == (0 if accelerated else 1))
            level += (level % 2 == 0) != (side == accelerated)
            levels |= dict.fromkeys(members, level)
        return levels

    def _is_accelerated(self, members: Set[str], current: bool) -> bool:
        """The side of a unit: doubtful ones before layers go with them, others stay where what they read is."""
        if members & self.refused:
            return False
        if members & self.layers or all(map(self._is_certain, members)):
            return True
        return current or bool(members & self.before_layers)
