"""What operators do besides computing: built-in ones as reviewed, custom ones by name, Flex ones by the NodeDef they hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from graphsplit.errors import FormatError, TrustError
from graphsplit.formats.tflite.flex import flex_node
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.formats.tflite.outside import KNOWN_CUSTOM
from graphsplit.formats.tflite.schema import op_effect

pytest.importorskip("ai_edge_litert")
flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
from tests.formats import raw  # noqa: E402
from tests.formats.tflite.builder import OPS, Built  # noqa: E402

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_tflite_schema.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tflite_schema", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one(op: str, options: bytes | None = b"") -> TFLiteModel:
    built = Built()
    x, y = built.main.tensor("x", [1, 4]), built.main.tensor("y", [1, 4])
    built.main.op(op, [x], [y], custom=options)
    built.main.ends([x], [y])
    return TFLiteModel(built.bytes())


def flex(op: str, node: bytes) -> bytes:
    """The options of a Flex operator."""
    builder = flexbuffers.Builder()
    with builder.Vector():
        builder.String(op)
        builder.Blob(node)
    return bytes(builder.Finish())


def test_every_operator_of_the_installed_schema_has_been_reviewed() -> None:
    """Whoever meets this: look at what the kernels of these operators do, and name them in scripts/make_tflite_schema.py."""
    assert script().effects(OPS) == {op: effect for op in OPS if (effect := op_effect(op))}
    with pytest.raises(SystemExit, match=r"nobody has reviewed what these operators do.*: READ_BLOB$"):
        script().effects([*OPS, "READ_BLOB"])


def test_every_operator_is_reviewed_once() -> None:
    lists = [script().HARMLESS.split(), *(names.split() for names in script().EFFECTS.values())]
    names = [name for found in lists for name in found]
    assert len(names) == len(set(names))
    assert set(names) <= set(OPS)


@pytest.mark.parametrize("op", sorted(KNOWN_CUSTOM))
def test_the_custom_ops_that_are_known_are_those_of_the_runtime(op: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    assert one(op).reaches_outside == ()
    refused = ""
    try:
        Interpreter(model_content=one(op).serialized()).allocate_tensors()
    except (RuntimeError, ValueError) as error:  # for inputs that do not fit
        refused = str(error)
    assert "unresolved custom op" not in refused


@pytest.mark.parametrize(
    "op", ["Mine", "DISPATCH_OP", "ADD", "CUSTOM", "tflite_detection_postprocess", "Flex", "FlexMine", "Mfcc2"]
)
def test_any_other_custom_op_is_unknown_code(op: str) -> None:
    model = one(op)
    assert model.reaches_outside == ("y",)
    assert model.index.node("y").stateful
    with pytest.raises(TrustError, match=r"custom ops \(y"):
        model.check_trust(False)


@pytest.mark.parametrize("op", ["DELEGATE", "STABLEHLO_CUSTOM_CALL"])
def test_a_builtin_operator_that_runs_other_code_needs_trust(op: str) -> None:
    assert one(op, None).reaches_outside == ("y",)


def test_an_operator_of_a_later_schema_is_unknown_code() -> None:
    assert op_effect("BUILTIN_9999") == "native"
    assert op_effect("ADD") == ""


ERF = raw.node("y", "Erf", "", attrs={"T": raw.kind(raw.FLOAT)})


@pytest.mark.parametrize(
    ("op", "node", "reaches"),
    [
        ("Erf", ERF, False),
        ("AdjustHue", raw.node("y", "AdjustHue"), False),
        ("ReadFile", raw.node("y", "ReadFile"), True),
        ("Erf", raw.node("y", "ReadFile"), True),  # what it is called and what it runs
        ("ReadFile", ERF, True),
        ("NoSuchOp", raw.node("y", "NoSuchOp"), True),
        ("PrintV2", raw.node("y", "PrintV2", attrs={"output_stream": raw.text("stderr")}), False),
        ("PrintV2", raw.node("y", "PrintV2", attrs={"output_stream": raw.text("file:///tmp/x")}), True),
        ("PrintV2", raw.node("y", "PrintV2", attrs={"output_stream": raw.bound("stream")}), True),
        ("PartitionedCall", raw.node("y", "PartitionedCall", attrs={"f": raw.func("reads")}), True),
        ("Case", raw.node("y", "Case", attrs={"branches": raw.listed(raw.field(9, raw.field(1, "reads")))}), True),
        ("PyFunc", raw.node("y", "PyFunc"), True),
        ("Erf", b"\xff\xff", True),
        ("Erf", b"", True),
    ],
)
def test_a_flex_operator_reaches_as_far_as_the_op_it_holds(op: str, node: bytes, reaches: bool) -> None:
    assert one(f"Flex{op}", flex(op, node)).reaches_outside == (("y",) if reaches else ())


def test_a_flex_operator_holds_state_when_its_op_does() -> None:
    assert not one("FlexErf", flex("Erf", ERF)).index.node("y").stateful
    assert one("FlexRandomUniform", flex("RandomUniform", raw.node("y", "RandomUniform"))).index.node("y").stateful
    with pytest.raises(FormatError, match="not frozen: 'y' is a FlexHashTableV2"):
        one("FlexHashTableV2", flex("HashTableV2", raw.node("y", "HashTableV2"))).check_frozen()


def test_damaged_options_of_a_flex_operator_hold_no_node() -> None:
    whole = flex("Erf", ERF)
    found = flex_node(memoryview(whole))
    assert found is not None
    assert found.op == "Erf"
    for length in range(len(whole)):
        flex_node(memoryview(whole[:length]))
    for place in range(len(whole)):
        for value in (0, 1, 2, 0x7F, 0x80, 0xFF, whole[place] ^ 1):
            changed = whole[:place] + bytes([value]) + whole[place + 1 :]
            read = flex_node(memoryview(changed))
            assert read is None or isinstance(read.op, str)
    assert flex_node(memoryview(b"")) is None
    assert flex_node(memoryview(flexbuffers.Dumps(["Erf"]))) is None
    assert flex_node(memoryview(flexbuffers.Dumps({"Erf": 1}))) is None
