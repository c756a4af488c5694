"""Graphs that are none, graphs that ask for too much, and thousands of graphs with something broken in them.

Whatever stands in a file: it is read, or refused with a GraphSplitError, and soon.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from graphsplit.errors import CutError, FormatError, GraphSplitError, TensorNotFoundError
from graphsplit.formats import load
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.wire import GraphError
from graphsplit.splitting.surgery import plan, split
from tests.formats import raw
from tests.formats.raw import FLOAT, field, number

T = {"T": raw.kind(FLOAT)}
X = raw.placeholder("x", FLOAT, -1, 2)
Y = raw.identity("y", "x")


def refused(data: bytes, says: str, folder: Path) -> None:
    """Its index is refused with these words; the error has the path."""
    path = folder / "model.pb"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=says) as caught:
        load(path).index  # noqa: B018
    assert caught.value.path == str(path)


def call(name: str, callee: str, source: str = "x") -> bytes:
    one = raw.listed(number(6, FLOAT))
    return raw.node(name, "PartitionedCall", source, attrs={"f": raw.func(callee), "Tin": one, "Tout": one})


def split_node(count: int, name: str = "s") -> bytes:
    return raw.node(name, "Split", "axis", "x", attrs={**T, "num_split": raw.integer(count)})


AXIS = raw.const("axis", bytes(4), dtype=raw.INT32)


# no legal graph

ILLEGAL: dict[str, tuple[bytes, str]] = {
    "two nodes of a name": (raw.graph(X, Y, Y), r"not a legal graph: two nodes are named 'y'$"),
    "a nameless node": (raw.graph(X, Y, raw.node("", "NoOp")), r"not a legal graph: node number 2 has no name$"),
    "a node without op": (raw.graph(X, raw.node("y", ""), Y), r"not a legal graph: node number 1 has no op$"),
    "an empty node": (raw.graph(X, b"", Y), r"not a legal graph: node number 1 has no name$"),
    "an input that is not there": (
        raw.graph(Y),
        r"not a legal graph: node 'y' reads 'x', which is not in the graph; the file is damaged or was cut without its inputs$",
    ),
    "a control input that is not there": (
        raw.graph(X, raw.node("y", "Relu", "x", "^gone", attrs=T)),
        r"not a legal graph: node 'y' reads 'gone', which is not in the graph; the file is damaged",
    ),
    "an empty input": (raw.graph(X, raw.identity("y", "")), r"not a legal graph: node 'y' reads '', which is not in the graph"),
    "a port that does not exist": (
        raw.graph(X, raw.identity("y", "x:1")),
        r"not a legal graph: node 'y' reads 'x:1', but that node has no such output$",
    ),
    "a port of a node without outputs": (
        raw.graph(raw.node("n", "NoOp"), raw.identity("y", "n")),
        r"not a legal graph: node 'y' reads 'n:0', but that node has no such output$",
    ),
    "a port of a call that gives nothing": (
        raw.graph(raw.node("c", "PartitionedCall", attrs={"f": raw.func("f"), "Tout": raw.listed()}), raw.identity("y", "c")),
        r"not a legal graph: node 'y' reads 'c:0', but that node has no such output$",
    ),
    "port 10^7": (raw.graph(X, raw.identity("y", "x:10000000")), r"node 'y' reads port 10000000 of 'x': no op has as many$"),
    "a port of 4,000 digits": (raw.graph(X, raw.identity("y", "x:" + "9" * 4000)), r"reads port 9{20} of 'x': no op has as many$"),
    "port -1": (raw.graph(X, raw.identity("y", "x:-1")), r"node 'y' reads 'x:-1', which is not in the graph"),
    "a port of another script": (raw.graph(X, raw.identity("y", "x:٠")), r"node 'y' reads 'x:٠', which is not in the graph"),
    "num_split of 2^31": (raw.graph(X, AXIS, split_node(2**31)), r"node 's': attribute 'num_split' asks for 2147483648 ports$"),
    "num_split of -1": (raw.graph(X, AXIS, split_node(-1)), r"node 's': attribute 'num_split' asks for -1 ports$"),
    "num_split of 2^63": (raw.graph(X, AXIS, split_node(-(2**63))), r"attribute 'num_split' asks for -9223372036854775808 ports$"),
    "num_split of 10^6": (
        raw.graph(X, AXIS, split_node(10**6)),
        r"node 's' asks for 1,000,000 outputs, 1,000,00\d in all: too many$",
    ),
    "a million outputs in small change": (
        raw.graph(X, AXIS, *(split_node(50_000, f"s{i}") for i in range(20))),
        r"node 's1' asks for 50,000 outputs, 100,002 in all: too many$",
    ),
    "two functions of a name": (
        raw.graph(X, Y, library=raw.library(raw.function("f"), raw.function("f", [Y]))),
        r"not a legal graph: two functions are named 'f'$",
    ),
    "a function with two signatures": (
        raw.graph(X, Y, library=raw.library(raw.function("f") + raw.function("g"))),
        r"not a legal graph: the function 'f' has two signatures$",
    ),
    "a damaged function": (
        raw.graph(X, call("y", "f"), library=raw.library(field(1, b"\x0a\xff"))),
        r"not a whole GraphDef: a damaged OpDef .* at byte \d+$",
    ),
    "a damaged gradient": (
        raw.graph(X, call("a", "f"), library=raw.library(raw.function("f", [raw.node("r", "ReadVariableOp")])) + field(2, b"\xff")),
        r"not a whole GraphDef: a damaged GradientDef .* at byte \d+$",
    ),
    "a damaged attribute": (
        raw.graph(X, AXIS, raw.node("s", "Split", "axis", "x", attrs={"num_split": b"\xff"})),
        r"not a legal graph: node 's': a damaged AttrValue .* at byte \d+$",
    ),
    "an attribute with two values": (
        raw.graph(X, AXIS, raw.node("s", "Split", "axis", "x", more=field(5, field(1, "num_split") + field(2, b"") * 2))),
        r"node 's': an attribute with two values at byte \d+$",
    ),
    "a call nested too deep": (
        raw.graph(
            X,
            raw.node(
                "y", "PartitionedCall", "x", attrs={"f": reduce(lambda f, _: raw.func("f", {"g": f}), range(200), raw.func("f"))}
            ),
            library=raw.library(raw.function("f")),
        ),
        r"not a whole GraphDef: a damaged AttrValue .* at byte \d+$",
    ),
    "damaged versions": (
        field(1, raw.placeholder("x", FLOAT)) + field(4, b"\x08"),
        r"a damaged VersionDef .* at byte \d+$",
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_no_legal_graph_is_refused_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    data, says = ILLEGAL[name]
    if name == "damaged versions":  # asked for only where a placeholder states shape []
        path = tmp_path / "model.pb"
        path.write_bytes(data)
        with pytest.raises(FormatError, match=says) as caught:
            load(path).inputs  # noqa: B018
        assert caught.value.path == str(path)
    else:
        refused(data, says, tmp_path)


def test_errors_of_the_reader_are_format_errors() -> None:
    assert issubclass(GraphError, FormatError)


def test_a_message_of_another_kind_is_not_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(b"".join(field(1, field(9, b"something")) for _ in range(5)))
    with pytest.raises(FormatError, match=r"a protobuf message, but not a GraphDef \(its nodes have neither name nor op\)$"):
        load(path, "graphdef")
    path.write_bytes(field(77, b"something"))
    with pytest.raises(FormatError, match=r"no node in it; this is not a GraphDef, or an empty one$"):
        load(path, "graphdef")


# legal, if strange


def made(*nodes: bytes, **rest: Any) -> GraphDefModel:
    return GraphDefModel([raw.graph(*nodes, **rest)])


def test_a_cycle_without_a_loop_is_indexed_and_nothing_hangs() -> None:
    """a ─▶ b ─▶ a: TensorFlow refuses to run it; who cuts it gets both on one side."""
    pair = [raw.node(n, "AddV2", "x", m, attrs=T) for n, m in ("ab", "ba")]
    whole = made(X, *pair, raw.identity("c", "b"), raw.identity("y", "c"))
    assert whole.index.outputs == ("y:0",)
    assert [s.nodes for s in plan(whole, outputs="b").sections] == [("a", "b"), ("c", "y")]
    lonely = made(X, *pair)
    assert lonely.index.outputs == ()
    with pytest.raises(CutError, match=r"'a:0' feeds none of the outputs \[none\]"):
        plan(lonely, outputs="a")


@pytest.mark.parametrize("inputs", [("x", "a"), ("a", "a"), ("x", "x", "^a")])
def test_a_node_that_reads_itself_is_indexed_and_nothing_hangs(inputs: tuple[str, ...]) -> None:
    whole = made(X, raw.node("a", "AddV2", *inputs, attrs=T), raw.identity("c", "a"), raw.identity("y", "c"))
    assert "a" in whole.index.edges["a"]
    assert [s.nodes for s in plan(whole, outputs="a").sections] == [("a",), ("c", "y")]


def test_loop_ops_without_a_loop_are_indexed_and_nothing_hangs() -> None:
    ops = [
        raw.node("switch", "Switch", "switch:1", "switch", attrs=T),
        raw.node("merge", "Merge", "merge", "switch:1", "next", attrs={**T, "N": raw.integer(3)}),
        raw.node("next", "NextIteration", "merge", attrs=T),
        raw.node("exit", "Exit", "exit", attrs=T),
        raw.node("enter", "Enter", "exit", attrs={**T, "frame_name": raw.text("f")}),
        raw.node("nameless", "Enter", "enter", attrs=T),
    ]
    whole = made(X, *ops, raw.identity("c", "x"), raw.identity("y", "c"))
    assert "y:0" in whole.index.outputs
    assert plan(whole, outputs="c", model_outputs="y").sections[0].nodes == ("c",)


def test_groups_of_one_name_are_told_apart() -> None:
    enters = [raw.node(f"e{i}", "Enter", "x", attrs={**T, "frame_name": raw.text("f")}) for i in range(3000)]
    groups = made(X, *enters, Y).index.groups
    assert len(groups) == 3000
    assert list(groups)[:3] == ["f", "f (2)", "f (3)"]
    assert max(map(len, groups)) < 12


def nested_calls(depth: int, deepest: bytes) -> bytes:
    functions = [raw.function(f"f{i}", [call("c", f"f{i + 1}")], inputs={"x": FLOAT}, outputs={"y": FLOAT}) for i in range(depth)]
    return raw.library(*functions, raw.function(f"f{depth}", [deepest]))


def test_functions_in_functions_are_followed_to_the_end() -> None:
    whole = made(X, call("a", "f0"), raw.identity("y", "a"), library=nested_calls(100, raw.node("r", "ReadFile", "x")))
    assert whole.reaches_outside == ("a",)
    parts = split(whole, outputs="a", shapes=False)
    assert len(parts["main"].model.reader.library.functions) == 101
    assert len(parts["post"].model.reader.library.functions) == 0


def test_thousands_of_functions_in_each_other_take_no_time() -> None:
    whole = made(X, call("a", "f0"), raw.identity("y", "a"), library=nested_calls(4000, raw.node("r", "RandomUniform", "x")))
    began = time.process_time()
    assert whole.index.name_to_node_map["a"].stateful
    assert whole.reaches_outside == ()
    assert time.process_time() - began < 20


def test_functions_that_call_each_other_round_and_round() -> None:
    f, g = (raw.function(a, [call("c", b)], inputs={"x": FLOAT}, outputs={"y": FLOAT}) for a, b in ("fg", "gf"))
    whole = made(X, call("a", "f"), raw.identity("y", "a"), library=raw.library(f, g, gradients={"f": "f", "g": "f"}))
    with pytest.raises(FormatError, match="a function calls itself: 'f' → 'g' → 'f'"):
        split(whole, outputs="a", shapes=False)


def test_functions_that_are_not_there_are_no_error_of_ours() -> None:
    whole = made(X, call("a", "gone"), raw.identity("y", "a"), library=raw.library(gradients={"gone": "gone_too"}))
    assert whole.index.calls == {}
    assert len(split(whole, outputs="a", shapes=False)) == 2


def test_many_inputs_and_many_ports_take_no_time() -> None:
    many = 20_000
    parts = [
        AXIS,
        raw.node("s", "Split", "axis", "x", attrs={**T, "num_split": raw.integer(many)}),
        raw.node("a", "AddN", *(f"s:{i}" for i in range(many)), attrs={**T, "N": raw.integer(many)}),
        raw.node("y", "AddN", *["a"] * many, *(f"^{n}" for n in ("s", "a", "x") * 1000), attrs={**T, "N": raw.integer(many)}),
    ]
    began = time.process_time()
    whole = made(X, *parts)
    assert len(whole.index.tensors) == many + 4
    assert {whole.index.tensors[t].dtype for t in whole.index.producer} == {"float32", "int32"}
    assert [s.nodes for s in plan(whole, outputs="a").sections] == [("axis", "s", "a"), ("y",)]
    assert time.process_time() - began < 20


# broken, thousands of times


def seeds() -> list[bytes]:
    """Small graphs with something of everything: ports, attributes, control inputs, colocation, a loop, a cond, functions."""
    loc = raw.attr("_class", raw.listed(field(2, "loc:@a"), field(2, "loc:@x")))
    ports = raw.graph(
        X, AXIS, split_node(3),
        raw.node("a", "AddN", "s", "s:1", "s:2", "^axis", device="/cpu:0", attrs={**T, "N": raw.integer(3)}),
        raw.node("b", "IdentityN", "a", "s:1", attrs={"T": raw.listed(number(6, 1), number(6, 1))}) + loc,
        raw.node("y", "AddV2", "b", "b:1", "^a", attrs=T) + loc,
    )  # fmt: skip
    frame = {**T, "frame_name": raw.text("loop")}
    loop = raw.graph(
        X, raw.const("limit", bytes(4)), raw.node("enter", "Enter", "x", attrs=frame),
        raw.node("merge", "Merge", "enter", "next", attrs={**T, "N": raw.integer(2)}),
        raw.node("less", "Less", "merge", "limit", "^merge", attrs=T),
        raw.node("cond", "LoopCond", "less"), raw.node("switch", "Switch", "merge", "cond", attrs=T),
        raw.node("body", "Relu", "switch:1", attrs=T), raw.node("next", "NextIteration", "body", attrs=T),
        raw.node("exit", "Exit", "switch", attrs=T), raw.identity("c", "exit"), raw.identity("y", "c"),
    )  # fmt: skip
    array = raw.graph(
        X, raw.const("size", bytes(4), dtype=raw.INT32),
        raw.node("array", "TensorArrayV3", "size", attrs={"dtype": raw.kind(1), "element_shape": raw.shape(-1, 3)}),
        raw.node("write", "TensorArrayWriteV3", "array", "size", "x", "array:1", attrs=T),
        raw.node("gather", "TensorArrayGatherV3", "array", "size", "write", attrs={"dtype": raw.kind(1)}),
        raw.node("switch", "Switch", "gather", "x", attrs=T), raw.identity("t", "switch"), raw.identity("f", "switch:1"),
        raw.node("merge", "Merge", "t", "f", attrs={**T, "N": raw.integer(2)}), raw.identity("y", "merge"),
    )  # fmt: skip
    calls = raw.graph(
        X, call("a", "f"), call("b", "g", "a"), raw.node("c", "h", "b"),
        raw.node("print", "PrintV2", "b", "^c"), raw.identity("y", "c"),
        library=raw.library(
            raw.function("f", [call("c", "g")], inputs={"x": 1}, outputs={"y": 1}),
            raw.function("g", [raw.identity("i", "x")], inputs={"x": 1}, outputs={"y": 1}),
            raw.function("h", [raw.node("r", "RandomUniform", "x")], inputs={"x": 1}, outputs={"y": 1}),
            gradients={"f": "g"},
        ),
    )  # fmt: skip
    return [ports, loop, array, calls]


def mutated(rng: random.Random, originals: list[bytes]) -> bytes:
    """A graph with bytes or fields changed, cut off, left out or put in, or half of another one behind it."""
    data = rng.choice(originals)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        data = with_a_field_changed(rng, data, originals) if rng.random() < 0.6 else with_a_byte_changed(rng, data, originals)
    return data


def with_a_byte_changed(rng: random.Random, data: bytes, originals: list[bytes]) -> bytes:
    """Lengths are wrong afterwards, more often than not."""
    at = rng.randrange(len(data)) if data else 0
    other = rng.choice(originals)
    match rng.randrange(7):
        case 0:
            return data[:at] + bytes(b ^ 1 << rng.randrange(8) for b in data[at : at + 1]) + data[at + 1 :]
        case 1:
            return data[:at] + rng.choice([b"\0", b"\x7f", b"\x80", b"\xff", b"\x0a", b"\x12", b"\x2a"]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            return data[:at] + data[at + rng.randrange(1, 9) :]
        case 4:
            return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        case 5:
            return data[:at] + other[rng.randrange(len(other)) :]
        case _:
            return data[:at] + data[at // 2 : at // 2 + rng.randrange(1, 40)] + data[at:]


def with_a_field_changed(rng: random.Random, data: bytes, originals: list[bytes]) -> bytes:
    """Lengths are right afterwards, at any depth, so that what is wrong lies in the graph and not in its bytes."""
    fields = raw.parsed(data)
    if not fields:
        return rng.choice([b"", b"x", b"y:1", b"^a", b"\xff", data[::-1], rng.randbytes(4)])
    at = rng.randrange(len(fields))
    number, wire, content = fields[at]
    if wire == 2 and rng.random() < 0.75:
        fields[at] = (number, wire, with_a_field_changed(rng, content, originals))
        return raw.joined(fields)
    match rng.randrange(7):
        case 0:
            del fields[at]
        case 1:
            fields.insert(rng.randrange(len(fields) + 1), fields[at])
        case 2:
            fields.insert(rng.randrange(len(fields)), fields.pop(at))
        case 3:
            fields[at] = (rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 10, 99]), wire, content)
        case 4:
            fields[at] = (number, 0, raw.varint(rng.choice([0, 1, 7, 20, 21, 2**31, 2**63, 2**64 - 1, rng.randrange(2**40)])))
        case 5:
            fields[at] = (number, 2, rng.choice(raw.parsed(rng.choice(originals)) or fields)[2])
        case _:
            fields[at] = (number, 2, rng.choice(fields)[2])
    return raw.joined(fields)


def all_that_can_be_asked(path: Path, rng: random.Random) -> None:
    """Load, index, look at everything, plan at some tensor, write the sections, read them again."""
    whole = load(path)
    index = whole.index
    whole.check_frozen()
    assert isinstance(whole.reaches_outside, tuple)
    for tensor in (*index.inputs, *index.outputs, *index.producer):
        assert index.tensors[tensor].name == tensor
    targets = [t for t in index.producer if index.name_to_node_map[index.producer[t]].kind == "op"]
    at = rng.choice(targets or ["y"])
    whole.skeleton([t for t in targets if t not in index.captive][:3], batch=rng.choice([None, 2]))
    parts = split(whole, plan(whole, outputs=at, repair=rng.choice(["auto", "replicate", "border"])), shapes=False)
    for part in parts:
        again = GraphDefModel([part.model.serialized()]).index
        assert {p.name for p in (*part.inputs, *part.outputs)} <= set(again.producer)
        assert set(again.inputs) <= {p.name for p in part.inputs}


def survives(case: Callable[[], None]) -> str:
    """Run a case: "fine", or the error that it was refused with. Anything else comes out."""
    began = time.process_time()
    try:
        case()
        outcome = "fine"
    except GraphSplitError as error:
        outcome = type(error).__name__
    assert time.process_time() - began < 1
    return outcome


def fuzz(folder: Path, cases: Iterator[tuple[int, bytes]]) -> dict[str, int]:
    path = folder / "model.pb"
    outcomes: dict[str, int] = {}
    for seed, data in cases:
        path.write_bytes(data)
        try:
            outcome = survives(lambda seed=seed: all_that_can_be_asked(path, random.Random(seed)))  # type: ignore[misc]
        except BaseException as error:
            error.add_note(f"seed {seed}: {data!r}") if hasattr(error, "add_note") else None
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def broken(number: int) -> Iterator[tuple[int, bytes]]:
    originals = seeds()
    for seed in range(number):
        yield seed, mutated(random.Random(seed), originals)


def test_the_graphs_to_break_are_whole(tmp_path: Path) -> None:
    for attempt in range(20):
        fuzz_outcomes = fuzz(tmp_path, ((attempt, data) for data in seeds()))
        assert set(fuzz_outcomes) <= {"fine", "CutError"}


def test_two_and_a_half_thousand_broken_graphs_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, broken(2500))
    assert set(outcomes) <= {"fine", "FormatError", "CutError", "TensorNotFoundError"}
    assert outcomes["fine"] > 250
    assert outcomes["FormatError"] > 500
    assert outcomes["CutError"] > 100


@pytest.mark.slow
def test_sixty_thousand_broken_graphs_are_read_or_refused(tmp_path: Path) -> None:
    assert sum(fuzz(tmp_path, broken(60_000)).values()) == 60_000


TEXT = """# a graph
versions { producer: 1987 }
node {
  name: "x"
  op: "Placeholder"
  attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "shape" value { shape { dim { size: -1 } dim { size: 2 } } } }
}
node { name: "axis" op: "Const"
  attr { key: "dtype" value { type: DT_INT32 } }
  attr { key: "value" value { tensor { dtype: DT_INT32 tensor_shape { } int_val: 1 } } }
}
node { name: "s" op: "Split" input: "axis" input: "x"
  attr { key: "num_split" value { i: 2 } }
  attr { key: "T" value { type: DT_FLOAT } }
}
node { name: "a" op: "Relu" input: "s:1" device: "/cpu:0"
  attr { key: "T" value { type: DT_FLOAT } }
  attr { key: "_class" value { list { s: "loc:@s" } } }
}
node { name: "y" op: "f" input: "a" input: "^s" }
library { function { signature { name: "f" input_arg { name: "x" type: DT_FLOAT } output_arg { name: "y" type: DT_FLOAT } } } }
"""


WORDS = [
    "node {",
    "}",
    "{",
    '"',
    ":",
    "DT_RESOURCE",
    "-",
    "1e999",
    "999999999999999999999",
    "\\x",
    "attr",
    "\0",
    "name: 5",
    "é",
    "<",
    ">",
]
TOKEN = re.compile(r'"[^"]*"|-?\b[0-9]+\b|\bDT_\w+')


def broken_texts(number: int) -> Iterator[tuple[int, bytes]]:
    """Texts with a token in another's place, or with something cut off, left out or put in."""
    for seed in range(number):
        rng = random.Random(seed)
        text = TEXT
        for _ in range(rng.choice([1, 1, 2, 4])):
            at, to = rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)
            match rng.randrange(10):
                case 0:
                    text = text[:at]
                case 1:
                    text = text[:at] + rng.choice(WORDS) + text[at:]
                case 2:
                    text = text[:at] + rng.choice(WORDS) + text[at + 1 :]
                case 3:
                    text = text[:at] + text[at + rng.randrange(1, 30) :]
                case 4:
                    text = text[:at] + TEXT[to:]
                case _:
                    tokens = list(TOKEN.finditer(text)) or [re.match("", text)]
                    old, new = rng.choice(tokens), rng.choice(TOKEN.findall(TEXT))
                    text = text[: old.start()] + new + text[old.end() :] if old else text
            text = text or "#"
        yield seed, text.encode()


