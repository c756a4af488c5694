"""Which nodes reach outside the graph, themselves and through the functions they call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from graphsplit.errors import TrustError
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.outside import reaches_outside
from tests.formats import raw
from tests.formats.raw import field, number


def nothing(_: str) -> Any:
    return None


TELLING = re.compile(r"(?i)file|path|dir$|addr|url|host$|target|server|token|endpoint|engine|_uri|bucket")


def registry() -> Iterator[Any]:
    pytest.importorskip("tensorflow")
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    yield from op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())).op


def test_every_op_with_a_string_that_names_a_file_or_an_address_is_listed() -> None:
    """By the names of the string arguments and attributes, whatever the op is called."""
    found = {
        op.name
        for op in registry()
        if any(TELLING.search(a.name) for a in op.attr if a.type in ("string", "list(string)"))
        or any(TELLING.search(a.name) for a in op.input_arg if a.type == raw.STRING)
    }
    assert {op for op in found if not reaches_outside(op, nothing)} == set()
    assert len(found) > 40


@pytest.mark.parametrize(
    "op",
    [
        "ReadFile",
        "WriteFile",
        "MatchingFiles",
        "SaveV2",
        "RestoreV2",
        "RecordInput",
        "DumpTensor",
        "FixedUnigramCandidateSampler",
        "PyFunc",
        "EagerPyFunc",
        "RpcCall",
        "_Send",
        "TFRecordDatasetV2",
        "WholeFileReaderV2",
        "IteratorGetNext",
        "DecodeProtoV2",
        "InitializeTableFromTextFileV2",
        "WriteScalarSummary",
        "DebugIdentityV3",
        "XlaCustomCallV2",
        "TRTEngineOp",
        "GcsConfigureBlockCache",
        "BigQueryReader",
        "CollectiveReduceV2",
        "NcclAllReduce",
        "Abort",
        "TPUExecute",
        "InfeedEnqueue",
        "GetElementAtIndex",
        "MyOwnOp",
        "DecodeVideo",
    ],
)
def test_what_reaches_outside(op: str) -> None:
    assert reaches_outside(op, nothing)


@pytest.mark.parametrize(
    "op",
    [
        "Conv2D",
        "Placeholder",
        "Const",
        "NonMaxSuppressionV5",
        "While",
        "PartitionedCall",
        "TensorArrayV3",
        "DecodeJpeg",
        "Print",
        "Assert",
        "HashTableV2",
        "RandomUniform",
        "TFLite_Detection_PostProcess",
        "SparseTensorDenseMatMul",
        "QueueDequeueV2",
        "ReadVariableOp",
    ],
)
def test_what_stays_inside(op: str) -> None:
    assert not reaches_outside(op, nothing)


T = {"T": raw.kind(raw.FLOAT)}
X = raw.placeholder("x", raw.FLOAT, -1)


def outside(*nodes: bytes, library: bytes = b"") -> tuple[str, ...]:
    return GraphDefModel([raw.graph(X, *nodes, library=library)]).reaches_outside


@pytest.mark.parametrize(
    ("stream", "reaches"),
    [(None, False), (b"stderr", False), (b"log(info)", False), (b"file:///tmp/x", True), (b"file:", True), (b"", False)],
)
def test_printing_to_a_file_reaches_outside(stream: bytes | None, reaches: bool) -> None:
    attrs = {} if stream is None else {"output_stream": raw.text(stream)}
    harmless = raw.node("first", "PrintV2", "x", attrs={"output_stream": raw.text("stderr")})
    assert outside(harmless, raw.node("p", "PrintV2", "x", attrs=attrs)) == (("p",) if reaches else ())


def call(name: str, **attrs: bytes) -> bytes:
    return raw.node(name, "PartitionedCall", "x", attrs=attrs)


READS = raw.function("reads", [raw.node("r", "ReadFile", "x")])
CALLS = raw.function("calls", [call("c", f=raw.func("reads"))])
FINE = raw.function("fine", [raw.identity("i", "x")])
LIBRARY = raw.library(READS, CALLS, FINE, raw.function("with_gradient"), gradients={"with_gradient": "calls"})


@pytest.mark.parametrize(
    ("node", "reaches"),
    [
        (call("c", f=raw.func("fine")), False),
        (call("c", f=raw.func("reads")), True),
        (call("c", f=raw.func("calls")), True),
        (call("c", f=raw.func("with_gradient")), True),
        (call("c", any_name=raw.func("reads")), True),
        (call("c", f=raw.func("fine", {"body": raw.func("fine", {"body": raw.func("reads")})})), True),
        (raw.node("c", "Case", "x", attrs={"branches": raw.listed(field(9, field(1, "fine")), field(9, field(1, "calls")))}), True),
        (raw.node("c", "fine", "x"), False),
        (raw.node("c", "reads", "x"), True),
        (raw.node("c", "calls", "x"), True),
        # A harmless value before the one that counts, and a harmless attribute before another of its name.
        (raw.node("c", "PartitionedCall", "x", more=raw.attr("f", number(6, 1) + raw.func("reads"))), True),
        (raw.node("c", "PartitionedCall", "x", more=raw.attr("f", field(99, b"?") + raw.func("reads"))), True),
        (raw.node("c", "PartitionedCall", "x", more=raw.attr("f", raw.func("fine")) + raw.attr("f", raw.func("reads"))), True),
        (raw.node("c", "PartitionedCall", "x", more=field(5, field(2, raw.func("reads")) + field(1, "f"))), True),
    ],
)
def test_a_call_reaches_as_far_as_its_functions(node: bytes, reaches: bool) -> None:
    assert outside(node, library=LIBRARY) == (("c",) if reaches else ())


def test_a_function_cannot_take_the_name_of_an_op_that_reaches_outside() -> None:
    """TensorFlow runs its own op of that name, not the function."""
    assert outside(raw.node("r", "ReadFile", "x"), library=raw.library(raw.function("ReadFile"))) == ("r",)


def test_an_unknown_op_is_known_where_the_library_has_a_function_of_that_name() -> None:
    assert outside(raw.node("c", "MyOwnOp", "x")) == ("c",)
    assert outside(raw.node("c", "MyOwnOp", "x"), library=raw.library(raw.function("MyOwnOp"))) == ()


def test_the_refusal_names_the_nodes() -> None:
    model = GraphDefModel([raw.graph(X, *(raw.node(f"r{i}", "ReadFile", "x") for i in range(7)))])
    with pytest.raises(
        TrustError,
        match=r"^the model reaches outside itself \(r0 \(ReadFile\), r1 \(ReadFile\), .*r4 \(ReadFile\) …\): running it may read "
        r"or write files, open connections or call unknown code; trust=True runs it all the same; split\(\) runs nothing",
    ) as caught:
        model.check_trust(False)
    assert caught.value.nodes == tuple(f"r{i}" for i in range(7))
    model.check_trust(True)


def test_custom_ops_are_told_with_the_way_that_runs_nothing_first() -> None:
    x = raw.placeholder("x", raw.FLOAT, -1)
    whole = GraphDefModel([raw.graph(x, raw.node("c", "MyDetection", "x"), raw.identity("y", "c"))])
    says = r"^the model has custom ops \(c \(MyDetection\)\), code from outside of this file; split\(\) runs nothing; trust=True "
    with pytest.raises(TrustError, match=says):
        whole.check_trust(trust=False)
    both = GraphDefModel(
        [raw.graph(raw.node("p", "Placeholder"), raw.node("r", "ReadFile", "p"), raw.node("c", "MyDetection", "r"))]
    )
    with pytest.raises(TrustError, match="the model reaches outside itself"):
        both.check_trust(trust=False)
