"""The value of a constant of a GraphDef, against TensorFlow's own reading."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.formats.graphdef.model import GraphDefModel
from tests.formats import raw
from tests.graphs import const, model, node, placeholder

DTYPES = ["float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def value_of(proto: tf.compat.v1.AttrValue, *, dtype: tf.DType = tf.float32, **options: int) -> np.ndarray | None:
    made = node("c", "Const", dtype=dtype)
    made.attr["value"].CopyFrom(proto)
    return model(made, node("y", "Identity", "c", T=dtype)).constant("c", **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numbers", [[[0, 1], [1, 0], [1, 1]], 1, [], [[]]])
def test_bytes_and_lists_of_numbers_are_the_same_value(dtype, numbers):
    array = np.array(numbers, dtype)
    packed = tf.make_tensor_proto(array)
    listed = type(packed)(dtype=packed.dtype, tensor_shape=packed.tensor_shape)
    field = {"float16": "half_val", "float32": "float_val", "float64": "double_val", "bool": "bool_val", "int64": "int64_val"}
    field |= {"uint32": "uint32_val", "uint64": "uint64_val"}
    flat = array.reshape(-1)
    getattr(listed, field.get(dtype, "int_val")).extend((flat.view(np.uint16) if dtype == "float16" else flat).tolist())
    packed.ClearField(field.get(dtype, "int_val"))
    packed.tensor_content = array.tobytes()
    for proto in (packed, listed):
        found = value_of(tf.compat.v1.AttrValue(tensor=proto), dtype=tf.dtypes.as_dtype(dtype))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)
        np.testing.assert_array_equal(found, tf.make_ndarray(proto))


@pytest.mark.parametrize(("listed", "full"), [([], [0, 0, 0]), ([2.5], [2.5] * 3), ([1, 2], [1, 2, 2]), ([1, 2, 3], [1, 2, 3])])
def test_the_last_number_is_repeated(listed, full):
    proto = tf.make_tensor_proto(np.zeros(3, np.float32))
    proto.ClearField("tensor_content")
    proto.ClearField("float_val")
    proto.float_val.extend(listed)
    assert value_of(tf.compat.v1.AttrValue(tensor=proto)).tolist() == full
    assert tf.make_ndarray(proto).tolist() == full


def test_a_large_or_damaged_constant_has_no_value():
    small, proto = np.arange(100, dtype=np.float32), tf.make_tensor_proto(np.zeros(4, np.float32))
    assert value_of(tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(small)), limit=500).size == 100
    assert value_of(tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(small)), limit=400) is None
    proto.tensor_content = b"12345678"
    assert value_of(tf.compat.v1.AttrValue(tensor=proto)) is None
    huge = tf.make_tensor_proto(np.float32(1))
    huge.tensor_shape.dim.add(size=2**40)
    assert value_of(tf.compat.v1.AttrValue(tensor=huge)) is None
    huge.tensor_shape.dim[0].size = -1
    assert value_of(tf.compat.v1.AttrValue(tensor=huge)) is None
    many = tf.make_tensor_proto(np.zeros(2, np.int8))
    many.ClearField("tensor_content")
    many.int_val.extend([300, -1])  # out of range: wrapped, as TensorFlow casts it
    assert value_of(tf.compat.v1.AttrValue(tensor=many), dtype=tf.int8).tolist() == [44, -1]


@pytest.mark.parametrize("value", [b"abc", [b"a", b""], [[b"x"], [b"x"]], np.zeros((0, 2), object)])
def test_texts_are_objects(value):
    array = np.array(value, object)
    found = model(const("text", array), node("z", "Identity", "text", T=tf.string)).constant("text")
    assert (found.dtype, found.shape, found.tolist()) == (np.dtype(object), array.shape, array.tolist())


def test_other_nodes_and_dtypes_have_no_value():
    text = const("text", np.array(b"abc", object))
    whole = model(placeholder("x"), text, node("y", "Identity", "x"), node("z", "Identity", "text", T=tf.string))
    assert [whole.constant(name) for name in ("x", "y", "nothing")] == [None] * 3
    brain = tf.make_tensor_proto(tf.cast([1, 2], tf.bfloat16).numpy())
    assert value_of(tf.compat.v1.AttrValue(tensor=brain), dtype=tf.bfloat16) is None
    bare = GraphDefModel([raw.graph(raw.node("c", "Const"), raw.identity("y", "c"))])
    assert bare.constant("c") is None


@pytest.mark.parametrize("sizes", [[1] * 70, [10**12], [2**31, 2**31, 4], [2**62, 2**62], [0] * 40])
def test_a_shape_that_no_array_has_is_no_value(sizes):
    proto = tf.compat.v1.AttrValue()
    proto.tensor.dtype = tf.int32.as_datatype_enum
    proto.tensor.int_val.append(1)
    for size in sizes:
        proto.tensor.tensor_shape.dim.add(size=size)
    assert value_of(proto, dtype=tf.int32) is None
