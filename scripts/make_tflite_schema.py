#!/usr/bin/env python3
"""Write graphsplit/formats/tflite/schema.json: tables, unions and enumerations of TFLite's flatbuffer schema.

    python scripts/make_tflite_schema.py            # from the installed ai-edge-litert
    python scripts/make_tflite_schema.py --check    # only tell whether the file is what it would be
    python scripts/make_tflite_schema.py --metadata FILE    # of metadata, from mediapipe's metadata_schema_py_generated.py

The generated Python of a flatbuffer schema has no reflection, but it is regular: slot, kind and type of every field are read off
the code that adds and gets it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "graphsplit" / "formats" / "tflite" / "schema.json"
ENUMS = ("BuiltinOperator", "TensorType")

# What each built-in operator does besides computing, as reviewed. One that is in neither list stops the script.
#   native  runs code that the file does not show
#   random  draws numbers
#   state   keeps a value in the interpreter, from one run to the next
EFFECTS = {
    "native": "CUSTOM DELEGATE PLACEHOLDER_FOR_GREATER_OP_CODES STABLEHLO_CUSTOM_CALL",
    "random": "MULTINOMIAL RANDOM_STANDARD_NORMAL RANDOM_UNIFORM STABLEHLO_RNG_BIT_GENERATOR",
    "state": "ASSIGN_VARIABLE CALL_ONCE HASHTABLE HASHTABLE_IMPORT READ_VARIABLE VAR_HANDLE",
}
HARMLESS = """
ABS ADD ADD_N ARG_MAX ARG_MIN ATAN2 AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BIDIRECTIONAL_SEQUENCE_LSTM
BIDIRECTIONAL_SEQUENCE_RNN BITCAST BITWISE_XOR BROADCAST_ARGS BROADCAST_TO BUCKETIZE CALL CAST CEIL COMPLEX_ABS
CONCATENATION CONCAT_EMBEDDINGS CONV_2D CONV_3D CONV_3D_TRANSPOSE COS CUMSUM DENSIFY DEPTHWISE_CONV_2D DEPTH_TO_SPACE
DEQUANTIZE DILATE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EMBEDDING_LOOKUP_SPARSE EQUAL EXP EXPAND_DIMS FAKE_QUANT
FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH HASHTABLE_FIND
HASHTABLE_LOOKUP HASHTABLE_SIZE IF IMAG L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION
LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX LSH_PROJECTION LSTM MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM
MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 NOT_EQUAL ONE_HOT PACK PAD PADV2
POW PRELU QUANTIZE RANGE RANK REAL REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_WINDOW RELU RELU6
RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RFFT2D RIGHT_SHIFT RNN
ROUND RSQRT SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SKIP_GRAM SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH
SPARSE_TO_DENSE SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STABLEHLO_ABS STABLEHLO_ADD STABLEHLO_AND
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CASE STABLEHLO_CBRT STABLEHLO_CLAMP STABLEHLO_COMPARE STABLEHLO_COMPOSITE
STABLEHLO_CONCATENATE STABLEHLO_CONVERT STABLEHLO_CONVOLUTION STABLEHLO_COSINE STABLEHLO_DIVIDE STABLEHLO_DOT_GENERAL
STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_GATHER STABLEHLO_IOTA
STABLEHLO_LOG STABLEHLO_LOGISTIC STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_NEGATE STABLEHLO_OR
STABLEHLO_PAD STABLEHLO_POWER STABLEHLO_REDUCE STABLEHLO_REDUCE_WINDOW STABLEHLO_REMAINDER STABLEHLO_RESHAPE STABLEHLO_RSQRT
STABLEHLO_SCATTER STABLEHLO_SELECT STABLEHLO_SHIFT_LEFT STABLEHLO_SLICE STABLEHLO_SORT STABLEHLO_SUBTRACT STABLEHLO_TANH
STABLEHLO_TRANSPOSE STABLEHLO_WHILE STRIDED_SLICE SUB SUM SVDF TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV
UNIDIRECTIONAL_SEQUENCE_LSTM UNIDIRECTIONAL_SEQUENCE_RNN UNIQUE UNPACK UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN
UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM WHERE WHILE ZEROS_LIKE
"""


def source() -> str:
    """The generated code."""
    spec = find_spec("ai_edge_litert.schema_py_generated")
    if spec is None or spec.origin is None:
        raise SystemExit("ai-edge-litert is not installed: pip install ai-edge-litert")
    return Path(spec.origin).read_text(encoding="utf-8")


def snake(name: str) -> str:
    """``shapeSignature`` → ``shape_signature``, ``builtinOptions2Type`` → ``builtin_options_2_type``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-z])(?=[0-9])", "_", name).lower()


