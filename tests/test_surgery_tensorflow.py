"""Whole equals sections on random graphs of real TensorFlow ops, over the disk and through TensorFlow itself.

    x: float32 [batch, 4] ─▶ random ops ─▶ whatever nobody reads         cut anywhere into two or three sections

``test_sections_properties`` proves the plan on thousands of graphs with an evaluator of its own; here the ops, their
ports and dtypes, loops, conds, functions, the written bytes and the inferred shapes are TensorFlow's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef import writer
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.inference import shapes
from graphsplit.planning.plan import Plan

tf1, ops = tf.compat.v1, tf.raw_ops
EXAMPLES = 100
WIDTH = 4
Tensor = Any


@contextmanager
def control_flow_v1() -> Iterator[None]:
    """Loops and conds as TensorFlow 1 wrote them: Enter, Merge, Switch, NextIteration, Exit."""
    was_on = tf1.control_flow_v2_enabled()
    tf1.disable_control_flow_v2()
    try:
        yield
    finally:
        if was_on:
            tf1.enable_control_flow_v2()


@cache
def library_function() -> Any:
    """A function with a functional loop inside, and one output that nobody may read."""

    @tf.function(autograph=False)
    def twist(a: Tensor) -> tuple[Tensor, Tensor]:
        looped = tf.while_loop(lambda n, b: n < 3, lambda n, b: (n + 1, tf.sin(b) + 0.25), [0, a])
        return looped[1], tf.reduce_sum(a, axis=1, keepdims=True)

    return twist.get_concrete_function(tf.TensorSpec([None, WIDTH]))


class Grower:
    """Grows a graph op by op. Every pool holds tensors of one kind that any op may read.

    rows      float32 [batch, 4]
    integers  int32 [batch, 4]
    truths    bool [batch, 4]
    texts     string [batch, 4]
    sizes     int32 scalars that depend on the batch
    numbers   float32 scalars
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rows: list[Tensor] = [tf1.placeholder(tf.float32, [None, WIDTH], name="x")]
        self.integers: list[Tensor] = []
        self.truths: list[Tensor] = []
        self.texts: list[Tensor] = []
        self.sizes: list[Tensor] = []
        self.numbers: list[Tensor] = []
        self.constants: dict[Any, Tensor] = {}
        if rng.random() < 0.3:
            self.integers.append(tf1.placeholder(tf.int32, [None, WIDTH], name="n"))
        if rng.random() < 0.2:
            self.truths.append(tf1.placeholder(tf.bool, [None, WIDTH], name="b"))
        if rng.random() < 0.2:
            self.texts.append(tf1.placeholder(tf.string, [None, WIDTH], name="s"))

    # what is read

    def row(self) -> Tensor:
        pool = self.rows
        return pool[-1 - min(self.rng.randrange(len(pool)), self.rng.randrange(len(pool)))]

    def const(self, value: Any, dtype: Any = None) -> Tensor:
        """A constant, mostly one that is there already: shared by whoever needs it."""
        key = (repr(value), dtype)
        if key not in self.constants or self.rng.random() < 0.2:
            self.constants[key] = tf.constant(value, dtype)
        return self.constants[key]

    def integer(self) -> Tensor:
        if not self.integers:
            self.integers.append(tf.cast(ops.Floor(x=self.row()), tf.int32))
        return self.rng.choice(self.integers)

    def truth(self) -> Tensor:
        if not self.truths:
            self.truths.append(ops.Less(x=self.row(), y=self.row() + self.const(0.25)))
        return self.rng.choice(self.truths)

    def text(self) -> Tensor:
        if not self.texts:
            self.texts.append(ops.AsString(input=self.integer()))
        return self.rng.choice(self.texts)

    def size(self) -> Tensor:
        if not self.sizes:
            shape = ops.Shape(input=self.row())
            self.sizes.append(tf.strided_slice(shape, [0], [1], shrink_axis_mask=1))
        return self.rng.choice(self.sizes)

    def number(self) -> Tensor:
        if not self.numbers:
            self.numbers.append(tf.reduce_mean(self.row()))
        return self.rng.choice(self.numbers)

    # steps: each adds to the pools

    def step(self) -> None:
        getattr(self, self.rng.choice(STEPS))()

    def do_binary(self) -> None:
        op = self.rng.choice([ops.Add, ops.AddV2, ops.Sub, ops.Mul, ops.Maximum, ops.Minimum])
        self.rows.append(op(x=self.row(), y=self.row()))

    def do_unary(self) -> None:
        op = self.rng.choice([ops.Tanh, ops.Sigmoid, ops.Neg, ops.Cos])
        self.rows.append(op(x=self.row()))

    def do_shift(self) -> None:
        value = self.rng.choice([0.5, 2.0, [1.0, 2.0, 3.0, 4.0]])
        self.rows.append(self.row() + self.const(value))

    def do_dense(self) -> None:
        kernel = self.const((np.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH) / 16 - 0.5).tolist())
        self.rows.append(tf.matmul(self.row(), kernel))

    def do_split(self) -> None:
        ports = ops.Split(axis=self.const(1), value=self.row(), num_split=2)
        chosen = [self.rng.choice(ports), self.rng.choice(ports)]
        self.rows.append(ops.ConcatV2(values=chosen, axis=self.const(1)))

    def do_unpack(self) -> None:
        ports = ops.Unpack(value=self.row(), num=WIDTH, axis=1)
        chosen = self.rng.choice(ports)
        self.rows.append(ops.Pack(values=[self.rng.choice([chosen, self.rng.choice(ports)]) for _ in range(WIDTH)], axis=1))

    def do_top(self) -> None:
        best, at = ops.TopKV2(input=self.row(), k=self.const(WIDTH))
        which = self.rng.randrange(3)
        if which != 0:
            self.integers.append(at)
        if which != 1:
            self.rows.append(best)

    def do_unique(self) -> None:
        """Two ports of sizes that nobody knows beforehand."""
        values, at = ops.Unique(x=tf.reshape(self.integer(), self.const([-1])))
        self.numbers.append(tf.cast(ops.Size(input=values), tf.float32))
        self.integers.append(tf.reshape(at, self.const([-1, WIDTH])))

    def do_batch_norm(self) -> None:
        """Six ports, of which one or two are read."""
        image = tf.reshape(self.row(), self.const([-1, 1, 1, WIDTH]))
        ones, zeros = self.const([1.0] * WIDTH), self.const([0.0] * WIDTH)
        normed = ops.FusedBatchNormV3(x=image, scale=ones, offset=zeros, mean=zeros, variance=ones, is_training=False)
        self.rows.append(tf.reshape(normed.y, self.const([-1, WIDTH])))
        if self.rng.random() < 0.5:
            self.numbers.append(tf.reduce_sum(normed.batch_variance))

    def do_size(self) -> None:
        op = self.rng.choice([ops.AddV2, ops.Mul, ops.FloorDiv, ops.FloorMod, ops.Minimum, ops.Maximum])
        self.sizes.append(op(x=self.size(), y=self.const(self.rng.choice([2, 3]))))

    def do_fill(self) -> None:
        """A tensor whose number of rows follows from the batch in a roundabout way."""
        dims = ops.Pack(values=[self.size(), self.const(WIDTH)])
        filled = tf.fill(dims, self.number()) if self.rng.random() < 0.5 else tf.fill(dims, 0.5)
        self.rows.append(self.row() + tf.reduce_sum(tf.tanh(filled), axis=0))

    def do_range(self) -> None:
        counted = tf.range(self.size())
        self.numbers.append(tf.cast(tf.reduce_sum(counted), tf.float32))

    def do_reshape(self) -> None:
        row = self.row()
        narrow = tf.tanh(tf.reshape(row, self.const([-1, 2])))
        back = self.const([-1, WIDTH]) if self.rng.random() < 0.5 else ops.Shape(input=row)
        self.rows.append(tf.reshape(narrow, back))

    def do_cast(self) -> None:
        if self.rng.random() < 0.5:
            self.integers.append(tf.cast(self.row() * self.const(3.0), tf.int32))
        else:
            self.rows.append(tf.cast(self.integer(), tf.float32) / self.const(8.0))

    def do_integer(self) -> None:
        self.integers.append(ops.AddV2(x=self.integer(), y=self.integer()))

    def do_truth(self) -> None:
        self.truths.append(ops.LogicalAnd(x=self.truth(), y=ops.Less(x=self.row(), y=self.row())))

    def do_select(self) -> None:
        self.rows.append(ops.SelectV2(condition=self.truth(), t=self.row(), e=self.row()))

    def do_where(self) -> None:
        """As many rows as there are truths."""
        found = ops.Where(condition=self.truth())
        self.numbers.append(tf.reduce_sum(ops.GatherNd(params=self.row(), indices=found)))

    def do_text(self) -> None:
        if self.rng.random() < 0.5:
            self.texts.append(ops.StringJoin(inputs=[self.text(), self.text()], separator="\0"))
        else:
            self.integers.append(ops.StringLength(input=self.text()))

    def do_number(self) -> None:
        self.rows.append(self.row() * tf.tanh(self.number()))

    def do_dice(self) -> None:
        """Seeded, so that whole and sections draw the same; it holds state, so it is never copied."""
        self.rows.append(self.row() + tf1.random_uniform([WIDTH], seed=self.rng.randrange(1, 99)))

    def do_order(self) -> None:
        """Control inputs: from a pure op, from an Assert, through a NoOp."""
        before: list[Any] = [self.row().op]
        if self.rng.random() < 0.5:
            before.append(ops.Assert(condition=self.const(True), data=[self.number()]))
        if self.rng.random() < 0.3:
            before = [tf.group(*before)]
        with tf1.control_dependencies(before):
            self.rows.append(tf.identity(self.row()))

    def do_cond(self) -> None:
        one, other, added = self.row(), self.row(), self.row()
        with control_flow_v1():
            chosen = tf1.cond(
                self.number() > self.const(0.1),
                lambda: (one + added, tf.reduce_max(one)),
                lambda: (tf.tanh(other), tf.reduce_min(added)),
            )
        self.rows.append(chosen[0])
        if self.rng.random() < 0.5:
            self.numbers.append(chosen[1])

    def do_loop(self) -> None:
        start, kept = self.row(), self.row()
        limit = self.const(self.rng.choice([0, 1, 3])) if self.rng.random() < 0.5 else ops.FloorMod(x=self.size(), y=self.const(4))
        with control_flow_v1():
            count, looped = tf1.while_loop(
                lambda n, a: n < limit, lambda n, a: (n + 1, tf.sin(a) + kept * tf.cast(n, tf.float32)), [0, start]
            )
        self.rows.append(looped)
        if self.rng.random() < 0.5:
            self.sizes.append(count)

    def do_map(self) -> None:
        """TensorArrays around a loop, as every exported detector has them."""
        kept = self.number()
        with control_flow_v1():
            self.rows.append(tf.map_fn(lambda a: a - tf.reduce_max(a) * kept, self.row()))

    def do_default(self) -> None:
        """An input that has a default, which is computed or a constant."""
        default = self.row() if self.rng.random() < 0.5 else tf.constant([[0.5, -1.0, 2.0, 0.25]])
        self.rows.append(tf1.placeholder_with_default(default, [None, WIDTH]))

    def do_call(self) -> None:
        twisted, summed = library_function()(self.row())
        self.rows.append(twisted)
        if self.rng.random() < 0.5:
            self.rows.append(self.row() * summed)


