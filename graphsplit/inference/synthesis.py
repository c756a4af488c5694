"""Synthetic values for the inputs of a model: what its readers require, else what people usually have."""

from __future__ import annotations

import base64
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphsplit.errors import FeedError
from graphsplit.formats import Model
from graphsplit.graph.index import Shape, TensorSpec, itemsize
from graphsplit.graph.text import bytes_text, shape_text
from graphsplit.inference.contents import content, example, picture
from graphsplit.inference.demands import Demand, by_name, demands, merged_shapes
from graphsplit.inference.fed_arrays import shape_fault
from graphsplit.inference.pictures import encode_jpeg
from graphsplit.inference.shapes import stated_shapes
from graphsplit.isolation.child_process import memory_limit
from graphsplit.runtimes.arrays import Array

__all__ = ["Feeds", "Guess", "Input", "Synthesis", "as_fed", "as_picture", "numpy_dtype", "picture", "strings"]

#: Tensor → array.
Feeds = dict[str, Array]

_REMEDY = "feeds=… and shapes=… state others, verify=False leaves the proof out"
_SIZE = 320  # pixels, if neither the input nor a resizer states the size of a picture
_LARGEST = 4096  # pixels that a resizer is believed
_SMALL = 4096  # bytes of a constant that may be such a size
_QUANTISED = {"qint8": np.int8, "quint8": np.uint8, "qint16": np.int16, "quint16": np.uint16, "qint32": np.int32}
_MOST = 2**32  # bytes that the random numbers of one synthetic feed may take
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Guess:
    """What is tried for an input.

    Attributes:
        shape: Of one whose rank nobody states.
        size: For every size that nobody states, except that of the batch; None: 1, or that of a picture.
    """

    shape: Shape | None = None
    size: int | None = None


_NO_GUESS = Guess()
_TRIED = 2**22  # elements of an input of a size that is only a guess


@dataclass(frozen=True, slots=True)
class Input:
    """An input and what is known about it.

    Attributes:
        spec: As the file states it.
        shape: Merged with what its readers require; None: unknown rank.
        demand: What its readers require.
    """

    spec: TensorSpec
    shape: Shape | None
    demand: Demand

    @property
    def name(self) -> str:
        """The tensor."""
        return self.spec.name

    @property
    def value(self) -> float | bool | None:
        """What switches off training, where this is such a switch."""
        if self.shape or self.spec.dtype in ("string", "resource", "variant"):
            return None
        if self.spec.dtype == "bool":
            return False
        if self.demand.value is not None or self.demand.count is not None:
            return self.demand.value
        return by_name(self.name)

    @property
    def channels(self) -> int | None:
        """Which dimension holds the channels of a picture; None: it is no picture."""
        if self.spec.dtype not in ("uint8", "float32", "float16", "float64", "bfloat16"):
            return None
        shape = self.shape
        if shape is None:
            return -1 if self.spec.dtype == "uint8" and self.demand.elements is None else None
        if len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in _CHANNELS:
            return 1
        if len(shape) == 4 and (shape[-1] in _CHANNELS or (shape[-1] is None and shape[1] is None)):
            return -1
        return -1 if len(shape) == 3 and shape[-1] in (3, 4) and self.spec.dtype == "uint8" else None

    @property
    def is_free(self) -> bool:
        """Whether its batch is free."""
        return self.shape is None or (len(self.shape) > 0 and self.shape[0] is None)

    @property
    def is_open(self) -> bool:
        """Whether there is something to try: a size beside the batch that nobody states, or the rank."""
        if self.value is not None or self.spec.dtype == "string":
            return False
        return self.shape is None or None in self.shape[1:] or self.shape == (None,)

    def guessed(self, guess: Guess) -> Input:
        """The same input with the rank of a guess, if nobody states its rank."""
        return self if self.shape is not None or guess.shape is None else replace(self, shape=guess.shape)


