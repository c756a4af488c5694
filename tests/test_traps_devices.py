"""Traps of devices and manners: where sections run, and what is left alone."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.errors import PlacementError
from graphsplit.execution.placement import Placed, place
from graphsplit.formats import GraphDefModel, load
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.tensorflow import session_config
from graphsplit.splitting.surgery import plan, split
from graphsplit.verification.equivalence import verify
from tests.graphs import const, graph, model, names, node, node_of, placeholder, proven, two_ports

ON_CPU = {"main": "/cpu:0", "post": "/cpu:0"}


# 10. Devices
#
#     x ─▶ a ─▶ t ║─▶ y          main on one logical device, post on the other
#     /gpu:0      ║              the file pinned a to a GPU, long ago


def pinned() -> GraphDefModel:
    return model(placeholder("x"), node("a", "Neg", "x", device="/device:GPU:0"), node("t", "Exp", "a"), node("y", "Neg", "t"))


def two_cpus() -> Any:
    config = session_config(optimize=False)
    config.device_count["CPU"] = 2
    return config


def ran_on(placed: Placed, x: np.ndarray[Any, Any]) -> tuple[dict[str, str], np.ndarray[Any, Any]]:
    """Where TensorFlow says that each node has run, in one run of both halves, and what came out."""
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE, output_partition_graphs=True)
    where: dict[str, str] = {}
    post = placed.names["post"]
    with placed.session() as session:
        feeds = {placed.names["main"]["x:0"]: x}
        for section, fetch in (("main", "t:0"), ("post", "y:0")):
            metadata = tf.compat.v1.RunMetadata()
            value = session.run(placed.names[section][fetch], feeds, options=options, run_metadata=metadata)
            feeds = {post["t:0"]: value}
            for partition in metadata.partition_graphs:
                where |= {n.name: n.device for n in partition.node}
            for device in metadata.step_stats.dev_stats:
                for run in device.node_stats:
                    assert where.get(run.node_name, device.device) == device.device
    return {name: device.rpartition("device:")[2] for name, device in where.items()}, value


@pytest.mark.parametrize(("main", "post"), [("CPU:1", "CPU:0"), ("CPU:0", "CPU:1"), ("CPU:1", "CPU:1")])
def test_pins_are_honoured_as_tensorflow_reports_and_values_are_equal(main: str, post: str) -> None:
    whole = pinned()
    parts = proven(whole, outputs=["t"])
    placed = place(parts, {"main": f"/{main}", "post": f"/{post}".lower()}, config=two_cpus(), strict=True)
    x = np.array([[1.0, 2.0]], np.float32)
    where, y = ran_on(placed, x)
    assert {name: where[name] for name in ("a", "t", "y")} == {"a": main, "t": main, "y": post}
    np.testing.assert_array_equal(y, place(parts, ON_CPU).run({"x:0": x})["y:0"])


def test_pins_are_written_on_the_nodes_and_replace_those_of_the_file() -> None:
    parts = split(pinned(), outputs=["t"])
    assert node_of(parts["main"], "a").device == "/device:GPU:0"
    placed = place(parts, {"main": "/cpu:1", "post": "/cpu:0"}, config=two_cpus())
    assert {op.name: op.device for op in placed.graph.get_operations()} == {
        **dict.fromkeys(["x", "a", "t"], "/device:CPU:1"),
        **dict.fromkeys(["t_1", "y"], "/device:CPU:0"),
    }


def test_devices_of_the_file_are_kept_on_request() -> None:
    placed = place(split(pinned(), outputs=["t"]), {"main": "/cpu:1", "post": "/cpu:0"}, config=two_cpus(), keep_devices=True)
    assert placed.graph.get_operation_by_name("a").device == "/device:GPU:0"
    assert placed.graph.get_operation_by_name("t").device == "/device:CPU:1"
    where, _ = ran_on(placed, np.ones([1, 2], np.float32))
    assert where["a"] == "CPU:0", "no GPU: soft placement"


#     x ─▶ text ─▶ both ─▶ length ─▶ t ║─▶ y          strings, and what checks: no kernel for a GPU
#     ├───────────▶ └─▶ t              ║
#     └──▶ check ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄▶ t ║


HOST = {"what", "check", "text", "both", "length"}


def with_strings() -> Parts:
    whole = model(
        placeholder("x"),
        const("yes", True),
        const("what", np.array(b"x is bad")),
        node("check", "Assert", "yes", "what", "x", T=[tf.string, tf.float32]),
        node("text", "AsString", "x"),
        node("both", "IdentityN", "text", "x", T=[tf.string, tf.float32]),
        node("length", "StringLength", "both"),
        node("count", "Cast", "length", SrcT=tf.int32, DstT=tf.float32),
        node("t", "Mul", "count", "both:1", "^check"),
        node("y", "Neg", "t"),
    )
    return proven(whole, outputs=["t"])


def test_host_only_ops_of_an_accelerator_section_stay_on_the_cpu() -> None:
    with pytest.warns(UserWarning, match="section 'main' was pinned to /gpu:0, which this machine lacks"):
        placed = place(with_strings())
    devices = {op.name: op.device for op in placed.graph.get_operations()}
    assert {n for n, d in devices.items() if d == "/device:GPU:0"} == {"x", "yes", "count", "t"}
    assert {n for n, d in devices.items() if d == "/device:CPU:0"} == {*HOST, "t_1", "y"}
    np.testing.assert_array_equal(placed.run({"x:0": np.ones([1, 2], np.float32)})["y:0"], np.full([1, 2], -8.0, np.float32))


def test_host_only_ops_of_a_section_on_a_cpu_stay_on_that_cpu() -> None:
    placed = place(with_strings(), {"main": "/cpu:1", "post": "/cpu:0"}, config=two_cpus(), strict=True)
    assert {placed.graph.get_operation_by_name(n).device for n in HOST} == {"/device:CPU:1"}


def test_absent_device_is_replaced_with_a_warning_or_refused_on_request() -> None:
    parts = split(pinned(), outputs=["t"])
    soft = r"section 'main' was pinned to /gpu:7, which this machine lacks: TensorFlow will run it on /cpu:0 \(strict=True raises"
    with pytest.warns(UserWarning, match=soft):
        placed = place(parts, {"main": "/gpu:7"})
    assert placed.absent == ("/gpu:7",)
    assert placed.config.allow_soft_placement
    x = np.ones([1, 2], np.float32)
    np.testing.assert_allclose(placed.run({"x:0": x})["y:0"], -np.exp(-x), rtol=1e-6)

    with pytest.raises(PlacementError, match=r"device /gpu:7 of section 'main' is not available; there are /cpu:0") as e:
        place(parts, {"main": "/gpu:7"}, strict=True)
    assert (e.value.section, e.value.device) == ("main", "/gpu:7")
    with pytest.raises(PlacementError, match="device /cpu:1 of section 'post' is not available; there are /cpu:0"):
        place(parts, {"main": "/cpu:0", "post": "/cpu:1"}, strict=True)
    assert not place(parts, ON_CPU, strict=True).config.allow_soft_placement


def test_what_is_no_device_or_no_section_is_refused() -> None:
    parts = split(pinned(), outputs=["t"])
    with pytest.raises(PlacementError, match="invalid device 'the big one'"):
        place(parts, {"main": "the big one"})
    with pytest.raises(PlacementError, match="no section 'pre'; there are main, post"):
        place(parts, {"pre": "/cpu:0"})


# 23. Manners: arguments are not changed, nor is anything that belongs to the whole process


def switches() -> dict[str, Any]:
    """What is on or off for the whole process. It is the same in every test, so it is compared with how it was at the start."""
    return {
        "eager": tf.compat.v1.executing_eagerly_outside_functions(),
        "control flow": tf.compat.v1.control_flow_v2_enabled(),
        "resource variables": tf.compat.v1.resource_variables_enabled(),
        "tensor shapes": isinstance(tf.TensorShape([1])[0], int),
        "soft placement": tf.config.get_soft_device_placement(),
        "log level": tf.compat.v1.logging.get_verbosity(),
    }


AT_FIRST = switches()


def world() -> dict[str, Any]:
    """What else a library has no business changing."""
    default = tf.compat.v1.get_default_graph()
    _, *numpy_random = np.random.get_state()
    return {
        "default graph": default,
        "its nodes": [op.name for op in default.get_operations()],
        "its seed": default.seed,
        "eager": tf.executing_eagerly(),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "random": random.getstate(),
        "numpy random": [np.array(part).tolist() for part in numpy_random],
    }


@contextlib.contextmanager
def callers_graph() -> Iterator[None]:
    with tf.Graph().as_default(), tf.name_scope("scope"), tf.device("/cpu:0"):
        tf.constant(1.0, name="mine")
        yield


@pytest.fixture(params=[contextlib.nullcontext, callers_graph], ids=["eager", "in a graph of the caller's"])
def caller(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs a test in eager mode, and with a default graph that already holds a node."""
    with request.param():
        yield
    assert switches() == AT_FIRST


