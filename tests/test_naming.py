"""Names as users write them, and commands that are printed to be pasted."""

from __future__ import annotations

import random
import shlex

import pytest

from graphsplit.cli.suggest import _command
from graphsplit.errors import TensorNotFoundError
from graphsplit.graph.index import Function, GraphIndex, Node, TensorSpec
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


# names that are nearly right


def nested(*names: str, op: str = "Op") -> GraphIndex:
    """A GraphDef's index: nodes of these names, each with one port; those that begin with ``const`` are constants."""
    nodes = tuple(Node(n, op, (), (f"{n}:0",), kind="const" if n.startswith("const") else "op") for n in names)
    return GraphIndex(nodes, {f"{n}:0": TensorSpec(f"{n}:0") for n in names}, (), (f"{names[-1]}:0",))


PEOPLE = ("net/conv", "net/relu", "Post/ExpandDims_1", "Post/Slice", "Loop/Slice", "const/ExpandDims_1", "feat", "a/x_1,y")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("'net/conv'", ["net/conv"]),
        ('"net/conv","net/relu"', ["net/conv", "net/relu"]),
        ("“net/conv”", ["net/conv"]),
        ("`net/conv` ", ["net/conv"]),
        ("^net/conv", ["net/conv"]),
        ("net/conv:0:0", ["net/conv"]),
        ("net/conv:0:0:0", ["net/conv"]),
        ("/net/conv", ["net/conv"]),
        ("./net/conv:0", ["net/conv"]),
        ("import/feat", ["feat"]),
        ("import/import/feat:0", ["feat"]),
        ("'^import/feat:0' ", ["feat"]),
        ("net/conv:0[1,3,32,32]", ["net/conv"]),
        ("net/conv[1 3 32 32]", ["net/conv"]),
        ("net/conv:0[?,3,None,-1]", ["net/conv"]),
        ("net/conv:0 (1, 300, 300, 3)", ["net/conv"]),
        ("net/conv:0[1,3,32,32],net/relu:0[1,2]", ["net/conv", "net/relu"]),
        ("[net/conv, net/relu]", ["net/conv", "net/relu"]),
        ("['net/conv:0', 'net/relu:0']", ["net/conv", "net/relu"]),
        ("(net/conv,)", ["net/conv"]),
        ('{"net/conv"}', ["net/conv"]),
        ("net/conv;net/relu", ["net/conv", "net/relu"]),
        ("net/conv net/relu", ["net/conv", "net/relu"]),
        ("net/conv\nnet/relu\n", ["net/conv", "net/relu"]),
        ("net/conv; feat, net/relu", ["net/conv", "feat", "net/relu"]),
        ("ExpandDims_1", ["Post/ExpandDims_1"]),
        ("ExpandDims_1:0", ["Post/ExpandDims_1"]),
        ("Post/Slice,ExpandDims_1", ["Post/Slice", "Post/ExpandDims_1"]),
        ("x_1,y", ["a/x_1,y"]),
    ],
)
def test_what_was_copied_along_is_left_out(text, names):
    assert tensors_of(nested(*PEOPLE), text) == tuple(f"{n}:0" for n in names)


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("Slice", ("Post/Slice", "Loop/Slice")),
        ("NET/Conv", ("net/conv",)),
        ("expanddims_1", ("Post/ExpandDims_1",)),
        ("net/conv:1", ("net/conv:0",)),
        ("model/net/conv", ("net/conv",)),
        ("ExpandDim_1", ("Post/ExpandDims_1",)),
        ("'net/konv'", ("net/conv",)),
        ("import/net/konv:0", ("net/conv",)),
        ("net/conv,Slice", ("Post/Slice", "Loop/Slice")),
    ],
)
def test_what_may_mean_several_or_another_is_told_with_names_that_work(text, close):
    index = nested(*PEOPLE)
    with pytest.raises(TensorNotFoundError) as caught:
        tensors_of(index, text)
    assert set(close) <= set(caught.value.close)
    assert all(tensors_of(index, name) for name in caught.value.close)