STEPS = sorted(name for name in vars(Grower) if name.startswith("do_"))


# Examples


@dataclass(frozen=True)
class Example:
    """A model, and how to cut it."""

    model: GraphDefModel
    options: dict[str, Any]
    plan: Plan | None

    def __repr__(self) -> str:
        lines = [
            f"  {n.name} = {n.op}({', '.join([*n.inputs, *(f'^{c}' for c in n.control_inputs)])})" for n in self.model.index.nodes
        ]
        return "\n".join(["", *lines, f"  {self.options}"])


@cache
def example(seed: int) -> Example:
    rng = random.Random(seed)
    with tf.Graph().as_default() as graph:
        grower = Grower(rng)
        for _ in range(rng.randint(3, 14)):
            grower.step()
    model = GraphDefModel([graph.as_graph_def().SerializeToString(deterministic=True)])
    for _ in range(6):
        options = cut_somewhere(model.index, rng)
        try:
            plan = gs.plan(model, **options)
        except gs.CutError:  # an order that no border keeps, or nothing left for a section
            continue
        if len(plan.sections) > 1:
            return Example(model, options, plan)
    return Example(model, options, None)


def cut_somewhere(index: GraphIndex, rng: random.Random) -> dict[str, Any]:
    """Options of a split at one to three places, in the order of the file."""
    outputs = None
    if rng.random() < 0.3:
        outputs = rng.sample(index.outputs, rng.randint(1, len(index.outputs)))
    needed = index.ancestors(index.producer[t] for t in outputs or index.outputs)
    legal = [
        t
        for n in index.nodes
        if n.kind == "op" and n.name in needed
        for t in n.outputs
        if t not in index.captive and (any(c in needed for c in index.consumers.get(t, ())) or t in (outputs or index.outputs))
    ]
    number = rng.choice([1, 1, 2])
    places = sorted(rng.sample(range(len(legal)), min(number, len(legal))))
    cuts = [[legal[p]] + ([rng.choice(legal[: p + 1])] if rng.random() < 0.3 else []) for p in places]
    options: dict[str, Any] = {"model_outputs": outputs, "repair": rng.choice(["auto", "auto", "border", "replicate"])}
    if len(cuts) == 2 and rng.random() < 0.5:
        return {**options, "inputs": cuts[0], "outputs": cuts[1]}
    return {**options, "outputs": cuts if len(cuts) > 1 else cuts[0]}


