"""Small quantised TFLite files, as an int8 compiler wants them, and compilers that are a few lines of Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.formats.tflite.builder import Built, Graph, per_channel

__all__ = ["Q", "dense", "network", "refusing", "target_file"]

_REFUSES = """
import sys
data = open(sys.argv[1], 'rb').read()
for name in {names!r}:
    if name.encode() + b'/w' in data: print('no FULLY_CONNECTED ' + name + ': too wide')
print('taken', data.count(b'/w'))
"""

#: One scale for every tensor.
Q = per_channel([0.5])


def dense(graph: Graph, of: int, name: str, width: int = 16) -> int:
    """A fully connected layer in int8."""
    weights = graph.tensor(f"{name}/w", [width, width], "int8", value=np.eye(width), quantization=per_channel([0.5]))
    bias = graph.tensor(f"{name}/b", [width], "int32", value=np.zeros(width), quantization=per_channel([0.25]))
    made = graph.tensor(name, [1, width], "int8", quantization=Q)
    graph.op("FULLY_CONNECTED", [of, weights, bias], [made])
    return made


def network(*names: str, custom: str = "") -> bytes:
    """x ─▶ FULLY_CONNECTED ─▶ … ─▶ (custom) y: int8 layers of these names in a row, and a custom op behind them."""
    built = Built()
    x = last = built.main.tensor("x", [1, 16], "int8", quantization=Q)
    for name in names:
        last = dense(built.main, last, name)
    if custom:
        y = built.main.tensor("y", [1, 16], "int8", quantization=Q)
        built.main.op(custom, [last], [y], custom=b"")
        last = y
    built.main.ends([x], [last])
    return built.bytes()


def target_file(folder: Path, program: str = "", **fields: Any) -> Path:
    """A target whose compiler is a program in Python. ``sys.argv`` is the model and the folder to write to.

    Args:
        folder: Gets the files.
        program: The program; empty: the target has no compiler.
        **fields: Of the target; those of the compiler as ``compiler``.
    """
    compiler = {}
    if program:
        script = folder / "compiler.py"
        script.write_text(program, encoding="utf-8")
        compiler = {
            "compiler": {
                "name": "fake",
                "command": [sys.executable, str(script), "{model}", "{folder}"],
                "refused": r"^no (?P<op>\S+) (?P<tensor>\S*): (?P<reason>.*)$",
                "taken": r"^taken (\d+)$",
                "version": r"^fake version (\S+)$",
                "seconds": 20,
            }
            | fields.pop("compiler", {})
        }
    path = folder / "target.json"
    ops = {"FULLY_CONNECTED": "accelerator", "RELU": "accelerator"}
    path.write_text(json.dumps({"name": "mine", "dtypes": ["int8"], "ops": ops} | compiler | fields), encoding="utf-8")
    return path


def refusing(folder: Path, *names: str) -> Path:
    """A target whose compiler refuses the layers of these names: it looks for their weights in the file, and names tensors."""
    return target_file(folder, _REFUSES.format(names=list(names)))
