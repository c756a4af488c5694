"""Training and test images, drawn on demand: the same seed draws the same images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from graphsplit.demo.data.shapes import Frame, Scene

TEST_SEED = 20_000  # benchmarks/shapes_map.py
HELD_OUT_SEED = 10_000  # to select the best weights during training
# The training seed is an option of train.py; it must differ from both.


def draw(rng: Generator, *, most: int = 8) -> Frame:
    """Draw an image of a random size with the artefacts of a camera.

    Args:
        rng: Decides everything.
        most: The most shapes in it.

    Returns:
        image: uint8 [height, width, 3], RGB, 25,600 to 90,000 pixels, from 3:5 to 5:3.
        boxes: float32 [n, 4], normalised ymin, xmin, ymax, xmax.
        labels: int64 [n], from 1.
    """
    side, aspect = rng.uniform(160, 300), math.sqrt(rng.uniform(1, 1.67))
    aspect = aspect if rng.random() < 0.6 else 1 / aspect
    scene = Scene.random(rng, width=round(side * aspect), height=round(side / aspect), count=int(rng.integers(1, most + 1)))
    image, boxes, labels = scene.frame()
    return _photographed(rng, image), boxes, labels


def _photographed(rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur, noise and JPEG compression, each at random."""
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.4, 1.2))
    if rng.random() < 0.5:
        grain = rng.integers(-20, 21, size=image.shape[:2], dtype=np.int16)[:, :, None]
        image = np.clip(image + grain * rng.random(dtype=np.float32), 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        quality = int(rng.integers(35, 95))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image


def resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize bilinearly to uint8 [size, size, 3], like the graph's ResizeBilinear, where pixel i is at i · scale."""
    height, width = image.shape[:2]
    where = np.array([[width / size, 0, 0], [0, height / size, 0]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, where, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def turned(rng: Generator, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Augment a square image: mirrored, transposed and with its colour channels permuted at random."""
    if rng.random() < 0.5:
        image, boxes = image[::-1], np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    if rng.random() < 0.5:
        image, boxes = image[:, ::-1], np.stack([boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], axis=1)
    if rng.random() < 0.5:
        image, boxes = image.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
    return np.ascontiguousarray(image[:, :, rng.permutation(3)]), boxes


def pictures(count: int, seed: int) -> Iterator[Frame]:
    """Draw `count` images, see `draw`."""
    rng = np.random.default_rng(seed)
    return (draw(rng) for _ in range(count))
