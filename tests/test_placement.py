"""Placed sections: every node where it was pinned, by TensorFlow's own account, and the same values as the whole.

Two logical CPU devices stand for a GPU and its host.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.errors import FeedError, PlacementError, SectionRunError
from graphsplit.execution import placement
from graphsplit.execution.placement import Placed, place
from graphsplit.formats import GraphDefModel
from graphsplit.inference.devices import host_of
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.tensorflow import TensorFlowSession
from graphsplit.splitting.surgery import split
from tests.graphs import Func, const, function, model, node, placeholder

tf1 = tf.compat.v1
TWO = {"main": "/cpu:0", "post": "/cpu:1"}


def two_cpus() -> Any:
    """A configuration with two logical CPU devices, and without the optimisations that move or drop nodes."""
    config = tf1.ConfigProto(device_count={"CPU": 2})
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = tf1.OptimizerOptions.L0
    return config


class Tracing:
    """A session that takes down where TensorFlow ran each node."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.where: dict[str, str] = {}

    def run(self, fetches: list[str], feeds: Mapping[str, Any]) -> Any:
        options = tf1.RunOptions(output_partition_graphs=True)
        metadata = tf1.RunMetadata()
        found = self.session.run(fetches, feeds, options=options, run_metadata=metadata)
        for graph in metadata.partition_graphs:
            self.where.update((n.name, n.device.rpartition("/device:")[2]) for n in graph.node)
        return found


def where(placed: Placed, feeds: Mapping[str, Any]) -> dict[str, str]:
    """Node of the placed graph → device it ran on."""
    with placed.session() as session:
        tracing = Tracing(session)
        placed.run(feeds, tracing)
    return tracing.where


def names_of(placed: Placed, section: str) -> set[str]:
    """Names in the placed graph of the nodes of a section that make tensors and are not fed."""
    fed = {placed.names[section][p.tensor] for p in placed.parts[section].inputs}
    return {n.rpartition(":")[0] for n in placed.names[section].values() if n not in fed}


def run_whole(whole: GraphDefModel, feeds: Mapping[str, Any], outputs: tuple[str, ...]) -> list[np.ndarray]:
    with TensorFlowSession(whole.serialized(), config=two_cpus()) as session:
        return session.run(feeds, outputs)


#     x ─▶ scaled = x · two ─▶ shifted = scaled + three ─▶ best, at = top(shifted) ─▶ far = at + one
#                 main       │                         post
#          └───────────────────────────────────────▶ sum = x + best


def chain() -> GraphDefModel:
    return model(
        placeholder("x", [None, 4]),
        const("two", [2.0, 3.0, 4.0, 5.0]),
        node("scaled", "Mul", "x", "two"),
        const("three", 3.0),
        node("shifted", "AddV2", "scaled", "three"),
        const("k", 4),
        node("best", "TopKV2", "shifted", "k"),
        const("one", 1),
        node("far", "AddV2", "best:1", "one", T=tf.int32),
        node("sum", "AddV2", "x", "best"),
    )


X = {"x:0": np.arange(8, dtype=np.float32).reshape(2, 4)}


# Where nodes run, and what they compute


def test_every_node_runs_on_the_device_of_its_section():
    placed = place(split(chain(), outputs="scaled"), TWO, config=two_cpus())
    ran = where(placed, X)
    assert names_of(placed, "main") == {"two", "scaled"}
    assert names_of(placed, "post") == {"three", "shifted", "k", "best", "one", "far", "sum"}
    assert {n: ran[n] for n in names_of(placed, "main")} == dict.fromkeys(names_of(placed, "main"), "CPU:0")
    assert {n: ran[n] for n in names_of(placed, "post")} == dict.fromkeys(names_of(placed, "post"), "CPU:1")


