"""Sections as files: every table of a section is the source's, field by field, read by ai-edge-litert's own schema."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from graphsplit.errors import FormatError
from graphsplit.formats.tflite import writer
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.inference.sessions import open_session
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from tests.formats.tflite.builder import Built, chain, decoded, everything, looped, per_channel, sparse  # noqa: E402
from tests.formats.tflite.test_reader import svdf  # noqa: E402

#: Fields that hold numbers of things, which are counted anew in a section.
NUMBERS = {
    "opcodeIndex", "inputs", "outputs", "intermediates", "buffer", "tensorIndex", "condSubgraphIndex", "bodySubgraphIndex",
    "thenSubgraphIndex", "elseSubgraphIndex", "name",
}  # fmt: skip


def made(built: Built | bytes) -> TFLiteModel:
    return TFLiteModel(built if isinstance(built, bytes) else built.bytes())


def cut(built: Built | bytes, *at: str) -> Parts:
    return split(made(built), outputs=list(at), shapes=False)


def plain(thing: Any) -> Any:
    """A table as data, without numbers of other things."""
    if hasattr(thing, "__dict__"):
        return {type(thing).__name__: {k: plain(v) for k, v in vars(thing).items() if k not in NUMBERS}}
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    return [plain(t) for t in thing] if isinstance(thing, (list, tuple)) else thing


def value(model: Any, tensor: Any, content: bytes = b"") -> bytes | None:
    """The bytes of a tensor; None where the file has none."""
    buffer = model.buffers[tensor.buffer]
    if buffer.offset > 1:
        return content[buffer.offset : buffer.offset + buffer.size]
    return None if buffer.data is None else bytes(buffer.data)


def named(model: Any, graph: int = 0) -> dict[str, Any]:
    return {t.name.decode(): t for t in model.subgraphs[graph].tensors}


def compare(source: TFLiteModel, section: TFLiteModel) -> None:
    """A section holds what the source holds: tensors, operators, subgraphs, codes, values."""
    whole, part = decoded(source.serialized()), decoded(section.serialized())
    for place, table in enumerate(whole.subgraphs[0].tensors):
        table.name = source.reader.names[place].encode()
    before, after = named(whole), named(part)
    given = {part.subgraphs[0].tensors[t].name.decode() for t in part.subgraphs[0].inputs}
    for name, tensor in after.items():
        assert plain(tensor) == plain(before[name]), name
        if name not in given:
            assert value(part, tensor) == value(whole, before[name], source.serialized()), name
    both(whole, 0, part, 0, source.serialized())
    assert (part.version, part.description) == (whole.version, whole.description)


def both(whole: Any, number: int, part: Any, place: int, content: bytes) -> None:
    """A subgraph in both files: the operators of the section are those of the source, in its order."""
    old, new = whole.subgraphs[number], part.subgraphs[place]
    assert old.name == new.name

    def name(graph: Any, tensor: int) -> Any:
        return None if tensor == -1 else graph.tensors[tensor].name

    def what(model: Any, graph: Any, operator: Any) -> Any:
        code = model.operatorCodes[operator.opcodeIndex]
        ends = [[name(graph, t) for t in side] for side in (operator.inputs, operator.outputs)]
        return plain(code), ends, plain(operator)

    there = [what(whole, old, o) for o in old.operators]
    mine = [what(part, new, o) for o in new.operators]
    places = [there.index(o) for o in mine]
    assert places == sorted(places)
    if place:
        assert mine == there
        assert [name(new, t) for t in new.inputs] == [name(old, t) for t in old.inputs]
        assert [name(new, t) for t in new.outputs] == [name(old, t) for t in old.outputs]
        assert [value(part, t) for t in new.tensors] == [value(whole, t, content) for t in old.tensors]
        assert plain(new.tensors) == plain(old.tensors)
    for mine_at, operator in zip(places, new.operators, strict=True):
        before = old.operators[mine_at]
        for field in NUMBERS - {"name"}:
            if "Subgraph" in field and hasattr(operator.builtinOptions, field):
                both(whole, getattr(before.builtinOptions, field), part, getattr(operator.builtinOptions, field), content)


def proven(built: Built | bytes, *at: str) -> Parts:
    """Sections that hold what the source holds, can be read again under the same names, and compute the same."""
    source = made(built)
    parts = split(source, outputs=list(at), shapes=False)
    for part in parts:
        compare(source, part.model)
        again = TFLiteModel(part.model.serialized())
        assert again.reader.names == again.reader.raw_names
        assert again.index.inputs == tuple(p.name for p in part.inputs)
        assert set(again.index.outputs) == {p.name for p in part.outputs}
        assert all(p.tensor == p.name for p in (*part.inputs, *part.outputs))
        for port in (*part.inputs, *part.outputs):
            assert (again.index.tensors[port.name].dtype, again.index.tensors[port.name].shape) == (port.dtype, port.shape)
    report = verify(source, parts)
    assert report.equal, report.summary()
    return parts


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("at", ["fc", "s:0", "s:1", "tensor_7", "fc_1", "tensor_9", "i", "q"])
def test_sections_of_a_model_with_something_of_everything_hold_it(at, behind):
    proven(everything().bytes(behind=behind), at)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("at", ["a", "w"])
def test_loops_take_their_subgraphs_along_and_sections_without_one_have_none(at, nested):
    parts = proven(looped(nested=nested), at)
    counts = {p.name: len(decoded(p.model.serialized()).subgraphs) for p in parts}
    full = 5 if nested else 3
    assert counts == ({"main": 1, "post": full} if at == "a" else {"main": full, "post": 1})


def test_one_of_two_branches_gets_other_numbers():
    """x ─▶ IF a (2, 3) ─▶ IF b (3, 1) ─▶ y: behind a, subgraph 1 is 1 and 3 is 2"""
    built = Built()
    main = built.main
    x = main.tensor("x", [1])
    yes = main.tensor("yes", [1], "bool", value=[False])
    for number in range(3):
        graph = built.graph(f"by {number}")
        v = graph.tensor("v", [1])
        graph.ends([v], [graph.add(v, graph.tensor("by", [1], value=[float(10**number)]), "sum")])
    a, b = main.tensor("a", [1]), main.tensor("b", [1])
    main.op("IF", [yes, x], [a], thenSubgraphIndex=2, elseSubgraphIndex=3)
    main.op("IF", [yes, a], [b], thenSubgraphIndex=3, elseSubgraphIndex=1)
    main.ends([x], [b])
    parts = proven(built, "a")
    second = decoded(parts["post"].model.serialized())
    assert [g.name for g in second.subgraphs] == [b"main", b"by 0", b"by 2"]
    options = second.subgraphs[0].operators[0].builtinOptions
    assert (options.thenSubgraphIndex, options.elseSubgraphIndex) == (2, 1)


def test_a_shared_buffer_is_written_once_and_what_a_section_does_not_read_not_at_all():
    whole = made(everything())
    parts = split(whole, outputs="tensor_9", shapes=False)
    main = decoded(parts["main"].model.serialized())
    weights = [t.buffer for t in main.subgraphs[0].tensors if t.name in (b"w", b"w_1")]
    assert len(weights) == 2
    assert len(set(weights)) == 1
    assert sum(len(b.data) == 64 for b in main.buffers if b.data is not None) == 1
    post = decoded(parts["post"].model.serialized())
    assert not any(len(b.data) == 64 for b in post.buffers if b.data is not None)
    assert main.buffers[0].data is None
    codes = {c.builtinCode for c in post.operatorCodes}
    assert schema.BuiltinOperator.FULLY_CONNECTED not in codes
    assert {schema.BuiltinOperator.IF, schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.ADD} <= codes


def test_values_lie_aligned_in_the_file():
    built = chain(4, shape=(1, 3))
    for part in cut(built, "t1"):
        content = part.model.serialized()
        for number in range(4):
            values = (np.arange(3, dtype=np.float32) + number).tobytes()
            assert content.find(values) % 16 == 0 or values not in content


def test_a_border_that_was_a_constant_is_given_and_has_no_value():
    whole = made(chain())
    model, names = whole.section(["t1"], [whole.index.tensors["t0"], whole.index.tensors["c1"]], ["t1"])
    assert dict(names) == {"t0": "t0", "c1": "c1", "t1": "t1"}
    part = decoded(model.serialized())
    assert all(value(part, t) is None for t in part.subgraphs[0].tensors)
    assert len(part.buffers) == 1


def shared() -> Built:
    """x ─▶ ADD k1 ─▶ a ─▶ ADD k2 ─▶ y         k1 and k2 are one buffer"""
    built = Built()
    weights = built.buffer(np.array([1, 2], np.float32).tobytes())
    x = built.main.tensor("x", [2])
    k1, k2 = (built.main.tensor(name, [2], buffer=weights) for name in ("k1", "k2"))
    built.main.ends([x], [built.main.add(built.main.add(x, k1, "a"), k2, "y")])
    return built


def test_a_border_that_shares_its_buffer_with_a_kept_constant_is_given_and_the_constant_keeps_its_value():
    whole = made(shared())
    specs = whole.index.tensors
    model, _ = whole.section(["a", "y", "k2"], [specs["x"], specs["k1"]], ["a", "y"])
    part = decoded(model.serialized())
    assert {t.name: value(part, t) is not None for t in part.subgraphs[0].tensors} == {
        b"x": False, b"k1": False, b"a": False, b"k2": True, b"y": False,
    }  # fmt: skip
    assert model.constant("k2").tolist() == [1, 2]
    with open_session(model, threads=1) as session:
        a, y = session.run({"x": np.float32([10, 10]), "k1": np.float32([5, 7])}, ["a", "y"])
    assert (a.tolist(), y.tolist()) == ([15, 17], [16, 19])


def test_a_border_whose_tensor_names_the_buffer_of_a_kept_constant():
    """A writer that numbers buffers carelessly: what an operator outputs has a value in the file, and none in the section."""
    built = shared()
    a, k2 = (next(t for t in built.main.table.tensors if t.name == name) for name in ("a", "k2"))
    a.buffer = k2.buffer
    parts = split(made(built), outputs="a", shapes=False)
    post = decoded(parts["post"].model.serialized())
    assert {t.name: value(post, t) is not None for t in post.subgraphs[0].tensors} == {b"a": False, b"k2": True, b"y": False}
    with open_session(parts["post"].model, threads=1) as session:
        (y,) = session.run({"a": np.float32([15, 17])}, ["y"])
    assert y.tolist() == [16, 19]


def test_a_buffer_that_holds_nothing_says_so_still():
    """A shape without elements is a constant by its empty list of bytes."""
    built = Built()
    x = built.main.tensor("x", [1])
    a = built.main.relu(x, "a")
    shape = built.main.tensor("shape", [0], "int32", value=b"")
    y = built.main.tensor("y", [])
    built.main.op("RESHAPE", [a, shape], [y])
    built.main.ends([x], [y])
    (empty,) = [b for b in TFLiteReader(memoryview(built.bytes())).buffers if b.has("data")]
    assert len(empty.raw("data")) == 0
    (empty,) = [b for b in proven(built, "a")["post"].model.reader.buffers if b.has("data")]
    assert len(empty.raw("data")) == 0


# what hangs on tensors


def test_quantisation_by_channel_travels_with_the_weights_and_the_border():
    built = Built()
    main = built.main
    x = main.tensor("x", [1, 4], "int8", quantization=per_channel([0.1], zeros=[3]))
    weights = main.tensor("w", [2, 4], "int8", value=np.arange(8), quantization=per_channel([0.5, 0.25]))
    bias = main.tensor("b", [2], "int32", value=[1, 2], quantization=per_channel([0.05, 0.025]))
    y = main.tensor("y", [1, 2], "int8", quantization=per_channel([0.7], zeros=[-5]))
    main.op("FULLY_CONNECTED", [x, weights, bias], [y], version=4)
    z = main.tensor("z", [1, 2])
    main.op("DEQUANTIZE", [y], [z], version=2)
    main.ends([x], [z])
    parts = proven(built, "y")
    for part in parts:
        border = named(decoded(part.model.serialized()))["y"].quantization
        assert (list(border.scale), list(border.zeroPoint)) == ([np.float32(0.7)], [-5])
    kept = named(decoded(parts["main"].model.serialized()))["w"].quantization
    assert list(kept.scale) == [0.5, 0.25]


def test_sparse_weights_keep_how_they_are_packed():
    whole = sparse()
    sparsity = whole.main.table.tensors[1].sparsity
    post = proven(whole, "a")["post"]
    kept = named(decoded(post.model.serialized()))["packed"].sparsity
    assert kept.dimMetadata[1].arraySegments.values.tolist() == [0, 1, 2]
    assert plain(kept) == plain(sparsity)


def test_unknown_sizes_stay_unknown():
    parts = proven(chain(signature=(-1, 4)), "t1")
    for part in parts:
        for port in (*part.inputs, *part.outputs):
            assert port.shape == (None, 4)


def test_a_state_stays_a_state_of_its_operator():
    parts = proven(svdf(), "s")
    state = named(decoded(parts["main"].model.serialized()))["state"]
    assert state.isVariable
    assert "state" not in named(decoded(parts["post"].model.serialized()))


def test_tensors_in_between_of_an_operator_come_along():
    built = svdf()
    built.main.table.operators[0].intermediates = [built.main.tensor("scratch", [1, 2], quantization=per_channel([0.5]))]
    parts = proven(built, "s")
    main = decoded(parts["main"].model.serialized())
    (place,) = main.subgraphs[0].operators[0].intermediates
    assert main.subgraphs[0].tensors[place].name == b"scratch"


def test_options_of_custom_ops_are_kept_wherever_they_stand():
    for behind in (False, True):
        built = Built()
        x = built.main.tensor("x", [1])
        a, y = built.main.relu(x, "a"), built.main.tensor("y", [1])
        operator = built.main.op("Mine", [a], [y], custom=b"options!")
        built.main.ends([x], [y])
        content = built.bytes()
        if behind:
            operator.customOptions = None
            operator.largeCustomOptionsOffset, operator.largeCustomOptionsSize = 2, 8
            operator.largeCustomOptionsOffset = len(built.bytes())
            content = built.bytes() + b"options!"
        post = decoded(cut(content, "a")["post"].model.serialized())
        assert bytes(post.subgraphs[0].operators[0].customOptions) == b"options!"
        assert post.operatorCodes[0].customCode == b"Mine"
        assert post.subgraphs[0].operators[0].largeCustomOptionsOffset == 0


# what hangs on the model


def signatures(part: Any) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Key → {name: tensor} of inputs and of outputs."""
    model = decoded(part.model.serialized())
    tensors = model.subgraphs[0].tensors
    return {
        s.signatureKey.decode(): tuple(
            {m.name.decode(): tensors[m.tensorIndex].name.decode() for m in side} for side in (s.inputs, s.outputs)
        )
        for s in model.signatureDefs
    }


