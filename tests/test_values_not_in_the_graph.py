"""Variables, tables, queues, iterators, leftovers of training, custom ops: each is named, with a way on that works.

graphsplit split m.pb -o o        exit 1: 'table' is a HashTableV2, a table …, read by 'find'; keep … (--model-outputs scores,ids)
graphsplit split m.pb -o o --model-outputs scores,ids        exit 0
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.cli import run
from graphsplit.errors import CutError, FormatError, TrustError
from graphsplit.formats import GraphDefModel, load
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.rewrites import rewrite
from graphsplit.splitting.surgery import plan, split
from graphsplit.verification.equivalence import verify
from tests.formats.tflite.builder import Built
from tests.graphs import NodeDef, const, function, model, node, placeholder

v1 = tf.compat.v1
Build = Callable[[], object]


def built(build: Build) -> GraphDefModel:
    with tf.Graph().as_default() as graph:
        build()
    return GraphDefModel([graph.as_graph_def().SerializeToString()])


def network() -> tf.Tensor:
    x = v1.placeholder(tf.float32, [None, 4], name="x")
    return tf.nn.softmax(tf.matmul(x, tf.ones([4, 4]), name="fc"), name="scores")


# the advice of a message is followed: it works


def followed(whole: GraphDefModel, folder: Path, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Split on the command line, do what the refusal says, and return it."""
    path = folder / "m.pb"
    whole.save(path)
    assert run(["split", str(path), "-o", str(folder / "o"), *words]) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1, "one line"
    assert not (folder / "o").exists(), "nothing is written"
    advice = [f"{flag}={names}" for flag, names in re.findall(r"(--model-outputs|--inputs) ([^\s,)][^\s)]*)", message)]
    advice += [flag for flag in ("--no-verify",) if flag in message and not any("--model-outputs" in a for a in advice)]
    assert advice, message
    assert run(["split", str(path), "-o", str(folder / "o"), *words, *advice]) == 0, (advice, capfd.readouterr().err)
    for part in load_parts(folder / "o"):
        with tf.Graph().as_default():
            tf.graph_util.import_graph_def(part.model.graph_def, name="")  # TensorFlow can load what was written
    return message


# tables: what is looked up


def static_table() -> None:
    values = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant(["cat", "dog"]))
    table = tf.lookup.StaticHashTable(values, "?")
    table.lookup(tf.argmax(network(), 1, name="ids"), name="label")


def mutable_table() -> None:
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.string, "?")
    tf.identity(table.lookup(tf.argmax(network(), 1, name="ids"), name="find"), name="label")


def dense_table() -> None:
    table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -2, -3)
    tf.cast(table.lookup(tf.argmax(network(), 1, name="ids"), name="find"), tf.float32, name="label")


def table_of_references() -> None:
    table = tf.raw_ops.HashTable(key_dtype=tf.int64, value_dtype=tf.string, name="words")
    tf.raw_ops.LookupTableFind(
        table_handle=table, keys=tf.argmax(network(), 1, name="ids"), default_value=tf.constant("?"), name="label"
    )


def two_tables() -> None:
    ids = tf.argmax(network(), 1, name="ids")
    for name, default in (("words", "?"), ("colours", "none")):
        table = tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.string, name=name)
        tf.raw_ops.LookupTableFindV2(table_handle=table, keys=ids, default_value=tf.constant(default), name=f"{name}_found")


def table_beside_an_output() -> None:
    scores = network()
    tf.reduce_max(scores, 1, name="best")
    table = tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.string, name="words")
    tf.raw_ops.LookupTableFindV2(
        table_handle=table, keys=tf.argmax(scores, 1, name="ids"), default_value=tf.constant("?"), name="label"
    )


TABLES = [static_table, mutable_table, dense_table, table_of_references, two_tables, table_beside_an_output]


