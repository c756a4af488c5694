"""Feeds: what a model is run on. Pictures from files, or synthetic ones; and the check that feeds fit."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np

from graphsplit.errors import FeedError, FormatError
from graphsplit.formats import Model
from graphsplit.graph.index import TensorSpec, itemsize
from graphsplit.graph.text import bytes_text, shape_text
from graphsplit.inference.fed_arrays import fed_array
from graphsplit.inference.pictures import decode_image, encode_jpeg
from graphsplit.isolation.child_process import memory_limit
from graphsplit.runtimes.arrays import Array, dtype_name

__all__ = ["Feeds", "check_feeds", "image_feeds", "made_feeds", "picture"]

#: Tensor → array.
Feeds = dict[str, Array]

_REMEDY = "feeds=… runs on other feeds, verify=False leaves the proof out"
_SIZE = 320  # pixels, if neither the input nor a resizer states the size of a picture
_LARGEST = 4096  # pixels that a resizer is believed
_SMALL = 4096  # bytes of a constant that may be such a size
_QUANTISED = {"qint8": np.int8, "quint8": np.uint8, "qint16": np.int16, "quint16": np.uint16, "qint32": np.int32}
_MOST = 2**32  # bytes that the random numbers of one synthetic feed may take
# Dtypes whose values runtimes take and return in another one, and what they hold; more than that would be cut without a word.
_CARRIERS = {"int4": ("int8", -8, 7), "int2": ("int8", -2, 1)}


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


def made_feeds(model: Model, *, runs: int = 1) -> list[Feeds]:
    """Synthetic feeds for a model: for batch 1, and for batch 2 if the batch is free, `runs` of each.

    An input that has a default is fed where it is an array of numbers or a picture; then there is also a feed for each run that
    leaves it out. A switch, a single number (such as the share that dropout keeps) or a text always keeps its default.

    An input that looks like a picture (rank 4, three channels last) gets one, of the size of the input, else of the graph's
    own resizer, else 320×320; so does, as a JPEG, a string input of a model that decodes pictures. Other inputs get normally
    distributed floats, zeros and ones, or empty strings, with 1 for unknown dimensions.

    Raises:
        FeedError: An input is a resource or a variant, which has no values, or so large that it is not computed.
    """
    resized = _resized_to(model)
    decodes = _decodes(model)
    specs = [s for s in model.inputs if not s.optional or _is_fed(s, decodes)]
    needed = [s for s in specs if not s.optional]
    free = all(s.shape is None or (len(s.shape) > 0 and s.shape[0] is None) for s in specs)
    for spec in specs:
        _check_size(spec, resized)
    kinds = [(specs, 1), *([(specs, 2)] if free and specs else []), *([(needed, 1)] if len(needed) < len(specs) else [])]
    return [
        {s.name: _made(s, batch, resized, decodes, seed=1000 * run + batch) for s in fed}
        for run in range(max(1, runs))
        for fed, batch in kinds
    ]


def image_feeds(model: Model, paths: Sequence[str | PathLike[str]]) -> list[Feeds]:
    """Feeds of pictures from files: one a file, and two in a batch if the batch is free (the second one mirrored).

    A model that decodes pictures itself gets the contents of the files.

    Raises:
        FeedError: The model does not have exactly one input that is a picture, and defaults for all others.
        FormatError: A file is not a picture.
    """
    decodes = _decodes(model)
    targets = [s for s in model.inputs if _is_picture(s) or (decodes and s.dtype == "string")]
    if len(targets) != 1 or any(s not in targets and not s.optional for s in model.inputs):
        inputs = ", ".join(f"{s.name} {s.dtype} {s.shape}" for s in model.inputs)
        raise FeedError([f"pictures need a model with one picture input; this one has {inputs or 'no input'}"])
    spec = targets[0]
    if spec.dtype == "string":
        files = [_content(Path(path)) for path in paths]
        return [{spec.name: _strings(_sizes(spec, 1), [file])} for file in files]
    feeds = []
    for path in paths:
        image = _as(_read(Path(path), _fixed_size(spec)), spec)
        feeds.append({spec.name: image[None]})
        if spec.shape is None or spec.shape[0] is None:
            feeds.append({spec.name: np.stack([image, image[:, ::-1]])})
    return feeds


def check_feeds(
    inputs: Sequence[TensorSpec], feeds: Mapping[str, object], *, optional: Collection[str] = (), copy: bool = False
) -> Feeds:
    """Feeds as arrays by the full names of their inputs. Used by every entry point to a model.

    Args:
        inputs: What may be fed. Of an input of unknown dtype and shape a value that is not an array is returned as it is.
        feeds: Tensor → value; ``name`` means ``name:0``. Neither the mapping nor the values are changed.
        optional: Inputs that need not be fed, besides those that have a default.
        copy: Copy every array, so that the caller may reuse its buffers.

    Returns:
        Tensor → array, by the names in `inputs`.

    Raises:
        FeedError: Lists everything that is wrong: unknown and missing names, dtypes, ranks, fixed dimensions, batches of 0.
    """
    known = [s.name for s in inputs]
    if not isinstance(cast(object, feeds), Mapping):  # an array, most often
        example = f"such as {{{known[0]!r}: …}}, " if known else ""
        raise FeedError([f"feeds are {{tensor: array}}, {example}not {type(feeds).__name__}"])
    wrong: list[str] = []
    fed: dict[str, object] = {}
    for written, value in feeds.items():
        name = written if written in known else f"{written}:0"
        if name not in known:
            wrong.append(f"no input {written!r}; there are {', '.join(known) or 'none'}")
        elif name in fed:
            wrong.append(f"{name!r} is fed twice")
        fed[name] = value
    values: Feeds = {}
    for spec in inputs:
        if spec.name in fed:
            values[spec.name] = _value(spec, fed[spec.name], copy, wrong)
        elif not spec.optional and spec.name not in optional:
            wrong.append(f"{spec.name!r} is not fed")
    if wrong:
        raise FeedError(wrong)
    return values


def _value(spec: TensorSpec, value: object, copy: bool, wrong: list[str]) -> Array:
    """A value for an input; what is wrong with it is appended to `wrong`."""
    if spec.dtype is None and spec.shape is None and not hasattr(value, "__array__"):
        return cast(Array, value)
    try:
        array = fed_array(value, copy=copy)
    except ValueError as error:
        wrong.append(f"{spec.name!r} {error}")
        return np.empty(0)
    dtype = dtype_name(array)
    carrier, least, most = _CARRIERS.get(spec.dtype or "", ("", 0, 0))
    # TensorFlow returns quantised values as plain integers, and takes them so.
    if spec.dtype is not None and dtype not in (spec.dtype, spec.dtype.removeprefix("q"), carrier):
        wrong.append(f"{spec.name!r} must be {spec.dtype}, not {dtype}")
    elif dtype == carrier and array.size and not (least <= array.min() and array.max() <= most):
        wrong.append(f"{spec.name!r} is {spec.dtype}, from {least} to {most}, but holds {array.min()} to {array.max()}")
    if spec.shape is not None and (
        array.ndim != len(spec.shape) or any(d not in (None, n) for d, n in zip(spec.shape, array.shape, strict=True))
    ):
        wrong.append(f"{spec.name!r} must have shape {shape_text(spec.shape)}, not {shape_text(array.shape)}")
    elif spec.dtype is not None and array.shape[:1] == (0,) and (spec.shape is None or spec.shape[0] is None):
        wrong.append(f"{spec.name!r} has a batch of 0: shape {shape_text(array.shape)}; pass at least one frame")
    return array


def _is_fed(spec: TensorSpec, decodes: bool) -> bool:
    """Whether an input that has a default gets a synthetic value."""
    if spec.dtype == "string":
        return decodes
    return _is_picture(spec) or (bool(spec.shape) and spec.dtype != "bool" and itemsize(spec.dtype) is not None)


def _is_picture(spec: TensorSpec) -> bool:
    if spec.dtype not in ("uint8", "float32", "float16"):
        return False
    if spec.shape is None:
        return spec.dtype == "uint8"
    return len(spec.shape) == 4 and spec.shape[-1] in (3, None)


def _fixed_size(spec: TensorSpec) -> tuple[int | None, int | None]:
    return (None, None) if spec.shape is None else (spec.shape[1], spec.shape[2])


def _resized_to(model: Model) -> tuple[int, int] | None:
    """The output size of the graph's own resizer, if that is a constant and comes before any neural layer."""
    index = model.index
    for node in index.nodes:
        if node.role == "resize" and len(node.inputs) > 1:
            size = model.constant(index.producer[node.inputs[-1]], limit=_SMALL)
            if size is None or size.dtype.kind != "i" or size.shape != (2,) or not all(0 < s <= _LARGEST for s in size):
                continue
            if not any(index.name_to_node_map[a].role == "neural" for a in index.ancestors([node.name])):
                return int(size[0]), int(size[1])
    return None


