"""Shapes of border tensors: read from the file where it states them, else inferred on a skeleton of the graph."""

from __future__ import annotations

from collections.abc import Iterable

from graphsplit.errors import FormatError
from graphsplit.formats import Model, as_graphdef
from graphsplit.graph.index import Shape, TensorSpec

__all__ = ["frame_bytes", "infer"]

# Two batch sizes: what is the same for both does not depend on the batch, what differs stays unknown. Inference with an
# unknown batch stops at every Reshape to [batch, -1, n], and with it the number of anchors would be lost. These two
# differ in all that a graph may make of a batch: half of it, its remainder, the smaller or larger of it and a constant.
_BATCHES = (1, 60)

_GUESS = 64  # for a size that nobody knows before an image comes


def infer(model: Model, tensors: Iterable[str]) -> dict[str, TensorSpec]:
    """The specs of some tensors, with shapes as far as they can be known without running the model.

    Imports TensorFlow only when the file leaves a shape open. Raises FormatError for a graph that TensorFlow refuses.
    """
    specs = {t: model.index.tensors[t] for t in tensors}
    open_ones = [
        t for t, s in specs.items() if s.shape is None and model.index.name_to_node_map[model.index.producer[t]].kind == "op"
    ]
    if not open_ones or model.section_format != "graphdef":  # other formats state what they know
        return specs
    shapes = _batched(model, open_ones)
    if shapes is None:
        shapes = _once(model, open_ones, None)
    for tensor, (dtype, shape) in shapes.items():
        specs[tensor] = TensorSpec(tensor, specs[tensor].dtype or dtype, shape)
    return specs


def _once(model: Model, tensors: list[str], batch: int | None) -> dict[str, tuple[str, Shape | None]]:
    from graphsplit.runtimes.tensorflow import infer_shapes

    skeleton, names = as_graphdef(model, "the inference of shapes").skeleton(tensors, batch)
    try:
        found = infer_shapes(skeleton, list(names.values()))
    except FormatError as error:
        raise FormatError(f"{error} (--no-shapes leaves the shapes of border tensors open)", path=model.path) from error
    return {t: found[name] for t, name in names.items()}


def _batched(model: Model, tensors: list[str]) -> dict[str, tuple[str, Shape | None]] | None:
    """Shapes that two batch sizes agree on; None for a graph that does not take any batch size."""
    try:
        one, two = (_once(model, tensors, batch) for batch in _BATCHES)
    except FormatError:
        return None
    return {t: (dtype, _common(shape, two[t][1])) for t, (dtype, shape) in one.items()}


def _common(one: Shape | None, two: Shape | None) -> Shape | None:
    if one is None or two is None or len(one) != len(two):
        return None
    return tuple(a if a == b else None for a, b in zip(one, two, strict=True))


def frame_bytes(model: Model) -> dict[str, int]:
    """Bytes of each tensor for one frame (a batch of 1), as far as the file or TensorFlow can tell them; for choosing a cut.

    Sizes that stay unknown are counted as 64, tensors of unknown rank or dtype are left out. An empty answer for a graph that
    TensorFlow refuses.
    """
    index = model.index
    tensors = [t for n in index.nodes if n.kind != "const" for t in n.outputs if t not in index.captive]
    if model.section_format == "graphdef":
        try:
            shapes = _once(model, tensors, 1)
        except FormatError:
            return {}
    else:
        shapes = {t: (spec.dtype or "", _one_frame(spec.shape)) for t in tensors if (spec := index.tensors[t])}
    guessed = {
        t: TensorSpec(t, dtype, None if shape is None else tuple(_GUESS if d is None else d for d in shape))
        for t, (dtype, shape) in shapes.items()
    }
    return {t: spec.nbytes for t, spec in guessed.items() if spec.nbytes is not None}


def _one_frame(shape: Shape | None) -> Shape | None:
    return (1, *shape[1:]) if shape and shape[0] is None else shape