@pytest.mark.parametrize("build", TABLES)
def test_a_table_is_named_with_its_reader_and_what_is_looked_up_is_kept_instead(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = followed(built(build), tmp_path, capfd)
    assert re.search(r"not frozen: '\w+' is a \w*HashTable\w*, a table whose entries are not in the graph, read by '\w+", message)
    assert "ids" in message


def vocabulary(make: Callable[[tf.Tensor], tf.Tensor]) -> Build:
    """words ─▶ table ─▶ ids ─▶ embedding ─▶ scores: the table is before everything."""

    def build() -> None:
        ids = make(v1.placeholder(tf.string, [None], name="words"))
        tf.nn.softmax(tf.matmul(tf.gather(tf.ones([10, 4]), ids), tf.ones([4, 4]), name="fc"), name="scores")

    return build


def _raw(words: tf.Tensor) -> tf.Tensor:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, name="vocabulary")
    return tf.raw_ops.LookupTableFindV2(table_handle=table, keys=words, default_value=tf.constant(0, tf.int64), name="ids")


def _static(words: tf.Tensor) -> tf.Tensor:
    values = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([0, 1], tf.int64))
    return tf.lookup.StaticHashTable(values, 0).lookup(words)


def _buckets(words: tf.Tensor) -> tf.Tensor:
    values = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([0, 1], tf.int64))
    return tf.lookup.StaticVocabularyTable(values, 3).lookup(words)


