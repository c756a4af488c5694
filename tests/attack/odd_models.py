"""Odd but legal models that are run: soups of TensorFlow's ops with odd dtypes, shapes, control edges, prints, asserts, no rows.

Every op of the registry may be added: its dtypes are chosen among those it takes, its inputs among the tensors that are there,
and TensorFlow's own shape functions decide whether it may stay. Whole and sections are compared in the child process; where
that went well, the pipeline's answers are compared with them as well.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from graphsplit.formats.graphdef.ops import NEEDS_TRUST, op_table
from tests.attack.harness import BUILDING

__all__ = ["start"]

_DTYPES = (
    "float32", "float32", "float32", "int32", "int32", "int64", "bool", "string", "uint8", "int8", "int16", "uint16", "uint32",
    "uint64", "float16", "bfloat16", "float64", "complex64", "complex128",
)  # fmt: skip
_SHAPES = ((), (0,), (1,), (3,), (2, 3), (0, 4), (1, 1, 1), (2, 4, 4, 3), (1, 0, 2), (2, 2, 2, 2, 2))
_ATTEMPTS = 4
_RANDOM = re.compile("Random|Multinomial|Sampler|Poisson")  # another value each time; two of three may agree by chance
_INTEGERS = (0, 1, 1, 2, 3, -1)


def start(samples: Path, place: Path) -> Callable[[int], str]:
    """What tries a seed."""
    import graphsplit as gs
    from graphsplit.inference.feeds import made_feeds
    from graphsplit.isolation.shared import prestart

    prestart("tensorflow")
    building = place / BUILDING

    def case(seed: int) -> str:
        for attempt in range(_ATTEMPTS):  # many soups cannot be run: no kernel, another shape than one that the kernel takes
            try:
                return model_runs(random.Random(f"{seed} {attempt}"), place / "out" / f"{attempt}")
            except gs.SectionRunError:
                continue
        return "SectionRunError"

    def model_runs(rng: random.Random, out: Path) -> str:
        path = place / "in" / "odd.pb"
        building.touch()
        soup = _soup(rng)
        building.unlink()
        path.write_bytes(soup)
        whole = gs.load(path)
        legal = [t for n in whole.index.nodes if n.kind == "op" for t in n.outputs if t not in whole.index.captive]
        parts = None
        for _ in range(4):
            try:
                parts = gs.split(whole, outputs=rng.sample(legal, min(len(legal), rng.choice([1, 1, 2]))))
                break
            except gs.CutError:
                continue
        if parts is None:
            return "no legal cut"
        again = gs.load_parts(gs.save(parts, out))
        report = gs.verify(whole, again)
        if "is not deterministic" in report.summary() or any(_RANDOM.search(n.op) for n in whole.index.nodes):
            return "random"
        assert report.equal, report.summary()
        feeds = {name: value for name, value in made_feeds(whole)[0].items() if name in again.inputs}
        with gs.Pipeline(again) as pipe:
            once = pipe.run(feeds)
            (streamed,) = pipe.stream([feeds])
        for tensor, value in once.items():
            again_value = np.asarray(streamed[tensor])
            same = (value == again_value) | ((value != value) & (again_value != again_value))
            assert np.all(same), f"{tensor}: {value} {again_value}"
        return "fine"

    return case


@cache
def _ops() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The definitions of the ops that may be added: all, and those of everyday models."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    names = [n for n in dir(tf.raw_ops) if not n.startswith("_")]
    every = [d for d in map(op_def_registry.get, names) if d is not None and not _excluded(d)]
    everyday = [d for d in every if d.name in _EVERYDAY]
    return tuple(every), tuple(everyday)


def _excluded(definition: Any) -> bool:
    name = definition.name
    info = op_table().get(name)
    if (
        info is None
        or info.effects & (NEEDS_TRUST | {"blocks"})
        or any(a.is_ref for a in (*definition.input_arg, *definition.output_arg))
    ):
        return True
    return (
        name.startswith(("TPU", "Tpu", "Xla", "BoostedTrees", "Collective", "Nccl", "_", "Save", "Restore", "Debug", "Abort"))
        or name in _WAIT
    )


_EVERYDAY = {
    "Abs", "Acos", "AddN", "AddV2", "All", "Any", "ArgMax", "ArgMin", "AsString", "Atan2", "BatchToSpaceND", "BiasAdd",
    "Bitcast", "BitwiseAnd", "BroadcastTo", "Bucketize", "Cast", "Ceil", "ClipByValue", "Complex", "ConcatV2", "Conj", "Cos",
    "Cumsum", "DecodeBase64", "DepthToSpace", "Diag", "DynamicPartition", "Einsum", "Elu", "EncodeBase64", "EnsureShape",
    "Equal", "Erf", "Exp", "ExpandDims", "FakeQuantWithMinMaxArgs", "Fill", "Floor", "FloorDiv", "FloorMod", "GatherNd",
    "GatherV2", "Greater", "Identity", "IdentityN", "Imag", "InvertPermutation", "IsNan", "L2Loss", "LeakyRelu", "Less",
    "LinSpace", "ListDiff", "Log1p", "LogSoftmax", "LogicalAnd", "LogicalNot", "LowerBound", "MatMul", "MatrixDiagV3", "Max",
    "Maximum", "Mean", "Min", "MirrorPad", "Mul", "Neg", "NonMaxSuppressionV3", "NotEqual", "OneHot", "OnesLike", "Pack", "Pad",
    "PadV2", "ParallelConcat", "PlaceholderWithDefault", "Pow", "PreventGradient", "Print", "PrintV2", "Prod", "QuantizeV2",
    "Range", "Rank", "Real", "Relu", "Relu6", "Reshape", "ReverseSequence", "ReverseV2", "RightShift", "Roll", "Round",
    "ScatterNd", "SegmentSum", "SelectV2", "Shape", "ShapeN", "Sigmoid", "Sign", "Size", "Slice", "Snapshot", "Softmax",
    "Softplus", "SpaceToDepth", "SparseToDense", "Split", "SplitV", "Sqrt", "Square", "Squeeze", "StaticRegexReplace",
    "StopGradient", "StridedSlice", "StringJoin", "StringLength", "StringLower", "StringSplitV2", "StringToHashBucketFast",
    "StringToNumber", "Sub", "Substr", "Sum", "Tanh", "TensorScatterUpdate", "Tile", "TopKV2", "Transpose", "TruncateDiv",
    "UnicodeScript", "Unique", "UniqueV2", "UniqueWithCounts", "Unpack", "UnsortedSegmentSum", "UpperBound", "Where", "Xdivy",
    "ZerosLike",
}  # fmt: skip
_WAIT = {
    "Placeholder",
    "PlaceholderV2",
    "Barrier",
    "Batch",
    "Unbatch",
    "Fact",
    "Timestamp",
    "GetSessionHandle",
    "GetSessionHandleV2",
}  # inputs are added apart; time differs


def _has_kernel(operation: Any) -> bool:
    """Whether the CPU has a kernel of an operation for its dtypes."""
    from tensorflow.python.framework import kernels

    def fits(kernel: Any) -> bool:
        return kernel.device_type == "CPU" and all(
            operation.node_def.attr[c.name].type in c.allowed_values.list.type for c in kernel.constraint
        )

    return any(map(fits, kernels.get_registered_kernels_for_op(operation.type).kernel))


def _soup(rng: random.Random) -> bytes:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        pool: list[Any] = []
        for number in range(rng.randint(1, 3)):
            shape = rng.choice([(None, 4), (2, 3), (None,), (1, 4, 4, 3), ()])
            pool.append(
                tf.compat.v1.placeholder(
                    rng.choice(["float32", "float32", "int32", "uint8", "bool", "string"]), shape, f"in{number}"
                )
            )
        for _ in range(rng.randint(2, 6)):
            pool.append(_constant(rng))
        added = 0
        wanted = rng.randint(3, 14)
        for _ in range(wanted * 12):
            if added == wanted:
                break
            made = _add(rng, pool)
            if made is not None:
                pool += made
                added += 1
        operations = graph.get_operations()
        for _ in range(rng.choice([0, 0, 1, 3])):
            earlier, later = sorted(rng.sample(range(len(operations)), 2))
            operations[later]._add_control_input(operations[earlier])
        if rng.random() < 0.2:
            read = rng.choice(pool)
            after = tf.print("seen", tf.shape(read)) if rng.random() < 0.5 else tf.debugging.Assert(tf.constant(True), [read])
            with tf.control_dependencies([after]):
                tf.identity(read, name="last")
        return graph.as_graph_def().SerializeToString(deterministic=True)


def _constant(rng: random.Random, dtype: str | None = None) -> Any:
    import tensorflow as tf

    kind = tf.dtypes.as_dtype(dtype or rng.choice(_DTYPES))
    shape = rng.choice(_SHAPES)
    count = int(np.prod(shape))
    if kind == tf.string:
        return tf.constant([rng.choice([b"", b"a", b"1.5", b"\xff\x00", "é".encode()]) for _ in range(count)], tf.string, shape)
    numbers = np.array([rng.choice(_INTEGERS) for _ in range(count)]).reshape(shape)
    if kind.is_unsigned or kind == tf.bool:
        numbers = abs(numbers)
    return tf.constant(numbers.astype(kind.as_numpy_dtype))


def _add(rng: random.Random, pool: list[Any]) -> list[Any] | None:
    """The outputs of one more op; None if TensorFlow does not take it."""
    import tensorflow as tf

    every, everyday = _ops()
    definition = rng.choice(every if rng.random() < 0.25 else everyday)
    attributes: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for attr in definition.attr:
        if attr.HasField("default_value") and (attr.type != "type" or rng.random() < 0.5) and attr.type != "bool":
            continue
        allowed = list(attr.allowed_values.list.type)
        if attr.type == "type":
            attributes[attr.name] = tf.dtypes.as_dtype(rng.choice(allowed)) if allowed else tf.dtypes.as_dtype(rng.choice(_DTYPES))
        elif attr.type == "int":
            attributes[attr.name] = max(attr.minimum if attr.has_minimum else -1, rng.choice([0, 1, 1, 2, 3]))
        elif attr.type == "bool":
            attributes[attr.name] = rng.random() < 0.5
        elif attr.type == "float":
            attributes[attr.name] = rng.choice([0.0, 1.0, 0.5])
        elif attr.type == "string":
            strings = list(attr.allowed_values.list.s)
            attributes[attr.name] = rng.choice(strings) if strings else b""
        elif attr.type == "shape":
            attributes[attr.name] = tf.TensorShape(rng.choice(_SHAPES))
        elif attr.type == "list(int)":
            attributes[attr.name] = [rng.choice([1, 1, 2]) for _ in range(rng.choice([1, 2, 4]))]
        elif attr.type not in ("list(type)",):
            return None
    for argument in definition.input_arg:
        if argument.type_list_attr:
            taken = [rng.choice(pool) for _ in range(rng.choice([1, 2, 3]))]
            attributes.pop(argument.type_list_attr, None)
            arguments[argument.name] = taken
            continue
        if argument.type_attr:
            fitting = [t for t in pool if argument.type_attr not in attributes or t.dtype == attributes[argument.type_attr]]
            if argument.type_attr not in arguments.get("__fixed__", ()):
                allowed = next((list(a.allowed_values.list.type) for a in definition.attr if a.name == argument.type_attr), [])
                seen = [t for t in pool if not allowed or t.dtype.as_datatype_enum in allowed]
                fixed = arguments.setdefault("__fixed__", {})
                if seen:
                    fitting = [t for t in pool if t.dtype == rng.choice(seen).dtype] or seen[:1]
                    fitting = [t for t in fitting if t.dtype == fitting[0].dtype]
                    attributes[argument.type_attr] = fitting[0].dtype
                    fixed[argument.type_attr] = True
        else:
            fitting = [t for t in pool if t.dtype.as_datatype_enum == argument.type]
        if not fitting:
            dtype = attributes.get(argument.type_attr) if argument.type_attr else tf.dtypes.as_dtype(argument.type)
            if dtype in (tf.resource, tf.variant) or dtype.name not in _DTYPES:
                return None
            fitting = [_constant(rng, dtype.name)]
        if argument.number_attr:
            count = rng.choice([1, 2, 3])
            arguments[argument.name] = [rng.choice(fitting) for _ in range(count)]
            attributes.pop(argument.number_attr, None)
        else:
            arguments[argument.name] = rng.choice(fitting)
    arguments.pop("__fixed__", None)
    inferred = {a.type_attr for a in definition.input_arg} | {a.number_attr for a in definition.input_arg}
    inferred |= {a.type_list_attr for a in definition.input_arg}
    given = {**arguments, **{k: v for k, v in attributes.items() if k not in inferred}}
    before = len(tf.compat.v1.get_default_graph().get_operations())
    try:
        getattr(tf.raw_ops, definition.name)(**given)
    except Exception:
        return None
    made = tf.compat.v1.get_default_graph().get_operations()[before:]
    if not all(map(_has_kernel, made)):
        return []
    return [t for operation in made for t in operation.outputs]
