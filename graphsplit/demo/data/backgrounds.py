"""Backgrounds without any of the shapes: gradients, clouds, stripes and patches, with distracting clutter."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from graphsplit.errors import MissingExtraError

__all__ = ["background", "import_cv2"]


def import_cv2() -> ModuleType:
    """Import OpenCV, which draws. Raises MissingExtraError if it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("OpenCV", extra="demo") from error
    module: ModuleType = cv2
    return module


def background(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a random background.

    Args:
        rng: Decides everything.
        height: In pixels.
        width: In pixels.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    kind = rng.integers(4)
    image = (_gradient, _clouds, _stripes, _patches)[kind](rng, height, width)
    for _ in range(rng.integers(0, 9)):
        (_line, _bar, _ellipse, _blob)[rng.integers(4)](rng, image)
    return image


def _colours(rng: Generator, count: int) -> NDArray[np.float32]:
    """`count` similar colours: float32 [count, 3]."""
    base = rng.uniform(20, 235, 3)
    return np.clip(base + rng.uniform(-75, 75, (count, 3)), 0, 255).astype(np.float32)


def _gradient(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    cv2 = import_cv2()
    corners = _colours(rng, 4).astype(np.uint8).reshape(2, 2, 3)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _clouds(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    cv2 = import_cv2()
    half = (width // 2 + 1, height // 2 + 1)
    layers = [cv2.resize(rng.random((n, n), np.float32), half, interpolation=cv2.INTER_LINEAR) for n in (3, 8, 24)]
    return _mixed(rng, sum(layers) / 3, height, width)


def _stripes(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.03, 0.3) * width
    x, y = np.arange(0, width, 2, dtype=np.float32), np.arange(0, height, 2, dtype=np.float32)[:, None]
    wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (math.tau / period))
    return _mixed(rng, np.clip(wave * rng.uniform(1, 6), -1, 1) / 2 + 0.5, height, width)


def _mixed(rng: Generator, share: NDArray[np.floating], height: int, width: int) -> NDArray[np.uint8]:
    """Two colours mixed by `share`, float [rows, columns] in 0 … 1, resized to the image."""
    cv2 = import_cv2()
    one, two = _colours(rng, 2)
    steps = (one + (two - one) * np.linspace(0, 1, 256)[:, None]).astype(np.uint8)
    mixed = np.take(steps, (share * 255).astype(np.uint8), axis=0)
    return np.asarray(cv2.resize(mixed, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _patches(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    """The plane divided by a few lines, with another colour on one side of each."""
    cv2 = import_cv2()
    colours = [tuple(int(v) for v in c) for c in _colours(rng, 5)]
    image = np.full((height, width, 3), colours[0], np.uint8)
    for colour in colours[1 : rng.integers(2, 6)]:
        angle = rng.uniform(0, math.tau)
        along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        start, far = rng.random(2) * (width, height), 2 * (width + height)
        corners = start + far * np.array([-along, along, along + across, across - along])
        cv2.fillPoly(image, [corners.astype(np.int32)], colour)
    return image


def _random_colour(rng: Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _line(rng: Generator, image: NDArray[np.uint8]) -> None:
    """A bent line across the image."""
    cv2 = import_cv2()
    height, width = image.shape[:2]
    corners = (rng.random((rng.integers(2, 5), 2)) * (width, height)).astype(np.int32)
    cv2.polylines(image, [corners], False, _random_colour(rng), int(rng.integers(1, 5)), lineType=cv2.LINE_AA)


def _bar(rng: Generator, image: NDArray[np.uint8]) -> None:
    """A bar, at least four times as long as wide."""
    height, width = image.shape[:2]
    length = rng.uniform(0.1, 0.5) * width
    wide = length / rng.uniform(4, 10)
    _polygon(rng, image, np.array([[-length, -wide], [length, -wide], [length, wide], [-length, wide]]) / 2, height, width)


def _ellipse(rng: Generator, image: NDArray[np.uint8]) -> None:
    """An ellipse, at least two and a half times as long as wide."""
    height, width = image.shape[:2]
    length = rng.uniform(0.08, 0.4) * width / 2
    angles = np.linspace(0, math.tau, 32, endpoint=False)
    wide = length / rng.uniform(2.5, 5)
    _polygon(rng, image, np.stack([np.cos(angles) * length, np.sin(angles) * wide], axis=1), height, width)


def _blob(rng: Generator, image: NDArray[np.uint8]) -> None:
    """A lumpy blob: a closed curve of three random waves, stretched."""
    height, width = image.shape[:2]
    angles = np.linspace(0, math.tau, 40, endpoint=False)
    waves = [rng.uniform(0.12, 0.3) * np.sin(n * angles + rng.uniform(0, math.tau)) for n in (2, 3, 5)]
    radius = 1 + np.sum(waves, axis=0)
    size = rng.uniform(0.04, 0.16) * width
    stretched = np.array([1.0, rng.uniform(0.45, 0.7)])
    _polygon(rng, image, np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] * size * stretched, height, width)


def _polygon(rng: Generator, image: NDArray[np.uint8], corners: NDArray[np.floating], height: int, width: int) -> None:
    """Fill a polygon of corners [n, 2], x and y around the origin, rotated and moved at random."""
    cv2 = import_cv2()
    angle = rng.uniform(0, math.tau)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    moved = corners @ turn + rng.random(2) * (width, height)
    cv2.fillPoly(image, [np.rint(moved * 16).astype(np.int32)], _random_colour(rng), lineType=cv2.LINE_AA, shift=4)