def _decodes(model: Model) -> bool:
    """Whether an op of the model decodes pictures, so that it is fed the contents of files."""
    index = model.index
    return any(n.role == "decode" for n in index.nodes) or any("decode" in f.roles for f in index.functions.values())


def _sizes(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    """A shape for an input: `batch` for an unknown first dimension, 1 for other unknown ones."""
    if spec.shape is None:
        return (batch,)
    return tuple((batch if i == 0 else 1) if d is None else d for i, d in enumerate(spec.shape))


def _strings(shape: tuple[int, ...], values: Sequence[bytes]) -> Array:
    """An array of strings, the values in turn."""
    strings = np.empty(shape, dtype=object)
    for place, where in enumerate(np.ndindex(shape)):
        strings[where] = values[place % len(values)]
    return strings


def _check_size(spec: TensorSpec, resized: tuple[int, int] | None) -> None:
    """Refuse an input whose stated shape asks for more memory than a synthetic feed is worth, before anything is computed."""
    shape = _picture_shape(spec, 2, resized) if _is_picture(spec) else _sizes(spec, 2)
    bytes_each = 1024 if spec.dtype == "string" else 8  # random numbers are drawn in 8 bytes each; strings are objects
    if (size := math.prod(shape) * bytes_each) > min(_MOST, memory_limit()):
        stated = f"{spec.name!r} {shape_text(spec.shape)}"
        raise FeedError([f"{stated} needs {bytes_text(size)}, too much for a synthetic feed; {_REMEDY}"])


def _picture_shape(spec: TensorSpec, batch: int, resized: tuple[int, int] | None) -> tuple[int, int, int, int]:
    height, width = _fixed_size(spec)
    count = spec.shape[0] if spec.shape is not None and spec.shape[0] is not None else batch
    return count, height or (resized or (_SIZE, _SIZE))[0], width or (resized or (_SIZE, _SIZE))[1], 3


def _made(spec: TensorSpec, batch: int, resized: tuple[int, int] | None, decodes: bool, seed: int) -> Array:
    if _is_picture(spec):
        count, height, width, _ = _picture_shape(spec, batch, resized)
        return np.stack([_as(picture(height, width, seed=seed + i), spec) for i in range(count)])
    rng = np.random.default_rng(seed)
    shape = _sizes(spec, batch)
    if spec.dtype == "string":
        size = resized or (_SIZE, _SIZE)
        return _strings(shape, [encode_jpeg(picture(*size, seed=seed + i)) for i in range(2)] if decodes else [b""])
    if spec.dtype == "bool":
        return rng.random(shape) < 0.5
    kind = _numpy_dtype(spec)
    if kind.kind in "iu" or kind.names:
        return rng.integers(0, 2, shape).astype(kind)
    return rng.standard_normal(shape).astype(kind)


def _numpy_dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    if spec.dtype in ("resource", "variant"):
        raise FeedError([f"{spec.name!r} is a {spec.dtype}, which cannot be fed"])
    try:
        return np.dtype(spec.dtype or "float32")
    except TypeError:  # one of TensorFlow's own: bfloat16, float8, int4, the quantised ones
        if spec.dtype in _QUANTISED:
            return np.dtype([(spec.dtype, _QUANTISED[spec.dtype])])
        import ml_dtypes

        dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, str(spec.dtype)))
        return dtype


def _as(image: Array, spec: TensorSpec) -> Array:
    """A uint8 picture in the dtype of an input: floats run from 0 to 1."""
    return image if spec.dtype == "uint8" else (image / np.float32(255)).astype(spec.dtype or "float32")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=path) from error


def _read(path: Path, size: tuple[int | None, int | None]) -> Array:
    """A picture file as uint8 [height, width, 3], scaled to fixed dimensions."""
    content = _content(path)
    try:
        return decode_image(content, size)
    except ValueError as error:
        raise FormatError("not a picture (PNG, JPEG, GIF and BMP are read)", path=path) from error
