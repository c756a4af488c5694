"""Suggested cuts: the family's own first, each cut once, an honest answer where nothing is worth cutting off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.demo import data as demo_data
from graphsplit.formats import GraphDefModel
from tests.graphs import const, model, node, placeholder
from tests.shared import shared_model

CLASSIC = ("Postprocessor/Slice:0", "Postprocessor/ExpandDims_1:0", "Postprocessor/stack_1:0")


def outputs(cut: gs.Suggestion) -> tuple[str, ...]:
    return tuple(spec.name for spec in cut.outputs)


def centernet() -> GraphDefModel:
    """image ─▶ heat: conv, sigmoid ─▶ = own MaxPool? ─▶ TopKV2 ─▶ peaks       image ─▶ wh: conv ─▶ GatherV2 at the peaks"""
    conv = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    return model(
        placeholder("image", (1, 8, 8, 3)),
        const("w", np.ones((1, 1, 3, 2), np.float32)),
        const("b", np.ones(2, np.float32)),
        node("heat_conv", "Conv2D", "image", "w", **conv),
        node("heat", "BiasAdd", "heat_conv", "b"),
        node("wh_conv", "Conv2D", "image", "w", **conv),
        node("wh", "BiasAdd", "wh_conv", "b"),
        node("sigmoid", "Sigmoid", "heat"),
        node("pool", "MaxPool", "sigmoid", ksize=[1, 3, 3, 1], **conv),
        node("peak", "Equal", "sigmoid", "pool"),
        node("mask", "Cast", "peak", SrcT=tf.bool, DstT=tf.float32),
        node("left", "Mul", "sigmoid", "mask"),
        const("flat", np.array([1, 128], np.int32)),
        node("flat_heat", "Reshape", "left", "flat"),
        const("k", np.array(5, np.int32)),
        node("top", "TopKV2", "flat_heat", "k"),
        const("rows", np.array([64, 2], np.int32)),
        node("flat_wh", "Reshape", "wh", "rows"),
        const("axis", np.array(0, np.int32)),
        node("sizes", "GatherV2", "flat_wh", "top:1", "axis", Tparams=tf.float32, Tindices=tf.int32, Taxis=tf.int32),
    )


def test_the_cut_of_the_family_is_first_and_no_cut_stands_twice() -> None:
    cuts = gs.suggest(gs.load(str(demo_data.model())), limit=10)
    assert (cuts[0].source, cuts[0].name) == ("preset", "ssd_2018")
    assert sorted(outputs(cuts[0])) == sorted(CLASSIC)
    assert cuts[0].nbytes == 4 * 2152 * (8 + 4) + 16
    assert sum(cuts[0].nodes.values()) >= len([n for n in gs.load(str(demo_data.model())).index.nodes if n.kind == "op"])
    asked = [(c.inputs, outputs(c)) for c in cuts]
    assert len(set(asked)) == len(asked) > 1


def test_a_family_cut_that_is_also_found_stays_the_first() -> None:
    """The heads of a CenterNet are its preset's targets: found twice, told once, under the name that says more."""
    cuts = gs.suggest(centernet())
    assert (cuts[0].source, cuts[0].name, sorted(outputs(cuts[0]))) == ("preset", "centernet", ["heat:0", "wh:0"])
    assert [c.name for c in cuts].count("heads") == 0


def test_limit_leaves_out_the_last() -> None:
    every = gs.suggest(gs.load(str(demo_data.model())), limit=10)
    assert list(gs.suggest(gs.load(str(demo_data.model())), limit=2)) == list(every[:2])


def test_a_table_of_ones_own_comes_before_the_custom_of_a_family(tmp_path: Path) -> None:
    table = tmp_path / "mine.json"
    table.write_text(json.dumps({"Sigmoid": "host", "MaxPool": "host"}))
    cuts = gs.suggest(centernet(), affinity=table)
    assert cuts[0].source == "autocrop"
    assert "Sigmoid (sigmoid)" in cuts[0].reason


def test_nothing_is_made_up_where_no_op_belongs_on_a_host() -> None:
    """image ─▶ conv ─▶ softmax"""
    whole = model(
        placeholder("image", (1, 8, 8, 3)),
        const("w", np.ones((8, 8, 3, 2), np.float32)),
        node("conv", "Conv2D", "image", "w", strides=[1, 1, 1, 1], padding="VALID"),
        node("classes", "Softmax", "conv"),
    )
    cuts = gs.suggest(whole)
    assert len(cuts) == 0
    assert cuts.reason.startswith("nothing to crop after the network")


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("tiny_ssd_mobilenet_v1_2017", "ssd_2017_11"),
        ("tiny_ssd_mobilenet_v1_2018", "ssd_2018"),
        ("centernet_mobilenet_v3", "centernet"),
        pytest.param("ssd_mobilenet_v1_coco_2018", "ssd_2018", marks=pytest.mark.slow),
        pytest.param("faster_rcnn_inception_v2_coco_2018", "faster_rcnn", marks=pytest.mark.slow),
    ],
)
def test_real_models_are_cut_where_their_family_is(name: str, preset: str) -> None:
    cuts = gs.suggest(gs.load(shared_model(f"{name}.pb")))
    assert (cuts[0].source, cuts[0].name) == ("preset", preset)
    assert {c.source for c in cuts} == {"preset", "autocrop"}
