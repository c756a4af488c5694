"""The split: cuts → sections. One algorithm for every file format.

*A section owns what its cut needs and no earlier cut needed; the last section owns the rest; whatever is read across a
border becomes an input of the reader; constants are copied.*

        image ─▶ ToFloat ─▶ Conv ─▶ scores ─┬─▶ NMS ─▶ boxes        cut: scores
                    │                       │    ▲
                    └─▶ Shape ──────────────│────┘                  Shape is read behind the cut, too:
                                            │                       it is added to the border, or replicated
              section main ─────────────────┴─── section post

Borders are computed, not trusted: the cut says where a section ends, the planner finds every tensor that really
crosses. Data flows forward only, so sections never form a cycle; reachability is all that is needed, hence the loops of
TensorFlow 1, real cycles, need no special care beyond staying whole (`Node.group`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.text import count_text, flow_text
from graphsplit.planning.cuts import Cut, check_cut

__all__ = ["Added", "Plan", "Repair", "Section", "plan_sections"]

Repair = Literal["auto", "replicate", "border", "error"]

# Shape arithmetic: cheap to do again in the section that needs it. TensorFlow's names, then TFLite's.
_SHAPE_OPS = {"Shape", "ShapeN", "Size", "Rank", "SHAPE", "RANK"}
_ARITHMETIC = {
    "Identity", "PlaceholderWithDefault", "StopGradient", "Snapshot", "Cast", "StridedSlice", "Slice", "Pack", "Unpack",
    "Concat", "ConcatV2", "Gather", "GatherV2", "Squeeze", "ExpandDims", "Reshape", "Transpose", "Range", "Fill", "Tile",
    "ZerosLike", "OnesLike", "BroadcastTo", "Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "FloorDiv", "FloorMod",
    "TruncateDiv", "Minimum", "Maximum", "Neg", "Sqrt", "Round", "Floor", "Ceil", "Prod", "Sum", "Max", "Min", "Equal",
    "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "LogicalNot", "Select",
    "SelectV2",
    "CAST", "STRIDED_SLICE", "SLICE", "PACK", "UNPACK", "CONCATENATION", "GATHER", "SQUEEZE", "EXPAND_DIMS", "RESHAPE",
    "RANGE", "FILL", "TILE", "ADD", "SUB", "MUL", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MINIMUM", "MAXIMUM", "REDUCE_PROD",
    "DEQUANTIZE", "DENSIFY",
}  # fmt: skip
_CHAIN = 16  # nodes; a longer chain is carried across the border instead


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the graph.

    nodes       names of the nodes it holds, in file order: those it owns, copies of constants and replicated nodes
    inputs      tensors it must be given: inputs of the whole, and border tensors made by earlier sections
    outputs     tensors it gives: its cut first, then what was added, then outputs of the whole that live here
    replicated  those of its nodes that an earlier section holds as well and that are no constants
    """

    name: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    replicated: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counts = {"node": self.nodes, "input": self.inputs, "output": self.outputs}
        return f"Section({self.name}: {', '.join(count_text(len(some), noun) for noun, some in counts.items())})"