class Synthesis:
    """Synthetic feeds of a model.

    An input that looks like a picture gets one, of the size of the input, else of the graph's own resizer, else 320×320; a
    string that is decoded, what its decoder reads. A number or flag that only training needs has its value for inference.
    Integers that index a table stay within it. Other inputs get normally distributed floats, zeros and ones, or empty strings.
    A size that neither the file nor a reader states is 1, then others are tried.

    Args:
        model: The model.
        shapes: Tensor → shape that somebody stated; None in it: unknown.

    Raises:
        FeedError: `shapes` names an unknown input, or contradicts the file.
    """

    def __init__(self, model: Model, *, shapes: Mapping[str, Sequence[int | None]] | None = None) -> None:
        self.model = model
        required = demands(model)
        stated = stated_shapes(model, shapes or {})
        self.inputs = {
            spec.name: Input(
                spec,
                merged_shapes(stated.get(spec.name, spec.shape), required.get(spec.name, Demand()).shape),
                required.get(spec.name, Demand()),
            )
            for spec in model.inputs
            if _is_read(model, spec.name)
        }
        self.resized = _resized_to(model)
        self.decodes = _decodes(model)

    def is_open(self, fixed: Collection[str] = ()) -> bool:
        """Whether something about the inputs is unknown, except those that are `fixed`."""
        return any(i.is_open for n, i in self.inputs.items() if n not in fixed)

    def feeds(self, *, runs: int = 1, fixed: Feeds | None = None, guesses: Mapping[str, Guess] | None = None) -> list[Feeds]:
        """One list of feeds: for batch 1, and for batch 2 if the batch is free.

        Args:
            runs: How many for each batch size.
            fixed: Values of some inputs.
            guesses: Input → what is tried for it; the size of ``""`` is the batch.

        Raises:
            FeedError: An input is a resource or a variant, which has no values, or so large that it is not computed.
        """
        fixed, guesses = fixed or {}, guesses or {}
        inputs = [
            i.guessed(guesses.get(n, _NO_GUESS))
            for n, i in self.inputs.items()
            if n not in fixed and (not i.spec.optional or self._is_fed(i))
        ]
        sizes = {n: g.size for n, g in guesses.items()}
        needed = [i for i in inputs if not i.spec.optional]
        sized = [i for i in inputs if i.value is None and i.shape != ()]
        free = bool(sized) and all(i.is_free for i in sized) and not any(np.ndim(v) for v in fixed.values())
        batch = sizes.get("")
        kinds = [(inputs, batch or 1), *([(inputs, 2)] if free and batch is None else [])]
        kinds += [(needed, 1)] if len(needed) < len(inputs) else []
        for each in inputs:
            self._check_size(each, sizes.get(each.name))
            if {each.name, ""} & guesses.keys() and math.prod(self.shape(each, batch or 2, sizes.get(each.name))) > _TRIED:
                raise FeedError([f"{each.name!r} is too large to be tried"])
        return [
            fixed | {i.name: self._made(i, n, sizes.get(i.name), seed=1000 * run + n) for i in fed}
            for run in range(max(1, runs))
            for fed, n in kinds
        ]

    def of(self, inputs: Collection[Input], batch: int) -> Feeds:
        """Synthetic values of some inputs."""
        for each in inputs:
            self._check_size(each, None)
        return {i.name: self._made(i, batch, None, seed=batch) for i in inputs}

    def _is_fed(self, of: Input) -> bool:
        """Whether an input that has a default gets a synthetic value."""
        if of.spec.dtype == "string":
            return self.decodes
        return of.channels is not None or (bool(of.shape) and of.spec.dtype != "bool" and itemsize(of.spec.dtype) is not None)

    def _check_size(self, of: Input, size: int | None) -> None:
        """Refuse an input whose stated shape asks for more memory than a synthetic feed is worth, before anything is computed."""
        bytes_each = 1024 if of.spec.dtype == "string" else 8  # random numbers are drawn in 8 bytes each; strings are objects
        if (needs := math.prod(self.shape(of, 2, size)) * bytes_each) > min(_MOST, memory_limit()):
            stated = f"{of.name!r} {shape_text(of.spec.shape)}"
            raise FeedError([f"{stated} needs {bytes_text(needs)}, too much for a synthetic feed; {_REMEDY}"])

    def shape(self, of: Input, batch: int, size: int | None) -> tuple[int, ...]:
        """A shape for an input: `batch` for an unknown first dimension, `size` for other unknown ones."""
        if of.value is not None and of.shape is None:
            return ()
        if of.channels is not None:
            return self._picture_shape(of, batch, size)
        if of.shape is None:
            if of.demand.elements is not None:
                return batch, of.demand.elements
            if of.spec.dtype == "string":
                return (batch,)
            return (batch,) if size is None else (batch, size)
        unknown = [i for i, d in enumerate(of.shape) if d is None]
        known = math.prod(d for d in of.shape if d is not None)
        if of.demand.elements and len(unknown) == 2 and unknown[0] == 0 and of.demand.elements % max(1, known) == 0:
            size = of.demand.elements // max(1, known)
        first = batch if len(of.shape) > 1 or size is None else size
        return tuple((size or 1 if i else first) if d is None else d for i, d in enumerate(of.shape))

    def _picture_shape(self, of: Input, batch: int, size: int | None) -> tuple[int, ...]:
        height, width = (size, size) if size is not None else self.resized or (_SIZE, _SIZE)
        shape = (None, None, None, 3) if of.shape is None else of.shape
        inner = shape[-3:]
        if size is None and of.demand.elements and inner.count(None) == 2:
            pixels = of.demand.elements // math.prod(d for d in inner if d)
            height = next(h for h in range(math.isqrt(pixels), 0, -1) if pixels % h == 0) if pixels else 1
            width = max(1, pixels // height)
        if of.channels == 1:
            return shape[0] or batch, shape[1] or 3, shape[2] or height, shape[3] or width
        last = (shape[-3] or height, shape[-2] or width, shape[-1] or 3)
        return (shape[0] or batch, *last) if len(shape) == 4 else last

    def _made(self, of: Input, batch: int, size: int | None, seed: int) -> Array:
        spec, shape = of.spec, self.shape(of, batch, size)
        if of.channels is not None:
            return _pictures(shape, of.channels, spec, seed)
        if spec.dtype == "string":
            return strings(shape, self._contents(of, seed))
        if of.value is not None:
            return np.full(shape, of.value, bool if spec.dtype == "bool" else numpy_dtype(spec))
        rng = np.random.default_rng(seed)
        if spec.dtype == "bool":
            return rng.random(shape) < 0.5
        kind = numpy_dtype(spec)
        if of.demand.count is not None and kind.kind in "iuf":
            return np.full(shape, of.demand.count, kind)
        if kind.kind in "iu" or kind.names:
            return rng.integers(0, 2 if of.demand.below is None else max(1, of.demand.below), shape).astype(kind)
        return rng.standard_normal(shape).astype(kind)

    def _contents(self, of: Input, seed: int) -> list[bytes]:
        """What strings hold."""
        kind = of.demand.content or ("picture" if self.decodes else "")
        if kind == "picture":
            size = self.resized or (_SIZE, _SIZE)
            contents = [encode_jpeg(picture(*size, seed=seed + i)) for i in range(2)]
        elif kind == "example":
            contents = [example(self.model, of.demand.reader)]
        else:
            contents = content(kind, seed, of.demand.elements or 1)
        return [base64.urlsafe_b64encode(c).rstrip(b"=") for c in contents] if of.demand.encoded else contents


# values


def as_picture(image: Array, spec: TensorSpec, channels: int, count: int) -> Array:
    """An RGB picture, uint8 [height, width, 3], as one of an input: grey or with alpha, channels first; floats run from 0 to 1."""
    if count == 1:
        image = image.mean(axis=-1, keepdims=True).astype(np.uint8)
    elif count == 4:
        image = np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=-1)
    if channels == 1:
        image = image.transpose(2, 0, 1)
    return image if spec.dtype == "uint8" else (image / np.float32(255)).astype(numpy_dtype(spec))


