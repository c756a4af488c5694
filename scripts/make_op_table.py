#!/usr/bin/env python3
"""Write graphsplit/formats/graphdef/ops.json from the op registry of the installed TensorFlow.

    python scripts/make_op_table.py            # rewrite the table
    python scripts/make_op_table.py --stdout   # print it (the tests compare this with the file)

The notation of an argument, so that a port's dtype can be read without TensorFlow:

    float32       always this dtype                 @T         the dtype named by attribute T
    N*float32     as many ports as attribute N      N*@T       both
    @Tout[]       one port for each dtype in the list attribute Tout

An op's effects (files, network, prints …) are those of op_effects.py, which must name it. ``shared`` marks an op whose value
is found by its attributes container and shared_name, ``changes`` lists the inputs that must be references to variables, and
``ref`` marks an op that outputs one.

The ops of which TensorFlow has kernels for the CPU only are written to graphsplit/planning/cpu_ops.json: they stay on the host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from op_effects import effects_of, unreviewed

CPU_OPS = Path(__file__).resolve().parent.parent / "graphsplit" / "planning" / "cpu_ops.json"
TABLE = Path(__file__).resolve().parent.parent / "graphsplit" / "formats" / "graphdef" / "ops.json"


def notation(arg: Any, dtype_name: dict[int, str]) -> str:
    if arg.type_list_attr:
        return f"@{arg.type_list_attr}[]"
    dtype = f"@{arg.type_attr}" if arg.type_attr else dtype_name[arg.type % 100]
    return f"{arg.number_attr}*{dtype}" if arg.number_attr else dtype


def table() -> dict[str, Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2, types_pb2
    from tensorflow.python.client import pywrap_tf_session

    dtype_name = {}
    for number in types_pb2.DataType.values():
        if 0 < number < 100:
            try:
                dtype_name[number] = tf.dtypes.as_dtype(number).name
            except TypeError:  # in the enum, but unknown to this TensorFlow's Python
                dtype_name[number] = types_pb2.DataType.Name(number)[3:].lower()
    registry = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    ops = {}
    for op in sorted(registry.op, key=lambda op: op.name):
        entry: dict[str, Any] = {
            "in": [notation(a, dtype_name) for a in op.input_arg],
            "out": [notation(a, dtype_name) for a in op.output_arg],
        }
        stated = {a.name: a for a in op.attr if a.HasField("default_value")}
        defaults: dict[str, Any] = {n: dtype_name[a.default_value.type % 100] for n, a in stated.items() if a.type == "type"}
        numbers = {a.number_attr for a in op.output_arg} & set(stated)
        defaults |= {n: stated[n].default_value.i for n in sorted(numbers)}
        if defaults:
            entry["defaults"] = defaults
        if op.is_stateful or any(a.is_ref for a in (*op.input_arg, *op.output_arg)):
            entry["stateful"] = True
        if refs := [number for number, a in enumerate(op.input_arg) if a.is_ref]:
            entry["changes"] = refs
        if any(a.is_ref for a in op.output_arg):
            entry["ref"] = True
        if any(a.name == "shared_name" for a in op.attr):
            entry["shared"] = True
        if effects := effects_of(op.name):
            entry["effects"] = list(effects)
        ops[op.name] = entry
    return {
        "tensorflow": tf.__version__,
        "dtypes": {str(k): v for k, v in sorted(dtype_name.items())},
        "ops": ops,
    }


def cpu_ops() -> list[str]:
    """The ops that have kernels for the CPU, and none for a GPU or for any device.

    Not those of TensorFlow's quantised graphs, which an accelerator runs in its own way.
    """
    import tensorflow  # noqa: F401  # registers the kernels
    from tensorflow.python.framework import kernels

    devices: dict[str, set[str]] = {}
    for kernel in kernels.get_all_registered_kernels().kernel:
        devices.setdefault(kernel.op, set()).add(kernel.device_type)
    here = (op for op, names in devices.items() if "CPU" in names and names.isdisjoint({"GPU", "DEFAULT"}))
    return sorted(op for op in here if op[0] != "_" and not re.match("(Uniform)?(Quantiz|Dequantiz|Requantiz)", op))


def render_cpu_ops(ops: list[str]) -> str:
    """One op a line."""
    return json.dumps(ops, indent=0) + "\n"


def render(content: dict[str, Any]) -> str:
    """One op a line, so that a new TensorFlow shows as a readable change."""
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in content["ops"].items()]
    head = {k: v for k, v in content.items() if k != "ops"}
    return json.dumps(head)[:-1] + ', "ops": {\n' + ",\n".join(lines) + "\n}}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stdout", action="store_true", help="print the table instead of writing it")
    args = parser.parse_args()
    content = table()
    if unknown := unreviewed(content["ops"]):
        print(f"nobody has reviewed what these ops do; add them to op_effects.py: {', '.join(unknown)}", file=sys.stderr)
        return 1
    if args.stdout:
        sys.stdout.write(render(content))
    else:
        TABLE.write_text(render(content), encoding="utf-8")
        CPU_OPS.write_text(render_cpu_ops(cpu_ops()), encoding="utf-8")
        print(f"{TABLE.name}: {len(content['ops'])} ops of TensorFlow {content['tensorflow']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