def test_signatures_keep_the_names_of_the_ends_and_give_borders_their_own():
    built = everything()
    built.signature("second", {"again": 0}, {"result": 13})
    parts = proven(built, "tensor_9")
    assert signatures(parts["main"]) == {
        "serving_default": ({"image": "x"}, {"tensor_9": "tensor_9"}),
        "second": ({"again": "x"}, {"tensor_9": "tensor_9"}),
    }
    assert signatures(parts["post"])["second"] == ({"tensor_9": "tensor_9"}, {"result": "y"})
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=parts["main"].model.serialized()).get_signature_runner("second")
    assert list(runner(again=np.ones((1, 4), np.float32))) == ["tensor_9"]


def test_a_border_whose_name_the_signature_uses_for_another_tensor_gets_another():
    """The signature calls t1 what the file calls t0: both t0 and t1 leave main."""
    built = chain()
    built.main.table.outputs.append(2)
    built.signature("s", {"x": 0}, {"out": 6, "t1": 2})
    assert signatures(proven(built, "t1")["main"])["s"][1] == {"t1": "t0", "t1_": "t1"}


def test_signatures_of_other_subgraphs_stay_behind():
    built = looped()
    built.signature("serving_default", {"x": 0}, {"y": 2})
    built.signature("inner", {"v": 0}, {"more": 2}, subgraph=2)
    for part in proven(built, "a"):
        assert list(signatures(part)) == ["serving_default"]