def test_devices_can_be_turned_round():
    placed = place(split(chain(), outputs="scaled"), {"main": "/cpu:1", "post": "/cpu:0"}, config=two_cpus())
    ran = where(placed, X)
    assert {ran[n] for n in names_of(placed, "main")} == {"CPU:1"}
    assert {ran[n] for n in names_of(placed, "post")} == {"CPU:0"}


def test_placed_sections_give_what_the_whole_gives():
    whole = chain()
    parts = split(whole, outputs="scaled")
    found = place(parts, TWO, config=two_cpus()).run(X)
    assert tuple(found) == parts.outputs
    for tensor, value in zip(parts.outputs, run_whole(whole, X, parts.outputs), strict=True):
        assert found[tensor].dtype == value.dtype
        assert np.array_equal(found[tensor], value)


def network() -> GraphDefModel:
    """Two convolutions with batch normalisation, a loop over the batch after each."""
    rng = np.random.default_rng(5)
    was_on = tf1.control_flow_v2_enabled()
    tf1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            here = tf1.placeholder(tf.float32, [None, 16, 16, 3], name="image")
            for stage in ("one", "two"):
                kernel = rng.normal(0, 0.3, (3, 3, here.shape[-1], 6)).astype(np.float32)
                here = tf.nn.conv2d(here, kernel, 1, "SAME", name=f"{stage}/conv")
                scale, offset, mean = (rng.normal(1, 0.2, 6).astype(np.float32) for _ in range(3))
                here, _, _ = tf1.nn.fused_batch_norm(here, scale, offset, mean, np.ones(6, np.float32), is_training=False)
                here = tf.map_fn(lambda one: one - tf.reduce_max(one), here, name=f"{stage}/map")
                here = tf.identity(here, name=f"{stage}/out")
            tf.nn.top_k(tf.reshape(here, [-1, 16 * 16 * 6]), 7, name="best")
    finally:
        (tf1.enable_control_flow_v2 if was_on else tf1.disable_control_flow_v2)()
    return GraphDefModel([graph.as_graph_def().SerializeToString()])


def test_three_sections_with_loops_run_where_they_should_and_equal_the_whole():
    whole = network()
    parts = split(whole, outputs=["one/out", "two/conv"])  # one list: a two-way split with two targets
    assert [p.name for p in parts] == ["main", "post"]
    parts = split(whole, outputs=[["one/out"], ["two/conv"]])
    devices = {"part_0": "/cpu:0", "part_1": "/cpu:1", "part_2": "/cpu:0"}
    placed = place(parts, devices, config=two_cpus())
    assert placed.devices == devices
    feeds = {"image:0": np.random.default_rng(1).normal(0, 1, (3, 16, 16, 3)).astype(np.float32)}
    ran = where(placed, feeds)
    for section, device in devices.items():
        names = names_of(placed, section)
        assert {ran[n] for n in names if n in ran} == {device[1:].upper()}
        assert len([n for n in names if n not in ran]) < len(names) / 2, "TensorFlow reports most of them"
    found = placed.run(feeds)
    for tensor, value in zip(parts.outputs, run_whole(whole, feeds, parts.outputs), strict=True):
        assert np.array_equal(found[tensor], value)


def test_functions_that_two_sections_call_are_one():
    square = function("square", {"a": tf.float32}, {"b": tf.float32}, [node("m", "Mul", "a", "a")], {"b": "m:z:0"})
    call = {"Tin": [tf.float32], "Tout": [tf.float32], "f": Func(name="square")}
    whole = model(
        placeholder("x", [None, 4]),
        node("border", "PartitionedCall", "x", **call),
        node("y", "PartitionedCall", "border", **call),
        functions=[square],
    )
    placed = place(split(whole, outputs="border"), TWO, config=two_cpus())
    assert np.array_equal(placed.run(X)["y:0"], X["x:0"] ** 4)


# Running


def test_a_session_can_be_kept_for_many_runs():
    placed = place(split(chain(), outputs="scaled"), TWO, config=two_cpus())
    once = placed.run(X)
    with placed.session() as session:
        for _ in range(3):
            again = placed.run(X, session)
            assert all(np.array_equal(once[t], again[t]) for t in once)


