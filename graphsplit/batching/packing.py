"""What travels between actors: weights once, tensors of frames as numpy columns of a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

import numpy as np

from graphsplit.batching.work import Failed
from graphsplit.inference.adapters import RUNTIMES
from graphsplit.parts.parts import Part, Port
from graphsplit.runtimes.arrays import Array

__all__ = ["Batch", "FrameInfo", "PackedPart", "Values", "pack", "unpack"]

_HEAD = "head"


class FrameInfo(TypedDict, total=False):
    """What travels with the tensors of a frame, as JSON.

    Attributes:
        source: Index of its source in the list of items.
        frame: Index in its source.
        size: [height, width] of the image, in pixels.
        end: In place of a frame: the fields of the `End` of a source.
    """

    source: int
    frame: int
    size: list[int]
    end: dict[str, int | str]


class _Spec(TypedDict, total=False):
    """How a tensor was packed: `failed`, or `shape` with `dtype`, or for strings with the lengths in `bytes`."""

    failed: str
    bytes: list[int]
    dtype: str
    shape: list[int]


Values: TypeAlias = dict[str, "Array | Failed"]
#: Column → its entries, one per frame.
Batch: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class PackedPart:
    """A section in the object store.

    Attributes:
        name: Of the section.
        format: Of its model.
        device: That it is to run on.
        inputs: As of `Part`.
        outputs: As of `Part`.
        data: uint8 [bytes of its file]: a numpy array, which the actors of a machine share without copying.
    """

    name: str
    format: str
    device: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    data: Array

    @classmethod
    def of(cls, part: Part, device: str) -> PackedPart:
        """Pack a section that is to run on a device."""
        data = np.frombuffer(part.model.serialized(), np.uint8)
        return cls(part.name, part.format, device, part.inputs, part.outputs, data)

    def part(self) -> Part:
        """Unpack the section."""
        model = RUNTIMES[self.format].read(self.data.data)
        return Part(self.name, model, self.inputs, self.outputs, self.device)


def pack(frames: Sequence[tuple[FrameInfo, Mapping[str, object]]], tensors: Sequence[str]) -> dict[str, Array]:
    """Pack frames into the columns of a batch.

    Frames have different sizes, while the rows of a column have one type: a tensor travels as its bytes, uint8 [n], with its
    dtype and shape in the head of the frame. No bit changes.

    Args:
        frames: (info, {tensor: array or `Failed`}) of each frame.
        tensors: Those that are packed.

    Returns:
        Column → its entries, one per frame.
    """
    heads: list[str] = []
    columns: dict[str, list[Array]] = {t: [] for t in tensors}
    for info, values in frames:
        specs: dict[str, _Spec | None] = {}
        for tensor in tensors:
            value = values.get(tensor)
            if isinstance(value, Failed) or value is None:
                specs[tensor] = None if value is None else {"failed": value.reason}
                columns[tensor].append(np.zeros(0, np.uint8))
                continue
            array = np.asarray(value)
            shape = list(array.shape)
            if array.dtype.hasobject:  # TensorFlow's strings: bytes of any length
                texts = [t if isinstance(t, bytes) else str(t).encode() for t in array.reshape(-1)]
                specs[tensor] = {"bytes": [len(t) for t in texts], "shape": shape}
                columns[tensor].append(np.frombuffer(b"".join(texts), np.uint8))
                continue
            # bfloat16 and the like are known by name only
            specs[tensor] = {"dtype": array.dtype.name if array.dtype.kind == "V" else array.dtype.str, "shape": shape}
            columns[tensor].append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        heads.append(json.dumps({"info": info, "tensors": specs}))
    batch: dict[str, Array] = {_HEAD: np.asarray(heads, dtype=object)}
    for number, tensor in enumerate(tensors):
        batch[f"tensor_{number}"] = _ragged(columns[tensor])
    return batch


def unpack(batch: Batch) -> list[tuple[FrameInfo, Values]]:
    """Unpack the frames of a batch: (info, {tensor: array or `Failed`}) of each. The arrays are views of the batch."""
    frames = []
    for row, text in enumerate(batch[_HEAD]):
        head = json.loads(str(text))
        values = {
            tensor: _value(spec, batch[f"tensor_{number}"][row])
            for number, (tensor, spec) in enumerate(head["tensors"].items())
            if spec is not None
        }
        info: FrameInfo = head["info"]
        frames.append((info, values))
    return frames


def _value(spec: _Spec, data: Array) -> Array | Failed:
    if "failed" in spec:
        return Failed(spec["failed"])
    data = np.ascontiguousarray(data, np.uint8)
    if "bytes" in spec:
        content, texts, start = data.tobytes(), np.empty(len(spec["bytes"]), dtype=object), 0
        for i, length in enumerate(spec["bytes"]):
            texts[i] = content[start : start + length]
            start += length
        return texts.reshape(spec["shape"])
    return data.view(_dtype(spec["dtype"])).reshape(spec["shape"])


def _dtype(name: str) -> np.dtype[np.generic]:
    try:
        dtype: np.dtype[np.generic] = np.dtype(name)
    except TypeError:
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, name))
    return dtype


def _ragged(arrays: Sequence[Array]) -> Array:
    column = np.empty(len(arrays), dtype=object)
    for i, array in enumerate(arrays):
        column[i] = array
    return column