def test_metadata_is_carried_with_its_bytes():
    built = everything()
    built.metadata("notes", b"of our own")
    for part in proven(built, "i"):
        model = decoded(part.model.serialized())
        assert {m.name: bytes(model.buffers[m.buffer].data) for m in model.metadata} == {
            b"min_runtime_version": b"2.16.0\0\0\0\0\0\0\0\0\0\0",
            b"notes": b"of our own",
        }


def test_metadata_that_describes_ends_by_their_places_goes_only_where_the_ends_are_the_same():
    built = chain()
    built.metadata("TFLITE_METADATA", b"input 0 is a picture")
    for part in cut(built, "t0"):
        assert decoded(part.model.serialized()).metadata in (None, [])
        assert b"a picture" not in part.model.serialized()
    whole = made(built)
    model, _ = whole.section([n.name for n in whole.index.nodes], whole.inputs, ["t2"])
    assert b"a picture" in model.serialized()


def test_a_model_without_signatures_and_metadata_gets_none():
    for part in cut(chain(), "t0"):
        model = decoded(part.model.serialized())
        assert (model.signatureDefs, model.metadata, model.metadataBuffer) == (None, None, None)


# files


def test_the_same_cut_gives_the_same_bytes():
    for built in (everything, lambda: looped(nested=True), svdf):
        at = made(built()).index.nodes[-2].name
        assert [p.model.serialized() for p in cut(built(), at)] == [p.model.serialized() for p in cut(built(), at)]