def test_an_input_that_both_sections_read_is_fed_to_both():
    placed = place(split(chain(), outputs="scaled"), TWO, config=two_cpus())
    assert placed.names["main"]["x:0"] == "x:0"
    assert placed.names["post"]["x:0"] == "x_1:0"
    found = placed.run(X)
    assert np.array_equal(found["sum:0"], X["x:0"] + run_whole(chain(), X, ("best:0",))[0])


@pytest.mark.filterwarnings("ignore:section 'main' was pinned")
def test_feeds_that_do_not_fit_are_told_all_at_once():
    placed = place(split(chain(), outputs="scaled"))
    assert np.array_equal(placed.run({"x": X["x:0"]})["sum:0"], placed.run(X)["sum:0"]), "a name means its first port"
    with pytest.raises(FeedError, match=r"^no input 'z'; there are x:0; 'x:0' is not fed$"):
        placed.run({"z": 1})
    with pytest.raises(FeedError, match="'x:0' must be float32, not int64; 'x:0' must have shape"):
        placed.run({"x:0": [1, 2]})


def test_a_section_that_fails_is_named_with_its_device_and_the_cause():
    whole = model(
        placeholder("x", [None]),
        node("border", "Neg", "x"),
        const("index", 9),
        const("axis", 0),
        node("y", "GatherV2", "border", "index", "axis", Tparams=tf.float32, Tindices=tf.int32, Taxis=tf.int32),
    )
    placed = place(split(whole, outputs="border"), TWO, config=two_cpus())
    with pytest.raises(SectionRunError, match=r"section 'post' on /cpu:1 failed to run: indices = 9 is not in \[0, 2\)") as caught:
        placed.run({"x:0": np.zeros(2, np.float32)})
    assert caught.value.section == "post"
    assert isinstance(caught.value.__cause__, tf.errors.InvalidArgumentError)


# Names


def assert_names_are_real(placed: Placed, whole: GraphDefModel) -> None:
    """Every tensor of every section has a name, and that name leads to a tensor of the same op."""
    ops = {t: n.op for n in whole.index.nodes for t in n.outputs}
    for part in placed.parts:
        names = placed.names[part.name]
        given = {p.tensor for p in part.inputs}
        assert set(names) == {t for t in part.model.index.tensors if t in ops and t not in renamed(part)} | given
        for tensor, name in names.items():
            found = placed.graph.get_tensor_by_name(name)
            assert found.op.type == ("Placeholder" if tensor in given else ops[tensor]), (tensor, name)
            assert found.dtype.name == whole.index.tensors[tensor].dtype
    everything = [n for names in placed.names.values() for n in names.values()]
    assert len(everything) == len(set(everything)), "two sections never share a tensor"
    held = {op.name for op in placed.graph.get_operations() if op.outputs}
    assert held == {n.rpartition(":")[0] for n in everything}, "and nothing else is in the graph"


def renamed(part: gs.Part) -> set[str]:
    """Names in a section's file that stand for another tensor of the whole."""
    return {p.name for p in part.inputs if p.name != p.tensor}


def test_the_map_holds_every_tensor_of_every_section_under_its_real_name():
    whole = chain()
    assert_names_are_real(place(split(whole, outputs="scaled"), TWO, config=two_cpus()), whole)
    whole = network()
    assert_names_are_real(place(split(whole, outputs="one/out"), TWO, config=two_cpus()), whole)


def test_ports_beyond_the_first_are_in_the_map():
    whole = chain()
    placed = place(split(whole, outputs=["best", "best:1"]), TWO, config=two_cpus())
    assert_names_are_real(placed, whole)
    assert placed.names["main"]["best:1"] == "best:1"
    assert placed.names["post"]["best:1"] == "best_port_1:0"
    assert np.array_equal(placed.run(X)["far:0"], run_whole(whole, X, ("far:0",))[0])


