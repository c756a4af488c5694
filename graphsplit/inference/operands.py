"""What ops require of an operand whatever else the graph says: its rank, fixed sizes, and numbers that have to mean something.

From the shape functions of TensorFlow's ops (``tensorflow/core/ops/*.cc``).
"""

from __future__ import annotations

from graphsplit.graph.index import Shape

__all__ = ["COUNTS", "SHAPES"]

_SCALAR: Shape = ()
_VECTOR: Shape = (None,)
_MATRIX: Shape = (None, None)
_BOXES: Shape = (None, 4)
_SUPPRESSION: dict[int, Shape] = {0: _BOXES, 1: _VECTOR, 2: _SCALAR, 3: _SCALAR, 4: _SCALAR, 5: _SCALAR}
_CTC: dict[int, Shape] = {0: (None, None, None), 1: _VECTOR}
_SEGMENTS: dict[int, Shape] = {1: _VECTOR}
_SEEDED: dict[int, Shape] = {0: _VECTOR, 1: (2,)}
_RESIZED: dict[int, Shape] = {1: (2,)}

#: Op → number of an operand → its shape.
SHAPES: dict[str, dict[int, Shape]] = {
    "AudioSpectrogram": {0: (16_000, None)},  # a second, so that there are frames
    "BroadcastTo": {1: _VECTOR},
    "CTCBeamSearchDecoder": _CTC,
    "CTCGreedyDecoder": _CTC,
    "CombinedNonMaxSuppression": {
        0: (None, None, None, 4),
        1: (None, None, None),
        2: _SCALAR,
        3: _SCALAR,
        4: _SCALAR,
        5: _SCALAR,
    },
    "CropAndResize": {1: _BOXES, 2: _VECTOR, 3: (2,)},
    "DrawBoundingBoxes": {1: (None, None, 4)},
    "ExtractGlimpse": {1: (2,), 2: (None, 2)},
    "FFT3D": {0: (None, None, None)},
    "Fill": {0: _VECTOR, 1: _SCALAR},
    "InTopK": {0: _MATRIX, 1: _VECTOR},
    "InTopKV2": {0: _MATRIX, 1: _VECTOR, 2: _SCALAR},
    "LinSpace": {0: _SCALAR, 1: _SCALAR, 2: _SCALAR},
    "Mfcc": {0: (None, None, None), 1: _SCALAR},
    "Multinomial": {0: _MATRIX, 1: _SCALAR},
    "NonMaxSuppression": _SUPPRESSION,
    "NonMaxSuppressionV2": _SUPPRESSION,
    "NonMaxSuppressionV3": _SUPPRESSION,
    "NonMaxSuppressionV4": _SUPPRESSION,
    "NonMaxSuppressionV5": _SUPPRESSION,
    "OneHot": {1: _SCALAR, 2: _SCALAR, 3: _SCALAR},
    "ParseExample": {0: _VECTOR},
    "ParseSingleExample": {0: _SCALAR},
    "RandomStandardNormal": {0: _VECTOR},
    "RandomUniform": {0: _VECTOR},
    "Range": {0: _SCALAR, 1: _SCALAR, 2: _SCALAR},
    "ResizeArea": _RESIZED,
    "ResizeBicubic": _RESIZED,
    "ResizeBilinear": _RESIZED,
    "ResizeNearestNeighbor": _RESIZED,
    "ReverseSequence": {1: _VECTOR},
    "SegmentMax": _SEGMENTS,
    "SegmentMean": _SEGMENTS,
    "SegmentSum": _SEGMENTS,
    "SoftmaxCrossEntropyWithLogits": {0: _MATRIX, 1: _MATRIX},
    "SparseTensorDenseMatMul": {0: _MATRIX, 1: _VECTOR, 2: (2,), 3: _MATRIX},
    "SparseToDense": {1: _VECTOR},
    "StatelessRandomNormal": _SEEDED,
    "StatelessRandomUniform": _SEEDED,
    "StatelessRandomUniformInt": _SEEDED,
    "StatelessTruncatedNormal": _SEEDED,
    "Tile": {1: _VECTOR},
    "TopK": {0: _VECTOR},
    "TopKV2": {1: _SCALAR},
    "TruncatedNormal": {0: _VECTOR},
}

#: Op → number of an operand → a number that makes sense there: how many, how large, how often.
COUNTS: dict[str, dict[int, int]] = {
    "BroadcastTo": {1: 2},
    "CTCBeamSearchDecoder": {1: 1},
    "CTCGreedyDecoder": {1: 1},
    "CropAndResize": {2: 0, 3: 32},
    "Fill": {0: 2},
    "Mfcc": {1: 16_000},
    "Multinomial": {1: 1},
    "NonMaxSuppression": {2: 10},
    "NonMaxSuppressionV2": {2: 10},
    "NonMaxSuppressionV3": {2: 10},
    "NonMaxSuppressionV4": {2: 10},
    "NonMaxSuppressionV5": {2: 10},
    "OneHot": {1: 4},
    "RandomStandardNormal": {0: 2},
    "RandomUniform": {0: 2},
    "Range": {1: 4, 2: 1},
    "ResizeArea": {1: 64},
    "ResizeBicubic": {1: 64},
    "ResizeBilinear": {1: 64},
    "ResizeNearestNeighbor": {1: 64},
    "Reshape": {1: 1},
    "Slice": {2: 1},
    "Tile": {1: 1},
    "TopKV2": {1: 1},
    "TruncatedNormal": {0: 2},
}