@pytest.mark.usefixtures("caller")
def test_default_graph_eager_mode_and_all_that_is_global_are_left_alone(tmp_path: Path) -> None:
    x = np.ones([1, 2], np.float32)
    np.random.seed(1_234_567)
    random.seed(1_234_567)
    before = world()
    whole = pinned()
    parts = split(load(whole.save(tmp_path / "x.pb")), outputs=["t"])
    assert verify(whole, parts).equal
    again = load_parts(save(parts, tmp_path / "out"))
    assert place(again, ON_CPU).run({"x:0": x}).keys() == {"y:0"}
    after = world()
    assert [key for key in before if before[key] != after[key]] == []
    assert before["default graph"] is after["default graph"]


def test_lists_of_targets_are_not_emptied() -> None:
    whole = two_ports()
    targets, lists, kept = ["s:1", "a", "a:0"], [["s:1"], ["a"]], ["y"]
    first, second = plan(whole, outputs=targets, model_outputs=kept), plan(whole, outputs=lists, model_outputs=kept)
    assert (targets, lists, kept) == (["s:1", "a", "a:0"], [["s:1"], ["a"]], ["y"])
    assert plan(whole, outputs=targets, model_outputs=kept) == first
    assert plan(whole, outputs=lists, model_outputs=kept) == second
    assert plan(whole, outputs=(t for t in targets), model_outputs=iter(kept)) == first


