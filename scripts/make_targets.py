#!/usr/bin/env python3
"""Write the targets that are generated, in graphsplit/planning/targets: ethos-u55, ethos-u65, ethos-u85 and openvino.

    python scripts/make_targets.py               # all whose compiler is installed
    python scripts/make_targets.py ethos-u55     # one, printed (the tests compare this with the file)

Ethos-U: from the compiler's own report (vela --supported-ops-report; PyPI ethos-u-vela, Apache-2.0). Each sentence of its
constraints is either a rule in RULES or listed in LEFT as one that a table cannot decide; any other stops the script.
OpenVINO: from a file with one operator, for each operator of TFLite: "No translator found".
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import textwrap
from importlib.metadata import version
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "graphsplit" / "planning" / "targets"
NAMES = {"ARGMAX": "ARG_MAX"}  # of ops, where the report spells them in another way
CONFIGURATIONS = {"ethos-u55": "ethos-u55-128", "ethos-u65": "ethos-u65-256", "ethos-u85": "ethos-u85-256"}
NARROW = ["int8", "uint8", "int16"]

# What a sentence of the report requires, as fields of graphsplit.planning.targets.Constraint.
RULES: list[tuple[str, dict[str, Any]]] = [
    (r"Only the first dimension of tensors can be dynamic", {"static": True}),
    (r'Feature-map dataTypes must be one of \{"INT16", "INT32", "INT64", "INT8", "UINT8"\}',
     {"inputs": [*NARROW, "int32", "int64"], "outputs": [*NARROW, "int32", "int64"]}),
    (r'Feature-map dataTypes must be one of \{"BOOL", "INT16", "INT32", "INT64", "INT8", "UINT8"\}',
     {"inputs": ["bool", *NARROW, "int32", "int64"], "outputs": ["bool", *NARROW, "int32", "int64"]}),
    (r"64-bit feature-maps are not supported", {"inputs": [*NARROW, "int32"], "outputs": [*NARROW, "int32"]}),
    (r"32-bit feature-maps are not supported", {"inputs": NARROW, "outputs": NARROW}),
    (r"Weight tensors must be 8-bit precision", {"weights": ["int8", "uint8"]}),
    (r"IFM and OFM datatypes must match, and must be Int8$", {"inputs": ["int8"], "outputs": ["int8"]}),
    (r"IFM and OFM datatypes must match, and must be Int8 or UInt8", {"inputs": ["int8", "uint8"], "outputs": ["int8", "uint8"]}),
    (r"IFM and OFM datatypes must match, and must be Int8 or Int16", {"inputs": ["int8", "int16"], "outputs": ["int8", "int16"]}),
    (r"IFM precision must be one of: \(Int8, UInt8, Int16\)", {"inputs": NARROW}),
    (r"IFM must be Int8 or Int16", {"inputs": ["int8", "int16"]}),
    (r"Tensor dimension must be <= 8", {"ranks": [0, 8]}),
    (r"(?is)IF not \(IFM H == IFM W == 1\) AND not IFM Shape == OFM Shape.*2x/4x/8x",
     {"upscale": [2, 4, 8], "reason": "Scale-factor must be one of: 2x/4x/8x"}),
    (r"Scale-factor must be an integer power of two", {"upscale": [2**n for n in range(1, 12)]}),
]  # fmt: skip

# What depends on attributes, values, quantisation or sizes that a table does not see: the compiler is asked.
LEFT = r"""Tensors must have constant shape|Operations must have at least one|.*[Qq]uantization|.*[Zz]ero-points|Int64 bias|Bias |
Kernel|kernel product|Stride|IF Matmul|Weigth sum|IFM depth|Operation must be performed|IFM and OFM shapes must match|Variable|
FullyConnected weights|Both Input|Amount of reduced|Batch must be 1|Parameter tensors|Reduced axis|Reduction over|Params tensor|
Axis attribute|The product of|num_splits|Slice must|IF IFM is Int|Shape constraints|Gate |Implicit|Peephole|Projection|
Shape tensor|axis must be|Scale-factor:|align_corners|Index tensor""".replace("\n", "")


def report() -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ethosu.vela", "--supported-ops-report", "--output-dir", folder]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return (Path(folder) / "SUPPORTED_OPS.md").read_text(encoding="utf-8")


def ethos_u(name: str) -> dict[str, Any]:
    """A target of Vela's."""
    family = "Ethos-U85" if name == "ethos-u85" else "Ethos-U55 and Ethos-U65"
    sections = dict(s.partition("\n")[::2] for s in re.split(r"\n(?=#{2,3} )", report()))
    ops = re.findall(r"^\| ([A-Z][A-Z0-9_]+) \|", sections[f"## {family} TFLite Summary Table"], re.MULTILINE)
    found: dict[str, dict[str, Any]] = {}
    for heading, text in sections.items():
        if heading == f"## {family} TFLite Generic Constraints":
            op = None
        elif match := re.fullmatch(rf"### {family} TFLite (\w+) Constraints", heading):
            op = match[1]
        else:
            continue
        for item in re.findall(r"^- (.*(?:\n  +- .*)*)", text, re.MULTILINE):
            add(found, op, item)
    constraints = [{"reason": reason} | rule for reason, rule in found.items()]
    return {
        "name": name,
        "source": f"vela --supported-ops-report of ethos-u-vela {version('ethos-u-vela')} (PyPI, Apache-2.0)",
        "formats": ["tflite"],
        "dtypes": NARROW,
        "ops": dict.fromkeys(ops, "accelerator"),
        "unknown": "host",
        "constraints": constraints,
        "compiler": {
            "name": "vela",
            "command": ["{python}", "-m", "ethosu.vela", "{model}", "--output-dir", "{folder}", "--accelerator-config",
                        CONFIGURATIONS[name]],
            "refused": r"^Warning \(supported operators\) operator: (?P<op>.*), ofm: '(?P<tensor>.*)' *\n"
                       r"Reason: (?P<reason>.*(?:\n.+)*)",
            "taken": r"^NPU operators = (\d+)",
            "left": r"^CPU operators = (\d+)",
            "package": "ethos-u-vela",
            "extra": "ethos-u",
        },
    }  # fmt: skip


