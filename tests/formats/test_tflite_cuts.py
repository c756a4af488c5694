"""Real .tflite files, cut at arbitrary tensors: sections and whole are equal, bit by bit, with the same kernels."""

from __future__ import annotations

import random

import pytest

import graphsplit as gs
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.formats.tflite.reader import TFLiteReader
from tests.shared import shared_model

pytest.importorskip("ai_edge_litert")
_MODELS = (
    "ssd_mobilenet_v1_face.tflite",
    "tiny_ssd_mobilenet_v1.tflite",
    "face_detection_short_range.tflite",
    "face_detection_full_range_sparse.tflite",
)


def _sections(parts: gs.Parts) -> list[TFLiteReader]:
    return [TFLiteReader(memoryview(part.model.serialized())) for part in parts]


@pytest.mark.parametrize("name", _MODELS)
def test_cut_at_ten_arbitrary_tensors_the_sections_equal_the_whole(name: str) -> None:
    model = gs.load(shared_model(name))
    makers = [n for n in model.index.nodes if n.kind not in ("input", "const")]
    chance, cuts = random.Random(name), 0
    for node in chance.sample(makers, len(makers)):
        try:
            parts = gs.split(model, outputs=[node.outputs[0]], shapes=False)
        except gs.CutError:
            continue  # not legal there: what it needs is constant, or nothing is left
        assert gs.verify(model, parts).equal, node.name
        cuts += 1
        if cuts == 10:
            break
    assert cuts == 10


@pytest.mark.parametrize("name", _MODELS)
def test_sections_keep_order_names_shapes_types_and_sparsity(name: str) -> None:
    model = gs.load(shared_model(name))
    assert isinstance(model, TFLiteModel)
    makers = [n.name for n in model.index.nodes if n.kind not in ("input", "const")]
    source = dict(zip(model.reader.names, model.reader.subgraphs[0].tensors, strict=True))
    middle = next(n for n in model.index.nodes if n.name == makers[len(makers) // 2])
    sections = _sections(gs.split(model, outputs=[middle.outputs[0]], shapes=False))
    assert len(sections) == 2
    for section in sections:
        places = [makers.index(n) for n in section.operator_names]
        assert places == sorted(places)
        for tensor_name, tensor in zip(section.names, section.subgraphs[0].tensors, strict=True):
            before = source[tensor_name]
            for field in ("shape", "shape_signature"):
                assert tensor.numbers(field) == before.numbers(field)
            assert tensor.number("type") == before.number("type")
            assert (before.table("sparsity") is None) == (tensor.table("sparsity") is None)


@pytest.mark.parametrize("name", _MODELS)
def test_weights_lie_aligned_and_once_in_a_section(name: str) -> None:
    model = gs.load(shared_model(name))
    assert isinstance(model, TFLiteModel)
    makers = [n for n in model.index.nodes if n.kind not in ("input", "const")]
    for section in _sections(gs.split(model, outputs=[makers[len(makers) // 2].outputs[0]], shapes=False)):
        filled = [b for b in section.buffers if b.has("data")]
        places = [b.target("data") for b in filled]
        assert all(place is not None and (place + 4) % 16 == 0 for place in places)
        assert len(set(places)) == len(places)
        used = [t.number("buffer") for t in section.subgraphs[0].tensors]
        kept = sum(len(section.content(b)) for b in {*used, *(m.number("buffer") for m in section.model.tables("metadata"))})
        assert sum(len(b.raw("data")) for b in filled) == kept  # nothing that no one reads
