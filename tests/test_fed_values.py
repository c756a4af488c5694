"""Each kind of value at each door: it arrives as it is, or is refused before anything runs, with the same words everywhere.

Most of them are what NumPy or TensorFlow would cast, cut or misread without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.errors import FeedError
from graphsplit.formats import GraphDefModel
from graphsplit.inference.fed_arrays import fed_array
from graphsplit.parts.parts import Parts

from .graphs import const, model, node, placeholder

pytestmark = pytest.mark.filterwarnings("ignore:.*gpu")
VALUE = np.array([[1.0, -2.0, 3.0]], np.float32)
Array = np.ndarray[Any, Any]


def passing_on(dtype: Any, shape: list[int | None]) -> GraphDefModel:
    """Two sections that return what is fed."""
    return model(
        placeholder("x", shape, dtype),
        node("h", "Identity", "x", T=dtype),
        node("y", "Identity", "h", T=dtype),
    )


@pytest.fixture(scope="module")
def floats() -> Parts:
    whole = model(placeholder("x", [None, 3]), const("one", 1.0), node("h", "Mul", "x", "one"), node("y", "Identity", "h"))
    return gs.split(whole, outputs=["h"], isolate=False)


@pytest.fixture(scope="module")
def texts() -> Parts:
    return gs.split(passing_on(tf.string, [None]), outputs=["h"], isolate=False)


# doors: each returns what the model returned for one value


class Piped:
    """A pipeline that is used for all values, and has to remain usable after each of them."""

    def __init__(self, policy: str = "") -> None:
        self.policy = policy
        self.pipes: list[tuple[Parts, gs.Pipeline]] = []

    def __call__(self, parts: Parts, value: object) -> Array:
        pipe = next((pipe for opened, pipe in self.pipes if opened is parts), None)
        if pipe is None:
            pipe = gs.Pipeline(parts)
            self.pipes.append((parts, pipe))
        if not self.policy:
            return pipe.run({"x": value})["y:0"]
        return next(pipe.stream(iter([{"x": value}]), policy=self.policy))["y:0"]  # type: ignore[arg-type]


def called_back(parts: Parts, value: object) -> Array:
    results: list[Array] = []
    with gs.AsyncRunner(parts["main"]) as runner:
        runner.set_postprocessing_model(parts["post"])
        runner.connect_input(lambda: iter([[value]]))
        runner.connect_output(results.append)
        runner.wait()
    return results[0]


def several_streams(parts: Parts, value: object) -> Array:
    results: list[Array] = []
    with gs.MultiStreamRunner(parts["main"]) as runner:
        runner.set_postprocessing_model(parts["post"])
        runner.connect_streams(lambda stream: iter([[value]]), lambda stream, y: results.append(y), 1)
        runner.wait()
    return results[0]


def placed(parts: Parts, value: object) -> Array:
    return gs.place(parts).run({"x": value})["y:0"]


def verified(parts: Parts, value: object) -> Array:
    whole = parts.source.model
    assert whole is not None
    assert gs.verify(whole, parts, {"x": value}, isolate=False).equal
    return fed_array(value)


@pytest.fixture(scope="module")
def doors() -> Iterator[list[Callable[[Parts, object], Array]]]:
    piped = [Piped(), Piped("block"), Piped("latest")]
    yield [*piped, called_back, several_streams, placed, verified]
    for door in piped:
        for _, pipe in door.pipes:
            pipe.close()


class Own(np.ndarray[Any, Any]):
    pass


class Raising:
    """Like a tensor of another framework that is on a GPU, or needs a gradient."""

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        raise RuntimeError("can't convert a cuda tensor to numpy")


def read_only() -> Array:
    array = VALUE.copy()
    array.flags.writeable = False
    return array


def symbolic() -> object:
    caught = []

    @tf.function
    def f(x: Any) -> Any:
        caught.append(x)
        return x

    f(tf.constant(VALUE))
    return caught[0]


def in_a_file(tmp_path: Path) -> Array:
    np.save(tmp_path / "a.npy", VALUE)
    return np.load(tmp_path / "a.npy", mmap_mode="r")


ARRIVE = {
    "plain": lambda: VALUE,
    "of the other byte order": lambda: VALUE.astype(">f4"),
    "negative strides": lambda: VALUE[:, ::-1].copy()[:, ::-1],
    "not contiguous": lambda: np.repeat(VALUE, 2, axis=1)[:, ::2],
    "in Fortran's order": lambda: np.asfortranarray(VALUE),
    "read only": read_only,
    "broadcast": lambda: np.broadcast_to(VALUE[0], (1, 3)),
    "a subclass": lambda: VALUE.view(Own),
    "masked nowhere": lambda: np.ma.masked_array(VALUE),
    "an eager tensor": lambda: tf.constant(VALUE),
    "a variable": lambda: tf.Variable(VALUE),
    "a list of numbers of its dtype": lambda: [[np.float32(v) for v in VALUE[0]]],
}
REFUSED = {
    "records": (lambda: np.zeros([1, 3], [("float32", "f4")]), r"'x:0' is an array of records \(float32\)"),
    "records of two": (lambda: np.zeros([1, 3], [("a", "f4"), ("b", "f4")]), r"is an array of records \(a, b\)"),
    "raw bytes": (lambda: VALUE.view("V4"), r"is an array of raw bytes"),
    "objects": (lambda: VALUE.astype(object), r"is an array of objects \(float at \[0, 0\]"),
    "none": (lambda: np.array([[None] * 3]), r"is an array of objects \(NoneType"),
    "masked": (lambda: np.ma.masked_less(VALUE, 0), r"has masked values; .* filled\("),
    "a list of masked": (lambda: [np.ma.masked_less(VALUE[0], 0)], r"has masked values"),
    "symbolic": (symbolic, r"is not an array but a SymbolicTensor"),
    "of Keras": (lambda: tf.keras.Input((3,)), r"is not an array but a KerasTensor"),
    "ragged": (lambda: tf.ragged.constant([[1.0, 2.0, 3.0]]), r"is not an array but a RaggedTensor"),
    "sparse": (lambda: tf.sparse.from_dense(VALUE), r"is not an array but a SparseTensor"),
    "raising": (Raising, r"is not an array but a Raising: can't convert a cuda tensor"),
    "a generator": (lambda: (v for v in VALUE), r"is not an array but a generator"),
    "a dict": (lambda: {"a": 1}, r"is not an array but a dict"),
    "a set": (lambda: {1.0, 2.0}, r"is not an array but a set"),
    "unequal lists": (lambda: [[1.0], [2.0, 3.0]], r"'x:0' is not an array: "),
    "a time": (lambda: VALUE.astype("M8[s]"), r"must be float32, not datetime64\[s\]"),
    "a span": (lambda: VALUE.astype("m8[s]"), r"must be float32, not timedelta64\[s\]"),
    "float64": (lambda: VALUE.astype("f8"), r"must be float32, not float64"),
    "a list of Python's floats": (VALUE.tolist, r"must be float32, not float64"),
    "float128": (lambda: VALUE.astype(np.longdouble), r"must be float32, not (float128|longdouble|float96)"),
    "float16": (lambda: VALUE.astype("f2"), r"must be float32, not float16"),
    "bfloat16": (lambda: VALUE.astype(ml_dtypes.bfloat16), r"must be float32, not bfloat16"),
    "int4": (lambda: VALUE.astype(ml_dtypes.int4), r"must be float32, not int4"),
    "bool": (lambda: VALUE > 0, r"must be float32, not bool"),
    "complex": (lambda: VALUE.astype("c8"), r"must be float32, not complex64"),
    "text": (lambda: np.array([["a", "b", "c"]]), r"must be float32, not string"),
    "bytes": (VALUE.tobytes, r"must be float32, not string"),
    "no dimensions": (lambda: np.float32(1), r"must have shape \[\?, 3\], not \[\]"),
    "no frames": (lambda: VALUE[:0], r"has a batch of 0"),
}


@pytest.mark.parametrize("kind", ARRIVE)
def test_a_value_arrives_at_every_door(kind: str, floats: Parts, doors: list[Any]) -> None:
    for door in doors:
        assert np.array_equal(door(floats, ARRIVE[kind]()), VALUE), door


def test_a_value_in_a_file_arrives_at_every_door(tmp_path: Path, floats: Parts, doors: list[Any]) -> None:
    for door in doors:
        assert np.array_equal(door(floats, in_a_file(tmp_path)), VALUE), door


@pytest.mark.parametrize("kind", REFUSED)
def test_a_value_is_refused_at_every_door_which_remains_open(kind: str, floats: Parts, doors: list[Any]) -> None:
    make, why = REFUSED[kind]
    for door in doors:
        with pytest.raises(FeedError, match=why):
            door(floats, make())
    for door in doors[:3]:
        assert np.array_equal(door(floats, VALUE), VALUE), door


TEXT = {
    "bytes": ([b"ab\0", b""], [b"ab\0", b""]),
    "text": (["ä", "b\0"], ["ä".encode(), b"b\0"]),
    "NumPy's own bytes": ([np.bytes_(b"a\0\0"), np.bytes_(b"b")], [b"a\0\0", b"b"]),
    "NumPy's own text": ([np.str_("a\0"), "bcd"], [b"a\0", b"bcd"]),
    "objects": (np.array([b"a\0", "b"], object), [b"a\0", b"b"]),
    "bytes of one length": (np.array([b"ab", b"cd"]), [b"ab", b"cd"]),
    "an array of text": (np.array(["a", "bcd"]), [b"a", b"bcd"]),
    "text of the other byte order": (np.array(["a", "bcd"]).astype(">U3"), [b"a", b"bcd"]),
    "an eager tensor": (tf.constant([b"a\0"]), [b"a\0"]),
}
NO_TEXT = {
    "a number among them": (np.array([b"a", 1], object), r"is an array of objects \(int at \[1\]"),
    "None among them": ([b"a", None], r"\(NoneType at \[1\]"),
    "a bytearray": ([bytearray(b"a")], r"must be string, not uint8|must have shape"),
    "a surrogate": (["\udc80"], r"holds a text with a lone surrogate at \[0\]; pass bytes"),
    "bytes that may be cut": (np.array([b"ab\0"]), r"is an array of 3-byte strings, .* zeros .* dtype=object"),
    "bytes of unequal lengths": (np.array([b"ab", b"c"]), r"is an array of 2-byte strings"),
    "numbers": (np.array([1, 2]), r"must be string, not int64"),
}


@pytest.mark.parametrize("kind", TEXT)
def test_text_arrives_whole_at_every_door(kind: str, texts: Parts, doors: list[Any]) -> None:
    value, expected = TEXT[kind]
    for door in doors:
        assert door(texts, value).tolist() == expected, door


@pytest.mark.parametrize("kind", NO_TEXT)
def test_what_is_no_text_or_may_be_cut_is_refused_at_every_door(kind: str, texts: Parts, doors: list[Any]) -> None:
    value, why = NO_TEXT[kind]
    for door in doors:
        with pytest.raises(FeedError, match=why):
            door(texts, value)
    for door in doors[:3]:
        assert door(texts, [b"a"]).tolist() == [b"a"]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (tf.bfloat16, np.array([1, 2], ml_dtypes.bfloat16), "bfloat16"),
        (tf.dtypes.experimental.int4, np.array([-8, 7], ml_dtypes.int4), "int4"),
        (tf.dtypes.experimental.int4, np.array([-8, 7], np.int8), "int4"),
        (tf.dtypes.experimental.uint4, np.array([0, 15], ml_dtypes.uint4), "uint4"),
        (tf.qint8, np.array([-128, 127], np.int8), "int8"),
        (tf.qint8, np.array([(-128,), (127,)], [("qint8", "i1")]), "int8"),
        (tf.uint16, np.array([0, 2**16 - 1], ">u2"), "uint16"),
    ],
)
def test_small_dtypes_arrive_at_every_door(dtype: Any, value: Array, expected: str, doors: list[Any]) -> None:
    parts = gs.split(passing_on(dtype, [None]), outputs=["h"], isolate=False)
    for door in doors:
        result = door(parts, value)
        assert result.dtype.names or result.dtype.name in (expected, str(value.dtype)), door
        assert result.astype(np.int64).tolist() == value.astype(np.int64).tolist(), door


@pytest.mark.parametrize(
    ("dtype", "value", "why"),
    [
        (tf.dtypes.experimental.int4, np.array([7, 100], np.int8), r"is int4, from -8 to 7, but holds 7 to 100"),
        (tf.dtypes.experimental.int2, np.array([-3, 1], np.int8), r"is int2, from -2 to 1, but holds -3 to 1"),
        (tf.dtypes.experimental.uint4, np.array([1, 2], np.uint8), r"must be uint4, not uint8"),
        (tf.qint8, np.array([1, 2], np.uint8), r"must be qint8, not uint8"),
        (tf.qint8, np.array([(1,)], [("quint8", "u1")]), r"must be qint8, not quint8"),
        (tf.bfloat16, np.array([1, 2], np.uint16), r"must be bfloat16, not uint16"),
        (tf.uint8, np.array([0, 256]), r"must be uint8, not int64"),
    ],
)
def test_values_that_a_small_dtype_cannot_hold_are_refused_at_every_door(
    dtype: Any, value: Array, why: str, doors: list[Any]
) -> None:
    parts = gs.split(passing_on(dtype, [None]), outputs=["h"], isolate=False)
    for door in doors:
        with pytest.raises(FeedError, match=why):
            door(parts, value)


def test_what_is_fed_is_not_changed_and_may_be_reused(floats: Parts) -> None:
    buffer = VALUE.copy()
    with gs.Pipeline(floats) as pipe:

        def frames() -> Iterator[dict[str, Array]]:
            for i in range(5):
                buffer[:] = i
                yield {"x": buffer}

        assert [float(out["y:0"][0, 0]) for out in pipe.stream(frames())] == [0, 1, 2, 3, 4]
    swapped = VALUE.astype(">f4")
    fed_array(swapped, copy=True)
    assert swapped.dtype == np.dtype(">f4")


def test_an_export_is_compared_on_what_fits_only(floats: Parts, tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"is an array of records"):
        gs.export(floats, tmp_path / "out", to="saved_model", feeds={"x": np.zeros([1, 3], [("float32", "f4")])})
    assert not (tmp_path / "out").exists()