def test_the_second_section_has_the_classic_names():
    placed = place(split(chain(), outputs="scaled"), TWO, config=two_cpus())
    assert placed.names["main"]["scaled:0"] == "scaled:0"
    assert placed.names["post"]["scaled:0"] == "scaled_1:0"
    assert placed.names["post"]["best:0"] == "best:0"


@pytest.mark.parametrize("holder", ["main", "post"])
def test_where_the_classic_name_is_taken_the_map_tells_the_real_one(holder):
    """border_1 exists already, in the one section or the other: border of post cannot be called so."""
    taken = node("border_1", "Neg", "x" if holder == "main" else "border")
    whole = model(
        placeholder("x", [None, 4]),
        node("border", "Square", "x"),
        taken,
        node("y", "AddV2", "border", "border_1"),
    )
    targets = ["border", "border_1"] if holder == "main" else ["border"]
    placed = place(split(whole, outputs=targets), TWO, config=two_cpus())
    assert_names_are_real(placed, whole)
    if holder == "main":
        assert placed.names["main"]["border_1:0"] == "border_1:0"
        assert placed.names["post"]["border:0"] != "border_1:0"
    else:
        assert placed.names["post"]["border:0"] != placed.names["post"]["border_1:0"]
    assert np.array_equal(placed.run(X)["y:0"], run_whole(whole, X, ("y:0",))[0])


# Devices of the file


def with_devices() -> GraphDefModel:
    return model(
        placeholder("x", [None, 4]),
        node("border", "Neg", "x", device="/device:CPU:1"),
        node("free", "Neg", "border"),
        node("y", "Neg", "free", device="/job:localhost/device:CPU:0"),
    )


def test_devices_of_the_file_are_overwritten():
    parts = split(with_devices(), outputs="border")
    ran = where(place(parts, TWO, config=two_cpus()), X)
    assert (ran["border"], ran["free"], ran["y"]) == ("CPU:0", "CPU:1", "CPU:1")


def test_devices_of_the_file_are_kept_when_asked_to():
    parts = split(with_devices(), outputs="border")
    ran = where(place(parts, TWO, config=two_cpus(), keep_devices=True), X)
    assert (ran["border"], ran["free"], ran["y"]) == ("CPU:1", "CPU:1", "CPU:0")


@pytest.mark.parametrize("keep", [False, True])
def test_colocation_does_not_win_over_a_device(keep):
    whole = model(
        placeholder("x", [None, 4]),
        node("a", "Neg", "x", device="/device:CPU:1"),
        node("border", "Neg", "a", device="/device:CPU:1", _class=["loc:@free"]),
        node("free", "Neg", "border", _class=["loc:@a"]),
        node("y", "Neg", "free", device="/device:CPU:0", _class=["loc:@free", "loc:@border"]),
    )
    parts = split(whole, outputs="border")
    placed = place(parts, {"main": "/cpu:0", "post": "/cpu:1"}, config=two_cpus(), keep_devices=keep)
    ran = where(placed, X)
    kept = {"a": "CPU:1", "border": "CPU:1", "free": "CPU:1", "y": "CPU:0"}
    pinned = {"a": "CPU:0", "border": "CPU:0", "free": "CPU:1", "y": "CPU:1"}
    assert {n: ran[n] for n in kept} == (kept if keep else pinned)
    assert np.array_equal(placed.run(X)["y:0"], X["x:0"])


def test_colocation_within_a_section_breaks_nothing():
    whole = model(
        placeholder("x", [None, 4]),
        node("border", "Neg", "x"),
        node("p", "Neg", "border", _class=["loc:@q"]),
        node("q", "Neg", "p", _class=["loc:@p"]),
        node("y", "Neg", "q", _class=["loc:@border"]),
    )
    placed = place(split(whole, outputs="border"), TWO, config=two_cpus())
    assert {where(placed, X)[n] for n in ("p", "q", "y")} == {"CPU:1"}


# Ops that only a CPU can run