def add(found: dict[str, dict[str, Any]], op: str | None, item: str) -> None:
    """Add a sentence of the report, about one op or all."""
    sentence, *more = item.split("\n")
    excepted = next((line for line in more if "Exceptions:" in line), "")
    rule = next((dict(fields) for pattern, fields in RULES if re.match(pattern, item)), None)
    if rule is None:
        if not re.match(LEFT, sentence):
            raise SystemExit(f"neither a rule nor left to the compiler: {item!r}; add it to RULES or LEFT")
        return
    entry = found.setdefault(rule.pop("reason", sentence.rstrip(".")), rule)
    if excepted:
        entry["unless"] = [NAMES.get(n, n) for n in re.findall(r"[A-Z]\w+", excepted.partition("[")[2])]
    if op is not None:
        entry.setdefault("ops", []).append(op)


def openvino() -> dict[str, Any]:
    """OpenVINO: the operators of TFLite that its front end has no translator for."""
    from ai_edge_litert import schema_py_generated as schema

    codes = {name: code for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int) and name != "CUSTOM"}
    host = sorted(name for name, code in codes.items() if not translated(code))
    installed = version("openvino")
    return {
        "name": "openvino",
        "source": f"operators of TFLite without a translator in openvino {installed} (PyPI, Apache-2.0), found by reading each",
        "formats": ["tflite", "graphdef"],
        "ops": dict.fromkeys(host, "host"),
        "unknown": "accelerator",
        "compiler": {
            "name": "openvino",
            "command": ["{python}", "-m", "graphsplit.compilers.openvino_query", "{model}", "CPU"],
            "refused": r"^refused\t(?P<op>[^\t\n]*)\t(?P<tensor>[^\t\n]*)\t(?P<reason>.*)",
            "taken": r"^taken\t(\d+)$",
            "left": r"^left\t(\d+)$",
            "package": "openvino",
            "extra": "openvino",
        },
    }


def translated(code: int) -> bool:
    """Whether OpenVINO has a translator; another complaint comes from one that was found."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.tflite"
        path.write_bytes(one_operator(code))
        read = "import sys, openvino; openvino.Core().read_model(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", read, path], capture_output=True, text=True, check=False)
    return "No translator found" not in done.stderr


def one_operator(code: int) -> bytes:
    """A TFLite file with one operator."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model, graph = schema.ModelT(), schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = [], [0], [1]
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer, tensor.quantization = name, [1, 4], 0, schema.QuantizationParametersT()
        graph.tensors.append(tensor)
    operator, entry = schema.OperatorT(), schema.OperatorCodeT()
    operator.inputs, operator.outputs, operator.opcodeIndex = [0], [1], 0
    entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
    graph.operators = [operator]
    model.version, model.buffers, model.subgraphs, model.operatorCodes = 3, [schema.BufferT()], [graph], [entry]
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def text(target: dict[str, Any]) -> str:
    """As JSON, with several ops on a line."""
    lines = [f" {json.dumps(key)}: {block(value)}" for key, value in target.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def block(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(json.dumps(v) for v in value) + "\n ]"
    if isinstance(value, dict) and "command" in value:
        return "{\n  " + ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
    if isinstance(value, dict) and len(value) > 8:
        pairs = [f"{json.dumps(k)}: {json.dumps(v)}".replace(" ", "\0") for k, v in value.items()]
        wrapped = textwrap.fill(", ".join(pairs), 118, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        return "{\n" + wrapped.replace("\0", " ") + "\n }"
    return json.dumps(value)


def main() -> None:
    wanted = sys.argv[1:]
    for name in wanted or [*CONFIGURATIONS, "openvino"]:
        made = text(openvino() if name == "openvino" else ethos_u(name))
        if wanted:
            print(made, end="")
        else:
            (OUT / f"{name}.json").write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
