"""The automatic cut on hand-made graphs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from graphsplit.errors import FormatError
from graphsplit.graph.index import Function, GraphIndex, Group, Node, TensorSpec
from graphsplit.planning.affinity import read_affinity, refusing
from graphsplit.planning.search import Crop, Search
from graphsplit.planning.units import Units


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


def search(index, sizes=None, affinity=None, outputs=None, weights=None):
    sizes, weights = sizes or {}, weights or {}
    units = Units(index, index.outputs if outputs is None else outputs)
    nbytes, weight = (lambda t: sizes.get(t.removesuffix(":0"), 100)), (lambda n: weights.get(n.name, 1))
    return Search(units, nbytes, weight, affinity or read_affinity())


def cut(index, sizes=None, affinity=None, **options) -> Crop:
    return search(index, sizes, affinity, **options).best()


CHAIN = (
    "conv Conv2D image w1",
    "bias BiasAdd conv w2",
    "flat Reshape bias w3",
    "slice Slice flat w4",
    "sigmoid Sigmoid slice",
    "tile Tile sigmoid w5",
    "nms NonMaxSuppressionV3 tile",
)


def test_main_ends_right_after_the_last_layer_and_what_is_fused_with_it():
    """conv(100) ─▶ bias ─▶ flat(100) ─▶ slice(50) ─▶ sigmoid(50) ─▶ tile(500) ─▶ nms"""
    found = cut(graph(*CHAIN, outputs=["nms"]), {"slice": 50, "sigmoid": 50, "tile": 500})
    assert found.back == ("bias:0",)
    assert found.front == ()
    assert found.share == 1
    assert found.reason == "NonMaxSuppressionV3 (nms)"


def test_the_fewest_bytes_are_found_beside_it_and_the_latest_of_these():
    found = search(graph(*CHAIN, outputs=["nms"]), {"slice": 50, "sigmoid": 50, "tile": 500}).fewest_bytes()
    assert found.back == ("sigmoid:0",)


def test_what_a_table_of_ones_own_takes_is_not_doubtful(tmp_path):
    table = tmp_path / "mine.json"
    table.write_text(json.dumps({"Reshape": "accelerator", "Slice": "either"}))
    found = cut(graph(*CHAIN, outputs=["nms"]), {"slice": 50, "sigmoid": 50, "tile": 500}, read_affinity(table))
    assert found.back == ("slice:0",)


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
    assert found.back == ("act:0",)


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
    assert search(index, {"conv": 60, "a": 30, "b": 30, "c": 30}).fewest_bytes().back == ("conv:0",)
    assert search(index, {"conv": 100, "a": 30, "b": 30, "c": 30}).fewest_bytes().back == ("a:0", "b:0", "c:0")


TWO_STAGES = graph(
    "conv1 Conv2D image w1",
    "nms1 NonMaxSuppressionV3 conv1",
    "conv2 Conv2D nms1 w2",
    "nms2 NonMaxSuppressionV3 conv2",
    outputs=["nms2"],
)


@pytest.mark.parametrize(
    ("weights", "front", "back", "share"),
    [({"conv1": 9}, (), ("conv1:0",), 0.9), ({"conv2": 9}, ("nms1:0",), ("conv2:0",), 0.9)],
    ids=["the first outweighs", "the second outweighs"],
)
def test_a_host_op_between_layers_goes_where_main_holds_more(weights, front, back, share):
    """conv1 ─▶ nms1 ─▶ conv2 ─▶ nms2: two stages."""
    found = cut(TWO_STAGES, weights=weights)
    assert (found.front, found.back, found.share) == (front, back, share)


def test_a_host_op_between_layers_is_named_with_the_other_choices():
    found = search(TWO_STAGES, weights={"conv1": 3})
    (stuck,) = found.stuck
    assert (stuck.op, stuck.place, stuck.layer) == ("NonMaxSuppressionV3", "nms1", "conv2")
    assert (found.starting_before().back, found.starting_before().share) == (("conv1:0",), 0.75)
    after = found.starting_after()
    assert (after.front, after.back, after.share) == (("nms1:0",), ("conv2:0",), 0.25)
    assert [(i.accelerated, i.ends) for i in found.islands] == [
        (True, ("conv1:0",)),
        (False, ("nms1:0",)),
        (True, ("conv2:0",)),
        (False, ("nms2:0",)),
    ]


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
    assert found.back == ("body:0",)
    assert "NonMaxSuppressionV5 (call)" in found.reason


def test_nothing_is_cropped_where_nothing_belongs_on_a_host():
    index = graph("conv Conv2D image w1", "soft Softmax conv", outputs=["soft"])
    found = cut(index)
    assert found.back == ()
    assert found.reason == "nothing to crop after the network: no op there belongs on a host"
    assert search(index).heads().back == (), "an activation behind the last layer is no work for a host"
    assert cut(graph("top TopKV2 image", outputs=["top"])).reason == "nothing to crop: no op of the model belongs on an accelerator"


def test_a_table_of_ones_own_moves_the_cut_and_the_reason_names_what_it_refused(tmp_path):
    """The compiler takes Sigmoid but no Tanh."""
    index = graph("conv Conv2D image w1", "sig Sigmoid conv", "tanh Tanh sig", "top TopKV2 tanh", outputs=["top"])
    table = tmp_path / "mine.json"
    table.write_text(json.dumps({"Tanh": "host", "Sigmoid": "accelerator"}))
    found = cut(index, affinity=read_affinity(table))
    assert found.back == ("sig:0",)
    assert found.reason.startswith("Tanh (tanh), TopKV2 (top)")


def test_only_the_outputs_that_are_kept_count():
    index = graph("conv Conv2D image w1", "top TopKV2 conv", "soft Softmax conv", outputs=["top", "soft"])
    assert cut(index).back == ("conv:0", "soft:0"), "an output of the whole that main computes is main's"
    assert cut(index, outputs=["soft:0"]).back == ()


def test_the_front_is_cut_too_and_what_crosses_there_is_little():
    """image ─▶ decode(10) ─▶ cast(40) ─▶ conv ─▶ topk"""
    index = graph("decode DecodeJpeg image", "cast Cast decode", "conv Conv2D cast w1", "top TopKV2 conv", outputs=["top"])
    found = cut(index, {"decode": 10, "cast": 40})
    assert (found.front, found.back) == (("decode:0",), ("conv:0",))
    assert found.before == "work for the host before the network: DecodeJpeg (decode)"
    assert cut(index, {"decode": 40, "cast": 10}).front == ("cast:0",)


def test_heads_are_offered_where_no_op_after_them_is_known():
    """As YOLOv8: joined heads are decoded by a softmax and a convolution to one channel, which is no layer."""
    index = graph(
        "box Conv2D image w1",
        "cls Conv2D image w2",
        "join ConcatV2 box cls w3",
        "soft Softmax join",
        "dfl Conv2D soft w4",
        outputs=["dfl"],
    )
    specs = {**index.tensors, "w4:0": TensorSpec("w4:0", "float32", (1, 1, 16, 1))}
    found = search(replace(index, tensors=specs))
    assert found.best().back == ()
    assert found.heads().back == ("box:0", "cls:0")
    assert found.layers == {"box", "cls"}


def test_shapes_are_no_border_and_readers_of_weights_are_none():
    """image ─▶ conv ─▶ relu ─▶ head ─▶ reshape(size of relu) ─▶ topk; two layers share the reader of a weight."""
    index = graph(
        "read Identity w0",
        "conv Conv2D image read",
        "relu Relu conv",
        "head Conv2D relu w1",
        "size Shape relu",
        "flat Reshape head size",
        "top TopKV2 flat",
        "late Conv2D top read",
        outputs=["late"],
    )
    roles = {"Shape": "shape", "Identity": "arithmetic"}
    index = replace(index, nodes=tuple(replace(n, role=roles.get(n.op, "")) for n in index.nodes))
    assert cut(index, weights={"conv": 9}).back == ("head:0",)
    assert cut(index, weights={"late": 99}).front == ("top:0",)


@pytest.mark.parametrize(
    ("op", "role", "dtype", "side"),
    [
        ("MyDecoder", "custom", "float32", "host"),
        ("FlexQr", "custom", "float32", "host"),
        ("Lookup", "", "string", "host"),
        ("ReadVariableOp", "", "resource", "host"),
        ("RFFT2D", "", "complex64", "host"),
        ("SignalFramer", "custom", "int16", "host"),
        ("edgetpu-custom-op", "custom", "uint8", "accelerator"),
        ("ethos-u", "custom", "int8", "accelerator"),
        ("XC_conv2d_v2", "custom", "int8", "accelerator"),
        ("Frobnicate", "", "float32", "either"),
    ],
)
def test_ops_that_no_table_names_have_a_side_by_their_kind(op, role, dtype, side):
    assert read_affinity().side(op, role, frozenset({dtype})) == side


def test_a_table_of_ones_own_may_take_a_custom_op(tmp_path):
    table = tmp_path / "mine.json"
    table.write_text(json.dumps({"MyDecoder": "accelerator"}))
    assert read_affinity(table).side("MyDecoder", "custom") == "accelerator"


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


def test_a_compiler_that_was_asked_has_the_last_word():
    """It takes TopKV2, which the tables call a host op, and refuses one of two layers and one of two Sigmoids."""
    index = graph(
        "conv Conv2D image w1",
        "sig Sigmoid conv",
        "top TopKV2 sig",
        "late Sigmoid top",
        "odd Conv2D late w2",
        outputs=["odd"],
    )
    found = search(index, affinity=refusing({"odd": "the kernel is too large"}), weights={"odd": 1, "conv": 3})
    assert (found.best().back, found.best().share) == (("late:0",), 0.75)
    found = search(index, affinity=refusing({"late": "the range is too small"}), weights={"odd": 1, "conv": 3})
    assert found.best().back == ("top:0",)
    assert [(s.op, s.place, s.layer, s.reason) for s in found.stuck] == [("Sigmoid", "late", "odd", "the range is too small")]
    assert search(index, affinity=refusing({})).best().cuts is False


@pytest.mark.parametrize("op", ["CTCGreedyDecoder", "CTCBeamSearchDecoder", "ResizeBicubic", "Bincount", "Cholesky"])
def test_an_op_that_runs_on_the_cpu_only_belongs_on_the_host(op: str) -> None:
    """Unless TensorFlow has a kernel of it for GPUs."""
    host = op not in ("Bincount", "Cholesky")
    assert (read_affinity().side(op) == "host") is host
    index = graph("conv Conv2D image w1", "flat Reshape conv w2", f"last {op} flat", "text Identity last", outputs=["text"])
    assert (bool(cut(index).back) and "last:0" not in cut(index).back) is host


def test_a_table_of_ones_own_overrules_that(tmp_path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"CTCGreedyDecoder": "accelerator"}))
    assert read_affinity(tmp_path / "mine.json").side("CTCGreedyDecoder") == "accelerator"
