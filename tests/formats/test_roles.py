"""The roles of ops: each format has a table of its own, and every op in it is one of the format's."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.roles import ROLES as TENSORFLOW
from graphsplit.formats.tflite import schema
from graphsplit.formats.tflite.roles import ROLES as TFLITE
from graphsplit.graph.index import Role
from tests.graphs import Func, const, function, model, node, placeholder


def test_every_op_with_a_role_is_one_of_the_format():
    assert all(op_table().get(op) is not None for op in TENSORFLOW)
    assert set(TFLITE) <= set(schema._schema()["enums"]["BuiltinOperator"].values())
    assert {*TENSORFLOW.values(), *TFLITE.values()} == {*get_args(Role)} - {"", "custom", "alias"}


def test_nodes_and_functions_of_a_graphdef_have_their_roles():
    body = function("f", {"a": tf.string}, {"b": tf.uint8}, [node("d", "DecodeJpeg", "a")], {"b": "d:image:0"})
    call = node("call", "PartitionedCall", "s", Tin=[tf.string], Tout=[tf.uint8], f=Func(name="f"))
    shape, conv = node("shape", "Shape", "x"), node("conv", "Conv2D", "x", "w", strides=[1, 1, 1, 1], padding=b"VALID")
    weights = const("w", np.zeros((1, 1, 3, 3), np.float32))
    index = model(placeholder("x"), weights, shape, conv, node("add", "AddV2", "conv", "x"), node("relu", "Relu", "add")).index
    assert {n.name: n.role for n in index.nodes} == {
        "x": "", "w": "", "shape": "shape", "conv": "neural", "add": "arithmetic", "relu": "",
    }  # fmt: skip
    index = model(placeholder("s", (), tf.string), call, functions=[body]).index
    assert index.functions["f"].roles == {"decode"}


def test_nodes_and_functions_of_a_tflite_file_have_their_roles():
    pytest.importorskip("ai_edge_litert.schema_py_generated")
    from graphsplit.formats.tflite.model import TFLiteModel
    from tests.formats.tflite.builder import everything

    index = TFLiteModel(everything().bytes()).index
    roles = {n.op: n.role for n in index.nodes}
    assert (roles["FULLY_CONNECTED"], roles["CONCATENATION"], roles["ADD"], roles["Const"]) == (
        "neural",
        "arithmetic",
        "arithmetic",
        "",
    )
    assert {f.roles for f in index.functions.values()} == {frozenset({"arithmetic"})}
