"""Images: what is accepted as one, how a file is read, and how an image becomes the input of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from graphsplit.detection.extras import opencv
from graphsplit.errors import FeedError, FormatError
from graphsplit.graph.text import shape_text
from graphsplit.inference.fed_arrays import fed_array
from graphsplit.parts.parts import Port
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageLike", "Input", "as_image", "picture_input", "read_image"]

#: What `as_image` takes: a path, a uint8 array or a PIL image.
ImageLike: TypeAlias = "str | PathLike[str] | Array | Image"

_FLOATS = ("float32", "float16", "float64")
_DEEP = ("I", "F")  # modes of PIL with more than eight bits


def as_image(image: object) -> Array:
    """Convert an image to RGB.

    Args:
        image: A uint8 array, RGB [height, width, 3], grey [height, width] or [height, width, 1], or RGBA [height, width, 4],
            whose alpha is dropped; a PIL image; or the path of an image.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        FeedError: for anything else.
        FormatError: for a file that is not an image.
    """
    if isinstance(image, (str, PathLike)):
        return read_image(image)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # a PIL image
        if str(image.mode).startswith(_DEEP):
            raise FeedError([f"the image has mode {image.mode!r}; scale its values to 0 … 255 first"])
        image = image.convert("RGB")
    elif not hasattr(image, "__array__"):
        raise FeedError([f"an image is an array, a PIL image or a path, not {type(image).__name__}"])
    try:
        array = fed_array(image)
    except ValueError as error:
        raise FeedError([f"the image {error}"]) from error
    if array.dtype != np.uint8:
        hint = "a float image from 0 to 1 is (255 * image).round().astype('uint8')"
        raise FeedError([f"the image is {array.dtype}; pass uint8 from 0 to 255 ({hint})"])
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise FeedError([f"the image has shape {list(array.shape)}; pass one RGB image: [height, width, 3]"])
    if 0 in array.shape:
        raise FeedError([f"the image has shape {list(array.shape)}: it is empty"])
    return np.ascontiguousarray(array[:, :, :3])


def read_image(path: str | PathLike[str]) -> Array:
    """Read an image file, rotated as its EXIF data say; the first frame if there are several.

    Args:
        path: Of the file.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        FormatError: for a file that does not exist, cannot be read or is not an image.
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
        decoded = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error as error:
        raise FormatError(f"a damaged image: {str(error).strip().splitlines()[-1]}", path=where) from error
    if decoded is None:
        raise FormatError("not an image that OpenCV can read, or a damaged one", path=where)
    image: Array = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return image


@dataclass(frozen=True, slots=True)
class Input:
    """The image input of a model, and how an image becomes its value.

    Attributes:
        tensor: Its name.
        dtype: "uint8", "int8" or a float type.
        size: (height, width); None: any.
        pixels: The values of a float input that pixels of 0 and 255 become; of a quantised input, the real values that they
            represent.
        longest: The longest side that the model takes, in pixels; 0: any.
        quantised: (scale, zero point) to quantise pixels with. None: uint8 is fed unchanged and int8 shifted by 128, which is
            right if the range of the input is the range of the pixels, whatever real values they represent.
    """

    tensor: str
    dtype: str
    size: tuple[int | None, int | None]
    pixels: tuple[float, float] = (0.0, 255.0)
    longest: int = 0
    quantised: tuple[float, int] | None = None

    def feed(self, image: Array) -> Array:
        """Convert an image to a value of the input.

        It is resized (bilinear, without keeping the aspect ratio) if the input has a fixed size, or the image is too large.

        Args:
            image: uint8 [height, width, 3], RGB.

        Returns:
            [1, height, width, 3] of the input's dtype.
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
        """The (height, width) to which an image of some (height, width) is resized."""
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
    """Find the image input of a model.

    Args:
        ports: The inputs of the model.
        pixels: The values of a float input that pixels of 0 and 255 become; of a quantised input, the real values that they
            represent. None: −1 and 1 if its name begins with "normalized", the Object Detection API's name for such an input,
            else 0 and 255 (of a quantised input: its range).
        longest: The longest side that the model takes, in pixels; 0: any.
        quantised: Tensor → (scale, zero point), of inputs of 8 bits.

    Raises:
        FeedError: if the model does not have exactly one input that must be fed (or, where all have defaults, exactly one that may
            be an image), or that input is not an image.
    """
    listed = ", ".join(f"{p.tensor} {p.dtype} {shape_text(p.shape)}" for p in ports) or "nothing"
    needed = [p for p in ports if not p.optional] or [p for p in ports if p.shape is None or len(p.shape) == 4]
    if len(needed) != 1:
        raise FeedError([f"a detector takes one image; this model takes {listed}"])
    port = needed[0]
    if port.dtype not in ("uint8", "int8", *_FLOATS):
        raise FeedError([f"a detector takes an image, uint8, int8 or float; this model takes {listed}"])
    shape = port.shape if port.shape is not None else (None, None, None, 3)
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[3] not in (None, 3):
        raise FeedError([f"a detector takes an image [1, height, width, 3]; this model takes {listed}"])
    known = (quantised or {}).get(port.tensor) if port.dtype in ("uint8", "int8") else None
    if pixels is None:
        normalised = port.tensor.rpartition("/")[2].startswith("normalized")
        known = known if normalised else None
        pixels = (-1.0, 1.0) if normalised else (0.0, 255.0)
    return Input(port.tensor, port.dtype, (shape[1], shape[2]), pixels, longest, known)
