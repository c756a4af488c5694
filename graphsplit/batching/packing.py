"""What travels between actors: weights once, tensors of frames as numpy columns of a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphsplit.batching.work import Failed
from graphsplit.inference.adapters import RUNTIMES
from graphsplit.parts.parts import Part, Port

__all__ = ["PackedPart", "pack", "unpack"]

_HEAD, _FAILED = "head", "failed"


@dataclass(frozen=True)
class PackedPart:
    """A section as it lies in the object store.

    data  uint8 [bytes of its file]: a numpy array, which actors of one machine read in place
    """

    name: str
    format: str
    device: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    data: Any

    @classmethod
    def of(cls, part: Part, device: str) -> PackedPart:
        """A section that is to run on a device."""
        data = np.frombuffer(part.model.serialized(), np.uint8)
        return cls(part.name, part.format, device, part.inputs, part.outputs, data)

    def part(self) -> Part:
        """The section again."""
        model = RUNTIMES[self.format].read(memoryview(self.data))
        return Part(self.name, model, self.inputs, self.outputs, self.device)


def pack(frames: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], tensors: Sequence[str]) -> dict[str, Any]:
    """Frames → columns of a batch, one entry a frame.

    frames   (what is said of the frame: plain JSON, {tensor: array or `Failed`})
    tensors  those that travel on

    Pictures have sizes of their own, and a batch in a table has one: a tensor travels as its bytes, uint8 [n], its dtype
    and shape in the head of the frame. Bits are what they were.
    """
    heads: list[str] = []
    columns: dict[str, list[Any]] = {t: [] for t in tensors}
    for said, values in frames:
        specs: dict[str, Any] = {}
        for tensor in tensors:
            value = values.get(tensor)
            if isinstance(value, Failed) or value is None:
                specs[tensor] = None if value is None else {_FAILED: value.reason}
                columns[tensor].append(np.zeros(0, np.uint8))
                continue
            array = np.asarray(value)
            if array.dtype.hasobject:  # strings of TensorFlow: bytes of any length
                texts = [t if isinstance(t, bytes) else str(t).encode() for t in array.reshape(-1)]
                specs[tensor] = {"bytes": [len(t) for t in texts], "shape": list(array.shape)}
                columns[tensor].append(np.frombuffer(b"".join(texts), np.uint8))
                continue
            specs[tensor] = {"dtype": array.dtype.str, "shape": list(array.shape)}
            if array.dtype.kind == "V":  # bfloat16 and the like, by their names
                specs[tensor]["dtype"] = array.dtype.name
            columns[tensor].append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        heads.append(json.dumps({"said": dict(said), "tensors": specs}))
    made: dict[str, Any] = {_HEAD: np.asarray(heads, dtype=object)}
    for number, tensor in enumerate(tensors):
        made[f"tensor_{number}"] = _ragged(columns[tensor])
    return made


def unpack(batch: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The frames again: (what is said of it, {tensor: array or `Failed`}). The arrays are views of the batch."""
    frames = []
    for row, text in enumerate(batch[_HEAD]):
        head = json.loads(str(text))
        values = {
            tensor: _value(spec, batch[f"tensor_{number}"][row])
            for number, (tensor, spec) in enumerate(head["tensors"].items())
            if spec is not None
        }
        frames.append((head["said"], values))
    return frames


def _value(spec: Mapping[str, Any], data: Any) -> Any:
    if _FAILED in spec:
        return Failed(spec[_FAILED])
    data = np.ascontiguousarray(data, np.uint8)
    if "bytes" in spec:
        content, texts, start = data.tobytes(), np.empty(len(spec["bytes"]), dtype=object), 0
        for i, length in enumerate(spec["bytes"]):
            texts[i] = content[start : start + length]
            start += length
        return texts.reshape(spec["shape"])
    return data.view(_dtype(spec["dtype"])).reshape(spec["shape"])


def _dtype(name: str) -> Any:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def _ragged(arrays: Sequence[Any]) -> Any:
    made = np.empty(len(arrays), dtype=object)
    for i, array in enumerate(arrays):
        made[i] = array
    return made