def test_a_part_of_a_fused_tflite_name_is_enough():
    index = index_of("b/BiasAdd;b/Conv2D;b/bias1", "c/BiasAdd;c/Conv2D", "tail:1")
    assert tensors_of(index, "b/BiasAdd") == ("b/BiasAdd;b/Conv2D;b/bias1",)
    assert tensors_of(index, "bias1, c/Conv2D") == ("b/BiasAdd;b/Conv2D;b/bias1", "c/BiasAdd;c/Conv2D")
    assert tensors_of(index, "b/BiasAdd;b/Conv2D") != ()
    with pytest.raises(TensorNotFoundError, match="did you mean 'c/BiasAdd;c/Conv2D' or 'b/BiasAdd;b/Conv2D;b/bias1'"):
        tensors_of(index, "BiasAdd")
    with pytest.raises(TensorNotFoundError):
        tensors_of(index, "tail")


def test_names_inside_a_function_lead_to_the_ends_of_its_call():
    inner = Function("inner", ("Op",), (), nodes=frozenset({"x", "deep/y"}))
    outer = Function("outer", ("Op",), ("inner",), nodes=frozenset({"z"}))
    nodes = (
        Node("image", "Placeholder", (), ("image:0",), kind="input"),
        Node("pre", "Op", ("image:0",), ("pre:0",)),
        Node("PartitionedCall", "PartitionedCall", ("pre:0",), ("PartitionedCall:0", "PartitionedCall:1")),
    )
    tensors = {t: TensorSpec(t) for n in nodes for t in n.outputs}
    calls = {"PartitionedCall": ("outer",)}
    index = GraphIndex(
        nodes, tensors, ("image:0",), ("PartitionedCall:0",), functions={"inner": inner, "outer": outer}, calls=calls
    )
    for text in ("PartitionedCall/inner/x", "PartitionedCall/deep/y:0", "deep/y", "inner/x", "z"):
        match = "'PartitionedCall' calls a function there, and functions stay whole; did you mean 'PartitionedCall:0' or "
        with pytest.raises(TensorNotFoundError, match=match) as caught:
            tensors_of(index, text)
        assert caught.value.close == ("PartitionedCall:0", "PartitionedCall:1", "pre:0")
        assert all(tensors_of(index, name) for name in caught.value.close)
    assert index.node("image").name == "image"


def test_any_mangling_is_read_or_told_with_names_that_are_read():
    rng = random.Random(5)
    parts = ["a", "b,c", "Conv2D", "x_1", "s:0", "t;u", "[red]", "y z", "Slice", "import", "^", "0", "ü", "'q'"]
    manglings = [
        str.upper, str.lower, repr, str.strip, lambda t: f"import/{t}", lambda t: f"{t}:0", lambda t: f"^{t}", lambda t: f"[{t}]",
        lambda t: f"{t}[1,2]", lambda t: t.rpartition("/")[2], lambda t: t[:-1], lambda t: f" {t}, ", lambda t: t.replace("/", "."),
    ]  # fmt: skip
    for _ in range(400):
        names = list(dict.fromkeys("/".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 6))))
        index = nested(*names) if rng.random() < 0.5 else index_of(*names)
        name = rng.choice(names)
        exact = f"{name}:0" if f"{name}:0" in index.producer else name
        assert tensors_of(index, [exact]) == (exact,)
        text = rng.choice(manglings)(rng.choice(manglings)(name))
        try:
            tensors = tensors_of(index, text)
        except TensorNotFoundError as error:
            tensors = error.close
        assert all(tensors_of(index, t) for t in tensors), (names, text)
        assert all(index.tensor(t) for t in tensors)
        shown = written(index, tuple(index.tensor(t) for t in tensors))
        assert shown is None or tensors_of(index, shown) == tuple(dict.fromkeys(index.tensor(t) for t in tensors))


def test_many_names_that_are_not_there_are_refused():
    index = nested(*(f"scope/{i}/node" for i in range(20_000)))
    with pytest.raises(TensorNotFoundError):
        tensors_of(index, ",".join(f"other_{i}" for i in range(5_000)))


def test_a_node_is_shown_by_a_name_that_is_nearly_right():
    index = nested(*PEOPLE)
    for text in ("^net/conv", "'net/conv'", "import/net/conv:0", "conv", "net/conv:0[1,2]"):
        assert index.node(text).name == "net/conv"
    with pytest.raises(TensorNotFoundError, match="no node named 'Slice'; did you mean"):
        index.node("Slice")
