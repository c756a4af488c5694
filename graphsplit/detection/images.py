"""Pictures: what is accepted as one, how a file of one is read, and how one becomes what a model is fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from graphsplit.detection.extras import opencv
from graphsplit.errors import FeedError, FormatError
from graphsplit.parts.parts import Port

__all__ = ["Array", "Input", "as_image", "picture_input", "read_image"]

Array = np.ndarray[Any, Any]

_FLOATS = ("float32", "float16", "float64")
_DEEP = ("I", "F")  # modes of PIL with more than eight bits


def as_image(image: Any) -> Array:
    """A picture as uint8 RGB (height, width, 3).

    image  an array of uint8: RGB (height, width, 3), grey (height, width) or (height, width, 1), RGBA (height, width, 4),
           whose alpha is dropped; a PIL image; the path of a picture

    Raises FeedError for anything else, FormatError for a file that is no picture.
    """
    if isinstance(image, (str, PathLike)):
        return read_image(image)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # a PIL image
        if str(image.mode).startswith(_DEEP):
            raise FeedError([f"the image is of mode {image.mode!r}; scale its values to 0 … 255 first"])
        image = image.convert("RGB")
    elif not hasattr(image, "__array__"):
        raise FeedError([f"an image is an array, a PIL image or a path, not {type(image).__name__}"])
    array = np.asarray(image)
    if array.dtype != np.uint8:
        hint = "a float image from 0 to 1 is (255 * image).round().astype('uint8')"
        raise FeedError([f"the image is {array.dtype}; give uint8 from 0 to 255 ({hint})"])
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise FeedError([f"the image has shape {list(array.shape)}; give one picture: [height, width, 3], RGB"])
    if 0 in array.shape:
        raise FeedError([f"the image has shape {list(array.shape)}: there is nothing in it"])
    return np.ascontiguousarray(array[:, :, :3])


def read_image(path: str | PathLike[str]) -> Array:
    """A picture file as uint8 RGB (height, width, 3), turned as its EXIF data says; of several frames the first.

    Raises FormatError.
    """
    cv2 = opencv()
    where = Path(path)
    if where.exists() and not where.is_file():
        raise FormatError("not a file", path=where)
    try:
        content = np.frombuffer(where.read_bytes(), np.uint8)
    except FileNotFoundError as error:
        raise FormatError("no such file or folder", path=where) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error
    try:
        found = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error as error:
        raise FormatError(f"a damaged picture: {str(error).strip().splitlines()[-1]}", path=where) from error
    if found is None:
        raise FormatError("not a picture that OpenCV reads, or a damaged one", path=where)
    image: Array = cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return image


@dataclass(frozen=True, slots=True)
class Input:
    """The picture input of a model, and how a picture becomes its value.

    dtype      "uint8", "int8" or a float
    size       (height, width); None where any goes
    pixels     what 0 and 255 become in a float input, or stand for in a quantised one
    longest    the model takes no picture with a side longer than this; 0: any
    quantised  scale and zero point, where pixels are to be brought to them; None: uint8 is fed as it is, int8 128 less,
               which is right where the range of the input is that of the pixels, whatever they stand for
    """

    tensor: str
    dtype: str
    size: tuple[int | None, int | None]
    pixels: tuple[float, float] = (0.0, 255.0)
    longest: int = 0
    quantised: tuple[float, int] | None = None

    def feed(self, image: Array) -> Array:
        """uint8 RGB (height, width, 3) → the input's dtype (1, height, width, 3).

        A picture is resized (bilinear, its sides scaled each for itself) where the size is fixed, or it is too large.
        """
        height, width = self.fed((image.shape[0], image.shape[1]))
        if (height, width) != image.shape[:2]:
            image = opencv().resize(image, (width, height))
        low, high = self.pixels
        if self.quantised is not None:
            scale, zero = self.quantised
            limits = np.iinfo(self.dtype)
            steps = np.rint((low + np.arange(256) * (high - low) / 255) / scale + zero)
            return np.take(np.clip(steps, limits.min, limits.max).astype(self.dtype), image)[None]
        if self.dtype == "uint8":
            return image[None]
        if self.dtype == "int8":
            return (image[None].astype(np.int16) - 128).astype(np.int8)
        if (low, high) == (0.0, 255.0):
            return image[None].astype(self.dtype)
        scaled = image[None].astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
        return scaled.astype(self.dtype)

    def fed(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that a picture of some size is fed with."""
        height, width = size
        if self.longest and max(height, width) > self.longest:
            scale = self.longest / max(height, width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        return self.size[0] or height, self.size[1] or width


def picture_input(
    ports: Sequence[Port],
    *,
    pixels: tuple[float, float] | None,
    longest: int = 0,
    quantised: Mapping[str, tuple[float, int]] | None = None,
) -> Input:
    """The picture input among what a model is fed.

    pixels     what 0 and 255 become in a float input, or stand for in a quantised one; None: −1 and 1 where its name begins
               with "normalized", as the API names what it feeds normalised, else 0 and 255 (of a quantised input: its range)
    quantised  scale and zero point of inputs of 8 bits

    Raises FeedError for a model that is not fed one picture, and nothing else.
    """
    listed = ", ".join(f"{p.tensor} {p.dtype} {_shape(p)}" for p in ports) or "nothing"
    if len(ports) != 1:
        raise FeedError([f"a detector is fed one picture; this model is fed {listed}"])
    port = ports[0]
    if port.dtype not in ("uint8", "int8", *_FLOATS):
        raise FeedError([f"a detector is fed a picture, uint8, int8 or float; this model is fed {listed}"])
    shape = port.shape if port.shape is not None else (None, None, None, 3)
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[3] not in (None, 3):
        raise FeedError([f"a detector is fed a picture [1, height, width, 3]; this model is fed {listed}"])
    known = (quantised or {}).get(port.tensor) if port.dtype in ("uint8", "int8") else None
    if pixels is None:
        normalised = port.tensor.rpartition("/")[2].startswith("normalized")
        known = known if normalised else None
        pixels = (-1.0, 1.0) if normalised else (0.0, 255.0)
    return Input(port.tensor, port.dtype, (shape[1], shape[2]), pixels, longest, known)


def _shape(port: Port) -> list[Any] | str:
    return "of unknown shape" if port.shape is None else ["?" if d is None else d for d in port.shape]
