"""A picture of a model, a plan or parts: drawn, shown in a notebook, saved as SVG, PNG or HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from graphsplit.diagram.svg import render
from graphsplit.diagram.view import Scene, plan_scene, scene_of
from graphsplit.errors import CutError, FormatError, MissingExtraError
from graphsplit.formats import Model, ModelLike
from graphsplit.formats.atomic import check_free, whole_file
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.options import hinted
from graphsplit.inference.shapes import infer
from graphsplit.parts.parts import Part, Parts
from graphsplit.planning.fingerprint import check_belongs
from graphsplit.planning.plan import Plan
from graphsplit.rewrites.opening import open_model_or_parts

__all__ = ["Drawable", "Picture", "draw"]

Drawable: TypeAlias = "Model | Plan | Parts | Part"

_TOGETHER = "only a plan and the model that it divides are drawn together: draw(model, plan)"
_SCALE = 2  # pixels of a PNG for one of the SVG


@dataclass(frozen=True)
class Picture:
    """A picture. A notebook shows it.

    Attributes:
        scene: What is drawn.
        svg: The picture as SVG, without script and without references.
    """

    scene: Scene
    svg: str

    def __repr__(self) -> str:
        return f"Picture({self.scene.title!r}, {len(self.scene.blocks)} sections, {len(self.svg):,} characters of SVG)"

    def _repr_svg_(self) -> str:
        return self.svg

    def png(self) -> bytes:
        """The picture as PNG, at twice the size that the SVG states.

        Raises:
            MissingExtraError: resvg (extra ``view``) is not installed.
        """
        try:
            import resvg_py
        except ImportError as error:
            raise MissingExtraError("resvg, which makes the PNG,", extra="view") from error
        return bytes(resvg_py.svg_to_bytes(svg_string=self.svg, zoom=_SCALE))

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the picture to a file, whole or not at all.

        Args:
            path: The file; its suffix says the format: ``.svg``, ``.png``, or ``.html`` (a page with tables of sections and
                borders).
            overwrite: Replace an existing file.

        Returns:
            The path of the file.

        Raises:
            FormatError: The suffix is another one.
            OverwriteError: The file exists and `overwrite` is not set.
            MissingExtraError: resvg (extra ``view``), which writes PNG, is not installed.
        """
        where = Path(path)
        suffix = where.suffix.lower()
        if suffix not in (".svg", ".png", ".html", ".htm"):
            raise FormatError("a picture is written as .svg, .png or .html; use one of these suffixes", path=where)
        check_free([where], overwrite=overwrite)
        if suffix == ".png":
            data = self.png()
        elif suffix == ".svg":
            data = self.svg.encode()
        else:
            from graphsplit.diagram.page import page_of

            data = page_of(self).encode()
        with whole_file(where, overwrite=overwrite) as file:
            file.write(data)
        return where


@hinted
def draw(
    what: ModelLike | Plan | Parts | Part,
    plan: Plan | None = None,
    *,
    model: ModelLike | None = None,
    shapes: bool = True,
    specs: Mapping[str, TensorSpec] | None = None,
    trust: bool = False,
) -> Picture:
    """Draw a model, a plan or parts: sections as boxes, name scopes as nodes, border tensors with dtype, shape and bytes per frame.

    A plan holds names only: ``draw(plan)`` has one box per section, ``draw(model, plan)`` shows what is inside.

        gs.draw("frozen_inference_graph.pb")        # the whole model
        gs.draw(model, gs.plan(model)).save("plan.svg")
        gs.draw("out")                              # the sections of a split, from its folder

    Args:
        what: A model (or anything that `graphsplit.load` takes), a plan, parts (or the folder of a split), or one part.
        plan: Plan of the model `what`.
        model: Model of the plan `what`: ``draw(plan, model=model)`` is ``draw(model, plan)``.
        shapes: Infer shapes that the file does not state (imports TensorFlow). Parts state theirs; a graph that TensorFlow
            refuses is drawn without.
        specs: Dtypes and shapes of the tensors that enter or leave sections, if they are known already; nothing is inferred then.
        trust: Load a SavedModel that reaches files, the network or Python, which runs parts of it.

    Returns:
        The picture. A notebook shows it; `Picture.save` writes it.

    Raises:
        CutError: A plan is passed with anything but a model, or with another model than its own.
        FormatError, TrustError: The model cannot be loaded.
    """
    if isinstance(what, Plan) and plan is None:
        whole = None if model is None else _whole(model, trust)
        scene = partial(plan_scene, what, whole)
    elif plan is not None and model is None:
        whole = _whole(what, trust)
        scene = partial(plan_scene, plan, whole)
    elif model is None and not isinstance(what, Plan):
        opened = what if isinstance(what, Part) else open_model_or_parts(what, trust=trust)
        whole = None if isinstance(opened, (Parts, Part)) else opened
        scene = partial(scene_of, opened)
    else:
        raise CutError(_TOGETHER)
    drawn_plan = what if isinstance(what, Plan) else plan
    if drawn_plan is not None and whole is not None:
        check_belongs(whole.index, drawn_plan)
    drawn = scene(specs or {})
    if shapes and specs is None and whole is not None:
        with suppress(FormatError):  # a graph that TensorFlow refuses
            drawn = scene(infer(whole, dict.fromkeys((*drawn.inputs, *drawn.borders, *drawn.outputs))))
    return Picture(drawn, render(drawn))


def _whole(what: ModelLike | Plan | Parts | Part, trust: bool) -> Model:
    """The model that a plan divides. Raises CutError for a plan or parts."""
    opened = what if isinstance(what, (Plan, Part)) else open_model_or_parts(what, trust=trust)
    if isinstance(opened, (Plan, Parts, Part)):
        raise CutError(_TOGETHER)
    return opened
