"""What the index says of a TFLite file: names, order, constants, functions, state; and what is no legal model."""

from __future__ import annotations

import numpy as np
import pytest

from graphsplit.errors import CutError, FormatError, TensorNotFoundError
from graphsplit.formats import load
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.graph.index import GraphIndex
from graphsplit.splitting.surgery import plan

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from tests.formats.tflite.builder import OPS, Built, chain, everything, looped, per_channel  # noqa: E402


def made(built: Built | bytes) -> TFLiteModel:
    return TFLiteModel(built if isinstance(built, bytes) else built.bytes())


def index(built: Built) -> GraphIndex:
    return made(built).index


def refused(built: Built, match: str) -> None:
    with pytest.raises(FormatError, match=f"^not a legal TFLite model: {match}"):
        made(built).index  # noqa: B018


# names


def test_an_operator_goes_by_the_first_tensor_it_makes():
    found = index(everything())
    split_ = found.node("s:0")
    assert (split_.op, split_.outputs) == ("SPLIT", ("s:0", "s:1"))
    assert found.producer["s:1"] == "s:0"


def test_names_that_repeat_or_are_empty_get_a_number_and_the_others_stay():
    reader = TFLiteReader(memoryview(everything().bytes()))
    assert reader.raw_names == ("x", "w", "w", "fc", "axis", "s:0", "s:1", "", "fc", "", "yes", "i", "q", "y")
    assert reader.names == ("x", "w", "w_1", "fc", "axis", "s:0", "s:1", "tensor_7", "fc_1", "tensor_9", "yes", "i", "q", "y")


def test_a_made_name_never_takes_one_that_the_file_has():
    """a, a_1, a, "", tensor_3: neither a_1 nor tensor_3 is given away."""
    built = Built()
    last = built.main.tensor("x", [1])
    x = last
    for name in ("a", "a_1", "a", "", "tensor_4", "a", None):
        last = built.main.relu(last, name)
    built.main.ends([x], [last])
    names = made(built).reader.names
    assert len(set(names)) == len(names)
    assert names == ("x", "a", "a_1", "a_2", "tensor_4_1", "tensor_4", "a_3", "tensor_7")


def test_the_name_in_the_file_is_told_where_it_is_another():
    whole = made(everything())
    assert whole.attributes("tensor_7")["name_in_file"] == ""
    assert whole.attributes("fc_1")["name_in_file"] == "fc"
    assert "name_in_file" not in whole.attributes("fc")
    assert whole.attributes("w_1") == {"name_in_file": "w"}


def test_names_that_are_no_utf8_are_readable():
    built = chain()
    built.main.table.tensors[2].name = b"\xff;odd/name:0"
    assert index(built).tensor("\\xff;odd/name:0") == "\\xff;odd/name:0"


@pytest.mark.parametrize("spelled", ["a;b/c:0", "^a;b/c:0", " a;b/c:0 "])
def test_colons_and_semicolons_are_part_of_a_name(spelled):
    built = chain(2)
    built.main.table.tensors[2].name = "a;b/c:0"
    assert index(built).tensor(spelled) == "a;b/c:0"
    assert plan(made(built), outputs=spelled)["main"].outputs == ("a;b/c:0",)
    with pytest.raises(TensorNotFoundError, match="a;b/c:0"):
        index(built).tensor("a;b/c:00")


# order, ends, constants


def test_nodes_are_inputs_then_constants_then_operators_in_the_order_they_run():
    found = index(everything())
    assert [n.name for n in found.nodes if n.kind == "input"] == ["x"]
    assert [n.name for n in found.nodes if n.kind == "const"] == ["w", "w_1", "axis", "yes"]
    operators = ["fc", "s:0", "tensor_7", "fc_1", "tensor_9", "i", "q", "y"]
    assert [n.name for n in found.nodes if n.kind == "op"] == operators
    assert (found.inputs, found.outputs) == (("x",), ("y",))


def test_an_optional_input_that_is_not_given_is_no_edge():
    assert index(everything()).node("fc").inputs == ("x", "w")


