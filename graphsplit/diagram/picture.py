"""A picture of a plan: drawn, shown in a notebook, saved as SVG, PNG or a page for a report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from graphsplit.diagram.svg import render
from graphsplit.diagram.view import Scene, scene_of
from graphsplit.errors import FormatError, MissingExtraError, OverwriteError
from graphsplit.formats import Model
from graphsplit.formats.atomic import whole_file
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.shapes import infer
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan

__all__ = ["Picture", "draw", "free_to_write"]

_SCALE = 2  # pixels of a PNG for one of the SVG


@dataclass(frozen=True)
class Picture:
    """A picture as SVG. A notebook shows it."""

    scene: Scene
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def png(self) -> bytes:
        """The picture as PNG, twice as large as the SVG says. Raises MissingExtraError without resvg (extra `view`)."""
        try:
            import resvg_py
        except ImportError as error:
            raise MissingExtraError("resvg, which makes the PNG,", extra="view") from error
        return bytes(resvg_py.svg_to_bytes(svg_string=self.svg, zoom=_SCALE))

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the picture: ``.svg``, ``.png``, or ``.html`` (a page with tables of sections and borders), by the file's suffix.

        Raises OverwriteError when the file is there and `overwrite` is not set, FormatError for another suffix.
        """
        where = Path(path)
        suffix = where.suffix.lower()
        if suffix not in (".svg", ".png", ".html", ".htm"):
            raise FormatError("a picture is written as .svg, .png or .html; name the file so", path=where)
        free_to_write(where, overwrite=overwrite)
        if suffix == ".png":
            data = self.png()
        elif suffix == ".svg":
            data = self.svg.encode()
        else:
            from graphsplit.diagram.page import page_of

            data = page_of(self).encode()
        with whole_file(where) as file:
            file.write(data)
        return where


def free_to_write(path: Path, *, overwrite: bool = False) -> None:
    """Refuse to write over what is there. Raises OverwriteError."""
    if os.path.lexists(path) and (not overwrite or path.is_dir()):
        raise OverwriteError(f"{path} exists already; name another file, or move it away", paths=[path])


def draw(
    what: Plan | Parts | Model,
    *,
    model: Model | None = None,
    shapes: bool = True,
    specs: Mapping[str, TensorSpec] | None = None,
) -> Picture:
    """A picture of a plan, of parts, or of a whole model: sections as boxes, name scopes as nodes, border tensors with
    dtype, shape and bytes a frame.

    model   of a plan that was made of a bare index
    shapes  whether to infer shapes that the file does not state (imports TensorFlow); of parts they are known already
    specs   what is known of the tensors that cross, where that has been inferred before

    Nothing is run. Shapes of a graph that TensorFlow refuses stay unknown.
    """
    scene = scene_of(what, specs or {}, model=model)
    known = model if model is not None else what.model if isinstance(what, Plan) else None if isinstance(what, Parts) else what
    if shapes and specs is None and known is not None:
        try:
            specs = infer(known, dict.fromkeys((*scene.inputs, *scene.borders, *scene.outputs)))
        except FormatError:
            return Picture(scene, render(scene))
        scene = scene_of(what, specs, model=model)
    return Picture(scene, render(scene))
