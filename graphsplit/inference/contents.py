"""Contents of files and of strings that decoders read: pictures, sound, examples, text."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from graphsplit.formats import Model
from graphsplit.runtimes.arrays import Array

__all__ = ["content", "example", "picture"]

_SECOND = 16_000  # samples
_CLEAR, _END = 256, 257  # codes of GIF


def picture(height: int, width: int, *, seed: int = 0) -> Array:
    """A synthetic RGB picture: uint8 [height, width, 3].

    Gradients, discs and boxes of several sizes and a little noise, so that neither flat nor random regions dominate.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 128 + 100 * np.sin((x + y) / 17)], axis=-1)
    for _ in range(12):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        radius = rng.uniform(0.03, 0.25) * max(min(height, width), 1)
        if rng.random() < 0.5:
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        else:
            inside = (abs(y - cy) < radius) & (abs(x - cx) < radius * rng.uniform(0.4, 1.6))
        image[inside] = rng.uniform(0, 255, 3)
    image += rng.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def content(kind: str, seed: int, size: int) -> list[bytes]:
    """Contents of a kind, see `graphsplit.inference.demands.Demand`; of "raw" ones `size` bytes."""
    if kind == "wav":
        return [_wav(seed)]
    if kind == "bmp":
        return [_bmp(picture(64, 64, seed=seed))]
    if kind == "gif":
        return [_gif(picture(64, 64, seed=seed).mean(axis=-1).astype(np.uint8))]
    if kind == "raw":
        return [np.random.default_rng(seed).integers(0, 64, size).astype(np.uint8).tobytes()]
    return {"number": [b"1.5", b"2"], "text": [b"a cat sat on the mat", b"two birds"]}.get(kind, [b""])


def _wav(seed: int) -> bytes:
    """A second of sound: 16 bit, mono, 16 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(_SECOND) / _SECOND
    samples = (9000 * np.sin(2 * np.pi * (300 + 400 * time) * time) + rng.normal(0, 500, _SECOND)).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, 1, _SECOND, 2 * _SECOND, 2, 16, b"data", len(samples)
    )
    return head + samples


def _bmp(image: Array) -> bytes:
    """A picture as a BMP file."""
    height, width = image.shape[:2]
    rows = np.zeros((height, -(-3 * width // 4) * 4), np.uint8)
    rows[:, : 3 * width] = image[::-1, :, ::-1].reshape(height, -1)
    pixels = rows.tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(pixels), 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(pixels), 2835, 2835, 0, 0) + pixels


def _gif(grey: Array) -> bytes:
    """A grey picture, uint8 [height, width], as a GIF file of one frame, in codes of 9 bits that never grow."""
    height, width = grey.shape
    palette = bytes(v for v in range(256) for _ in range(3))
    bits = length = 0
    packed = bytearray()
    codes = [c for i, v in enumerate(grey.ravel().tolist()) for c in ((_CLEAR, v) if i % 200 == 0 else (v,))]
    for code in (*codes, _END):
        bits |= code << length
        length += 9
        while length >= 8:
            packed.append(bits & 255)
            bits >>= 8
            length -= 8
    packed.append(bits & 255)
    blocks = b"".join(bytes([len(packed[i : i + 255])]) + bytes(packed[i : i + 255]) for i in range(0, len(packed), 255))
    head = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0xF7, 0, 0) + palette
    return head + struct.pack("<cHHHHB", b",", 0, 0, width, height, 0) + b"\x08" + blocks + b"\0;"


def example(model: Model, reader: str) -> bytes:
    """A ``tf.train.Example`` with the dense features that a node parses."""
    index = model.index
    node = index.name_to_node_map[reader]
    attributes = model.attributes(reader)
    kinds = [w for w in attributes.get("Tdense", "").replace("}", " ").split() if w.startswith("DT_")]
    keys = _keys(model, reader, len(kinds))
    sizes = [_elements(text) for text in attributes.get("dense_shapes", "").split("shape {")[1:]]
    features = b""
    for key, kind, size in zip(keys, kinds, sizes, strict=False):
        value = {
            "DT_FLOAT": _field(2, _field(1, np.linspace(-1, 1, size).astype("<f4").tobytes())),
            "DT_INT64": _field(3, _field(1, bytes(i % 2 for i in range(size)))),
        }.get(kind, _field(1, _field(1, b"a") * size))
        features += _field(1, _field(1, key) + _field(2, value))
    assert node.inputs
    return _field(1, features)


def _keys(model: Model, reader: str, count: int) -> list[bytes]:
    """Names of the dense features that a node parses: an operand each, one operand for all, or an attribute."""
    index = model.index
    node = index.name_to_node_map[reader]
    if node.op == "ParseSingleExample":
        return [w.encode() for w in model.attributes(reader).get("dense_keys", "").split('"')[1::2]]
    sparse = model.attributes(reader).get("Nsparse", "").rpartition(" ")[2]
    places = [3] if node.op == "ParseExampleV2" else [2 + int(sparse or 0) + i for i in range(count)]
    values = [model.constant(index.producer[node.inputs[p]]) for p in places if p < len(node.inputs)]
    return [bytes(key) for value in values if value is not None for key in value.reshape(-1)]


def _elements(shape: str) -> int:
    """How many elements a shape in text format has; an open size counts as 1."""
    sizes: Sequence[str] = shape.replace("}", " ").split("size:")[1:]
    return int(np.prod([max(1, int(s.split()[0])) for s in sizes], dtype=np.int64))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    size, length = len(content), b""
    while True:
        length += bytes([size & 127 | (128 if size > 127 else 0)])
        size >>= 7
        if not size:
            return bytes([number << 3 | 2]) + length + content