def test_a_tensor_has_the_dtype_and_shape_of_the_file_and_unknown_sizes_are_none():
    built = Built()
    x = built.main.tensor("x", [1, 4], "uint8", signature=[-1, 4], quantization=per_channel([0.5]))
    y = built.main.tensor("y", None)
    built.main.op("TFLite_Detection_PostProcess", [x], [y], custom=b"")
    built.main.ends([x], [y])
    found = index(built)
    assert (found.tensors["x"].dtype, found.tensors["x"].shape) == ("uint8", (None, 4))
    assert (found.tensors["y"].dtype, found.tensors["y"].shape) == ("float32", None)


@pytest.mark.parametrize("behind", [False, True])
def test_small_constants_are_read_and_other_nodes_have_no_value(behind):
    whole = made(everything().bytes(behind=behind))
    axis, w = whole.constant("axis"), whole.constant("w")
    assert (axis.dtype, axis.tolist()) == ("int32", 1)
    assert (w.dtype, w.shape, w[0, 0], w[-1, -1]) == ("float32", (4, 4), -1, 1)
    assert whole.constant("w", limit=64) is not None
    assert whole.constant("w", limit=63) is None
    for other in ("x", "y", "nothing"):
        assert whole.constant(other) is None


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [("bool", [True, False]), ("int8", [-1, 2]), ("uint16", [1, 65535]), ("int64", [-1, 2**40]), ("float16", [0.5, -2])],
)
def test_a_constant_has_its_own_dtype(dtype, numbers):
    built = Built()
    x = built.main.tensor("x", [2], dtype)
    k = built.main.tensor("k", [2], dtype, buffer=built.buffer(np.array(numbers, dtype).tobytes()))
    y = built.main.tensor("y", [2], dtype)
    built.main.op("ADD", [x, k], [y])
    built.main.ends([x], [y])
    value = made(built).constant("k")
    assert (value.dtype, value.tolist()) == (dtype, numbers)


def test_values_behind_the_flatbuffer_are_the_same_values():
    inside, behind = made(everything()).reader, made(everything().bytes(behind=True)).reader
    assert behind.buffers[1].number("offset") > 1
    assert [bytes(inside.content(i)) for i in range(len(inside.buffers))] == [
        bytes(behind.content(i)) for i in range(len(behind.buffers))
    ]


def test_a_constant_without_elements_is_a_constant():
    built = Built()
    x, shape = built.main.tensor("x", [1]), built.main.tensor("shape", [0], "int32", value=b"")
    y = built.main.tensor("y", [])
    built.main.op("RESHAPE", [x, shape], [y])
    built.main.ends([x], [y])
    assert index(built).node("shape").kind == "const"


# functions


def test_subgraphs_of_loops_and_branches_are_the_library():
    found = index(looped(nested=True))
    assert found.calls == {"w": ("cond (1)", "body (2)")}
    assert found.functions["body (2)"].calls == ("then (3)", "else (4)")
    assert found.functions["body (2)"].ops == ("ADD", "IF", "LESS")
    assert list(found.functions) == ["cond (1)", "body (2)", "then (3)", "else (4)"]
    assert not found.node("w").stateful


def test_a_loop_whose_body_draws_random_numbers_is_stateful():
    built = looped()
    body = built.model.subgraphs[2]
    graph = built.graph("unused")
    graph.table.tensors, graph.table.operators = body.tensors, body.operators
    shape = graph.tensor("shape", [1], "int32", value=[1])
    graph.op("RANDOM_UNIFORM", [shape], [graph.tensor("noise", [1])])
    assert index(built).node("w").stateful


@pytest.mark.parametrize(("custom", "outside"), [("TFLite_Detection_PostProcess", False), ("Mine", True)])
def test_custom_ops_that_nobody_knows_reach_outside_also_from_within_a_branch(custom, outside):
    for within in (False, True):
        built = looped()
        graph = built.main
        if within:
            graph = built.graph("body again")
            graph.table.tensors, graph.table.operators = built.model.subgraphs[2].tensors, built.model.subgraphs[2].operators
        last = graph.tensor("z", [1])
        graph.op(custom, [0], [last], custom=b"\1\2")
        built.main.table.outputs.append(last) if not within else None
        whole = made(built)
        assert whole.reaches_outside == (() if not outside else ("w",) if within else ("z",))
        if outside:
            with pytest.raises(PermissionError, match=r"custom ops \((w \(WHILE\)|z \(Mine\))\), code from outside.*trust=True"):
                whole.check_trust(False)
        whole.check_trust(True)


