"""Sparse constants whose levels do not fit their shape: LiteRT would read and write wherever they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphsplit.errors import FormatError
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.inference.sessions import open_session

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from tests.formats.tflite.builder import Built, sparse, vector  # noqa: E402


def packing(built: Built) -> Any:
    return built.main.table.tensors[1].sparsity


def refused(built: Built, match: str) -> None:
    with pytest.raises(FormatError, match=f"^not a legal TFLite model: subgraph 0: tensor 1 is sparse: {match}"):
        TFLiteModel(built.bytes()).index  # noqa: B018


def test_compressed_rows_are_read():
    whole = TFLiteModel(sparse().bytes())
    (found,) = open_session(whole).run({"x": np.zeros((2, 2), np.float32)}, ["dense"])
    assert found.tolist() == [[1, 0], [0, 2]]


def test_blocks_are_read():
    """4 x 4 in blocks of 2 x 2, of which two are there: rows of blocks, then columns of blocks, then rows and columns in them."""
    built = sparse()
    tensors = built.main.table.tensors
    for number in (0, 1, 2, 3, 4):
        tensors[number].shape = [4, 4]
    built.model.buffers[tensors[1].buffer].data = np.arange(1, 9, dtype=np.float32).view(np.uint8)
    rows, columns = packing(built).dimMetadata
    for _ in range(2):
        block = schema.DimensionMetadataT()
        block.format, block.denseSize = schema.DimensionType.DENSE, 2
        packing(built).dimMetadata.append(block)
    packing(built).traversalOrder, packing(built).blockMap = [0, 1, 2, 3], [0, 1]
    assert (rows.denseSize, columns.arrayIndices.values) == (2, [0, 1])
    (found,) = open_session(TFLiteModel(built.bytes())).run({"x": np.zeros((4, 4), np.float32)}, ["dense"])
    assert found.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]
    packing(built).traversalOrder = [2, 3, 0, 1]
    refused(built, r"a traversal order of \[2, 3, 0, 1\] and 4 levels do not fit rank 2 with 2 blocks$")
    packing(built).traversalOrder = [0, 1, 2, 3]
    packing(built).dimMetadata[2].denseSize = 3
    refused(built, "blocks of 3 do not divide a dimension of 4$")
    packing(built).dimMetadata[2].denseSize = 0
    refused(built, "blocks of 0 do not divide a dimension of 4$")
    packing(built).dimMetadata[2].denseSize = 2
    packing(built).blockMap = [0, 2]
    refused(built, r"a block map of \[0, 2\] does not fit rank 2$")
    packing(built).blockMap = [0]
    refused(built, r"a traversal order of \[0, 1, 2, 3\] and 4 levels do not fit rank 2 with 1 blocks$")


@pytest.mark.parametrize("order", [[0], [0, 0], [1, 2], [-1, 0], [0, 1, 2], []])
def test_an_order_that_is_none_is_refused(order):
    built = sparse()
    packing(built).traversalOrder = order
    refused(built, r"a traversal order of .* and 2 levels do not fit rank 2 with 0 blocks$")


@pytest.mark.parametrize(
    ("segments", "indices"),
    [
        ([0, 1], [0]),
        ([0, 1, 3], [0, 1]),
        ([0, 2, 1], [0]),
        ([1, 1, 2], [0, 1]),
        ([0, -1, 2], [0, 1]),
        ([], []),
        ([0, 1, 2**31 - 1], [0, 1]),
    ],
)
def test_segments_that_do_not_cover_the_indices_are_refused(segments, indices):
    built = sparse()
    level = packing(built).dimMetadata[1]
    level.arraySegments, level.arrayIndices = vector(segments), vector(indices)
    refused(built, rf"{len(segments)} segments over {len(indices)} indices do not fit the 2 nodes above them$")


@pytest.mark.parametrize("index", [2, -1, 2**31 - 1])
def test_an_index_out_of_its_dimension_is_refused(index):
    built = sparse()
    packing(built).dimMetadata[1].arrayIndices = vector([0, index])
    refused(built, "an index is outside of a dimension of 2$")


def test_other_lies_are_refused():
    built = sparse()
    packing(built).dimMetadata[0].denseSize = 1000
    refused(built, "a dense level of 1000 for a dimension of 2$")
    built = sparse()
    packing(built).dimMetadata[1].format = 7
    refused(built, r"a level is of a kind \(7\) unknown to this version$")
    built = sparse()
    built.model.buffers[1].data = built.model.buffers[1].data[:4]
    refused(built, "it has 2 values, 8 bytes; its buffer has 4$")
    built = sparse()
    packing(built).dimMetadata[1].arraySegments = None
    packing(built).dimMetadata[1].arraySegmentsType = 0
    refused(built, "0 segments over 2 indices do not fit")
    built = sparse()
    built.main.table.tensors[1].buffer = 0
    refused(built, "it has 2 values, 8 bytes; its buffer has 0$")