def schema(text: str) -> dict[str, Any]:
    """Tables and unions as plain data.

    tables  name → [[field, type], …] by slot; a type is int8 …, string, a table, [element], or ``union NAME``, whose member is told
            by the field before it
    unions  name → {number: table}
    """
    classes = dict(re.findall(r"^class (\w+)\(object\):\n(.*?)(?=^\S)", text, re.MULTILINE | re.DOTALL))
    creators = dict(re.findall(r"self\.(\w+) = (\w+)Creator\(self\.", text))
    tables = {}
    for name, slots in re.findall(r"^def (\w+)Start\(builder\):\n    builder\.StartObject\((\d+)\)", text, re.MULTILINE):
        fields = [["", ""] for _ in range(int(slots))]
        adds = re.findall(rf"^def {name}Add\w+\(builder, (\w+)\):\n    builder\.Prepend\w+Slot\((\d+),", text, re.MULTILINE)
        for field, slot in adds:
            fields[int(slot)] = [snake(field), kind(classes[name], int(slot), creators.get(field, ""))]
        tables[name] = fields
    unions = {
        name: {number: table for number, table in members(classes[name]).items() if int(number)} for name in set(creators.values())
    }
    return {"tables": dict(sorted(tables.items())), "unions": dict(sorted(unions.items()))}


def model_schema(text: str) -> dict[str, Any]:
    """The schema of models, with its enumerations and what the operators do."""
    enums = {
        name: members(re.findall(rf"^class {name}\(object\):\n(.*?)(?=^\S)", text, re.MULTILINE | re.DOTALL)[0]) for name in ENUMS
    }
    return {"effects": effects(enums["BuiltinOperator"].values()), "enums": enums, **schema(text)}


def effects(operators: Iterable[str]) -> dict[str, str]:
    """Operator → its effect, for those that have one."""
    known = {op: effect for effect, names in EFFECTS.items() for op in names.split()}
    if unknown := sorted(set(operators) - known.keys() - set(HARMLESS.split())):
        raise SystemExit(f"nobody has reviewed what these operators do; add them to EFFECTS or HARMLESS: {', '.join(unknown)}")
    return dict(sorted(known.items()))


def members(body: str) -> dict[str, str]:
    """Number → name of an enumeration."""
    return {number: name for name, number in re.findall(r"^    (\w+) = (\d+)$", body, re.MULTILINE)}


def kind(body: str, slot: int, union: str) -> str:
    """The type of a field, from the first method that reads its slot."""
    read = re.search(rf"self\._tab\.Offset\({4 + 2 * slot}\)\)\n(.*?)(?=\n    #|\Z)", body, re.DOTALL)
    if read is None:
        raise SystemExit(f"slot {slot} is read nowhere")
    code = read.group(1)
    scalar = re.search(r"number_types\.(\w+)Flags, (a \+|o \+)", code)
    table = re.search(r"obj = (\w+)\(\)", code)
    if "_tab.Union(" in code:
        return f"union {union}"
    if "_tab.Vector(" in code:
        return f"[{scalar.group(1).lower() if scalar else table.group(1) if table else 'string'}]"
    if scalar:
        return scalar.group(1).lower()
    return table.group(1) if table else "string"


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file differs")
    options.add_argument("--metadata", type=Path, help="write metadata_schema.json, from the generated Python of its schema")
    args = options.parse_args()
    data = model_schema(source()) if args.metadata is None else schema(args.metadata.read_text(encoding="utf-8"))
    out = OUT if args.metadata is None else OUT.with_name("metadata_schema.json")
    text = json.dumps(data, indent=None, separators=(",", ":")).replace('],"', '],\n"').replace('},"', '},\n"') + "\n"
    if args.check:
        sys.exit(int(not out.exists() or out.read_text(encoding="utf-8") != text))
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