def test_options_are_text():
    whole = made(everything())
    assert whole.attributes("s:0") == {"num_splits": "2"}
    assert whole.attributes("i") == {"then_subgraph_index": "1", "else_subgraph_index": "2"}
    assert whole.attributes("x") == {}
    assert whole.device("i") == ""
    built = Built()
    x, y = built.main.tensor("x", [1]), built.main.tensor("y", [1])
    built.main.op("Mine", [x], [y], custom=b"abc")
    built.main.ends([x], [y])
    assert made(built).attributes("y") == {"custom_options": "3 bytes"}


# state


def svdf() -> Built:
    """x ─▶ SVDF s (state) ─▶ RELU y"""
    built = Built()
    main = built.main
    x = main.tensor("x", [1, 4])
    feature = main.tensor("feature", [2, 4], value=np.linspace(-1, 1, 8))
    time = main.tensor("time", [2, 3], value=np.linspace(0, 1, 6))
    state = main.tensor("state", [1, 6], variable=True)
    s = main.tensor("s", [1, 2])
    main.op("SVDF", [x, feature, time, -1, state], [s], rank=1)
    main.ends([x], [main.relu(s, "y")])
    return built


def test_an_operator_with_a_state_of_its_own_is_stateful_and_the_state_is_no_node():
    found = index(svdf())
    assert found.node("s").stateful
    assert found.node("s").inputs == ("x", "feature", "time")
    assert "state" not in found.tensors
    assert found.groups == {}


def test_operators_that_share_a_state_belong_together():
    built = svdf()
    main = built.main
    again = main.tensor("again", [1, 2])
    main.op("SVDF", [0, 1, 2, -1, 3], [again], rank=1)
    main.ends([0], [main.add(main.table.outputs[0], again, "sum")])
    found = index(built)
    assert [g.nodes for g in found.groups.values()] == [("s", "again")]
    sections = plan(made(built), outputs="y").sections
    assert {"s", "again"} <= set(sections[0].nodes)


def test_an_input_that_says_it_is_a_variable_is_an_input():
    built = chain()
    built.main.table.tensors[0].isVariable = True
    assert index(built).node("t0").inputs == ("x", "c0")


def variables() -> Built:
    """VAR_HANDLE h ─┬▶ ASSIGN_VARIABLE (x)
                     └▶ READ_VARIABLE r ─▶ RELU y
    """  # fmt: skip
    built = Built()
    main = built.main
    x, h, r = main.tensor("x", [1]), main.tensor("h", [1], "resource"), main.tensor("r", [1])
    main.op("VAR_HANDLE", [], [h], sharedName="v", container="")
    main.op("ASSIGN_VARIABLE", [h, x], [])
    main.op("READ_VARIABLE", [h], [r])
    main.ends([x], [main.relu(r, "y")])
    return built


def test_makers_and_readers_of_a_handle_stay_together_and_it_does_not_cross():
    found = index(variables())
    assert found.captive == found.handles == {"h"}
    (group,) = found.groups.values()
    assert (group.kind, group.nodes) == ("resource", ("h", "ASSIGN_VARIABLE_1", "r"))
    assert plan(made(variables()), outputs="h")["main"].outputs == ("r",)  # what was made of it crosses instead
    with pytest.raises(CutError, match="'h' is a handle and cannot cross"):
        plan(made(variables()), outputs="h", repair="error")
    assert plan(made(variables()), outputs="r")["main"].nodes[-1] == "r"


def test_a_model_is_frozen_with_its_variables_too():
    for built in (chain(), looped(nested=True), everything(), svdf(), variables()):
        made(built).check_frozen()


# what is no legal model