def host_ops() -> GraphDefModel:
    square = function("twice", {"a": tf.string}, {"b": tf.string}, [], {"b": "a"})
    return model(
        placeholder("x", [None, 4]),
        node("border", "Neg", "x"),
        const("limit", 100.0),
        const("axes", [0, 1]),
        node("most", "Max", "border", "axes"),
        node("fine", "Less", "most", "limit"),
        const("words", b"too much", object),
        node("checked", "Assert", "fine", "words", T=[tf.string]),
        node("text", "AsString", "border", "^checked"),
        node("passed", "PartitionedCall", "text", Tin=[tf.string], Tout=[tf.string], f=Func(name="twice")),
        node("length", "StringLength", "passed"),
        node("y", "Neg", "border", "^checked"),
        functions=[square],
    )


@pytest.mark.filterwarnings("ignore:section 'post' was pinned")
@pytest.mark.parametrize(
    ("device", "host", "pinned"),
    [
        ("/gpu:0", "/device:CPU:0", "/device:GPU:0"),
        ("/job:worker/task:1/gpu:2", "/job:worker/task:1/device:CPU:0", "/job:worker/task:1/device:GPU:2"),
        ("/cpu:1", "/device:CPU:1", "/device:CPU:1"),
    ],
)
def test_assert_and_string_ops_go_to_the_cpu_of_the_task(device, host, pinned):
    placed = place(split(host_ops(), outputs="border"), {"main": "/cpu:0", "post": device}, config=two_cpus())
    devices = {op.name: op.device for op in placed.graph.get_operations()}
    assert {n: devices[n] for n in ("words", "checked", "text", "passed", "length")} == dict.fromkeys(
        ("words", "checked", "text", "passed", "length"), host
    )
    assert {devices[n] for n in ("limit", "axes", "most", "fine", "y")} == {pinned}
    if "job" not in device:
        found = placed.run(X)
        assert np.array_equal(found["y:0"], X["x:0"])
        assert found["length:0"].shape == (2, 4)


def test_a_cpu_is_its_own_host():
    assert host_of("/cpu:1") == "/cpu:1"
    assert host_of("/gpu:3") == "/device:CPU:0"
    assert host_of("/job:a/replica:0/task:2/device:TPU:1") == "/job:a/replica:0/task:2/device:CPU:0"


def test_strings_keep_their_zeros_across_a_border():
    whole = model(
        placeholder("name", [], tf.string),
        node("kept", "Identity", "name", T=tf.string),
        node("length", "StringLength", "kept"),
    )
    placed = place(split(whole, outputs="kept"), TWO, config=two_cpus())
    assert placed.run({"name:0": b"ab\0\0"})["length:0"] == 4


# Devices that are not there


@pytest.fixture
def parts() -> Parts:
    return split(chain(), outputs="scaled")


def test_a_missing_device_is_warned_of_once_and_the_answer_is_still_right(parts):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        placed = place(parts, {"main": "/gpu:0", "post": "/gpu:1"})
        found = placed.run(X)
    (warning,) = (w for w in caught if issubclass(w.category, UserWarning))
    assert str(warning.message) == (
        "section 'main' was pinned to /gpu:0, section 'post' was pinned to /gpu:1, which this machine lacks: "
        "TensorFlow will run it on /cpu:0 (strict=True raises an error instead)"
    )
    assert warning.filename == __file__, "it points at the caller"
    assert placed.absent == ("/gpu:0", "/gpu:1")
    assert placed.graph.get_tensor_by_name("scaled:0").device == "/device:GPU:0", "the pin stays, for a machine that has it"
    for tensor, value in zip(parts.outputs, run_whole(chain(), X, parts.outputs), strict=True):
        assert np.array_equal(found[tensor], value)