def check(found: Example, folder: Path) -> None:
    """Split, write, read back, run: equal, and shaped as stated."""
    saved = gs.save(gs.split(found.model, **found.options), folder, overwrite=True)
    parts = gs.load_parts(saved)
    report = gs.verify(found.model, parts)
    assert report.equal, f"{report.summary()}{found!r}"
    assert report.runs == (3 if found.model.pruned(parts.outputs).index.defaults else 2)
    stated = {p.tensor: p for part in parts for p in part.outputs}
    for output in report.outputs:
        port = stated[output.tensor]
        assert port.dtype == output.dtype, f"{output}{found!r}"
        fits = port.shape is None or (
            len(port.shape) == len(output.shape) and all(a in (None, b) for a, b in zip(port.shape, output.shape, strict=True))
        )
        assert fits, f"{output.tensor} is stated as {port.shape}, but is {output.shape}{found!r}"


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_sections_of_a_random_graph_equal_the_whole(seed: int, tmp_path: Path) -> None:
    found = example(seed)
    if found.plan is not None:
        check(found, tmp_path)


@pytest.mark.parametrize(
    ("rows", "stated"),
    [
        (lambda n: n, None),
        (lambda n: n // 2, None),
        (lambda n: n % 2, None),
        (lambda n: tf.minimum(n, 2), None),
        (lambda n: tf.maximum(n, 4), None),
        (lambda n: n * 0 + 7, 7),
    ],
    ids=["batch", "half", "remainder", "smaller", "larger", "constant"],
)
def test_a_size_is_stated_only_where_it_is_the_same_for_every_batch(rows: Callable[[Tensor], Tensor], stated: int | None) -> None:
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        filled = tf.fill([rows(tf.shape(x)[0]), 3], tf.reduce_sum(x), name="filled")
        tf.identity(filled, name="y")
    model = GraphDefModel([graph.as_graph_def().SerializeToString()])
    parts = gs.split(model, outputs="filled")
    assert parts["main"].outputs[0].shape == (stated, 3)
    for batch in (1, 2, 5):
        assert gs.verify(model, parts, {"x:0": np.ones((batch, 4), np.float32)}).equal


# Whether the property says something


def test_nine_in_ten_random_graphs_are_split_and_a_quarter_into_three() -> None:
    sections = Counter(len(e.plan.sections) if e.plan else 1 for e in map(example, range(EXAMPLES)))
    assert sections[1] <= EXAMPLES // 10, sections
    assert sections[3] >= EXAMPLES // 4, sections


def test_random_graphs_hold_every_kind_of_op_and_meet_every_repair() -> None:
    examples = [e for e in map(example, range(EXAMPLES)) if e.plan]
    ops_met = Counter(op for e in examples for op in {n.op for n in e.model.index.nodes})
    wanted = ["Split", "Unpack", "TopKV2", "Unique", "FusedBatchNormV3", "Enter", "Switch", "Merge", "TensorArrayV3", "Where"]
    wanted += ["StringJoin", "Assert", "NoOp", "RandomUniform", "StatefulPartitionedCall", "Fill", "StridedSlice"]
    ops_met["StatefulPartitionedCall"] += ops_met["PartitionedCall"]
    assert {op: ops_met[op] for op in wanted if ops_met[op] < 5} == {}
    plans = [e.plan for e in examples if e.plan]
    assert sum(bool(p.added) for p in plans) > 30
    assert sum(bool(p.replicated) for p in plans) > 8
    ports = [t for p in plans for t in p.borders if not t.endswith(":0")]
    assert len(ports) > 5
    dtypes = {e.model.index.tensors[t].dtype for e in examples if e.plan for t in e.plan.borders}
    assert dtypes >= {"float32", "int32", "bool", "string"}


# Planted bugs


def ignore_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders by node, as strip_unused_nodes has them: a reader of X:1 is given X:0."""

    def names(reader: Any, kept: set[str], given: dict[str, Sequence[TensorSpec]]) -> dict[str, str]:
        return {s.name: f"{node}:0" for node, specs in given.items() for s in specs}

    monkeypatch.setattr(writer, "_names", names)


def swap_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The section gives the port before the one it should."""
    write = writer.write_section

    def wrong(*args: Any, **options: Any) -> writer.SectionBytes:
        made = write(*args, **options)
        names = {}
        for tensor, name in made.names.items():
            node, _, port = name.rpartition(":")
            names[tensor] = f"{node}:{int(port) - 1}" if int(port) else name
        return writer.SectionBytes(made.chunks, names)

    monkeypatch.setattr("graphsplit.formats.graphdef.model.write_section", wrong)


def float_placeholders(monkeypatch: pytest.MonkeyPatch) -> None:
    """One dtype for every placeholder."""
    placeholder = writer.placeholder
    monkeypatch.setattr(writer, "placeholder", lambda name, dtype, shape: placeholder(name, "float32", shape))


def wrong_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch of the model that was at hand, written down for ever."""
    monkeypatch.setattr(shapes, "_BATCHES", (1, 1))


def drop_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare GraphDef: no library."""
    monkeypatch.setattr(writer, "_library", lambda *_: ())


@pytest.mark.parametrize("plant", [ignore_ports, swap_ports, float_placeholders, wrong_shapes, drop_functions])
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examples = [e for e in map(example, range(EXAMPLES)) if e.plan]
    if plant in (ignore_ports, swap_ports):  # it can only show where a port other than the first crosses
        examples = [e for e in examples if e.plan and any(not t.endswith(":0") for t in e.plan.borders)]
    if plant is drop_functions:
        examples = [e for e in examples if e.model.index.functions]
    plant(monkeypatch)
    noticed = 0
    for found in examples[:8]:
        try:
            check(found, tmp_path)
        except (AssertionError, gs.GraphSplitError):
            noticed += 1
    assert noticed >= 3