def test_numbers_that_lead_nowhere_are_refused_with_the_number():
    def broken(change, match):
        built = everything()
        built.signature("other", {"image": 0}, {"answer": 13})
        change(built)
        refused(built, match)

    first = lambda b: b.main.table.operators[0]  # noqa: E731
    broken(lambda b: b.main.table.outputs.append(14), "subgraph 0: SubGraph.outputs names tensor 14; there are 14")
    broken(lambda b: b.main.table.inputs.append(-1), "subgraph 0: SubGraph.inputs names tensor -1; there are 14")
    broken(lambda b: setattr(first(b), "inputs", [0, 1, 77]), "subgraph 0: Operator.inputs names tensor 77")
    broken(lambda b: setattr(first(b), "inputs", [0, 1, -2]), "subgraph 0: Operator.inputs names tensor -2")
    broken(lambda b: setattr(first(b), "outputs", [2**31 - 1]), "subgraph 0: Operator.outputs names tensor 2147483647")
    broken(lambda b: setattr(first(b), "intermediates", [14]), "subgraph 0: Operator.intermediates names tensor 14")
    broken(lambda b: setattr(first(b), "opcodeIndex", 99), "subgraph 0: an operator names code 99")
    broken(lambda b: setattr(b.main.table.tensors[0], "buffer", 99), "subgraph 0: a tensor names buffer 99")
    broken(lambda b: setattr(b.model.metadata[0], "buffer", 99), "metadata names buffer 99")
    broken(lambda b: setattr(b.model.signatureDefs[0], "subgraphIndex", 9), "a signature names subgraph 9; there are 3")
    broken(lambda b: setattr(b.model.signatureDefs[0].inputs[0], "tensorIndex", 14), "a signature names tensor 14")
    broken(lambda b: setattr(b.main.table.operators[5].builtinOptions, "thenSubgraphIndex", 3), ".*calls subgraph 3; there are 3")


def test_a_model_without_a_subgraph_is_refused():
    built = chain()
    built.model.subgraphs = []
    refused(built, "it has no subgraph$")


def test_a_tensor_has_one_maker():
    built = chain()
    built.main.op("RELU", [0], [2])
    refused(built, "two operators output 't0': 't0' and 't0'")
    built = chain()
    built.main.op("RELU", [2], [0])
    refused(built, ".*(reads tensor 0 before it is computed|'x' is an input of the model and an output of 'x')")


def test_a_tensor_that_nobody_makes_is_refused():
    built = chain()
    built.main.table.tensors[1].buffer = 0
    refused(built, "nothing outputs 'c0': it is not an input, a constant or an output of an operator$")


def test_an_operator_that_runs_before_what_it_reads_is_made_is_refused():
    built = chain()
    built.main.table.operators.reverse()
    refused(built, "subgraph 0: operator 0, a ADD, reads tensor 4 before it is computed$")
    built = looped()
    built.model.subgraphs[2].operators[0].inputs[0] = 2
    refused(built, "subgraph 2: operator 0, a ADD, reads tensor 2 before it is computed$")


@pytest.mark.parametrize("behind", [False, True])
def test_a_constant_smaller_than_its_shape_is_refused(behind):
    built = chain(shape=(1, 4096))
    built.model.buffers[1].data = np.zeros(4, np.uint8)
    with pytest.raises(FormatError, match=r"subgraph 0: tensor 1 is a constant of 16,384 bytes, its buffer has 4$"):
        made(built.bytes(behind=behind)).index  # noqa: B018
    built = chain()
    built.main.table.tensors[1].shape = [-4]
    refused(built, r"subgraph 0: tensor 1 is a constant of shape \[-4\]$")


@pytest.mark.parametrize("shape", [[1] * 33, [1] * 65, [1] * 2000])
def test_a_rank_that_no_array_has_is_no_value(shape):
    built = chain()
    built.main.tensor("k", shape, "float32", value=np.zeros(1, np.float32).tobytes())
    assert made(built).constant("k") is None
    built.main.tensor("l", shape[:32], "float32", value=np.zeros(1, np.float32).tobytes())
    assert made(built).constant("l").ndim == 32


@pytest.mark.parametrize(("values", "fine"), [(4, True), (3, False)])
def test_half_bytes_are_counted(values, fine):
    built = chain()
    built.main.tensor("seven", [7], "int4", value=bytes(values))
    if fine:
        assert index(built)
    else:
        refused(built, "subgraph 0: tensor 7 is a constant of 4 bytes, its buffer has 3$")