def test_model_devices_feeds_and_configuration_are_not_changed() -> None:
    made = graph(*pinned().graph_def.node)
    data = made.SerializeToString(deterministic=True)
    whole = GraphDefModel([data])
    devices = {"main": "/cpu:1"}
    parts = split(whole, outputs=["t"], devices=devices)
    sections = {p.name: p.model.serialized() for p in parts}
    config = two_cpus()
    settings = config.SerializeToString(deterministic=True)
    x = np.ones([1, 2], np.float32)
    x.flags.writeable = False
    feeds = {"x:0": x}
    for strict in (True, False):
        place(parts, devices, config=config, strict=strict).run(feeds)
        assert config.SerializeToString(deterministic=True) == settings
    verify(whole, parts, feeds).check()
    verify(whole, parts, [feeds]).check()
    assert devices == {"main": "/cpu:1"}
    assert feeds.keys() == {"x:0"}
    assert feeds["x:0"] is x
    assert whole.serialized() == data
    assert {p.name: p.model.serialized() for p in parts} == sections
    assert whole.graph_def is not whole.graph_def


def test_graph_def_of_a_part_belongs_to_the_caller() -> None:
    parts = split(pinned(), outputs=["t"])
    parts.keep.graph_def.node[0].name = "mine"
    assert names(parts.keep) == ["x", "a", "t"]


def test_same_arguments_give_the_same_answer_twice() -> None:
    whole = two_ports()
    one, two = (split(whole, outputs=["s:1"]) for _ in range(2))
    assert one.plan == two.plan
    assert [p.model.serialized() for p in one] == [p.model.serialized() for p in two]
