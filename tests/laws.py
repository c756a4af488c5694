"""What every plan of sections must hold, whatever the graph and wherever the cuts. Used by the property tests.

The rule of the split is written down a second time here, slowly and without a thought for anything but being right, and
so is what may be refused. ``check`` judges a plan by both, and runs its sections:

         image ─▶ … ─┬─▶ t ─▶ …          the whole:   feeds ─▶ all nodes ─▶ outputs
                     └────────▶ …
                cut at t                 the parts:   feeds ─▶ [section 0] ─▶ borders ─▶ [section 1] ─▶ outputs
                                         each section sees its nodes and its declared inputs, nothing else
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex
from graphsplit.planning.cuts import Cut
from graphsplit.planning.plan import Plan, Repair
from graphsplit.planning.planner import plan_sections
from tests.interpreter import IllegalGraph, RanTwice, Token
from tests.random_graphs import COSTLY, RandomGraph

__all__ = [
    "REPAIRS", "Broken", "Planner", "Request", "check", "check_all_repairs", "check_running", "check_structure", "closure",
    "expected_refusals", "makers", "planned",
]  # fmt: skip

REPAIRS: tuple[Repair, ...] = ("auto", "replicate", "border", "error")
Planner = Callable[..., Plan]


@dataclass(frozen=True)
class Request:
    """What is asked of the planner."""

    graph: RandomGraph
    cuts: tuple[Cut, ...]
    last: str
    outputs: tuple[str, ...] | None

    @property
    def wanted(self) -> tuple[str, ...]:
        return self.graph.index.outputs if self.outputs is None else self.outputs

    @cached_property
    def needed(self) -> set[str]:
        """Nodes that the wanted outputs need."""
        return closure(self.graph.index, makers(self.graph.index, self.wanted))

    @cached_property
    def owned(self) -> list[set[str]]:
        """The rule of the split: a section owns what its cut needs and no earlier cut needed; the last owns the rest."""
        index = self.graph.index
        known: set[str] = set()
        owned = []
        for cut in self.cuts:
            mine = closure(index, makers(index, cut.tensors), self.needed)
            owned.append(mine - known)
            known |= mine
        owned.append(self.needed - known)
        nobody = {n.name for n in index.nodes if n.kind == "input" or (n.kind == "const" and n.group is None)} | self.relays
        return [mine - nobody for mine in owned]

    @cached_property
    def relays(self) -> set[str]:
        """Nodes that pass inputs of the whole on, unless a cut names one: a section that reads one has its own."""
        index = self.graph.index
        nodes = index.name_to_node_map
        named = makers(index, (t for c in self.cuts for t in c.tensors))
        late = {n.name for n in index.nodes if any(nodes[b].stateful and nodes[b].op != "Assert" for b in closure(index, {n.name}))}
        alike = {
            n.name
            for n in index.nodes
            if n.role in ("same", "alias") and n.kind == "op" and n.group is None and len(n.inputs) == len(n.outputs)
            if n.name not in named | late and not set(n.outputs) & {*index.captive, *index.defaults}
        }
        relays: set[str] = set()
        while True:
            inputs = {n.name for n in index.nodes if n.kind == "input"} | relays
            everywhere = inputs | {n.name for n in index.nodes if n.is_shared_constant}
            more = {n for n in alike if makers(index, nodes[n].inputs) <= everywhere and makers(index, nodes[n].inputs) & inputs}
            if more <= relays:
                return relays if self.cuts else set()
            relays |= more

    @cached_property
    def loses_an_order(self) -> bool:
        """Whether a control edge comes from state in an earlier section, or passes on an order between state on both sides."""
        return _loses_an_order(self)

    def __repr__(self) -> str:
        cuts = "".join(f"\n  {c.section} ends at {', '.join(c.tensors)}" for c in self.cuts)
        return f"{self.graph!r}\n  wanted {', '.join(self.wanted)}{cuts}\n  {self.last} owns the rest"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows a counterexample."""
        printer.text(repr(self))


def makers(index: GraphIndex, tensors: Iterable[str]) -> set[str]:
    return {index.producer[t] for t in tensors}