@dataclass(frozen=True, slots=True)
class Added:
    """A border tensor that the user did not name: which section reads it, in which node, and why it has to cross."""

    tensor: str
    section: str
    consumer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a split will do. Pure data: nothing has been read or written for it beyond the index.

    sections    in the order they run; empty ones are left out
    added       border tensors beyond the named ones
    replicated  names of the nodes (no constants) that more than one section holds
    reasons     sentences on everything else that was decided
    inputs      tensors to feed the whole with
    outputs     tensors the whole gives
    model       what it was made of, for pictures; None where only an index was at hand
    """

    sections: tuple[Section, ...]
    added: tuple[Added, ...]
    replicated: tuple[str, ...]
    reasons: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: Any = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        sections = [(f"{s.name} {count_text(len(s.nodes), 'node')}", s.inputs, s.outputs) for s in self.sections]
        return f"Plan({flow_text(sections)})"

    def __getitem__(self, name: str) -> Section:
        for section in self.sections:
            if section.name == name:
                return section
        raise KeyError(name)

    @property
    def borders(self) -> tuple[str, ...]:
        """Tensors made by one section and read by a later one, in the order they are made."""
        made: dict[str, None] = {}
        crossing: dict[str, None] = {}
        for section in self.sections:
            crossing |= {t: None for t in section.inputs if t in made}
            made |= dict.fromkeys(section.outputs)
        return tuple(t for t in made if t in crossing)


def plan_sections(
    index: GraphIndex,
    cuts: Sequence[Cut],
    *,
    last: str,
    outputs: Sequence[str] | None = None,
    repair: Repair = "auto",
) -> Plan:
    """Divide a graph at cuts, in order; the section named `last` owns what remains.

    outputs  tensors the whole is to give (default: all); what none of them needs is pruned
    repair   what to do with a tensor that crosses without having been named:
             "auto"       shape arithmetic is done again in the reader's section, anything else is added to the border
             "replicate"  every stateless chain is done again
             "border"     everything is added to the border
             "error"      CutError

    Raises CutError for a cut that cannot be made and for a section left with nothing.
    """
    if repair not in get_args(Repair):
        raise CutError(f"unknown repair {repair!r}; there are {', '.join(get_args(Repair))}")
    wanted = tuple(dict.fromkeys(outputs if outputs is not None else index.outputs))
    for tensor in wanted:
        if tensor in index.captive:
            raise CutError(f"{tensor!r} cannot be an output: it lives inside {_group(index, tensor)}", cut=(tensor,))
    needed = index.ancestors(index.producer[t] for t in wanted)
    for cut in cuts:
        check_cut(index, cut, needed, set(wanted))
        if repair == "error" and (held := [t for t in cut.tensors if t in index.handles]):
            raise CutError(f"{held[0]!r} is a handle and cannot cross a border; name what is read from it", cut=cut.tensors)
    return _Planner(index, cuts, last, wanted, needed, repair).plan()


def _group(index: GraphIndex, tensor: str) -> str:
    group = index.groups[index.name_to_node_map[index.producer[tensor]].group or ""]
    return f"the {group.kind} {group.name!r}"


class _Planner:
    """One run of the split. `owner` maps a node to the number of its section; constants and inputs are owned by nobody."""

    def __init__(
        self,
        index: GraphIndex,
        cuts: Sequence[Cut],
        last: str,
        wanted: tuple[str, ...],
        needed: Set[str],
        repair: Repair,
    ) -> None:
        self.index, self.repair, self.wanted = index, repair, wanted
        self.nodes = index.name_to_node_map
        self.names = [c.section for c in cuts] + [last]
        self.cuts = list(cuts)
        self.reasons: list[str] = []
        self.added: dict[tuple[str, int], Added] = {}
        self.named = {t for c in cuts for t in c.tensors}

        self.owner: dict[str, int] = {}
        known: set[str] = set()
        for number, cut in enumerate(cuts):
            mine = index.ancestors((index.producer[t] for t in cut.tensors), known=known, within=needed)
            known |= mine
            owned = [n for n in mine if self._ownable(n)]
            if not owned and not all(self.nodes[index.producer[t]].kind == "input" for t in cut.tensors):
                raise self._nothing_left(number, cut)
            self.owner.update(dict.fromkeys(owned, number))
        self.owner.update((n, len(cuts)) for n in needed - known if self._ownable(n))
        self._check_inputs_only()

    def _ownable(self, name: str) -> bool:
        node = self.nodes[name]
        return node.kind != "input" and not node.is_shared_constant

    def _nothing_left(self, number: int, cut: Cut) -> CutError:
        earlier = " and ".join(repr(n) for n in self.names[:number])
        return CutError(
            f"nothing is left for section {cut.section!r}: {', '.join(cut.tensors)} "
            f"{'are' if len(cut.tensors) > 1 else 'is'} already computed by {earlier or 'nobody'}; "
            "name tensors that lie further on",
            cut=cut.tensors,
        )

    def _check_inputs_only(self) -> None:
        """Cuts at inputs of the whole end an empty section; legal for the first ones (nothing to do before main), not for main."""
        for number, cut in enumerate(self.cuts):
            if number in self.owner.values() or cut.section == "pre":
                continue
            raise CutError(
                f"nothing is left for section {cut.section!r}: {', '.join(cut.tensors)} "
                "is fed from outside, so nothing needs to be computed for it; name a tensor that is computed",
                cut=cut.tensors,
            )

    # the plan

    def plan(self) -> Plan:
        index = self.index
        inputs: list[dict[str, None]] = []
        held: list[set[str]] = []
        copies: list[set[str]] = []
        for number in range(len(self.names)):
            mine = {name for name, owner in self.owner.items() if owner == number}
            crossing, copied = self._border(number, [n for n in index.nodes if n.name in mine])
            inputs.append(crossing)
            copies.append(copied)
            held.append(mine | copied | self._constants(mine | copied))
        outputs = self._outputs(inputs)
        for number, tensors in enumerate(outputs):
            for tensor in tensors:  # an output that is a constant or an input of the whole
                maker = self.nodes[index.producer[tensor]]
                if maker.is_shared_constant:
                    held[number] |= {maker.name} | self._constants({maker.name})
                elif maker.kind == "input":
                    inputs[number].setdefault(tensor)
            self._check_control(number, held[number])
        made = {t: i for i, t in enumerate(t for tensors in outputs for t in tensors)}
        sections = tuple(
            Section(
                name=self.names[i],
                nodes=tuple(n.name for n in index.nodes if n.name in held[i]),
                # Inputs of the whole first, then border tensors in the order they are made.
                inputs=tuple(sorted(inputs[i], key=lambda t: made[t] if index.producer[t] in self.owner else -1)),
                outputs=outputs[i],
                replicated=tuple(n.name for n in index.nodes if n.name in copies[i]),
            )
            for i in range(len(self.names))
            if held[i] or outputs[i]
        )
        replicated = set().union(*copies)
        used = {t for s in sections for t in s.inputs}
        return Plan(
            sections=sections,
            added=tuple(self.added.values()),
            replicated=tuple(n.name for n in index.nodes if n.name in replicated),
            reasons=tuple(self.reasons),
            inputs=tuple(t for t in index.inputs if t in used),
            outputs=self.wanted,
        )

    # what crosses

    def _border(self, number: int, mine: list[Node]) -> tuple[dict[str, None], set[str]]:
        """Tensors that section `number` must be given, and nodes of earlier sections that it computes again."""
        index = self.index
        inputs: dict[str, None] = {}
        unnamed: dict[str, str] = {}  # tensor → first consumer
        for node in mine:
            for tensor in node.inputs:
                maker = self.nodes[index.producer[tensor]]
                if maker.kind == "input" or (tensor in self.named and self._before(maker, number)):
                    inputs[tensor] = None
                elif self._before(maker, number):
                    unnamed.setdefault(tensor, node.name)
        copied: set[str] = set()
        for tensor, consumer in unnamed.items():
            chain = self._chain(tensor, number, inputs)
            if chain is not None:
                copied |= chain
                continue
            self._add(tensor, number, consumer)
            inputs[tensor] = None
        for name in sorted(copied, key=index.node_seq.__getitem__):
            for tensor in self.nodes[name].inputs:
                maker = self.nodes[index.producer[tensor]]
                if maker.name not in copied and not maker.is_shared_constant:
                    inputs.setdefault(tensor)
        return inputs, copied

    def _before(self, maker: Node, number: int) -> bool:
        return maker.name in self.owner and self.owner[maker.name] < number

    def _add(self, tensor: str, number: int, consumer: str) -> None:
        index, section = self.index, self.names[number]
        maker = self.nodes[index.producer[tensor]]
        earlier = self.names[self.owner[maker.name]]
        if self.repair == "error":
            raise CutError(
                f"{tensor!r} crosses from {earlier!r} to {section!r} without having been named: {consumer!r} reads it; "
                f"name it as a target, too, or let the split repair the border (--repair auto)",
                cut=(tensor,),
            )
        handles = sorted(self.named & index.handles) if maker.group is not None else []
        named = [t for t in handles if self.nodes[index.producer[t]].group == maker.group]
        if named:
            dtype = index.tensors[named[0]].dtype
            why = f"{named[0]} is a handle ({dtype}) and cannot cross, so what reads it stays in {earlier}"
        elif any(self.owner[n] < number for n in index.consumers[tensor] if n in self.owner):
            why = f"{earlier} and {section} both read it"
        else:
            why = f"{earlier} computes it on the way to its targets, or beside them"
        if maker.stateful and maker.group is None:
            why += f"; {maker.op} holds state and is never copied"
        self.added[tensor, number] = Added(tensor, section, consumer, why)

    def _chain(self, tensor: str, number: int, given: dict[str, None]) -> set[str] | None:
        """The nodes to compute again so that `tensor` need not cross, or None where that is not possible or not cheap."""
        if self.repair in ("border", "error"):
            return None
        greedy = self.repair == "replicate"
        chain: set[str] = set()
        stack = [tensor]
        while stack:
            name = self.index.producer[stack.pop()]
            node = self.nodes[name]
            if name in chain or (node.is_shared_constant and self._loose(node)):
                continue
            if node.kind == "input" or node.stateful or node.group is not None or not self._before(node, number):
                return None
            # What is given must not be made as well: two nodes of one name.
            if not self._loose(node) or any(t in given for t in node.outputs):
                return None
            chain.add(name)
            if greedy:
                stack.extend(t for t in node.inputs if t not in given and self.nodes[self.index.producer[t]].kind != "input")
            elif len(chain) > _CHAIN or not self._cheap(node, given):
                return None
            elif node.op not in _SHAPE_OPS:
                stack.extend(node.inputs)
        return chain

    def _cheap(self, node: Node, given: dict[str, None]) -> bool:
        if node.op in _SHAPE_OPS:
            return all(t in given for t in node.inputs)
        return node.op in _ARITHMETIC

    def _loose(self, node: Node) -> bool:
        """Whether its control inputs may be dropped from a copy."""
        return not any(
            self._orders(c) or c in self._late or (self.nodes[c].is_shared_constant and not self._loose(self.nodes[c]))
            for c in node.control_inputs
        )

    def _orders(self, name: str) -> bool:
        node = self.nodes[name]
        return node.stateful and node.op != "Assert"

    @cached_property
    def _alone(self) -> list[str]:
        """Nodes whose state is their own: what stands behind a handle, or in a loop, is touched in one section only."""
        return [n.name for n in self.index.nodes if n.name in self.owner and n.group is None and self._orders(n.name)]

    @cached_property
    def _late(self) -> Set[str]:
        """Nodes that run after one of those, through whatever lies between."""
        readers: dict[str, list[str]] = {}
        for name, reads in self.index.edges.items() if self._alone else ():
            for read in reads:
                readers.setdefault(read, []).append(name)
        late: set[str] = set()
        stack = list(self._alone)
        while stack:
            name = stack.pop()
            if name not in late:
                late.add(name)
                stack.extend(readers.get(name, ()))
        return late

    def _constants(self, names: Iterable[str]) -> set[str]:
        """Constants that nodes read, and those that only pass an order on: constant folding leaves both behind."""
        found: set[str] = set()
        stack = list(names)
        while stack:
            node = self.nodes[stack.pop()]
            for name in self.index.edges[node.name]:
                maker = self.nodes[name]
                if not maker.is_shared_constant or name in found:
                    continue
                if maker.control_inputs or any(self.index.producer[t] == name for t in node.inputs):
                    found.add(name)
                    stack.append(name)
        return found

    # what is given

    def _outputs(self, inputs: list[dict[str, None]]) -> list[tuple[str, ...]]:
        index = self.index
        given: list[dict[str, None]] = [{} for _ in self.names]
        read = {t for crossing in inputs for t in crossing}
        for number, cut in enumerate(self.cuts):
            for tensor in cut.tensors:
                home = self.owner.get(index.producer[tensor])
                if home is None:
                    self.reasons.append(f"{tensor} is an input of the whole: whoever reads it is given it directly")
                elif tensor in index.handles:
                    self.reasons.append(f"{tensor} is a handle: it stays in {self.names[home]} with all that reads it")
                elif home == number or tensor in read:
                    given[home][tensor] = None
                    if tensor not in read and tensor not in self.wanted:
                        self.reasons.append(f"{tensor} is given by {self.names[home]}, though no later section reads it")
        for tensor in sorted(read, key=lambda t: (index.node_seq[index.producer[t]], t)):
            home = self.owner.get(index.producer[tensor])
            if home is not None:
                given[home][tensor] = None
        for tensor in self.wanted:
            home = self.owner.get(index.producer[tensor], len(self.names) - 1)
            given[home][tensor] = None
        return [tuple(g) for g in given]

    def _check_control(self, number: int, held: set[str]) -> None:
        """Trap: a control input across a border. Dropped when pure or an Assert, refused when an order of state goes with it."""
        for name in sorted(held, key=self.index.node_seq.__getitem__):
            for before in self.nodes[name].control_inputs:
                if before in held:
                    continue
                first, then = before, name
                if not self._orders(before):
                    if before not in self._late:
                        continue
                    # It only passes an order on, as a NoOp does: lost when there is state on both sides.
                    earlier = self.index.ancestors([before])
                    later = [n for n in self._alone if self.owner[n] >= number and name in self.index.ancestors([n])]
                    if not later:
                        continue
                    first, then = next(n for n in self._alone if n in earlier), later[0]
                raise CutError(
                    f"{then!r} in section {self.names[self.owner.get(then, number)]!r} must run after {first!r} "
                    f"({self.nodes[first].op}, which holds state) in an earlier section, and no border keeps such an order; "
                    f"cut before {first!r} or after {then!r}",
                    cut=(first, then),
                )
