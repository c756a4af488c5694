"""Names as users write them, and commands that are printed to be pasted."""

from __future__ import annotations

import shlex

import pytest

from graphsplit.cli.suggest import _command
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.graph.signature import Choice
from graphsplit.splitting.naming import tensors_of, written

ODD = ("a,b", "a", "b", "a,b,c", "x y", "$(echo hi)", "[red]", "s:0", "s", "t;u", "-o", "--json", "'q'", "ü", " blank ", "c:0")


def index_of(*names: str) -> GraphIndex:
    nodes = tuple(Node(f"op {n}", "Op", (), (n,)) for n in names)
    return GraphIndex(nodes, {n: TensorSpec(n) for n in names}, (), names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a,b", ["a,b"]),
        ("b,a", ["b", "a"]),
        ("a,b,c", ["a,b,c"]),
        ("b,a,b", ["b", "a,b"]),
        ("b, a ,", ["b", "a"]),
        ("[red],x y,$(echo hi)", ["[red]", "x y", "$(echo hi)"]),
        (" blank ,b", [" blank ", "b"]),
    ],
)
def test_a_string_is_divided_so_that_each_name_exists(text, names):
    assert list(tensors_of(index_of(*ODD), text)) == names


def test_an_entry_of_a_list_that_is_a_name_is_never_divided():
    index = index_of("a", "b", "a,b", "c,d")
    assert tensors_of(index, ["a", "c,d"]) == ("a", "c,d")
    assert tensors_of(index, ["a,b"]) == ("a,b",)
    assert tensors_of(index, ["b,a"]) == ("b", "a")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("beside", [(), ("b",), ("s",)])
def test_what_is_written_is_read_again(name, beside):
    tensors = tuple(dict.fromkeys((name, *beside)))
    index = index_of(*(n for n in ODD if len(tensors) == 1 or not n.startswith(f"{name},{tensors[1]}")))
    text = written(index, tensors)
    assert text is not None
    assert tensors_of(index, text) == tensors


def test_names_that_no_string_can_list_are_not_written():
    index = index_of("a", "b", "a,b", "x\x1b[31m")
    assert written(index, ("a", "b")) is None  # would be read as "a,b"
    assert written(index, ("x\x1b[31m",)) is None


class Stub:
    """As much of a model and a suggestion as a printed command needs."""

    def __init__(self, *names: str) -> None:
        self.index, self.inputs, self.choice = index_of(*ODD), (), Choice()
        self.outputs = tuple(TensorSpec(n) for n in names)


@pytest.mark.parametrize("name", ODD)
def test_a_printed_command_parses_back_to_the_same_names(name):
    from graphsplit.cli.arguments import build_parser

    stub = Stub(name)
    words = shlex.split(_command("my model.tflite", stub, stub))
    args = build_parser(words[1:]).parse_args(words[1:])
    assert (args.model, list(tensors_of(stub.index, args.outputs[0]))) == ("my model.tflite", [name])
