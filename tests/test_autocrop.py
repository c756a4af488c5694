"""The automatic cut on hand-made graphs."""

from __future__ import annotations

import json

import pytest
from graphsplit.planning.min_cut import find_crop

from graphsplit.errors import FormatError
from graphsplit.graph.index import Function, GraphIndex, Group, Node, TensorSpec
from graphsplit.planning.affinity import read_affinity


def graph(*lines, outputs, groups=None, functions=None, calls=None):
    """``graph("conv Conv2D image w", …)``: a node, its op, what it reads; constants start with w."""
    members = {name: g for g, names in (groups or {}).items() for name in names}
    nodes = [Node("image", "Placeholder", (), ("image:0",), kind="input")]
    made = {"image"}
    for line in lines:
        name, op, *reads = line.split()
        for read in reads:
            if read.startswith("w") and read not in made:
                made.add(read)
                nodes.append(Node(read, "Const", (), (f"{read}:0",), kind="const"))
        nodes.append(Node(name, op, tuple(f"{r}:0" for r in reads), (f"{name}:0",), group=members.get(name)))
        made.add(name)
    found = {g: Group(g, "loop", tuple(names)) for g, names in (groups or {}).items()}
    return GraphIndex(
        nodes=tuple(nodes),
        tensors={t: TensorSpec(t, "float32", None) for n in nodes for t in n.outputs},
        inputs=("image:0",),
        outputs=tuple(f"{o}:0" for o in outputs),
        groups=found,
        functions=functions or {},
        calls=calls or {},
    )


def cut(index, sizes=None, affinity=None, **options):
    sizes = sizes or {}
    return find_crop(index, lambda t: sizes.get(t.removesuffix(":0"), 100), affinity or read_affinity(), **options)


def test_the_cut_is_where_the_fewest_bytes_cross_and_the_latest_of_these():
    """conv(100) ─▶ bias ─▶ flat(100) ─▶ slice(50) ─▶ sigmoid(50) ─▶ tile(500) ─▶ nms"""
    index = graph(
        "conv Conv2D image w1",
        "bias BiasAdd conv w2",
        "flat Reshape bias w3",
        "slice Slice flat w4",
        "sigmoid Sigmoid slice",
        "tile Tile sigmoid w5",
        "nms NonMaxSuppressionV3 tile",
        outputs=["nms"],
    )
    found = cut(index, {"slice": 50, "sigmoid": 50, "tile": 500})
    assert found.back == ("sigmoid:0",)
    assert found.heads == ("bias:0",)
    assert found.front == ()
    assert found.reason == "NonMaxSuppressionV3 (nms)"


def test_what_is_fused_behind_a_convolution_is_never_cut_off():
    """relu6 gives half the bytes less than bias: the cut would be tempting in between, were they not one step."""
    index = graph(
        "conv Conv2D image w1",
        "bias BiasAdd conv w2",
        "norm FusedBatchNormV3 bias w3",
        "act Relu6 norm",
        "top TopKV2 act",
        outputs=["top"],
    )
    found = cut(index, {"conv": 1, "bias": 1, "norm": 1, "act": 900})
    assert found.back == found.heads == ("act:0",)


def test_a_tensor_counts_once_however_many_read_it():
    """conv(60) is read by three ops whose outputs are 30 each: 60 < 90, so the cut is at conv."""
    index = graph(
        "conv Conv2D image w1",
        "a Sigmoid conv",
        "b Sigmoid conv",
        "c Sigmoid conv",
        "top TopKV2 a b c",
        outputs=["top"],
    )
    assert cut(index, {"conv": 60, "a": 30, "b": 30, "c": 30}).back == ("conv:0",)
    assert cut(index, {"conv": 100, "a": 30, "b": 30, "c": 30}).back == ("a:0", "b:0", "c:0")


def test_host_ops_that_the_network_depends_on_stay_before_it():
    """conv1 ─▶ nms1 ─▶ conv2 ─▶ nms2: two stages, only the last suppression is post-processing."""
    index = graph(
        "conv1 Conv2D image w1",
        "nms1 NonMaxSuppressionV3 conv1",
        "conv2 Conv2D nms1 w2",
        "nms2 NonMaxSuppressionV3 conv2",
        outputs=["nms2"],
    )
    found = cut(index)
    assert found.back == ("conv2:0",)
    assert found.reason == "NonMaxSuppressionV3 (nms2)"


def test_a_loop_is_one_node_and_belongs_on_the_host_when_nothing_neural_is_in_it():
    index = graph(
        "enter Enter image",
        "resize ResizeBilinear enter w1",
        "exit Exit resize",
        "scale Mul exit w2",
        "conv Conv2D scale w3",
        "outer Enter conv",
        "pick Mul outer w4",
        "done Exit pick",
        outputs=["done"],
        groups={"resizing": ["enter", "resize", "exit"], "picking": ["outer", "pick", "done"]},
    )
    found = cut(index)
    assert found.front == ("exit:0",), "the earliest of equal cuts: scaling runs well on an accelerator"
    assert found.before == "work for the host before the network: a loop (enter)"
    assert found.back == ("conv:0",)


def test_a_function_is_looked_into():
    """TensorFlow 2 hides the suppression in a library function, called by name."""
    functions = {
        "outer": Function("outer", ("Identity", "StatelessWhile"), ("inner",)),
        "inner": Function("inner", ("NonMaxSuppressionV5",), ()),
        "net": Function("net", ("Conv2D",), ()),
    }
    index = graph(
        "body PartitionedCall image",
        "flat Reshape body w1",
        "call PartitionedCall flat",
        outputs=["call"],
        functions=functions,
        calls={"body": ("net",), "call": ("outer",)},
    )
    found = cut(index)
    assert found.back == ("flat:0",)
    assert "NonMaxSuppressionV5 (call)" in found.reason


def test_nothing_is_cropped_where_nothing_belongs_on_a_host():
    index = graph("conv Conv2D image w1", "soft Softmax conv", outputs=["soft"])
    found = cut(index)
    assert found.back == ()
    assert found.reason == "nothing to crop after the network: no op there belongs on a host"
    assert cut(graph("top TopKV2 image", outputs=["top"])).reason == "nothing to crop: no op of the model belongs on an accelerator"


def test_a_table_of_ones_own_moves_the_cut_and_the_reason_names_what_it_refused(tmp_path):
    """The compiler does not take Sigmoid: the cut moves before it, although sigmoid gives fewer bytes."""
    index = graph("conv Conv2D image w1", "sig Sigmoid conv", "top TopKV2 sig", outputs=["top"])
    sizes = {"conv": 100, "sig": 10}
    assert cut(index, sizes).back == ("sig:0",)
    table = tmp_path / "mine.json"
    table.write_text(json.dumps({"Sigmoid": "host"}))
    found = cut(index, sizes, read_affinity(table))
    assert found.back == ("conv:0",)
    assert found.reason.startswith("Sigmoid (sig), TopKV2 (top)")


def test_only_the_outputs_that_are_kept_count():
    index = graph("conv Conv2D image w1", "top TopKV2 conv", "soft Softmax conv", outputs=["top", "soft"])
    assert cut(index).back == ("conv:0",)
    assert cut(index, outputs=["soft:0"]).back == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "not an affinity table such as"),
        ('{"Conv2D": "gpu"}', r"\$\.Conv2D: 'gpu' is not one of accelerator, host, either"),
        ("{", "not JSON"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=message):
        read_affinity(path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_affinity(tmp_path / "none.json")