def test_a_buffer_behind_the_flatbuffer_ends_within_the_file():
    content = chain().bytes(behind=True)
    with pytest.raises(FormatError, match=r"buffer \d ends at byte [\d,]+, the file has"):
        made(content[:-16]).index  # noqa: B018


def test_options_behind_the_flatbuffer_end_within_the_file():
    built = chain()
    built.main.table.operators[0].largeCustomOptionsOffset = 1000
    built.main.table.operators[0].largeCustomOptionsSize = 10**6
    refused(built, "subgraph 0: the options of a ADD end at byte 1,001,000, the file has")


def test_weights_in_other_files_are_refused():
    built = chain()
    group, buffer = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
    group.name = "weights.bin"
    built.model.externalBufferGroups, built.model.externalBuffers = [group], [buffer]
    refused(built, "its weights are in other files, which this version does not read; convert it into one file$")


def test_a_subgraph_that_runs_itself_is_refused():
    """LiteRT goes round in such a circle until its stack ends."""
    built = looped()
    built.model.subgraphs[2].operators.append(built.model.subgraphs[0].operators[1])
    refused(built, "subgraph 2 runs itself")
    built = looped()
    built.main.table.operators[1].builtinOptions.bodySubgraphIndex = 3
    for number in range(3, 80):
        graph = built.graph("deeper")
        graph.table.tensors, graph.table.inputs, graph.table.outputs = built.model.subgraphs[2].tensors, [0], [2]
        options = {"condSubgraphIndex": 1, "bodySubgraphIndex": min(79, number + 1)}
        graph.op("WHILE", [0], [2], **options) if number < 79 else None
    refused(built, ".*more than 64 deep")


@pytest.mark.parametrize("change", ["cond", "none", "other"])
def test_a_loop_that_does_not_say_what_it_runs_is_refused(change):
    """LiteRT would take subgraph 0, which runs the loop."""
    built = looped()
    loop = built.main.table.operators[1]
    if change == "cond":
        loop.builtinOptions.condSubgraphIndex = 0
    else:
        loop.builtinOptions = None if change == "none" else schema.IfOptionsT()
        loop.builtinOptionsType = 0 if change == "none" else schema.BuiltinOptions.IfOptions
    refused(built, "subgraph 0: a WHILE does not state what it runs$")


def test_a_variable_that_is_an_output_and_that_nobody_makes_is_refused():
    built = chain()
    built.main.table.outputs.append(built.main.tensor("v", [1], variable=True))
    refused(built, "'v' is an output and a variable that no operator outputs$")


# files


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c[:200], "a damaged TFLite file: .*; copy or convert it again$"),
        (lambda c: c[:9], "a damaged TFLite file: "),
        (lambda c: c[:4] + b"TFL3" + b"\xff" * 100, "a damaged TFLite file: no Model at byte 8"),
        (lambda c: b"", "the file is empty; was a download interrupted"),
    ],
    ids=["half", "nine", "garbage", "empty"],
)
def test_a_damaged_file_is_refused_with_its_path(change, says, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(change(chain().bytes()))
    with pytest.raises(FormatError, match=says) as caught:
        load(path)
    assert caught.value.path == str(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("identifier", [b"TFL2", b"TFL4", b"\0\0\0\0"])
def test_another_identifier_is_no_tflite_file(identifier, tmp_path):
    content = chain().bytes()
    path = tmp_path / "m.tflite"
    path.write_bytes(content[:4] + identifier + content[8:])
    with pytest.raises(FormatError):
        load(path)
    with pytest.raises(FormatError, match=r"bytes 4 to 8 are b'.*', not b'TFL3'"):
        load(path, format="tflite")


def test_a_tflite_file_is_known_by_its_content_and_the_model_by_its_path(tmp_path):
    path = tmp_path / "m.bin"
    path.write_bytes(chain().bytes())
    whole = load(path)
    assert (whole.format, whole.section_format, whole.suffix) == ("tflite", "tflite", "tflite")
    assert repr(whole) == f"<TFLiteModel {str(path)!r}: 7 nodes>"
    assert whole.nbytes == path.stat().st_size
    assert whole.original is whole
    assert OPS["ADD"] == 0
