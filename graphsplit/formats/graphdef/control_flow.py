"""Loops, conds and handles of a GraphDef as groups that a cut must not divide.

A tensor is *captive* when nothing outside may read it:

  1. it lives in a while frame            Enter ─▶ Merge ─▶ Switch ─▶ … ─▶ NextIteration ─▶ (Merge)      ─▶ Exit
  2. it may be dead, in a cond            Switch ─▶ … ─▶ Merge
  3. it refers to something else          a resource, a variant (TensorList), a TensorArray's handle or flow

The producer of a captive tensor and all its readers belong together, and so do nodes that share state by its name alone; the
groups are the components of that relation. A loop, its TensorArrays and the nodes that fill and empty them become one group
without any rule for loops.

Frames and dead tensors: http://download.tensorflow.org/paper/white_paper_tf_control_flow_implementation_2017_11_1.pdf
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from graphsplit.formats.graphdef.branches import EMPTY, BranchSets
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.graph.disjoint_sets import DisjointSets
from graphsplit.graph.index import Group, Node
from graphsplit.graph.traversal import reachable

__all__ = ["Grouping", "find_groups"]

_ENTER, _EXIT = {"Enter", "RefEnter"}, {"Exit", "RefExit"}
_SWITCH, _MERGE = {"Switch", "RefSwitch", "_SwitchN"}, {"Merge", "RefMerge"}
_NEXT = {"NextIteration", "RefNextIteration"}
_PASS = _ENTER | _EXIT | _SWITCH | _MERGE | _NEXT | {"Identity", "RefIdentity", "Select", "SelectV2"}
_STRING_HANDLES = """
Barrier ConditionalAccumulator FIFOQueue FakeQueue FixedLengthRecordReader GetSessionHandle HashTable IdentityReader
IteratorToStringHandle LMDBReader MultiDeviceIteratorToStringHandle MutableDenseHashTable MutableHashTable
MutableHashTableOfTensors PaddingFIFOQueue PriorityQueue RandomShuffleQueue SparseConditionalAccumulator Stack TFRecordReader
TextLineReader WholeFileReader
"""
# Op → the ports that carry a handle or flow of another dtype: handles of old ops are strings, flows of TensorArrays float32.
_FLOWS = {
    **dict.fromkeys(_STRING_HANDLES.split(), (0,)),
    **dict.fromkeys(["TensorArrayV3", "TensorArrayGradV3", "TensorArrayGradWithShape"], (0, 1)),
    **dict.fromkeys(["TensorArray", "TensorArrayV2", "TensorArrayGrad", "TensorArrayGradV2"], (0,)),
    **{f"TensorArray{what}{v}": (0,) for what in ("Write", "Scatter", "Split", "Unpack") for v in ("", "V2", "V3")},
}
_HANDLES = {"resource", "variant"}


@dataclass(frozen=True, slots=True)
class Grouping:
    """The groups of a graph.

    Attributes:
        of_node: Node → name of its group.
        groups: Name → group.
        captive: The captive tensors.
        handles: Those of them that are handles outside of loops and conds.
    """

    of_node: dict[str, str]
    groups: dict[str, Group]
    captive: frozenset[str]
    handles: frozenset[str]


def find_groups(
    nodes: Sequence[Node],
    *,
    dtype_of: Callable[[str], str | None],
    frame_name: Callable[[str], str],
    sharing: Iterable[tuple[str, ...]] = (),
) -> Grouping:
    """Find the groups of a graph.

    Args:
        nodes: In file order.
        dtype_of: Returns the dtype of a tensor, by name; called only for the few that could be handles.
        frame_name: Returns attribute ``frame_name`` of an Enter node, by the node's name.
        sharing: Names of nodes that share state without an edge, two or more at a time.
    """
    ops = {n.op for n in nodes}
    sharing = tuple(sharing)
    if not (sharing or ops & (_ENTER | _SWITCH) or any(_may_make_handles(op) for op in ops)):
        return Grouping({}, {}, frozenset(), frozenset())
    graph = _Graph(nodes)
    frames = _frames(graph) if ops & _ENTER else {}
    inside = {name for name, depth in frames.items() if depth}
    inside |= set(_dead(graph, frames)) if ops & _SWITCH else set()
    interior = {t for name in inside for t in graph.node[name].outputs}
    handles = _handles(graph, dtype_of)
    captive = interior | handles

    sets = DisjointSets[str]()
    for node in nodes:
        for tensor in node.inputs:
            if tensor in captive:
                sets.join(node.name, graph.producer[tensor])
        for name in node.control_inputs:
            if name in inside:
                sets.join(node.name, name)
    for first, *others in sharing:
        for name in others:
            sets.join(name, first)
    for name in inside:
        sets.root(name)
    for tensor in captive:
        sets.root(graph.producer[tensor])

    members: dict[str, list[str]] = {}
    for node in nodes:
        if node.name in sets:
            members.setdefault(sets.root(node.name), []).append(node.name)
    of_node: dict[str, str] = {}
    groups: dict[str, Group] = {}
    again: defaultdict[str, int] = defaultdict(lambda: 1)
    for names in members.values():
        kind, title = _title([graph.node[n] for n in names], frame_name)
        name = title
        while name in groups:  # counted, since a scope may hold thousands of conds
            again[title] += 1
            name = f"{title} ({again[title]})"
        groups[name] = Group(name, kind, tuple(names))
        of_node.update(dict.fromkeys(names, name))
    return Grouping(of_node, groups, frozenset(captive), frozenset(handles - interior))


class _Graph:
    """Nodes by name, producers of tensors, and successors through tensors and control edges."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.node = {n.name: n for n in nodes}
        self.producer = {t: n.name for n in nodes for t in n.outputs}
        self.readers: dict[str, list[str]] = {}
        self.next: dict[str, list[str]] = {}
        for n in nodes:
            for tensor in n.inputs:
                self.readers.setdefault(tensor, []).append(n.name)
                self.next.setdefault(self.producer[tensor], []).append(n.name)
            for name in n.control_inputs:
                self.next.setdefault(name, []).append(n.name)


