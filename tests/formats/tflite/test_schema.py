"""The schema as data says what ai-edge-litert's generated code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphsplit.formats.tflite.flatbuffer import SCALARS
from graphsplit.formats.tflite.schema import fields, op_name, tensor_dtype, union_member
from graphsplit.graph.index import itemsize

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from tests.formats.tflite.builder import OPS, TYPES  # noqa: E402

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_tflite_schema.py"
TABLES = sorted(n.removesuffix("Start") for n in vars(schema) if n.endswith("Start") and hasattr(schema, n.removesuffix("Start")))


def test_the_file_is_what_the_script_makes_of_the_installed_package():
    assert subprocess.run([sys.executable, SCRIPT, "--check"], check=False).returncode == 0


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_every_field_with_a_kind_that_is_known(table):
    known = fields(table)
    makers = [n.removeprefix(f"{table}Add") for n in vars(schema) if n.startswith(f"{table}Add")]
    assert {n.replace("_", "").lower() for n in known if not n.startswith("#")} == {n.lower() for n in makers}
    for field in known.values():
        inner = re.sub(r"^\[(.*)\]$|^union .*$", r"\1", field.kind)
        assert inner in SCALARS or inner in TABLES or inner in ("string", ""), field


def test_every_option_of_an_op_is_a_table_that_is_known():
    for union in ("BuiltinOptions", "BuiltinOptions2", "QuantizationDetails", "SparseIndexVector"):
        members = {name: number for name, number in vars(getattr(schema, union)).items() if name[0].isupper() and number}
        assert {union_member(union, number) for number in members.values()} == set(members)
        assert set(members) <= set(TABLES)
    assert union_member("BuiltinOptions", 60_000) is None


def test_an_operator_goes_by_the_newer_number_or_the_name_of_a_custom_op():
    assert op_name(0, 0, "") == "ADD"
    assert op_name(127, OPS["BROADCAST_TO"], "") == "BROADCAST_TO"
    assert op_name(OPS["WHILE"], 0, "") == op_name(OPS["WHILE"], OPS["WHILE"], "") == "WHILE"
    assert op_name(0, OPS["STABLEHLO_SCATTER"], "") == "STABLEHLO_SCATTER"
    assert op_name(OPS["CUSTOM"], OPS["CUSTOM"], "Mine") == "Mine"
    assert op_name(0, OPS["CUSTOM"], "") == "CUSTOM"
    assert op_name(0, 0, "Mine") == "ADD"
    assert op_name(0, 9999, "") == "BUILTIN_9999"


def test_dtypes_go_by_the_names_that_the_index_uses():
    assert {tensor_dtype(number) for number in TYPES.values()} == set(TYPES)
    assert tensor_dtype(99) is None
    assert {name for name in TYPES if itemsize(name) is None} <= {"string", "resource", "variant"}
