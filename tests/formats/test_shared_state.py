"""Nodes that share state by its name alone are one group, and a node that waits for what nothing supplies is named.

x ─▶ Stage ("s")  ─▶ ^b          Unstage ("s") ─▶ y
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef import control_flow
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.waiting import SUPPLIERS
from tests.formats import raw
from tests.formats.raw import FLOAT, bound, func, identity, kind, listed, node, number, text
from tests.formats.test_outside import registry

X = raw.placeholder("x", FLOAT, -1)
FLOATS = listed(number(6, FLOAT))
CALL = {"Tin": listed(), "Tout": FLOATS}


def named(shared: str | bytes | None = "s", container: str | None = None, **more: bytes) -> dict[str, bytes]:
    attrs = dict(more)
    if shared is not None:
        attrs["shared_name"] = shared if isinstance(shared, bytes) else text(shared)
    if container is not None:
        attrs["container"] = text(container)
    return attrs


def stage(name: str, attrs: Mapping[str, bytes], *inputs: str) -> bytes:
    return node(name, "Stage", *(inputs or ("x",)), attrs={"dtypes": FLOATS, **attrs})


def unstage(name: str, attrs: Mapping[str, bytes]) -> bytes:
    return node(name, "Unstage", attrs={"dtypes": FLOATS, **attrs})


def model(*nodes: bytes, library: bytes = b"", outputs: tuple[str, ...] | None = None) -> GraphDefModel:
    return GraphDefModel([raw.graph(X, *nodes, library=library)], output_names=outputs)


def groups(*nodes: bytes, library: bytes = b"") -> list[set[str]]:
    return [set(g.nodes) for g in model(*nodes, library=library).index.groups.values()]


PAIRS = {
    "Stage and Unstage": (stage("a", named()), unstage("b", named())),
    "a name that is stated and the name of a node": (stage("a", named(None)), unstage("b", named("a"))),
    "an empty name and the name of a node": (stage("a", named("")), unstage("b", named("a"))),
    "the same container": (stage("a", named("s", "c")), unstage("b", named("s", "c"))),
    "MapStage and MapUnstage": (
        node("a", "MapStage", attrs=named(dtypes=FLOATS)),
        node("b", "MapUnstageNoKey", attrs=named(dtypes=FLOATS)),
    ),
    "queues of two handles": (
        node("a", "FIFOQueueV2", attrs=named(component_types=FLOATS)),
        node("b", "FIFOQueueV2", attrs=named(component_types=FLOATS)),
    ),
    "barriers": (node("a", "Barrier", attrs=named()), node("b", "Barrier", attrs=named())),
    "accumulators": tuple(node(n, "ResourceConditionalAccumulator", attrs=named(dtype=kind(FLOAT))) for n in "ab"),
    "tables": tuple(node(n, "HashTableV2", attrs=named()) for n in "ab"),
    "mutexes": tuple(node(n, "MutexV2", attrs=named()) for n in "ab"),
    "variables": tuple(node(n, "VarHandleOp", attrs=named(dtype=kind(FLOAT))) for n in "ab"),
    "variables without a name": tuple(node(n, "VarHandleOp", attrs=named(None, dtype=kind(FLOAT))) for n in "ab"),
    "sparse tensors by number": (
        node("a", "AddSparseToTensorsMap", "x", "x", "x", attrs={"T": kind(FLOAT)}),
        node("b", "TakeManySparseFromTensorsMap", "x", attrs=named("a", dtype=kind(FLOAT))),
    ),
    "a name that nobody binds": (stage("a", named(bound("s"))), unstage("b", named("t"))),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_nodes_that_share_state_are_one_group(pair: str) -> None:
    assert {"a", "b"} in groups(*PAIRS[pair])


@pytest.mark.parametrize(
    "pair",
    [
        (stage("a", named("s")), unstage("b", named("t"))),
        (stage("a", named("s", "c")), unstage("b", named("s", "d"))),
        (stage("a", named("")), unstage("b", named(""))),
        tuple(
            node(n, "VarHandleOp", attrs=named("cd2c89b7-88b7-44c8-ad83-06c2a9158347", dtype=kind(FLOAT))) for n in "ab"
        ),
    ],
    ids=["names", "containers", "no names", "anonymous variables"],
)  # fmt: skip
def test_nodes_of_other_state_are_not(pair: tuple[bytes, bytes]) -> None:
    assert {"a", "b"} not in groups(*pair)


STAGES = raw.function("stages", [stage("st", named(bound("n")))])
TAKES = raw.function("takes", [unstage("un", named(bound("n")))])
OUTER = raw.function("outer", [node("i", "PartitionedCall", attrs={**CALL, "f": func("takes", {"n": bound("m")})})])
LIBRARY = raw.library(STAGES, TAKES, OUTER)


def calls(name: str, f: bytes) -> bytes:
    return node(name, "StatefulPartitionedCall", attrs={**CALL, "f": f})


@pytest.mark.parametrize(
    ("other", "together"),
    [
        (unstage("b", named("s")), True),
        (unstage("b", named("t")), False),
        (calls("b", func("takes", {"n": text("s")})), True),
        (calls("b", func("takes", {"n": text("t")})), False),
        (calls("b", func("outer", {"m": text("s")})), True),
        (calls("b", func("outer", {"m": text("t")})), False),
        (calls("b", func("outer")), True),  # may be any
        (node("b", "takes", attrs={"n": text("s")}), True),
    ],
)
def test_a_call_counts_for_the_state_that_its_caller_names(other: bytes, together: bool) -> None:
    found = groups(calls("a", func("stages", {"n": text("s")})), other, library=LIBRARY)
    assert ({"a", "b"} in found) is together


def test_a_shared_name_within_a_loop_joins_the_loop() -> None:
    enter = node("e", "Enter", "x", attrs={"T": kind(FLOAT), "frame_name": text("loop")})
    inside = stage("a", named(), "e")
    assert groups(enter, inside, unstage("b", named())) == [{"e", "a", "b"}]


def test_every_op_that_outputs_a_reference_to_a_handle_is_followed() -> None:
    """Their dtype is string, which says nothing."""
    makes = {op.name for op in registry() if any(o.is_ref and o.type == raw.STRING for o in op.output_arg)}
    assert makes
    assert makes <= control_flow._FLOWS.keys()


@pytest.mark.parametrize("op", ["FIFOQueue", "RandomShuffleQueue", "PaddingFIFOQueue", "PriorityQueue"])
def test_an_old_queue_stays_with_what_reads_its_handle(op: str) -> None:
    queue = node("q", op, attrs=named(None, component_types=FLOATS))
    put = node("put", "QueueEnqueue", "q", "x", attrs={"Tcomponents": FLOATS})
    take = node("take", "QueueDequeue", "q", "^put", attrs={"component_types": FLOATS})
    assert groups(queue, put, take, identity("y", "take")) == [{"q", "put", "take"}]


# What waits for ever


BOTH = node("y", "Identity", "take", "^put", attrs={"T": kind(FLOAT)})


def takes(op: str) -> list[bytes]:
    """A node of that op, and where it takes from."""
    attrs = {"component_types": FLOATS, "dtypes": FLOATS, "dtype": kind(FLOAT)}
    if op.startswith(("Unstage", "Stage", "Map", "OrderedMap")):
        return [node("take", op, attrs=named(**attrs))]
    return [node("h", "FIFOQueueV2", attrs=named(component_types=FLOATS)), node("take", op, "h", attrs=attrs)]


BLOCKING = sorted(op for op, entry in op_table().ops.items() if {"blocks", "state"} <= set(entry.get("effects", ())))
# They wait for a free place, a lock, or a batch that is full or late.
NEVER_FOR_EVER = {"Batch", "BatchFunction", "Unbatch", "UnbatchGrad", "MutexLock"}


def test_every_op_that_blocks_takes_or_puts() -> None:
    import re

    put = [op for op in BLOCKING if any(re.fullmatch(p, op) for p in SUPPLIERS.values())]
    take = [op for op in BLOCKING if any(re.fullmatch(t, op) for t in SUPPLIERS)]
    assert set(BLOCKING) == {*put, *take} | NEVER_FOR_EVER


@pytest.mark.parametrize("op", [op for op in BLOCKING if any(w in op for w in ("Dequeue", "Take", "Unstage", "Peek"))])
def test_what_nothing_fills_is_refused_before_it_runs(op: str) -> None:
    waits = model(*takes(op), identity("y", "take"), identity("z", "x"))
    with pytest.raises(FormatError, match=rf"'take' \({op}\) waits for a value that nothing in the graph supplies.*verify=False"):
        waits.check_ends()
    waits.check_ends(["z:0"])  # does not need it


def test_what_is_filled_first_is_not() -> None:
    model(stage("put", named()), unstage("take", named()), BOTH).check_ends()


def test_what_is_put_by_a_node_that_no_output_needs_is_not_there() -> None:
    waits = model(stage("put", named()), unstage("take", named()), identity("y", "take"), outputs=("y:0",))
    with pytest.raises(FormatError, match=r"'take' \(Unstage\)"):
        waits.check_ends()


def test_what_is_put_only_after_it_was_taken_comes_too_late() -> None:
    late = [
        unstage("take", named()),
        stage("put", named(), "take"),
        BOTH,
    ]
    with pytest.raises(FormatError, match=r"'take' \(Unstage\)"):
        model(*late).check_ends()


def test_what_another_name_is_filled_with_does_not_count() -> None:
    other = [stage("put", named("s")), unstage("take", named("t")), BOTH]
    with pytest.raises(FormatError, match=r"'take' \(Unstage\)"):
        model(*other).check_ends()


def test_a_function_that_waits_is_named_by_its_call() -> None:
    wait = model(calls("c", func("takes", {"n": text("s")})), identity("y", "c"), library=LIBRARY)
    with pytest.raises(FormatError, match=r"'c' \(StatefulPartitionedCall\)"):
        wait.check_ends()
    put = calls("put", func("stages", {"n": text("s")}))
    take = node("c", "StatefulPartitionedCall", "^put", attrs={**CALL, "f": func("takes", {"n": text("s")})})
    model(put, take, identity("y", "c"), library=LIBRARY).check_ends()


def test_a_queue_that_is_closed_is_an_error_and_no_wait() -> None:
    queue = node("q", "FIFOQueueV2", attrs=named(component_types=FLOATS))
    close = node("close", "QueueCloseV2", "q")
    take = node("take", "QueueDequeueV2", "q", "^close", attrs={"component_types": FLOATS})
    model(queue, close, take, identity("y", "take")).check_ends()
