"""The split: cuts → sections. One algorithm for every file format.

*A section owns what its cut needs and no earlier cut needed; the last section owns the rest; whatever is read across a
border becomes an input of the reader; constants are copied.* Repair then makes each border as small as it can be.

        image ─▶ ToFloat ─▶ Conv ─▶ scores ─┬─▶ NMS ─▶ boxes        cut: scores
                    │                       │    ▲
                    └─▶ Shape ──────────────│────┘                  Shape is read after the cut, too:
                                            │                       it is added to the border, or recomputed
              section main ─────────────────┴─── section post

Borders are computed, not trusted: the cut says where a section ends, the planner finds every tensor that really
crosses. Data flows forward only, so sections never form a cycle; reachability is all that is needed, hence the loops of
TensorFlow 1, real cycles, need no special care beyond staying whole (`Node.group`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from typing import get_args

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.traversal import reachable
from graphsplit.planning.cuts import Cut, check_cut
from graphsplit.planning.fingerprint import fingerprint_of
from graphsplit.planning.plan import Plan, Repair, Section
from graphsplit.planning.repair import Reads, Repairer
from graphsplit.planning.state import StateOrder

__all__ = ["plan_sections"]


def plan_sections(
    index: GraphIndex,
    cuts: Sequence[Cut],
    *,
    last: str,
    outputs: Sequence[str] | None = None,
    repair: Repair = "auto",
    nbytes: Callable[[str], int] = lambda _: 1,
    fixed: Set[str] = frozenset(),
    firm: bool = True,
) -> Plan:
    """Divide a graph at cuts, in order.

    Args:
        index: The graph.
        cuts: Where sections end.
        last: Name of the section that owns what remains.
        outputs: Tensors that the whole is to produce (default: all); what none of them needs is pruned.
        repair: What to do with tensors that cross without having been named.
        nbytes: Bytes of a tensor, for the smallest border; called only if there is something to decide. Default: all count
            the same.
        fixed: Nodes that repair does not move, such as those that a compiler refuses.
        firm: Whether the cuts are to be made as they are. False, for cuts that nobody named: a tensor of a cut is replaced by
            what it is computed from where that crosses anyway, see `_softened`.

    Raises:
        CutError: for a cut that cannot be made, or a section left with nothing.
    """
    if repair not in get_args(Repair):
        raise CutError(f"unknown repair {repair!r}; there are {', '.join(get_args(Repair))}")
    wanted = tuple(dict.fromkeys(outputs if outputs is not None else index.outputs))
    for tensor in wanted:
        if tensor in index.captive:
            group = index.groups[index.name_to_node_map[index.producer[tensor]].group or ""]
            raise CutError(f"{tensor!r} cannot be an output: it lives inside the {group.kind} {group.name!r}", cut=(tensor,))
    needed = index.ancestors(index.producer[t] for t in wanted)
    for cut in cuts:
        check_cut(index, cut, needed, set(wanted))
        if repair == "error" and (held := [t for t in cut.tensors if t in index.handles]):
            raise CutError(f"{held[0]!r} is a handle and cannot cross a border; name what reads it", cut=cut.tensors)
    planner = partial(_Planner, index, last=last, wanted=wanted, needed=needed, repair=repair, nbytes=nbytes, fixed=fixed)
    if not firm:
        cuts = _softened(index, cuts, planner(cuts, firm=False).plan())
    plan = planner(cuts).plan()
    if not plan.sections:
        raise CutError("the graph has no outputs, so nothing would be in a section; name the tensors to compute, model_outputs=…")
    return plan


def _softened(index: GraphIndex, cuts: Sequence[Cut], plan: Plan) -> list[Cut]:
    """The cuts without the tensors that need not cross, and with those that cross instead.

        scores ─┬─▶ slice ║─▶ …       The plan with a cut at slice lets scores alone cross and computes slice after the
                └─────────║─▶ …       border, so the cut is at scores.

    Args:
        index: The graph.
        cuts: The cuts.
        plan: The plan made with them, in which what they name may be computed twice.
    """
    crossing, copied, softened = set(plan.borders), set(plan.replicated), []
    added = list(dict.fromkeys(a.tensor for a in plan.added))
    for cut in cuts:
        spared = [t for t in cut.tensors if t not in crossing and index.producer[t] in copied]
        # What the copies are computed from.
        again = reachable((index.producer[t] for t in spared), lambda n: (e for e in index.edges[n] if e in copied))
        instead = [t for t in added if any(t in index.name_to_node_map[n].inputs for n in again)]
        kept = tuple(dict.fromkeys([*(t for t in cut.tensors if t not in spared), *instead]))
        softened.append(Cut(cut.section, kept) if kept else cut)
    return softened


class _Planner:
    """One run of the split. `owner` maps a node to the number of its section; constants and inputs are owned by none."""

    def __init__(
        self,
        index: GraphIndex,
        cuts: Sequence[Cut],
        last: str,
        wanted: tuple[str, ...],
        needed: Set[str],
        repair: Repair,
        nbytes: Callable[[str], int],
        fixed: Set[str],
        firm: bool = True,
    ) -> None:
        self.index, self.repair, self.wanted, self.last = index, repair, wanted, last
        self.nodes = index.name_to_node_map
        self.names = [c.section for c in cuts] + [last]
        self.cuts = tuple(cuts)
        self.notes: list[str] = []
        self.relays = self._relays()

        self.owner: dict[str, int] = {}
        known: set[str] = set()
        for number, cut in enumerate(cuts):
            reached = index.ancestors((index.producer[t] for t in cut.tensors), known=known, within=needed)
            known |= reached
            owned = [n for n in reached if self._is_ownable(n)]
            if not owned and not all(self.nodes[index.producer[t]].kind == "input" for t in cut.tensors):
                raise self._nothing_left(number, cut)
            self.owner.update(dict.fromkeys(owned, number))
        self.owner.update((n, len(cuts)) for n in needed - known if self._is_ownable(n))
        self._check_inputs_only()
        self.state = StateOrder(index, self.owner)
        self.repairer = Repairer(index, self.owner, cuts, self.names, repair, self.state, nbytes, fixed, firm)

    def _is_ownable(self, name: str) -> bool:
        node = self.nodes[name]
        return node.kind != "input" and not node.is_shared_constant and name not in self.relays

    def _relays(self) -> Set[str]:
        """Nodes that pass inputs on, so that each section has its own; not those that a cut names, and what reads these."""
        index = self.index
        named = (index.producer[t] for cut in self.cuts for t in cut.tensors)
        crossing = reachable((n for n in named if n in index.relays), lambda n: index.followers.get(n, ()))
        return index.relays - crossing if self.cuts else frozenset()

    def _nothing_left(self, number: int, cut: Cut) -> CutError:
        earlier = " and ".join(repr(n) for n in self.names[:number])
        return CutError(
            f"nothing is left for section {cut.section!r}: {', '.join(cut.tensors)} "
            f"{'are' if len(cut.tensors) > 1 else 'is'} already computed by {earlier or 'nobody'}; "
            "name tensors further downstream",
            cut=cut.tensors,
        )

    def _check_inputs_only(self) -> None:
        """Cuts at inputs of the whole end an empty section: legal for pre (nothing to do before main), not for main."""
        for number, cut in enumerate(self.cuts):
            if number in self.owner.values() or cut.section == "pre":
                continue
            raise CutError(
                f"nothing is left for section {cut.section!r}: {', '.join(cut.tensors)} "
                "is fed from outside, so nothing needs to be computed for it; name a tensor that is computed",
                cut=cut.tensors,
            )

    def plan(self) -> Plan:
        index = self.index
        self.repairer.repair_all()
        self.repairer.use_own_names(set(self.wanted))
        self.notes += self.repairer.notes
        copied = self.repairer.copied
        reads, held = self._reads()
        inputs = [read.inputs for read in reads]
        outputs = self._outputs(inputs)
        for number, tensors in enumerate(outputs):
            for tensor in tensors:  # an output that is a constant or an input of the whole
                producer = self.nodes[index.producer[tensor]]
                if producer.is_shared_constant:
                    held[number] |= {producer.name} | self._constants({producer.name})
                elif producer.kind == "input":
                    inputs[number].setdefault(tensor)
            self.state.check_control_inputs(number, held[number], self.names)
        for tensor in index.defaults:  # one whose default is computed is fed where that is done
            if (home := self._owner_of(tensor)) is not None:
                inputs[home].setdefault(tensor)
        position = {t: i for i, t in enumerate(t for tensors in outputs for t in tensors)}
        sections = tuple(
            Section(
                name=self.names[i],
                nodes=tuple(n.name for n in index.nodes if n.name in held[i]),
                # Inputs of the whole first, then border tensors in the order they are produced.
                inputs=tuple(sorted(inputs[i], key=lambda t: position[t] if self._owner_of(t) not in (None, i) else -1)),
                outputs=outputs[i],
                replicated=tuple(n.name for n in index.nodes if n.name in copied[i]),
            )
            for i in range(len(self.names))
            if held[i] or outputs[i]
        )
        replicated = set().union(*copied)
        used = {t for s in sections for t in s.inputs}
        return Plan(
            sections=sections,
            added=tuple(added for read in reads for added in read.added),
            replicated=tuple(n.name for n in index.nodes if n.name in replicated),
            inputs=tuple(t for t in index.inputs if t in used),
            outputs=self.wanted,
            cuts=self.cuts,
            last=self.last,
            repair=self.repair,
            notes=tuple(self.notes),
            fingerprint=fingerprint_of(index, sections),
        )

    def _owner_of(self, tensor: str) -> int | None:
        return self.owner.get(self.index.producer[tensor])

    def _reads(self) -> tuple[list[Reads], list[set[str]]]:
        """For each section what it reads from outside, and the nodes that it holds."""
        producer, relays = self.index.producer, self.relays
        held = [set(copied) for copied in self.repairer.copied]
        for name, owner in self.owner.items():
            held[owner].add(name)
        held[-1] |= {producer[t] for t in self.wanted} & relays
        for number, names in enumerate(held):
            read = {producer[t] for n in names for t in self.nodes[n].inputs} & relays
            names |= reachable(read, lambda n: (producer[t] for t in self.nodes[n].inputs if producer[t] in relays))
            if earlier := set().union(*held[:number]):
                self.repairer.copied[number] |= names & relays & earlier
        order = self.index.node_seq.__getitem__
        reads = [self.repairer.reads(i, [self.nodes[n] for n in sorted(names, key=order)]) for i, names in enumerate(held)]
        return reads, [names | self._constants(names) for names in held]

    def _constants(self, names: Iterable[str]) -> set[str]:
        """Constants that nodes read, and those that only pass an order on: constant folding leaves both."""
        start = set(names)
        return reachable(start, self._constants_of) - start

    def _constants_of(self, name: str) -> Iterator[str]:
        node = self.nodes[name]
        for source in self.index.edges[name]:
            producer = self.nodes[source]
            if producer.is_shared_constant and (
                producer.control_inputs or any(self.index.producer[t] == source for t in node.inputs)
            ):
                yield source

    def _outputs(self, inputs: Sequence[dict[str, None]]) -> list[tuple[str, ...]]:
        """For each section the tensors that it produces for others."""
        index = self.index
        outputs: list[dict[str, None]] = [{} for _ in self.names]
        read = {t for crossing in inputs for t in crossing}
        for number, cut in enumerate(self.cuts):
            for tensor in cut.tensors:
                home = self.owner.get(index.producer[tensor])
                if home is None:
                    self.notes.append(f"{tensor} is an input of the whole: each section that reads it gets it directly")
                elif tensor in index.handles:
                    self.notes.append(f"{tensor} is a handle: it stays in {self.names[home]} with everything that reads it")
                elif home == number or tensor in read:
                    outputs[home][tensor] = None
                    if tensor not in read and tensor not in self.wanted:
                        self.notes.append(f"{tensor} is an output of {self.names[home]}, though no later section reads it")
        for tensor in sorted(read, key=lambda t: (index.node_seq[index.producer[t]], t)):
            home = self.owner.get(index.producer[tensor])
            if home is not None:
                outputs[home][tensor] = None
        for tensor in self.wanted:
            home = self.owner.get(index.producer[tensor], len(self.names) - 1)
            outputs[home][tensor] = None
        return [tuple(tensors) for tensors in outputs]
