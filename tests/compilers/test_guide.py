"""The targets that the guide shows can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphsplit.compilers.patterns import read_output
from graphsplit.planning.targets import read_target

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "targets.md"
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: re.findall(r'"name": "(\w+)"', b)[0])
def test_every_example_is_a_target(block, tmp_path):
    path = tmp_path / "target.json"
    path.write_text(block, encoding="utf-8")
    target = read_target(path)
    assert target.compiler is not None
    read_output("", target.compiler, path)


# As the Edge TPU Compiler prints it.
LOG = """Edge TPU Compiler version 16.0.384591198
Number of operations that will run on Edge TPU: 64
Number of operations that will run on CPU: 3

Operator                       Count      Status

CONV_2D                        55         Mapped to Edge TPU
DEQUANTIZE                     2          Operation is working on an unsupported data type
CUSTOM                         1          Operation is working on an unsupported data type
"""


def test_a_count_is_so_many_ops(tmp_path):
    path = tmp_path / "target.json"
    path.write_text(next(b for b in BLOCKS if "edgetpu_compiler" in b), encoding="utf-8")
    compiler = read_target(path).compiler
    assert compiler is not None
    said = read_output(LOG, compiler, path)
    assert [r.op for r in said.refused] == ["DEQUANTIZE", "DEQUANTIZE", "CUSTOM"]
    assert (said.taken, said.left, said.version) == (64, 3, "16.0.384591198")
