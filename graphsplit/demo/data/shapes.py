"""Coloured shapes on cluttered backgrounds: the training images of the demo detector, and the video of the demo.

scene = Scene.random(numpy.random.default_rng(1), width=640, height=480, count=5)
for image, boxes, labels in scene.frames(120):
    ...

image   uint8   [480, 640, 3], RGB
boxes   float32 [5, 4], normalised ymin, xmin, ymax, xmax, clipped to the image
labels  int64   [5], 1 = circle … 8 = moon: positions in `CLASSES`, counted from 1
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from graphsplit.demo.data.backgrounds import background, import_cv2

__all__ = ["CLASSES", "Frame", "Scene", "Shape", "background", "draw_shape", "outline"]

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")

#: Image, boxes and labels.
Frame = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]
Colour = tuple[int, int, int]

_FILLS = ("flat", "flat", "gradient", "stripes")
_OVERLAP = 0.3  # the largest overlap of two shapes in a new scene, as a share of the smaller
_FRACTION = 4  # fractional bits of a polygon's corners


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape in an image.

    Attributes:
        label: Its class, from 1.
        x: Its centre, in pixels.
        y: Its centre, in pixels.
        radius: Of the circle around it, in pixels.
        angle: In radians.
        colour: RGB.
        second: RGB of the second colour of its fill.
        fill: "flat", "gradient" or "stripes".
        edge: RGB of its outline; None: no outline.
        speed: (x, y), in pixels per frame.
        spin: In radians per frame.
    """

    label: int
    x: float
    y: float
    radius: float
    angle: float = 0.0
    colour: Colour = (220, 60, 40)
    second: Colour = (150, 30, 20)
    fill: str = "flat"
    edge: Colour | None = None
    speed: tuple[float, float] = (0.0, 0.0)
    spin: float = 0.0

    def contours(self) -> list[NDArray[np.float32]]:
        """Its closed contours, each float32 [corners, 2]: x, y in pixels; a ring has two."""
        cos, sin = math.cos(self.angle) * self.radius, math.sin(self.angle) * self.radius
        turn = np.array([[cos, sin], [-sin, cos]], np.float32)
        centre = np.array([self.x, self.y], np.float32)
        return [np.asarray(c @ turn + centre, np.float32) for c in outline(CLASSES[self.label - 1])]

    def box(self) -> NDArray[np.float32]:
        """float32 [4]: ymin, xmin, ymax, xmax in pixels, not clipped to the image."""
        corners = self.contours()[0]
        (xmin, ymin), (xmax, ymax) = corners.min(axis=0), corners.max(axis=0)
        return np.array([ymin, xmin, ymax, xmax], np.float32)


@cache
def outline(name: str) -> tuple[NDArray[np.float32], ...]:
    """The contours of a class inside the unit circle, outermost first.

    Args:
        name: One of `CLASSES`.

    Returns:
        float32 [corners, 2] each: x, y.
    """
    if name == "circle":
        return (_arc(1.0, 0.0, math.tau),)
    if name == "ring":
        return (_arc(1.0, 0.0, math.tau), _arc(0.58, 0.0, math.tau))
    if name == "square":
        return (_polar([1.0] * 4),)
    if name == "triangle":
        return (_polar([1.0] * 3),)
    if name == "star":
        return (_polar([1.0, 0.42] * 5),)
    if name == "cross":
        a, b = 0.3, 0.95
        corners = [(a, b), (a, a), (b, a), (b, -a), (a, -a), (a, -b), (-a, -b), (-a, -a), (-b, -a), (-b, a), (-a, a), (-a, b)]
        return (_unit(np.array(corners)),)
    if name == "heart":
        t = np.linspace(0, math.tau, 48, endpoint=False)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return (_unit(np.stack([16 * np.sin(t) ** 3, -y], axis=1)),)
    if name == "moon":  # the circle, less a circle of radius 0.8 around x = 0.45
        outer, inner = math.atan2(0.7806, 0.625), math.atan2(0.7806, 0.175)
        bite = _arc(0.8, math.tau - inner, inner) + np.array([0.45, 0.0], np.float32)
        return (_unit(np.concatenate([_arc(1.0, outer, math.tau - outer), bite])),)
    raise ValueError(f"no shape {name!r}; there are {', '.join(CLASSES)}")