def test_where_there_is_another_gpu_that_is_what_the_warning_names(parts, monkeypatch):
    monkeypatch.setattr(placement, "available_devices", lambda config: ("/cpu:0", "/gpu:0"))
    with pytest.warns(UserWarning, match="section 'main' was pinned to /gpu:1, .*: TensorFlow will run it on /gpu:0"):
        place(parts, {"main": "/gpu:1"})


def test_the_default_devices_are_those_of_the_parts(parts):
    with pytest.warns(UserWarning, match="section 'main' was pinned to /gpu:0, which this machine lacks"):
        placed = place(parts)
    assert placed.devices == {"main": "/gpu:0", "post": "/cpu:0"}
    moved = replace(parts, sections=tuple(replace(p, device="/cpu:0") for p in parts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert place(moved).absent == ()


def test_a_missing_device_is_refused_when_strict(parts):
    with pytest.raises(PlacementError, match=r"device /gpu:0 of section 'main' is not available; there are /cpu:0$") as caught:
        place(parts, strict=True)
    assert (caught.value.section, caught.value.device) == ("main", "/gpu:0")
    with pytest.raises(PlacementError, match=r"device /cpu:2 of section 'post' is not available; there are /cpu:0, /cpu:1$"):
        place(parts, {"main": "/cpu:0", "post": "/cpu:2"}, strict=True, config=two_cpus())
    assert not place(parts, TWO, strict=True, config=two_cpus()).config.allow_soft_placement


@pytest.mark.parametrize("device", ["", "garbage", "/gpu:x", "//", "/cpu:0/gpu:0", "/foo:0", None, 3, b"/cpu:0"], ids=repr)
def test_what_is_no_device_is_refused_with_the_section(parts, device):
    with pytest.raises(PlacementError, match=r" use a TensorFlow device name such as /gpu:0$") as caught:
        place(parts, {"post": device})
    assert caught.value.section == "post"
    assert repr(device) in str(caught.value)


@pytest.mark.parametrize("device", ["/CPU:0", "cpu:0", "cpu", "/device:CPU:0", "/job:localhost/replica:0/task:0/device:CPU:0"])
def test_a_device_may_be_written_in_several_ways(parts, device):
    placed = place(parts, {"main": device, "post": device}, config=two_cpus())
    assert placed.absent == ()
    assert {where(placed, X)[n] for n in ("scaled", "shifted")} == {"CPU:0"}


def test_an_unknown_section_is_refused(parts):
    with pytest.raises(PlacementError, match="no section 'remove'; there are main, post") as caught:
        place(parts, {"remove": "/cpu:0"})
    assert caught.value.section == "remove"


# Nothing else is touched


@pytest.fixture
def default_graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


def test_the_default_graph_is_not_touched(parts, default_graph):
    with tf.device("/cpu:1"), tf.name_scope("mine"):
        placed = place(parts, {"main": "/cpu:0", "post": "/cpu:0"})
    assert default_graph.get_operations() == []
    assert placed.graph is not default_graph
    assert tf1.get_default_graph() is default_graph
    assert placed.names["main"]["scaled:0"] == "scaled:0", "no name scope either"
    placed.run(X)
    assert default_graph.get_operations() == []


def test_eager_mode_is_not_touched(parts):
    assert tf.executing_eagerly()
    placed = place(parts, {"main": "/cpu:0", "post": "/cpu:0"})
    placed.run(X)
    assert tf.executing_eagerly()
    assert float(tf.constant(2.0) * 3) == 6.0


def test_parts_and_configuration_are_not_touched(parts):
    before = [p.model.serialized() for p in parts]
    config = two_cpus()
    frozen = config.SerializeToString()
    for strict in (False, True):
        place(parts, TWO, config=config, strict=strict)
        assert config.SerializeToString() == frozen
    assert [p.model.serialized() for p in parts] == before
    assert all(not n.device for p in parts for n in p.graph_def.node), "section files get no devices"


def test_two_placements_are_independent(parts):
    first, second = (place(parts, TWO, config=two_cpus()) for _ in range(2))
    assert first.graph is not second.graph
    assert first.names == second.names