def _frames(graph: _Graph) -> dict[str, int]:
    """Node → how many frames its outputs live in; 0 outside of loops."""
    frames: dict[str, int] = {}
    # Each node is reached first from outside: the way into every cycle of a legal graph is an Enter.
    queue: deque[tuple[str, int]] = deque((n.name, 0) for n in graph.nodes if not n.inputs and not n.control_inputs)
    while queue:
        name, depth = queue.popleft()
        if name in frames:
            continue
        op = graph.node[name].op
        if op in _ENTER:
            depth += 1
        elif op in _EXIT:
            depth = max(0, depth - 1)
        frames[name] = depth
        queue.extend((after, depth) for after in graph.next.get(name, ()))
    return frames


def _dead(graph: _Graph, frames: dict[str, int]) -> list[str]:
    """Names of the nodes outside of loops whose outputs are dead in one branch of a cond.

    A node is dead in the branches of all that it reads and runs after; a Switch adds its own branch; a Merge keeps what its inputs
    have in common, because one of them is always alive. A dead control input does not stop a Merge: where a functional If with
    effects is lowered, a Merge waits for the effects of both branches.
    """
    switches = [n for n in graph.nodes if n.op in _SWITCH and not frames.get(n.name)]
    below = reachable((n.name for n in switches), lambda name: graph.next.get(name, ()))

    waits = dict.fromkeys(below, 0)
    for name in below:
        if graph.node[name].op not in _NEXT:
            for after in graph.next.get(name, ()):
                waits[after] += 1
    ready = deque(name for name, count in waits.items() if count == 0)
    sets = BranchSets(sum(len(n.outputs) for n in switches))
    numbers: dict[tuple[str, int], int] = {}
    waited_for = {c for n in graph.nodes for c in n.control_inputs}
    of_node: dict[str, int] = {}  # what is asked for later, only
    of_tensor: dict[str, int] = {}
    dead = []
    while ready:
        name = ready.popleft()
        node = graph.node[name]
        # What returns through a loop is as dead as what entered, and not known yet.
        read = [of_tensor.get(t, EMPTY) for t in node.inputs if graph.node[graph.producer[t]].op not in _NEXT]
        if node.op in _MERGE:  # alive if one of its inputs is, whatever it runs after
            mine = sets.intersection(read)
        else:
            mine = sets.union((*read, *(of_node.get(c, EMPTY) for c in node.control_inputs)))
        branches = [mine] * len(node.outputs)
        if node.op in _SWITCH and not frames.get(name):
            predicate = node.inputs[1] if len(node.inputs) > 1 else name
            for port, tensor in enumerate(node.outputs):
                if tensor in graph.readers or name in waited_for:
                    branches[port] = sets.with_item(mine, numbers.setdefault((predicate, port), len(numbers)))
            dead.append(name)
        elif mine != EMPTY:
            dead.append(name)
        of_tensor.update((t, found) for t, found in zip(node.outputs, branches, strict=True) if t in graph.readers)
        if name in waited_for:
            of_node[name] = sets.union(branches) if branches else mine
        if node.op not in _NEXT:
            for after in graph.next.get(name, ()):
                waits[after] -= 1
                if waits[after] == 0:
                    ready.append(after)
    return dead


def _may_make_handles(op: str) -> bool:
    info = op_table().get(op)
    return op in _FLOWS or (info is not None and any(o.rpartition("*")[2] in _HANDLES or o.endswith("[]") for o in info.outputs))


def _handles(graph: _Graph, dtype_of: Callable[[str], str | None]) -> set[str]:
    """Tensors that refer to something else, followed from the ops that create them through those that pass them on."""
    ops = {op for op in {n.op for n in graph.nodes} if _may_make_handles(op)}
    makers = [n for n in graph.nodes if n.op in ops and n.kind != "input"]

    def passed_on(found: tuple[str, bool]) -> Iterator[tuple[str, bool]]:
        tensor, flow = found
        for reader in map(graph.node.__getitem__, graph.readers.get(tensor, ())):
            for port, output in enumerate(reader.outputs):
                if flow and reader.op in _PASS and not (reader.op in _MERGE and port):
                    yield output, True
                elif dtype_of(output) in _HANDLES:
                    yield output, False

    # Tensors, and whether each is followed as a flow, whose dtype says nothing.
    start = [(n.outputs[port], True) for n in makers for port in _FLOWS.get(n.op, ()) if port < len(n.outputs)]
    start += [(t, False) for n in makers for t in n.outputs if dtype_of(t) in _HANDLES]
    return {tensor for tensor, _ in reachable(start, passed_on)}


def _title(nodes: list[Node], frame_name: Callable[[str], str]) -> tuple[str, str]:
    """Kind and name of a group, from its nodes."""
    for node in nodes:
        if node.op in _ENTER:
            return "loop", frame_name(node.name)
    for node in nodes:
        if node.op in _SWITCH | _MERGE:
            return "cond", node.name.rpartition("/")[0] or node.name
    first = nodes[0]
    return ("TensorArray" if first.op.startswith("TensorArray") else "resource"), first.name
