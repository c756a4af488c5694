"""Feeds: what a model is run on. Pictures from files, or synthetic ones; and the check that feeds fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np

from graphsplit.errors import FeedError, FormatError
from graphsplit.formats import Model
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import shape_text
from graphsplit.inference.contents import picture
from graphsplit.inference.fed_arrays import fed_array, shape_fault
from graphsplit.inference.pictures import decode_image
from graphsplit.inference.synthesis import Feeds, Input, Synthesis, as_picture, strings
from graphsplit.runtimes.arrays import Array, dtype_name

__all__ = ["Feeds", "check_feeds", "image_feeds", "made_feeds", "picture"]

# Dtypes whose values runtimes take and return in another one, and what they hold; more than that would be cut without a word.
_CARRIERS = {"int4": ("int8", -8, 7), "int2": ("int8", -2, 1)}


def made_feeds(model: Model, *, runs: int = 1) -> list[Feeds]:
    """Synthetic feeds for a model: for batch 1, and for batch 2 if the batch is free, `runs` of each; see `Synthesis`.

    An input that has a default is fed where it is an array of numbers or a picture; then there is also a feed for each run that
    leaves it out. A switch, a single number (such as the share that dropout keeps) or a text always keeps its default.

    Raises:
        FeedError: An input is a resource or a variant, which has no values, or so large that it is not computed.
    """
    return Synthesis(model).feeds(runs=runs)


def image_feeds(
    model: Model,
    paths: Sequence[str | PathLike[str]],
    *,
    fixed: Feeds | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
) -> list[Feeds]:
    """Feeds of pictures from files: one a file, and two in a batch if the batch is free (the second one mirrored).

    A model that decodes pictures itself gets the contents of the files. Other inputs get synthetic values.

    Args:
        model: The model.
        paths: Of the files.
        fixed: Values of other inputs.
        shapes: Shapes of inputs that the file does not state.

    Raises:
        FeedError: The model does not have exactly one input that is a picture.
        FormatError: A file is not a picture.
    """
    synthesis = Synthesis(model, shapes=shapes)
    fixed = fixed or {}
    free = [i for n, i in synthesis.inputs.items() if n not in fixed]
    targets = [i for i in free if i.channels is not None or (synthesis.decodes and i.spec.dtype == "string")]
    needed = [i for i in targets if not i.spec.optional]
    if len(targets) != 1 and len(needed) != 1:
        inputs = ", ".join(f"{s.name} {s.dtype} {shape_text(s.shape)}" for s in model.inputs)
        raise FeedError([f"pictures need a model with one picture input; this one has {inputs or 'no input'}"])
    target = (needed or targets)[0]
    others = [i for i in free if i is not target and not i.spec.optional]

    def completed(feed: Feeds, batch: int) -> Feeds:
        return fixed | synthesis.of(others, batch) | feed

    if target.spec.dtype == "string":
        files = [_content(Path(path)) for path in paths]
        return [completed({target.name: strings(synthesis.shape(target, 1, None), [file])}, 1) for file in files]
    feeds = []
    for path in paths:
        height, width, count = _layout(target)
        shape = target.shape
        image = as_picture(_read(Path(path), (height, width)), target.spec, target.channels or -1, count)
        flipped = image[..., ::-1] if target.channels == 1 else image[:, ::-1]
        if shape is not None and len(shape) == 3:
            feeds.append(completed({target.name: image}, 1))
            continue
        feeds.append(completed({target.name: image[None]}, 1))
        if shape is None or shape[0] is None:
            feeds.append(completed({target.name: np.stack([image, flipped])}, 2))
    return feeds


def _layout(of: Input) -> tuple[int | None, int | None, int]:
    """Height and width of a picture input, as far as they are stated, and its channels."""
    if of.shape is None:
        return None, None, 3
    if of.channels == 1:
        return of.shape[-2], of.shape[-1], of.shape[-3] or 3
    return of.shape[-3], of.shape[-2], of.shape[-1] or 3


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
    if fault := shape_fault(spec, array):
        wrong.append(fault)
    elif spec.dtype is not None and array.shape[:1] == (0,) and (spec.shape is None or spec.shape[0] is None):
        wrong.append(f"{spec.name!r} has a batch of 0: shape {shape_text(array.shape)}; pass at least one frame")
    return array


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