def test_four_hundred_broken_texts_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, broken_texts(400))
    assert set(outcomes) <= {"fine", "FormatError", "CutError", "TensorNotFoundError"}
    assert outcomes["fine"] > 10
    assert outcomes["FormatError"] > 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('node {\n  name: "x"\n  opp: "NoOp"\n}', r"not a GraphDef in text form: 3:\d+ : .*no field named \"opp\""),
        ('node { name: "x" op: "NoOp"', r"not a GraphDef in text form: 1:\d+ : "),
        ('node { name: "x" op: "A" attr { key: "T" value { type: DT_NO } } }', r"not a GraphDef in text form: 1:\d+ : .*DT_NO"),
        ("node {" * 500, r"not a GraphDef in text form: "),
        ("node { input:" + "[" * 5000, r"not a GraphDef in text form: "),
        ("versions { producer: 99999999999999 }", r"not a GraphDef in text form: 1:\d+ : "),
        ("versions { producer: 5 }", r"no node in it; this is not a GraphDef, or an empty one$"),
        ('node { name: "x" op: "NoOp" } node { name: "x" op: "NoOp" }', r"not a legal graph: two nodes are named 'x'$"),
    ],
)
def test_text_that_is_no_graph_is_refused_with_the_place(tmp_path: Path, text: str, says: str) -> None:
    refused(text.encode(), says, tmp_path)


def test_text_that_is_no_text_is_refused(tmp_path: Path) -> None:
    refused(
        b'node {\n  name: "x"' + b" " * 5000 + b'\xff"\n}',
        r"not a GraphDef in text form: 'utf-8' codec can't decode byte 0xff",
        tmp_path,
    )


def test_a_name_that_is_not_in_the_graph_is_told(tmp_path: Path) -> None:
    with pytest.raises(TensorNotFoundError, match="no tensor named 'z'"):
        plan(made(X, Y), outputs="z")