def _arc(radius: float, start: float, stop: float) -> NDArray[np.float32]:
    angles = np.linspace(start, stop, 48)
    return np.asarray(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), np.float32)


def _polar(radii: Sequence[float]) -> NDArray[np.float32]:
    angles = np.arange(len(radii)) * (math.tau / len(radii)) - math.pi / 2
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None], np.float32)


def _unit(corners: NDArray[np.floating]) -> NDArray[np.float32]:
    corners = corners - (corners.min(axis=0) + corners.max(axis=0)) / 2
    return np.asarray(corners / np.hypot(corners[:, 0], corners[:, 1]).max(), np.float32)


def draw_shape(image: NDArray[np.uint8], shape: Shape) -> NDArray[np.float32]:
    """Paint a shape into an image, with antialiasing.

    Args:
        image: uint8 [height, width, 3], RGB; painted into.
        shape: The shape.

    Returns:
        Its box, as `Shape.box`.
    """
    cv2 = import_cv2()
    box = shape.box()
    height, width = image.shape[:2]
    top, left = max(0, int(box[0]) - 2), max(0, int(box[1]) - 2)
    bottom, right = min(height, int(box[2]) + 3), min(width, int(box[3]) + 3)
    if top >= bottom or left >= right:
        return box
    offset = np.array([left, top], np.float32)
    corners = [np.rint((c - offset) * (1 << _FRACTION)).astype(np.int32) for c in shape.contours()]
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, corners, 255, lineType=cv2.LINE_AA, shift=_FRACTION)
    part = image[top:bottom, left:right]
    share = mask[:, :, None].astype(np.float32) / 255
    image[top:bottom, left:right] = np.rint(part + (_paint(shape, offset, *mask.shape) - part) * share).astype(np.uint8)
    if shape.edge is not None:
        thick = max(1, round(shape.radius / 14))
        cv2.polylines(image[top:bottom, left:right], corners, True, shape.edge, thick, lineType=cv2.LINE_AA, shift=_FRACTION)
    return box