def _pictures(shape: tuple[int, ...], channels: int, spec: TensorSpec, seed: int) -> Array:
    inner = shape[-3:]
    count, height, width = inner if channels == 1 else (inner[2], inner[0], inner[1])
    if count not in _CHANNELS:
        return np.random.default_rng(seed).standard_normal(shape).astype(numpy_dtype(spec))
    images = [as_picture(picture(height, width, seed=seed + i), spec, channels, count) for i in range(math.prod(shape[:-3]))]
    return np.stack(images).reshape(shape)


def strings(shape: tuple[int, ...], values: Sequence[bytes]) -> Array:
    """An array of strings, the values in turn."""
    array = np.empty(shape, dtype=object)
    for place, where in enumerate(np.ndindex(shape)):
        array[where] = values[place % len(values)]
    return array


def as_fed(inputs: Sequence[TensorSpec], values: Mapping[str, object]) -> Feeds:
    """Numbers, flags, texts and lists of them as arrays of the dtypes of their inputs; ``name`` means ``name:0``.

    Raises:
        FeedError: Lists everything that is wrong: unknown names, values of another kind than the input, shapes.
    """
    specs = {s.name: s for s in inputs}
    wrong: list[str] = []
    fed: Feeds = {}
    for written, value in values.items():
        spec = specs.get(written) or specs.get(f"{written}:0")
        if spec is None:
            close = difflib.get_close_matches(written, [n.removesuffix(":0") for n in specs], n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(specs) or 'none'}"
            wrong.append(f"no input {written!r}; {hint}")
            continue
        try:
            array = value if isinstance(value, np.ndarray) else _converted(value, spec)
        except (ValueError, TypeError, OverflowError):
            wrong.append(f"{spec.name!r} is {spec.dtype}, which {str(value)[:60]!r} is not")
            continue
        if fault := shape_fault(spec, array):
            wrong.append(fault)
        fed[spec.name] = array
    if wrong:
        raise FeedError(wrong)
    return fed


def _converted(value: object, spec: TensorSpec) -> Array:
    """A value as an array of the dtype of an input. Raises ValueError if it is of another kind, or would be cut."""
    if spec.dtype == "string":
        texts = np.array(value, dtype=object)
        encoded = [t.encode() if isinstance(t, str) else t for t in texts.reshape(-1)]
        if not all(isinstance(t, bytes) for t in encoded):
            raise ValueError
        return strings(texts.shape, encoded) if encoded else texts
    array = np.array(value)
    target = numpy_dtype(spec)
    if (array.dtype.kind == "b") != (target.kind == "b") or array.dtype.kind not in "biufc":
        raise ValueError
    converted = array.astype(target)
    if target.kind in "iu" and not np.array_equal(converted, array):
        raise ValueError
    return converted


def numpy_dtype(spec: TensorSpec) -> np.dtype[np.generic]:
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


# what the graph says


def _is_read(model: Model, tensor: str) -> bool:
    """Whether something needs an input: a node, or whoever fetches it."""
    index = model.index
    if index.consumers.get(tensor):
        return True
    return tensor in index.outputs and index.tensors[tensor].dtype not in ("resource", "variant")


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