def closure(index: GraphIndex, names: Iterable[str], within: set[str] | None = None) -> set[str]:
    """Nodes with all that they need; groups whole, as far as they lie in `within`."""
    found = set(names)
    while True:
        more = {e for n in found for e in index.edges[n]}
        if within is not None:
            groups = {index.name_to_node_map[n].group for n in found} - {None}
            more |= {n.name for n in index.nodes if n.group in groups and n.name in within}
        if more <= found:
            return found
        found |= more


# What a plan must hold


class Broken(AssertionError):
    """A property does not hold. `law` names it."""

    def __init__(self, law: str, what: str) -> None:
        self.law = law
        super().__init__(f"{law}: {what}")


def law(name: str, holds: object, what: object = "") -> None:
    if not holds:
        raise Broken(name, str(what))


def check_structure(asked: Request, plan: Plan, repair: Repair) -> None:
    """What can be seen of a plan without running it."""
    index, nodes = asked.graph.index, asked.graph.index.name_to_node_map
    owned = asked.owned
    number = {name: n for n, name in enumerate([c.section for c in asked.cuts] + [asked.last])}
    law("order of sections", [number[s.name] for s in plan.sections] == sorted({number[s.name] for s in plan.sections}))
    law("outputs of the plan", plan.outputs == tuple(dict.fromkeys(asked.wanted)), plan.outputs)

    given, earlier = set(index.inputs), set()
    home: dict[str, str] = {}
    place: dict[str, int] = {}  # border tensor → when it is made
    before: set[str] = set()  # the nodes of earlier sections
    for section in plan.sections:
        held = set(section.nodes)
        cut = next((c.tensors for c in asked.cuts if c.section == section.name), ())
        ends = tuple(t for t in cut if index.producer[t] in owned[number[section.name]] and t not in asked.graph.handles)
        used = {*asked.wanted, *cut, *(t for s in plan.sections for t in s.inputs)}
        law("file order", list(section.nodes) == sorted(held, key=index.node_seq.__getitem__), section)
        law("inputs once", len(set(section.inputs)) == len(section.inputs), section)
        law("forward only", set(section.inputs) <= given, (section, set(section.inputs) - given))
        law("inputs are no nodes", not held & makers(index, section.inputs), (section, held & makers(index, section.inputs)))
        read = {t for n in held for t in nodes[n].inputs} | set(section.outputs)
        law("inputs are read", set(section.inputs) <= read, (section, set(section.inputs) - read))
        law("order of inputs", list(section.inputs) == sorted(section.inputs, key=lambda t: place.get(t, -1)), section)
        law("order of outputs", section.outputs[: len(ends)] == ends, (section, ends))
        for tensor in section.outputs:
            law("outputs are computed", index.producer[tensor] in held or tensor in section.inputs, (section, tensor))
            law("outputs once", tensor not in home, (section, tensor))
            law("captive tensors stay", tensor not in asked.graph.interior | asked.graph.handles, (section, tensor))
            home[tensor] = section.name
            place[tensor] = len(place)
            law("outputs are of use", tensor in used, (section, tensor))
        law("captive tensors stay", not set(section.inputs) & (asked.graph.interior | asked.graph.handles), section)
        given |= set(section.outputs)

        again = held & earlier - {n for n in held if nodes[n].is_shared_constant}
        relays = asked.relays
        law("replicated nodes are listed", tuple(n for n in section.nodes if n in again) == section.replicated, section)
        mine = {n for n in held - again - relays if not nodes[n].is_shared_constant}
        moved = mine - owned[number[section.name]]
        law("the rule of the split", owned[number[section.name]] <= mine | before, (section, owned[number[section.name]] - mine))
        for name in moved:
            loose = repair in ("auto", "replicate") and not nodes[name].stateful and nodes[name].group is None
            law("only free nodes move", loose and name not in before, (section, name))
            law("only to an earlier section", name in set().union(*owned[number[section.name] + 1 :]), (section, name))
            law("layers move to main only", nodes[name].role != "neural" or section.name == "main", (section, name))
            passed = {t for c in asked.cuts[number[section.name] :] for t in c.tensors}
            law("what was named stays", passed.isdisjoint(nodes[name].outputs), (section, name))
            ends = set(asked.cuts[number[section.name]].tensors)
            law("what reads a border is after it", ends.isdisjoint(nodes[name].inputs), (section, name))
        before |= mine
        lost = [
            (b, n) for n in held for b in nodes[n].control_inputs if b not in held and nodes[b].stateful and nodes[b].op != "Assert"
        ]
        law("no order of state crosses", not lost, (section, lost))
        earlier |= held
        for name in again:
            law("only free nodes are replicated", not nodes[name].stateful and nodes[name].group is None, (section, name))
        law("repair", not again - relays or repair in ("auto", "replicate"), (repair, again))
        law("repair", repair != "auto" or not {nodes[n].op for n in again} & set(COSTLY), (section, again))
    present = {number[s.name] for s in plan.sections}
    law("the rule of the split", not any(mine for n, mine in enumerate(owned) if n not in present), "a section is missing")
    law("nothing is left out", before == set().union(*owned), before ^ set().union(*owned))
    law("outputs are given", set(asked.wanted) <= home.keys(), set(asked.wanted) - home.keys())
    law("inputs of the plan", set(plan.inputs) == {t for s in plan.sections for t in s.inputs if t in index.inputs}, plan.inputs)
    law("replicated nodes are listed", set(plan.replicated) == {n for s in plan.sections for n in s.replicated}, plan.replicated)
    for group in index.groups.values():
        homes = {s.name for s in plan.sections if set(group.nodes) & set(s.nodes)}
        law("groups stay whole", len(homes) <= 1, (group, homes))
    _check_borders(asked, plan, repair, list(home))


