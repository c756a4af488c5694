"""The data of the demo: a small trained detector of coloured shapes, its labels, and the drawing of such shapes.

    shapes_ssd.pb   an SSD MobileNetV1 as exported by the Object Detection API, trained by models/shapes/train.py
    labels.txt      one class per line: id, space, name
    shapes.py       the shapes, and scenes in which they move
    backgrounds.py  backgrounds

Importing it imports nothing else of this package.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

__all__ = ["labels", "model"]


def model() -> Traversable:
    """The frozen graph. `importlib.resources.as_file` turns it into a path."""
    return files(__name__) / "shapes_ssd.pb"


def labels() -> dict[int, str]:
    """Class id as in `detection_classes`, 1 … 8, → name."""
    lines = (files(__name__) / "labels.txt").read_text("utf-8").splitlines()
    return {int(number): name for number, _, name in (line.partition(" ") for line in lines)}
