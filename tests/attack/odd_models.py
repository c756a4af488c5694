"""Odd but legal models that are run: soups of TensorFlow's ops with odd dtypes, shapes, control edges, prints, asserts, no rows.

Every op of the registry may be added: its dtypes are chosen among those it takes, its inputs among the tensors that are there,
and TensorFlow's own shape functions decide whether it may stay. Whole and sections are compared in the child process; where
that went well, the pipeline's answers are compared with them as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["start"]

_DTYPES = (
    "float32", "float32", "float32", "int32", "int32", "int64", "bool", "string", "uint8", "int8", "int16", "uint16", "uint32",
    "uint64", "float16", "bfloat16", "float64", "complex64", "complex128",
)  # fmt: skip
_SHAPES = ((), (0,), (1,), (3,), (2, 3), (0, 4), (1, 1, 1), (2, 4, 4, 3), (1, 0, 2), (2, 2, 2, 2, 2))
_INTEGERS = (0, 1, 1, 2, 3, -1)


def start(samples: Path, place: Path) -> Callable[[int], str]:
    """What tries a seed."""
    import graphsplit as gs
    from graphsplit.inference.feeds import made_feeds
    from graphsplit.inference.isolation import prestart

    prestart("tensorflow")

    def case(seed: int) -> str:
        rng = random.Random(seed)
        data = _soup(rng)
        path = place / "in" / "odd.pb"
        path.write_bytes(data)
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
        again = gs.load_parts(gs.save(parts, place / "out" / "split"))
        report = gs.verify(whole, again)
        assert report.equal, report.summary()
        feeds = made_feeds(whole, whole.inputs)
        with gs.Pipeline(again) as pipe:
            once = pipe.run(feeds)
            (streamed,) = pipe.stream([feeds])
        for tensor, value in once.items():
            np.testing.assert_array_equal(value, streamed[tensor])
        return "fine"

    return case


@cache
def _ops() -> tuple[Any, ...]:
    """The definitions of the ops that may be added, those of everyday models more often."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    names = [n for n in dir(tf.raw_ops) if not n.startswith("_")]
    defs = [d for d in map(op_def_registry.get, names) if d is not None and not _excluded(d)]
    return tuple(defs)


def _excluded(definition: Any) -> bool:
    name = definition.name
    if any(a.is_ref for a in (*definition.input_arg, *definition.output_arg)):
        return True
    return (
        name.startswith(("TPU", "Tpu", "XlaLaunch", "Collective", "Nccl", "_", "Save", "Restore", "Debug", "Abort"))
        or name in _WAIT
    )


_WAIT = {"Placeholder", "PlaceholderV2", "Barrier", "Batch", "Unbatch", "Fact", "Timestamp"}  # inputs are added apart; time differs


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

    definition = rng.choice(_ops())
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
    return [t for operation in made for t in operation.outputs]