def _check_borders(asked: Request, plan: Plan, repair: Repair, given: list[str]) -> None:
    """What crosses is what was named or added, and each addition has its reader and its cause.

    given  the outputs of all sections, in the order they are made
    """
    index, nodes = asked.graph.index, asked.graph.index.name_to_node_map
    named = {t for c in asked.cuts for t in c.tensors}
    crossing = {(t, s.name) for s in plan.sections for t in s.inputs if t not in index.inputs}
    borders = [t for t in given if any(t == crossed for crossed, _ in crossing)]
    law("borders", list(plan.borders) == borders, (plan.borders, borders))
    law("added", [*{(a.tensor, a.section): 1 for a in plan.added}] == [(a.tensor, a.section) for a in plan.added], plan.added)
    law("added", {(a.tensor, a.section) for a in plan.added} == {c for c in crossing if c[0] not in named}, (plan.added, crossing))
    for added in plan.added:
        reader = nodes[added.consumer]
        law("added for a reader", added.tensor in reader.inputs and reader.name in plan[added.section].nodes, added)
        # What is done again where everything may be: all but what hangs on state, a group, an order, or what is given.
        behind = closure(index, makers(index, [added.tensor]))
        kept = any(n.stateful or n.group or n.control_inputs for n in map(nodes.__getitem__, behind))
        law("repair", repair != "replicate" or kept or behind & makers(index, named), added)
    law("repair", repair != "error" or not plan.added, plan.added)


def check_running(asked: Request, plan: Plan) -> None:
    """The sections, run in order, each given its declared inputs only, give what the whole gives."""
    program, nodes = asked.graph.program, asked.graph.index.name_to_node_map
    homes = {n: s.name for s in plan.sections for n in s.nodes if nodes[n].stateful}
    tokens = {t: token for t, token in program.feeds().items() if t in plan.inputs}
    whole_log: dict[str, str] = {}
    log: dict[str, str] = {}
    parts: dict[str, Token] = {}
    try:
        whole = program.run(asked.wanted, log=whole_log, homes=homes)
        for section in plan.sections:
            seen = {t: tokens[t] for t in section.inputs}
            made = program.run(section.outputs, nodes=section.nodes, given=seen, section=section.name, log=log, homes=homes)
            parts |= made
            tokens |= made
    except (IllegalGraph, RanTwice, KeyError) as error:
        raise Broken("whole and sections run", f"{type(error).__name__}: {error}") from error
    for tensor in asked.wanted:
        law("whole equals parts", tensor in parts and parts[tensor].value == whole[tensor].value, tensor)
    left = [n for n in whole_log if n not in log and nodes[n].group is None]
    law("no state is left out", not left, left)


# What may be refused, and only then