def _paint(shape: Shape, offset: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The fill of a shape from `offset` (x, y) on: float32, broadcasting to [height, width, 3]."""
    one, two = np.array(shape.colour, np.float32), np.array(shape.second, np.float32)
    if shape.fill == "flat":
        return one
    x = np.arange(width, dtype=np.float32) + (offset[0] - shape.x)
    y = np.arange(height, dtype=np.float32)[:, None] + (offset[1] - shape.y)
    along = (x * math.cos(shape.angle) + y * math.sin(shape.angle)) / shape.radius  # -1 … 1
    share = 0.5 + 0.5 * np.sin(along * 9) if shape.fill == "stripes" else np.clip(along / 2 + 0.5, 0, 1)
    return np.asarray(one + (two - one) * share[:, :, None], np.float32)


class Scene:
    """Shapes that move over a still background.

    Args:
        still: The background: uint8 [height, width, 3], RGB.
        shapes: In the order in which they are drawn, the last on top.
    """

    def __init__(self, still: NDArray[np.uint8], shapes: Sequence[Shape]) -> None:
        self.still, self.shapes = still, list(shapes)

    @classmethod
    def random(
        cls, rng: Generator, *, width: int, height: int, count: int, sizes: tuple[float, float] = (0.16, 0.64), speed: float = 2.0
    ) -> Scene:
        """Draw a random scene.

        Args:
            rng: Decides everything.
            width: In pixels.
            height: In pixels.
            count: The most shapes.
            sizes: Smallest and largest diameter, as a share of √(width · height).
            speed: The fastest movement of a shape, in pixels per frame.
        """
        still = background(rng, height, width)
        shapes: list[Shape] = []
        for _ in range(8 * count):
            if len(shapes) < count and (shape := _random_shape(rng, still, shapes, sizes, speed)) is not None:
                shapes.append(shape)
        return cls(still, shapes)

    def frame(self) -> Frame:
        """The current image, with its true boxes and labels."""
        image = self.still.copy()
        height, width = image.shape[:2]
        boxes = [draw_shape(image, shape) for shape in self.shapes]
        scale = np.array([height, width, height, width], np.float32)
        normal = np.clip(np.array(boxes, np.float32).reshape(-1, 4) / scale, 0, 1).astype(np.float32)
        return image, normal, np.array([s.label for s in self.shapes], np.int64)

    def step(self) -> None:
        """Move every shape by one frame; it turns back at the border of the image."""
        height, width = self.still.shape[:2]
        self.shapes = [_moved(s, height, width) for s in self.shapes]

    def frames(self, count: int) -> Iterator[Frame]:
        """Yield `count` frames, one step apart."""
        for _ in range(count):
            yield self.frame()
            self.step()


def _moved(shape: Shape, height: int, width: int) -> Shape:
    dx, dy = shape.speed
    low, right, bottom = shape.radius * 0.9, width - shape.radius * 0.9, height - shape.radius * 0.9
    dx = abs(dx) if shape.x < low else -abs(dx) if shape.x > right else dx
    dy = abs(dy) if shape.y < low else -abs(dy) if shape.y > bottom else dy
    return replace(shape, x=shape.x + dx, y=shape.y + dy, angle=shape.angle + shape.spin, speed=(dx, dy))


def _random_shape(
    rng: Generator, still: NDArray[np.uint8], others: Sequence[Shape], sizes: tuple[float, float], speed: float
) -> Shape | None:
    """A shape that contrasts with the background and hardly covers others, or None: try again."""
    height, width = still.shape[:2]
    low, high = sizes
    radius = low * (high / low) ** rng.random() * math.sqrt(width * height) / 2
    radius = min(radius, 0.48 * min(width, height))
    x, y = (rng.uniform(radius * 0.8, side - radius * 0.8) for side in (width, height))
    if any(_overlap(x, y, radius, other) > _OVERLAP for other in others):
        return None
    near = still[max(0, int(y - radius)) : int(y + radius) : 4, max(0, int(x - radius)) : int(x + radius) : 4]
    colour, second = _colour(rng), _colour(rng)
    if math.dist(colour, near.reshape(-1, 3).mean(axis=0)) < 100:
        return None
    fill = _FILLS[rng.integers(len(_FILLS))]
    if fill != "flat":  # the second colour is near the first, so that the shape remains one object
        second = _between(colour, second, 0.45)
    edge = None if rng.random() < 0.6 else _between(colour, (0, 0, 0) if rng.random() < 0.7 else (255, 255, 255), 0.8)
    towards = rng.uniform(0, math.tau)
    pace = rng.uniform(0.4, 1.0) * speed
    return Shape(
        label=int(rng.integers(len(CLASSES))) + 1,
        x=float(x),
        y=float(y),
        radius=float(radius),
        angle=float(rng.uniform(0, math.tau)),
        colour=colour,
        second=second,
        fill=fill,
        edge=edge,
        speed=(math.cos(towards) * pace, math.sin(towards) * pace),
        spin=float(rng.uniform(-0.03, 0.03)),
    )


def _colour(rng: Generator) -> Colour:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _between(one: Colour, two: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, two, strict=True))
    return red, green, blue


def _overlap(x: float, y: float, radius: float, other: Shape) -> float:
    """The share of the smaller shape's square that the other's square covers, 0 … 1."""
    reach, smaller = radius + other.radius, 2 * min(radius, other.radius)
    wide, high = (max(0.0, min(smaller, reach - abs(d))) for d in (x - other.x, y - other.y))
    return wide * high / smaller**2