@pytest.mark.parametrize("make", [_raw, _static, _buckets])
def test_a_table_before_everything_is_filled_by_the_program(
    make: Callable[[tf.Tensor], tf.Tensor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = followed(built(vocabulary(make)), tmp_path, capfd, "--outputs=fc")
    assert "fill it in your program: cut after what is looked up" in message
    sections = load_parts(tmp_path / "o")
    assert [p.name for p in sections] == ["pre", "main", "post"]
    assert not any("Table" in n.op for p in ("main", "post") for n in sections[p].graph_def.node)


def test_a_table_that_arrives_as_a_handle_is_one_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = model(
        placeholder("image", [None, 4]),
        placeholder("unknown_0", [], tf.resource),
        node("handle", "Identity", "unknown_0", T=tf.resource),
        node("scores", "Softmax", "image"),
        const("axis", 1),
        node("ids", "ArgMax", "scores", "axis"),
        const("other", np.array(b"?")),
        node("find", "LookupTableFindV2", "handle", "ids", "other", Tin=tf.int64, Tout=tf.string),
        node("NoOp", "NoOp", "^find"),
        node("labels", "Identity", "find", "^NoOp", T=tf.string),
        node("values", "Identity", "scores", "^NoOp"),
    )
    message = followed(whole, tmp_path, capfd)
    assert "'unknown_0' is a Placeholder, a table whose entries are not in the graph, read by 'find'" in message
    assert "--model-outputs values,ids" in message, "an output does not need the table because it waits for a lookup"


# leftovers of training: ops that change variables which are constants now


def leftover(op: str, *inputs: str, **attrs: object) -> GraphDefModel:
    return model(
        placeholder("x", [None, 4]),
        const("weights", np.eye(4, dtype=np.float32)),
        const("moving_mean", np.ones(4, np.float32)),
        node("fc", "MatMul", "x", "weights"),
        const("axis", 0),
        node("mean", "Mean", "fc", "axis", Tidx=tf.int32),
        node("o", "Relu", "fc"),
        const("rate", 0.5),
        const("place", np.array([0])),
        const("places", np.array([[0]])),
        const("rates", np.array([0.5], np.float32)),
        node("left", op, *inputs, **attrs),
    )


LEFTOVERS = [
    leftover("AssignSub", "moving_mean", "mean"),
    leftover("Assign", "moving_mean", "mean"),
    leftover("AssignAdd", "moving_mean", "mean"),
    leftover("ScatterNdUpdate", "moving_mean", "places", "rates", Tindices=tf.int64),
    leftover("ApplyGradientDescent", "moving_mean", "rate", "mean"),
    leftover("ScatterSub", "moving_mean", "place", "rate", Tindices=tf.int64),
    leftover("RefIdentity", "moving_mean"),
    leftover("CountUpTo", "place", limit=3, T=tf.int64),
]


@pytest.mark.parametrize("whole", LEFTOVERS, ids=[m.index.nodes[-1].op for m in LEFTOVERS])
def test_what_changes_a_constant_was_left_over_from_training(
    whole: GraphDefModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = followed(whole, tmp_path, capfd, "--outputs=fc")
    assert re.search(r"exported while training: 'left' \(\w+\) changes a variable, but '\w+' is a Const", message)
    with pytest.raises(FormatError, match="exported while training"):
        split(whole, outputs=["fc"])  # surgery alone would write a section that TensorFlow cannot load


def test_a_reference_that_a_cond_switches_was_left_over_too() -> None:
    whole = model(
        placeholder("x", [4]),
        const("moving_mean", np.ones(4, np.float32)),
        placeholder("training", [], tf.bool),
        node("sw", "RefSwitch", "moving_mean", "training"),
        node("on", "Add", "sw:1", "x"),
        node("off", "Neg", "sw"),
        node("mean", "Merge", "off", "on", N=2),
        node("y", "Relu", "x"),
    )
    with pytest.raises(FormatError, match=r"'sw' \(RefSwitch\) changes a variable.*\(model_outputs=\"y\"\)"):
        split(whole, outputs=["y"])


def logits() -> tf.Tensor:
    made = tf.matmul(v1.placeholder(tf.float32, [None, 4], name="x"), tf.ones([4, 3]), name="logits")
    tf.nn.softmax(made, name="probabilities")
    return made


def classifying(label: str) -> Build:
    def build() -> None:
        made = logits()
        labels = v1.placeholder(tf.int64, [None], name=label)
        tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, made), name="loss")
        tf.reduce_mean(tf.cast(tf.equal(tf.argmax(made, 1), labels), tf.float32), name="accuracy")

    return build


def regressing() -> None:
    tf.reduce_mean((logits() - v1.placeholder(tf.float32, [None, 3], name="y_true")) ** 2, name="loss")


def descending() -> None:
    made = logits()
    w = v1.get_variable("w", [3], use_resource=False)
    loss = tf.reduce_sum(made * w + v1.placeholder(tf.float32, [None, 3], name="targets"), name="loss")
    v1.train.AdamOptimizer(0.1).minimize(loss)
    v1.summary.scalar("mean", tf.reduce_mean(made))


def in_top() -> None:
    tf.nn.in_top_k(v1.placeholder(tf.int32, [None], name="class_labels"), logits(), 1, name="right")


@pytest.mark.parametrize("build", [classifying("labels"), classifying("ground_truth"), regressing, descending, in_top])
def test_outputs_that_need_labels_are_not_among_those_to_keep(build: Build) -> None:
    def training() -> None:
        build()
        v1.assign_add(v1.get_variable("global_step", [], tf.int64, use_resource=False), 1, name="train")

    whole = built(training)
    with pytest.raises(FormatError, match=r'or keep the outputs that do not need it \(model_outputs="probabilities"\)'):
        split(whole, outputs=["logits"])
    assert verify(whole, split(whole, outputs=["logits"], model_outputs=["probabilities"])).equal


@pytest.mark.parametrize("build", [classifying("labels"), classifying("my_targets"), regressing, in_top])
def test_outputs_that_training_alone_needs_are_noted(build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = built(build)
    notes = [n for n in plan(whole, outputs=["logits"]).notes if "training" in n]
    assert len(notes) == 1
    assert re.fullmatch(r"some outputs depend on '\w+', as in training; model_outputs=\"probabilities\" leaves them out", notes[0])
    assert plan(whole, outputs=["logits"], model_outputs=["probabilities"]).notes == ()
    whole.save(tmp_path / "m.pb")
    assert run(["plan", str(tmp_path / "m.pb"), "--outputs=logits"]) == 0
    assert "--model-outputs probabilities leaves them out" in capfd.readouterr().out


def test_a_model_whose_outputs_all_need_something_called_target_is_not_noted() -> None:
    whole = model(placeholder("target"), node("y", "Relu", "target"))
    assert plan(whole).notes == ()


# variables


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_a_variable_matters_only_to_the_outputs_that_need_it(resource: bool, used: bool) -> None:
    def build() -> None:
        scores = network()
        w = v1.get_variable("w", [4], use_resource=resource)
        tf.identity(scores * w if used else tf.identity(w), name="scaled")

    whole = built(build)
    with pytest.raises(FormatError, match=r'not frozen: \'w[^\']*\' is a \w+, whose value is not in the file; freeze .*"scores"'):
        split(whole, outputs=["fc"])
    parts = split(whole, outputs=["fc"], model_outputs=["scores"])
    assert verify(whole, parts).equal


# queues and iterators: what fills them is not in the graph


def queued(op: Callable[[tf.queue.FIFOQueue], object]) -> Build:
    def build() -> None:
        with v1.name_scope("input"):
            queue = tf.queue.FIFOQueue(10, [tf.float32, tf.int64], [[4], []])
        x, _ = op(queue)  # type: ignore[misc]
        tf.nn.softmax(tf.matmul(tf.reshape(x, [-1, 4], name="flat"), tf.ones([4, 4]), name="fc"), name="scores")

    return build


QUEUES = [queued(lambda q: q.dequeue_many(2, name="deq")), queued(lambda q: q.dequeue(name="deq")),
          queued(lambda q: q.dequeue_up_to(2, name="deq"))]  # fmt: skip


def iterator(build: Callable[[], object], name: str = "IteratorGetNext") -> Build:
    def made() -> None:
        x = build()
        tf.nn.softmax(tf.matmul(tf.reshape(x, [-1, 4], name="flat"), tf.ones([4, 4]), name="fc"), name="scores")

    return made


def _next(types: Sequence[tf.DType], port: int, *, fresh: bool) -> Callable[[], object]:
    def take() -> object:
        shapes = [tf.TensorShape([None, 4])] * len(types)
        make = v1.data.Iterator.from_structure(tuple(types), tuple(shapes))
        if not fresh:
            data = v1.data.Dataset.from_tensors(tuple(tf.ones([1, 4], t) for t in types))
            make.make_initializer(data, name="fill")  # a node that no output runs
        return tf.cast(make.get_next(name="IteratorGetNext")[port], tf.float32)

    return take


ITERATORS = [iterator(_next([tf.float32, tf.float32], 1, fresh=True)), iterator(_next([tf.int64, tf.float32], 0, fresh=True)),
             iterator(_next([tf.float32, tf.int64], 1, fresh=False))]  # fmt: skip


@pytest.mark.parametrize("build", [*QUEUES, *ITERATORS])
def test_the_border_after_what_nothing_fills_is_named(build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = followed(built(build), tmp_path, capfd, "--outputs=fc", "--no-shapes", "--model-outputs=scores")
    assert "which is not part of the model" in message or "is not part of the model" in message
    sections = load_parts(tmp_path / "o")
    assert [p.name for p in sections] == ["pre", "main", "post"]
    feeds = {p.name: np.ones([2, 4], p.dtype) for p in sections["main"].inputs}
    with tf.Graph().as_default(), v1.Session() as session:
        tf.graph_util.import_graph_def(sections["main"].model.graph_def, name="")
        assert session.run(sections["main"].outputs[0].name, feeds).shape == (2, 4), "main runs"


def test_an_iterator_that_fills_itself_is_not_refused_for_that() -> None:
    def build() -> None:
        data = v1.data.Dataset.from_tensors(tf.ones([1, 4]))
        tf.nn.relu(v1.data.make_one_shot_iterator(data).get_next(), name="y")

    built(build).check_ends()


# graphs that were functions: _Arg and _Retval


def returned(*nodes: NodeDef) -> GraphDefModel:
    return model(node("a", "_Arg", T=tf.float32, index=0), *nodes)


def test_outputs_are_what_retval_reads_in_its_order() -> None:
    whole = returned(
        node("r", "Relu", "a"),
        node("s", "Neg", "r"),
        node("ret0", "_Retval", "s", index=1),
        node("ret1", "_Retval", "r", index=0),
    )
    assert (whole.index.inputs, whole.index.outputs) == (("a:0",), ("r:0", "s:0"))
    parts = split(whole, outputs=["r"])
    assert [p.name for p in parts] == ["main", "post"]
    assert verify(whole, parts).equal
    assert "_Arg" not in {n.op for p in parts for n in p.graph_def.node}


@pytest.mark.parametrize(
    "tail",
    [
        [node("ret", "_Retval", "r", index=0)],
        [node("left", "Abs", "r"), node("ret", "_Retval", "r", index=0)],
        [node("ret", "_Retval", "r", index=0), node("again", "_Retval", "r", index=1)],
        [node("u", "Unpack", "r", num=2), node("ret", "_Retval", "u:1", index=0)],
    ],
)
def test_other_sinks_are_no_outputs_of_such_a_graph(tail: list[NodeDef]) -> None:
    whole = returned(node("r", "Relu", "a"), *tail)
    assert len(whole.index.outputs) == 1
    assert [p.name for p in split(whole, outputs=whole.index.outputs)] == ["main"]


def test_a_split_without_sections_is_an_error() -> None:
    with pytest.raises(CutError, match=r"the graph has no outputs, so nothing would be in a section; name .* model_outputs="):
        plan(model(placeholder("x"), node("done", "NoOp", "^x")))


# custom ops


def custom(op: str, *inputs: str, **attrs: object) -> GraphDefModel:
    return model(
        placeholder("x", [1, 4]),
        node("h", "Relu", "x"),
        node("c", op, *inputs, **attrs),
        node("y", "Neg", "c"),
        node("z", "Sigmoid", "h"),
    )


CUSTOM = custom("MyOp", "h")


@pytest.mark.parametrize(
    ("whole", "dtype"),
    [
        (CUSTOM, "float32"),
        (model(placeholder("x"), node("c", "MyOp", "x"), node("y", "Neg", "c", T=tf.int64)), "int64"),
        (model(placeholder("x"), node("c", "MyOp", "x"), node("y", "Cast", "c", SrcT=tf.uint8, DstT=tf.float32)), "uint8"),
        (model(placeholder("x"), node("c", "MyOp", "x"), node("d", "Other", "c"), node("y", "AddN", "c", "c", N=2)), "float32"),
        (model(placeholder("x"), node("c", "MyOp", "x"), node("y", "DecodeJpeg", "c")), "string"),
        (model(placeholder("x"), node("c", "MyOp", "x"), const("a", 1.0), node("y", "Pack", "a", "c", N=2)), "float32"),
    ],
)
def test_the_dtype_of_a_custom_op_is_that_of_its_reader(whole: GraphDefModel, dtype: str) -> None:
    assert whole.index.tensors["c:0"].dtype == dtype
    parts = split(whole, outputs=["c"], shapes=False)
    assert parts["post"].inputs[0].dtype == dtype


def test_a_custom_op_is_cut_away_by_its_outputs_or_by_trust_in_surgery(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        TrustError, match=r'split\(\) runs nothing; keep the outputs that do not need it \(model_outputs="z"\), or trust'
    ):
        CUSTOM.check_trust(False)
    path = tmp_path / "m.pb"
    CUSTOM.save(path)
    assert run(["split", str(path), "-o", str(tmp_path / "a"), "--outputs=h", "--model-outputs=z"]) == 0
    assert run(["split", str(path), "-o", str(tmp_path / "b"), "--outputs=c", "--no-verify"]) == 0
    assert (
        run(["split", str(path), "-o", str(tmp_path / "c"), "--inputs=c", "--outputs=y", "--model-outputs=y", "--no-verify"]) == 0
    )


def test_an_op_that_tensorflow_lacks_is_named_with_what_it_reads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    message = followed(detector(), tmp_path, capfd, "--outputs=boxes,scores")
    assert "'detect' is a TFLite_Detection_PostProcess, which TensorFlow does not have" in message
    assert "--model-outputs boxes,scores" in message


# pruned first: what no output needs is neither checked nor loaded nor run


def detector() -> GraphDefModel:
    return model(
        placeholder("x", [1, 8]),
        const("anchors", np.zeros((2, 4), np.float32)),
        const("two", np.array([1, 2, 4], np.int32)),
        node("boxes", "Reshape", "x", "two"),
        node("scores", "Sigmoid", "boxes"),
        node("detect", "TFLite_Detection_PostProcess", "boxes", "scores", "anchors"),
    )


def reading() -> GraphDefModel:
    return model(placeholder("x"), const("path", np.array(b"/etc/hostname")), node("y", "Relu", "x"), node("z", "Neg", "y"),
                 node("text", "ReadFile", "path"))  # fmt: skip


def needing(*more: NodeDef) -> GraphDefModel:
    return model(placeholder("x"), node("y", "Relu", "x"), node("z", "Neg", "y"), *more)


INNER = function(
    "f",
    {"x": tf.float32},
    {"y": tf.float32},
    [node("v", "VarHandleOp", shape=[2]), node("r", "ReadVariableOp", "v:resource:0")],
    {"y": "r:value:0"},
)

UNNEEDED = {
    "custom op": needing(node("c", "MyOp", "x")),
    "file": reading(),
    "variable": needing(node("v", "VariableV2", shape=[2]), node("w", "Neg", "v")),
    "table": needing(node("t", "HashTableV2", key_dtype=tf.string, value_dtype=tf.float32)),
    "placeholder that cannot be fed": needing(placeholder("h", [], tf.variant), node("i", "Identity", "h", T=tf.variant)),
    "other input": needing(placeholder("other", [3, 5]), node("w", "Neg", "other")),
    "assignment": needing(const("m", np.zeros(2, np.float32)), node("a", "AssignSub", "m", "y")),
}


@pytest.mark.parametrize("kind", UNNEEDED)
def test_what_no_kept_output_needs_is_neither_checked_nor_run(kind: str, tmp_path: Path) -> None:
    whole = UNNEEDED[kind]
    path = tmp_path / "m.pb"
    whole.save(path)
    assert run(["split", str(path), "-o", str(tmp_path / "o"), "--outputs=y", "--model-outputs=z"]) == 0
    assert run(["verify", str(tmp_path / "o")]) == 0
    assert run(["rewrite", str(path), "-o", str(tmp_path / "r.pb"), "--model-outputs=z"]) == 0
    pruned = whole.pruned(["z:0"])
    assert [n.name for n in pruned.index.nodes] == ["x", "y", "z"]


def test_a_function_that_no_kept_output_calls_is_not_looked_at() -> None:
    made = v1.GraphDef()
    made.node.extend([placeholder("x", [2]), node("y", "Relu", "x"), node("z", "Neg", "y"), node("c", "f", "x")])
    made.library.function.add().CopyFrom(INNER)
    made.versions.producer = 1000
    whole = GraphDefModel([made.SerializeToString()])
    with pytest.raises(FormatError, match="not frozen: 'v'"):
        whole.check_frozen()
    whole.check_frozen(["z:0"])
    assert verify(whole, split(whole, outputs=["y"], model_outputs=["z"])).equal


def test_a_model_of_which_everything_is_needed_is_not_copied() -> None:
    whole = needing()
    assert whole.pruned(["z:0"]) is whole


def test_inputs_that_only_pruned_outputs_need_may_be_fed_all_the_same() -> None:
    whole = UNNEEDED["other input"]
    parts = split(whole, outputs=["y"], model_outputs=["z"])
    assert verify(whole, parts, {"x": np.ones((1, 2), np.float32), "other": np.ones((3, 5), np.float32)}).equal


def test_a_rewrite_checks_the_kept_outputs_only() -> None:
    assert rewrite(UNNEEDED["variable"], model_outputs=["z"]).index.outputs == ("z:0",)
    with pytest.raises(FormatError, match="not frozen"):
        rewrite(UNNEEDED["variable"])


def test_every_output_of_a_custom_op_is_kept_where_a_section_ends_at_it(tmp_path: Path) -> None:
    whole = model(placeholder("x"), node("c", "MyOp", "x"), node("y", "Neg", "c:2"), node("z", "Neg", "c:1", T=tf.int32))
    parts = split(whole, outputs=["c:1", "c:2"], shapes=False)
    save(parts, tmp_path / "o")
    ports = {p.tensor: p.dtype for p in load_parts(tmp_path / "o")["main"].outputs}
    assert ports == {"c:1": "int32", "c:2": "float32"}


def test_what_no_kept_output_of_a_tflite_file_needs_is_not_run(tmp_path: Path) -> None:
    file = Built()
    x = file.main.tensor("x", (1, 4))
    y = file.main.relu(x, "y")
    odd = file.main.like(x, "odd")
    file.main.op("MyOp", [y], [odd], custom=b"")
    z = file.main.relu(y, "z")
    file.main.ends([x], [z, odd])
    path = tmp_path / "m.tflite"
    path.write_bytes(file.bytes())
    assert run(["split", str(path), "-o", str(tmp_path / "a"), "--outputs=y"]) == 1
    assert run(["split", str(path), "-o", str(tmp_path / "b"), "--outputs=y", "--model-outputs=z"]) == 0
    assert run(["verify", str(tmp_path / "b")]) == 0
    whole = load(path)
    assert [s.name for s in whole.pruned(["z"]).outputs] == ["z"]
    assert whole.pruned(["z", "odd"]) is whole