def expected_refusals(asked: Request, repair: Repair) -> dict[str, bool]:
    """Part of a documented refusal → whether there is a reason for it."""
    index, graph = asked.graph.index, asked.graph
    named = [t for c in asked.cuts for t in c.tensors]
    idle = [t for t in named if t not in asked.wanted and asked.needed.isdisjoint(index.consumers.get(t, ()))]
    # A pre that ends where the whole is fed has nothing to do, and need not be.
    empty = [
        cut for cut, mine in zip(asked.cuts, asked.owned, strict=False)
        if not mine and not (cut.section == "pre" and set(cut.tensors) <= set(index.inputs))
    ]  # fmt: skip
    return {
        "is a constant: every section": any(index.name_to_node_map[index.producer[t]].is_shared_constant for t in named),
        "lies inside the": any(t in graph.interior for t in named),
        "cannot be an output": any(t in graph.interior | graph.handles for t in asked.wanted),
        "feeds none of the outputs": bool(idle),
        "nothing is left for section": bool(empty),
        "must run after": asked.loses_an_order,
        "without having been named": repair == "error",
        "is a handle and cannot cross": repair == "error" and any(t in graph.handles for t in named),
    }


def _loses_an_order(asked: Request) -> bool:
    index, nodes = asked.graph.index, asked.graph.index.name_to_node_map
    place = {n: number for number, mine in enumerate(asked.owned) for n in mine}
    state = {n for n in place if nodes[n].stateful and nodes[n].op != "Assert"}
    alone = {n for n in state if nodes[n].group is None}
    behind = {n: closure(index, {n}) for n in alone}

    def holders(name: str) -> set[int]:
        """Sections that hold a node. A constant with control inputs: those of its readers, of all kinds, or the last."""
        if name in place:
            return {place[name]}
        held = {len(asked.cuts)} if name in makers(index, asked.wanted) else set()
        return held.union(*(holders(n) for n in asked.needed if name in index.edges[n]))

    for name in asked.needed:
        for before in nodes[name].control_inputs:
            for here in holders(name):
                if place.get(before, here) >= here:
                    continue
                later = any(name in behind[n] and place[n] >= here for n in alone)
                if before in state or (later and closure(index, {before}) & alone):
                    return True
    return False


def planned(asked: Request, repair: Repair, planner: Planner = plan_sections) -> Plan | None:
    """The plan, or None when the request was refused for a documented reason."""
    index = asked.graph.index
    cuts, outputs = list(asked.cuts), None if asked.outputs is None else list(asked.outputs)
    before = (list(cuts), outputs and list(outputs), dict(index.groups), dict(index.tensors))
    try:
        plan = planner(index, cuts, last=asked.last, outputs=outputs, repair=repair)
    except CutError as error:
        found = [reason for part, reason in expected_refusals(asked, repair).items() if part in str(error)]
        law("refusals have a documented reason", found == [True], error)
        return None
    finally:
        law("arguments are not mutated", before == (cuts, outputs, dict(index.groups), dict(index.tensors)))
    reasons = {part for part, reason in expected_refusals(asked, repair).items() if reason} - {"without having been named"}
    if repair in ("auto", "replicate"):  # a copy may keep an order that would be lost
        reasons -= {"must run after"}
    law("what cannot be done is refused", not reasons, reasons)
    return plan


def check(asked: Request, repair: Repair, planner: Planner = plan_sections) -> Plan | None:
    """All laws; None when the request was refused for a documented reason."""
    plan = planned(asked, repair, planner)
    if plan is not None:
        check_structure(asked, plan, repair)
        check_running(asked, plan)
    return plan


def check_all_repairs(asked: Request) -> dict[Repair, Plan | None]:
    """All laws under every repair mode, and how the modes relate."""
    plans = {repair: check(asked, repair) for repair in REPAIRS}
    border, error = plans["border"], plans["error"]
    for repair in ("auto", "replicate"):
        law("repair", border is None or plans[repair] is not None, f"{repair} refuses what border can do")
    handles = any(t in asked.graph.handles for c in asked.cuts for t in c.tensors)
    law("repair", error is None or error == border, "error is border with nothing added")
    law("repair", error is not None or border is None or border.added or handles, "error refuses what needs no repair")
    if border is not None and len(asked.cuts) == 1:
        for repair in ("auto", "replicate"):
            plan = plans[repair]
            law("repair", plan is None or len(plan.borders) <= len(border.borders), f"{repair} lets more cross than border")
    return plans
