"""Whole equals parts, on random graphs, under every repair mode.

``random_graphs`` grows the graphs, ``interpreter`` gives them values, ``laws`` says what a plan must hold. Every law is
shown to be able to fail: the planted bugs are the mistakes that tools for this purpose were seen to make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.planning.cuts import Cut, make_cut
from graphsplit.planning.plan import Plan, Repair, Section
from graphsplit.planning.planner import plan_sections
from tests.interpreter import written
from tests.laws import (
    REPAIRS,
    Broken,
    Planner,
    Request,
    check,
    check_all_repairs,
    check_running,
    check_structure,
    closure,
    expected_refusals,
    makers,
    planned,
)
from tests.random_graphs import EVERYTHING, ORDER, PLAIN, REGIONS, STATE, STEP, RandomGraph, grow

_WHERE = 4 + 3 * 4  # bytes that say where to cut

# What to ask


def request(recipe: Sequence[bytes], where: bytes, kinds: Sequence[str] = EVERYTHING) -> Request:
    """Cuts of the graph of a recipe; most of them can be made, since refusals teach little.

    where  bytes: order of the file, number of cuts, names of sections, which outputs; then three for each cut
    """
    where = where.ljust(_WHERE, b"\0")
    graph = grow(recipe, kinds, shuffle=where[0] // 128 * where[0])
    index = graph.index
    outputs = None
    if where[3] % 2:
        outputs = tuple([t for n, t in enumerate(graph.targets) if where[3] >> (1 + n % 7) & 1]) or graph.targets[:1]
        if where[3] > 250:
            outputs += tuple(sorted(graph.interior | graph.handles)[:1])
    wanted = index.outputs if outputs is None else outputs
    needed = closure(index, makers(index, wanted))
    useful = [
        t for t in graph.targets
        if index.name_to_node_map[index.producer[t]].kind == "op"
        and (t in wanted or not needed.isdisjoint(index.consumers.get(t, ())))
    ]  # fmt: skip
    anything = [*index.inputs, *graph.targets, *sorted(graph.handles), *sorted(graph.interior)]
    number, known = 1 + where[1] % 4, set(index.inputs)
    cuts: list[tuple[str, ...]] = []
    for place, (first, second, wild) in enumerate(zip(where[4::3], where[5::3], where[6::3], strict=True)):
        ahead = [t for t in useful if index.producer[t] not in known] or (useful if wild > 240 else [])
        if place == number or not ahead:
            break
        window = ahead[: 1 + len(ahead) // (number - place + 1)]
        tensors = [window[-1 - first % len(window)]]
        if second % 3 == 2:
            tensors.append(window[second // 3 % len(window)])
        if second % 5 == 4:
            tensors.append(useful[second // 5 % len(useful)])
        if wild % 20 == 19:
            tensors.append(anything[second % len(anything)])
        elif wild % 20 == 9 and graph.handles:
            tensors.append(sorted(graph.handles)[second % len(graph.handles)])
        cuts.append(tuple(dict.fromkeys(tensors)))
        known |= closure(index, makers(index, tensors), needed)
    names = [f"part_{n}" for n in range(len(cuts) + 1)]
    if len(cuts) <= 2 and where[2] % 2:
        names = ["pre", "main", "post"][2 - len(cuts) :]
    if cuts and where[2] % 8 == 1 and (len(cuts) == 2 or where[2] > 200):
        cuts[0] = index.inputs  # what main starts from is fed from outside: no pre at all; and not legal elsewhere
    spelled = [[t.removesuffix(":0") if where[2] & 16 else t for t in tensors] for tensors in cuts]
    return Request(
        graph, tuple(make_cut(name, map(index.tensor, cut)) for name, cut in zip(names, spelled, strict=False)), names[-1], outputs
    )


def requests(kinds: Sequence[str]) -> st.SearchStrategy[Request]:
    # Two lists rather than a long one: twice as long on average, and they shrink to two steps all the same.
    steps = st.lists(st.binary(min_size=STEP, max_size=STEP), min_size=1, max_size=8)
    where = st.binary(min_size=_WHERE, max_size=_WHERE)
    return st.builds(lambda head, tail, cuts: request([*head, *tail], cuts, kinds), steps, steps, where)


@cache
def sample(number: int, kinds: Sequence[str] = EVERYTHING) -> list[Request]:
    """The same requests every time, for tests that look at many at once."""
    found = []
    for seed in range(number):
        rng = random.Random(seed)
        recipe = [rng.randbytes(STEP) for _ in range(rng.randint(4, 14))]
        found.append(request(recipe, rng.randbytes(_WHERE), kinds))
    return found


# The properties

each_palette = pytest.mark.parametrize(
    "kinds", [PLAIN, STATE, ORDER, REGIONS, EVERYTHING], ids=["plain", "state", "order", "regions", "everything"]
)  # fmt: skip


@each_palette
@settings(max_examples=500, deadline=None, derandomize=True)
@given(data=st.data())
def test_sections_run_in_order_give_what_the_whole_gives(kinds: tuple[str, ...], data: st.DataObject) -> None:
    asked = data.draw(requests(kinds))
    for repair, plan in check_all_repairs(asked).items():
        event(f"{repair}: " + ("refused" if plan is None else f"{len(plan.sections)} sections"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(recipe=st.lists(st.binary(min_size=STEP, max_size=STEP), min_size=1, max_size=12), shuffle=st.integers(0, 3))
def test_what_cannot_leave_a_loop_or_a_cond_is_captive_and_nothing_else(recipe: list[bytes], shuffle: int) -> None:
    graph = grow(recipe, shuffle=shuffle)
    note(repr(graph))
    assert graph.index.captive == graph.interior | graph.handles
    assert graph.index.handles == graph.handles
    group = {n.name: n.group for n in graph.index.nodes}
    inside = {graph.index.producer[t] for t in graph.interior}
    for node in graph.index.nodes:
        behind = {graph.index.producer[t] for t in node.inputs if t in graph.index.captive}
        behind |= inside.intersection(node.control_inputs)
        assert {group[n] for n in behind} <= {node.group}


# Whether the properties say something


@each_palette
def test_more_than_six_in_ten_random_requests_are_split_in_two_or_more(kinds: tuple[str, ...]) -> None:
    plans = [planned(asked, "auto") for asked in sample(200, kinds)]
    split = sum(plan is not None and len(plan.sections) > 1 for plan in plans)
    assert split > 0.6 * len(plans), f"{split} of {len(plans)}"


def test_random_requests_meet_every_repair_and_every_documented_refusal() -> None:
    added = replicated = 0
    refused = set()
    for asked in sample(200):
        for repair in REPAIRS:
            plan = planned(asked, repair)
            if plan is None:
                refused |= {part for part, reason in expected_refusals(asked, repair).items() if reason}
            else:
                added += bool(plan.added)
                replicated += bool(plan.replicated)
    assert added > 50
    assert replicated > 15
    assert refused == set(expected_refusals(sample(200)[0], "error"))


# Planted bugs

# What a planner may take for something else: a node, or whether there is a group of some kind.
NodeView = Callable[[Node], Node]
GroupView = Callable[[str], bool]


def seeing(node: NodeView = lambda n: n, group: GroupView = lambda kind: True) -> Planner:
    """The real planner, shown another graph than the one its plan is judged by."""

    def planner(index: GraphIndex, cuts: Sequence[Cut], **options: Any) -> Plan:
        groups = {name: g for name, g in index.groups.items() if group(g.kind)}
        nodes = tuple([node(n if n.group in groups else replace(n, group=None)) for n in index.nodes])
        captive = frozenset(t for n in nodes if n.group is not None for t in n.outputs if t in index.captive)
        other = replace(index, nodes=nodes, groups=groups, captive=captive, handles=index.handles & captive)
        return plan_sections(other, cuts, **options)

    return planner


def changing(change: Callable[[GraphIndex, tuple[Section, ...], tuple[str, ...]], Iterable[Section]]) -> Planner:
    """The real planner, its sections changed afterwards."""

    def planner(index: GraphIndex, cuts: Sequence[Cut], **options: Any) -> Plan:
        plan = plan_sections(index, cuts, **options)
        return replace(plan, sections=tuple(change(index, plan.sections, plan.outputs))) if len(plan.sections) > 1 else plan

    return planner


def drop_an_input(index: GraphIndex, sections: tuple[Section, ...], outputs: tuple[str, ...]) -> Iterable[Section]:
    return [replace(s, inputs=s.inputs[:-1]) for s in sections]


def forget_an_output(index: GraphIndex, sections: tuple[Section, ...], outputs: tuple[str, ...]) -> Iterable[Section]:
    return [replace(s, outputs=s.outputs[:-1]) for s in sections]


def swap_ports(index: GraphIndex, sections: tuple[Section, ...], outputs: tuple[str, ...]) -> Iterable[Section]:
    """Borders by node, as if each had one output: what strip_unused_nodes of TensorFlow does."""

    def first(tensors: tuple[str, ...]) -> tuple[str, ...]:
        made = [t if t in outputs else index.name_to_node_map[index.producer[t]].outputs[0] for t in tensors]
        return tuple(dict.fromkeys(made))

    return [replace(s, inputs=first(s.inputs), outputs=first(s.outputs)) for s in sections]


def give_a_node_away(index: GraphIndex, sections: tuple[Section, ...], outputs: tuple[str, ...]) -> Iterable[Section]:
    first, second, *more = sections
    behind = {*second.nodes, *first.nodes[-1:]}
    held = tuple(n.name for n in index.nodes if n.name in behind)
    return [replace(first, nodes=first.nodes[:-1]), replace(second, nodes=held), *more]


# What is wrong with the planner → that planner, the repair mode to see it in, and what is said when the sections run.
PLANTED: dict[str, tuple[Planner, Repair, str]] = {
    "an input of a section is dropped": (changing(drop_an_input), "auto", "neither makes nor is given"),
    "a stateful node is copied": (seeing(node=lambda n: replace(n, stateful=False)), "replicate", "RanTwice"),
    "a loop is divided": (seeing(group=lambda kind: kind != "loop"), "border", "lies in a loop and is read outside of it"),
    "a cond is divided": (seeing(group=lambda kind: kind != "cond"), "border", "is dead"),
    "ports are swapped": (changing(swap_ports), "border", "neither makes nor is given"),
    "an order of state is lost": (seeing(node=lambda n: replace(n, stateful=False)), "border", "whole equals parts"),
    "control inputs are ignored": (seeing(node=lambda n: replace(n, control_inputs=())), "border", "no state is left out"),
    "a resource crosses": (seeing(group=lambda kind: kind != "resource"), "border", "is a handle"),
    "a TensorArray crosses": (seeing(group=lambda kind: kind != "TensorArray"), "border", "is a handle"),
    "sections run in the wrong order": (changing(lambda index, sections, outputs: reversed(sections)), "border", "KeyError"),
    "a node is in the wrong section": (changing(give_a_node_away), "border", "nothing makes"),
    "an output is forgotten": (changing(forget_an_output), "border", "whole equals parts"),
}


def broken(planner: Planner, repair: Repair, judge: Callable[[Request, Plan], None]) -> Iterator[str]:
    """What a judge says of the plans of a planner that break a law."""
    for asked in [*sample(150), *sample(150, ORDER)]:
        try:
            judge(asked, planner(asked.graph.index, asked.cuts, last=asked.last, outputs=asked.outputs, repair=repair))
        except CutError:
            continue
        except Broken as found:
            yield str(found)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_seen_in_the_plan(bug: str) -> None:
    planner, repair, _ = PLANTED[bug]
    assert any(broken(planner, repair, lambda asked, plan: check_structure(asked, plan, repair)))


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_seen_when_the_sections_run(bug: str) -> None:
    planner, repair, said = PLANTED[bug]
    assert any(said in found for found in broken(planner, repair, check_running))


@pytest.mark.parametrize("repair", ["auto", "replicate", "border"])
def test_the_planner_itself_is_not_taken_for_a_planted_bug(repair: Repair) -> None:
    assert not [*broken(plan_sections, repair, lambda asked, plan: check_structure(asked, plan, repair))]
    assert not [*broken(plan_sections, repair, check_running)]


# What the properties found, each on the smallest graph that shows it


def ask(text: str, *cuts: Iterable[str], outputs: tuple[str, ...] | None = None) -> Request:
    """A request on a graph written down; see ``written``."""
    program = written(text)
    index = program.index
    graph = RandomGraph(program, (), index.captive - index.handles, index.handles)
    names = [f"part_{n}" for n in range(len(cuts) + 1)]
    return Request(graph, tuple(make_cut(n, map(index.tensor, c)) for n, c in zip(names, cuts, strict=False)), names[-1], outputs)


def test_the_exit_of_a_loop_in_a_branch_is_dead_with_it_whatever_its_limit() -> None:
    """
    p ─▶ Switch:0 ─▶ Enter ─▶ Merge ─▶ Switch ─▶ Exit ─▶ Merge       Nothing in the loop but what it starts from tells
               :1 ─────────────────────────────────────────▲         that all of it is dead where p is true.
    """
    asked = ask(
        """
        p       Placeholder
        branch  Switch              p p
        start   Enter/while         branch:0
        turn    Merge               start next
        limit   Const=2             ^turn
        less    Less                turn limit
        more    LoopCond            less
        fork    Switch              turn more
        body    Identity            fork:1
        one     Const=1             ^body
        add     AddV2               body one
        next    NextIteration       add
        leave   Exit                fork:0
        end     Merge               leave branch:1
        y       Relu                end
        """,
        ["leave"],
    )
    assert "leave:0" in asked.graph.index.captive
    with pytest.raises(CutError, match=r"'leave:0' lies inside the loop 'while'.*nearest legal borders are \[end:0\]"):
        plan_sections(asked.graph.index, asked.cuts, last="part_1")


def test_a_node_with_a_named_port_is_not_replicated_for_its_other_port() -> None:
    """
    x ─▶ two:0 ─▶ y        two:0 is given to the last section, by a placeholder with the name of the node: the node
            :1 ──▲         itself cannot be there as well.
    """
    asked = ask(
        """
        x    Placeholder
        two  TopKV2   x x
        y    BiasAdd  two:1 two:0
        """,
        ["two:0"],
    )
    plan = check(asked, "replicate")
    assert plan is not None
    assert plan["part_1"].inputs == ("two:0", "two:1")
    assert plan.replicated == ()


def test_a_chain_is_replicated_from_the_last_named_tensor_on() -> None:
    """
    x ─▶ c ─▶ shape ─▶ size ─▶ half ─▶ z         c, size and z are named. half is computed again from size, which crosses
         │               └──────┼──▶ y           anyway; a second size beside it would be two nodes of one name.
         └──────────────────────┴────▲
    """
    asked = ask(
        """
        x      Placeholder
        c      Conv2D  x
        shape  Shape   c
        size   Cast    shape
        half   Cast    size
        z      Relu    half
        y      Pack    c size half
        """,
        ["c", "size", "z"],
    )
    plan = check(asked, "auto")
    assert plan is not None
    assert plan["part_1"].inputs == ("c:0", "size:0")
    assert plan.replicated == ("half",)


@pytest.mark.parametrize("length", [2, 40])
def test_a_chain_over_a_tensor_that_crosses_anyway_is_replicated(length: int) -> None:
    """
    x ─┬─▶ shape ─▶ n1 ─▶ … ─▶ last ─┬─▶ t │           `length` nodes from shape to last
       │                             └─────│─▶ y
       └───────────────────────────────────│───▲
    """
    names = ["shape", *(f"n{i}" for i in range(1, length - 1)), "last"]
    chain = "\n".join(f"{name} Neg {before}" for before, name in pairwise(names))
    asked = ask(f"x Placeholder\nshape Shape x\n{chain}\nt Relu last\ny Pack t last x", ["t"])
    plan = check(asked, "auto")
    assert plan is not None
    assert plan.replicated == tuple(names)
    assert plan.added == ()


@pytest.mark.parametrize("last", ["second RandomUniform r ^other", "second Const ^other"], ids=["state", "an output"])
def test_constants_that_pass_an_order_on_stay_between_what_they_order(last: str) -> None:
    """
    first ─ ─▶ constant ─ ─▶ other ─ ─▶ second       Nobody reads the two constants, and without them there is no order.
    """
    asked = ask(
        f"""
        x         Placeholder
        r         Relu           x
        first     RandomUniform  r
        constant  Const          ^first
        other     Const          ^constant
        {last}
        """,
        ["r"],
        outputs=("r:0", "second:0"),
    )
    plan = check(asked, "auto")
    assert plan is not None
    assert plan["part_1"].nodes == ("first", "constant", "other", "second")


@pytest.mark.parametrize(
    "ordered",
    [
        "state RandomUniform x \n constant Const ^state",
        "state RandomUniform x \n both NoOp ^state \n constant Const ^both",
        "v VarHandleOp \n state ReadVariableOp v \n other Const ^state \n constant Const ^other",
    ],
    ids=["by itself", "by a NoOp", "by a constant"],
)
def test_a_chain_is_not_replicated_where_its_constants_have_an_order_to_keep(ordered: str) -> None:
    """
    state ─ ─▶ constant ─▶ q ─┬─▶ z       With a copy of q goes a copy of the constant, which must run after the state
                              └─▶ y       of another section. Carrying q across is legal.
    """
    asked = ask(f"x Placeholder \n {ordered} \n q Cast constant \n z Relu q \n y RandomUniform z q", ["z"])
    for repair in ("auto", "replicate"):
        plan = check(asked, repair)
        assert plan is not None
        assert [a.tensor for a in plan.added] == ["q:0"]


def test_a_chain_is_not_replicated_where_a_noop_passes_an_order_on_to_it() -> None:
    """
    state ─ ─▶ both ─ ─▶ q ─┬─▶ z         A copy of q would not wait for the state, and so would not last.
                            └─▶ last
    """
    asked = ask(
        """
        x         Placeholder
        state     RandomUniform  x
        both      NoOp           ^state
        constant  Const
        q         Cast           constant ^both
        z         Relu           q
        last      RandomUniform  q
        """,
        ["z"],
    )
    for repair in ("auto", "replicate"):
        plan = check(asked, repair)
        assert plan is not None
        assert [a.tensor for a in plan.added] == ["q:0"]


def test_the_copy_of_a_constant_need_not_wait_where_no_state_waits_for_it() -> None:
    """
    first ─ ─▶ both ─ ─▶ constant ─┬─▶ second ─▶ z     The order matters in the section of z, not in that of y.
                                   └───────────────▶ y
    """
    asked = ask(
        """
        x         Placeholder
        first     RandomUniform  x
        both      NoOp           ^first
        constant  Const          ^both
        second    RandomUniform  constant
        z         Relu           second
        y         Pack           z constant
        """,
        ["z"],
    )
    plan = check(asked, "auto")
    assert plan is not None
    assert plan["part_1"].nodes == ("constant", "y")


_GROUPED = """
    x       Placeholder
    first   RandomUniform  x
    both    NoOp           ^first
    m       Relu           x ^both
    {last}                 x ^both
    """


def test_an_order_that_a_noop_passes_on_is_refused_across_a_border() -> None:
    """
    first ─ ─▶ both ─ ─┬─▶ m       What tf.group writes. The cut at m leaves `both` and `first` behind, and with them
                       └─▶ last    the order of the two nodes that hold state.
    """
    asked = ask(_GROUPED.format(last="last RandomUniform"), ["m"])
    with pytest.raises(CutError, match="'last' in section 'part_1' must run after 'first'"):
        plan_sections(asked.graph.index, asked.cuts, last="part_1")
    assert check(asked, "auto") is None


def test_a_noop_behind_state_is_dropped_for_a_reader_without_state() -> None:
    plan = check(ask(_GROUPED.format(last="last Softmax"), ["m"]), "auto")
    assert plan is not None
    assert [s.nodes for s in plan.sections] == [("first", "both", "m"), ("last",)]