def test_a_section_that_is_asked_for_twice_is_written_once_while_it_is_in_use():
    whole = made(everything())
    first = split(whole, outputs="tensor_9", shapes=False)
    again = split(whole, outputs="tensor_9")
    assert [a.model is b.model for a, b in zip(first, again, strict=True)] == [True, True]
    other = split(whole, outputs="tensor_7", shapes=False)
    assert other["main"].model is not first["main"].model
    assert len(whole._sections) == 4
    del first, again, other
    gc.collect()
    assert len(whole._sections) == 0


def test_a_section_of_a_section_is_the_section_of_the_whole():
    whole = made(everything())
    two = split(whole, outputs="tensor_9", shapes=False)
    inner = split(TFLiteModel(two["main"].model.serialized()), outputs="tensor_7", shapes=False)
    three = split(whole, outputs=[["tensor_7"], ["tensor_9"]], shapes=False)
    for mine, direct in zip((*inner, two["post"]), three, strict=True):
        one, other = decoded(mine.model.serialized()), decoded(direct.model.serialized())
        assert plain(one.subgraphs) == plain(other.subgraphs)
        assert [p.name for p in mine.outputs] == [p.name for p in direct.outputs]
    assert verify(whole, three).equal


def test_a_section_is_saved_as_it_stands(tmp_path):
    part = cut(chain(), "t0")["main"]
    path = part.save(tmp_path / "m.tflite")
    assert path.read_bytes() == part.model.serialized()
    assert path.read_bytes()[4:8] == b"TFL3"


def test_more_than_a_flatbuffer_holds_is_refused(monkeypatch):
    monkeypatch.setattr(writer, "_LIMIT", 50)
    with pytest.raises(FormatError, match=r"a section of \d+ bytes: a flatbuffer holds less than 2 GiB; cut into smaller sections"):
        cut(chain(), "t1")
