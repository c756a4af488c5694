"""Shapes of border tensors: read from the file if it states them, else inferred on a skeleton of the graph."""

from __future__ import annotations

from collections.abc import Iterable

from graphsplit.errors import FormatError
from graphsplit.formats import Model, as_graphdef
from graphsplit.graph.index import Shape, TensorSpec
from graphsplit.inference.adapters import runtime_of

__all__ = ["frame_bytes", "infer"]

# Two batch sizes: sizes that both agree on do not depend on the batch, the others stay unknown. Inference with an unknown
# batch stops at every Reshape to [batch, -1, n], which would lose the number of anchors. These two differ in all that a
# graph may compute from a batch: half of it, its remainder, its minimum or maximum with a constant.
_BATCHES = (1, 60)

_GUESS = 64  # for a size that depends on the image


def infer(model: Model, tensors: Iterable[str]) -> dict[str, TensorSpec]:
    """The specs of some tensors, with shapes as far as they can be known without running the model.

    TensorFlow is imported only if the file does not state a shape. Only a skeleton of the graph is imported into it, without
    any op that reaches outside, so this needs no trust.

    Raises:
        FormatError: TensorFlow refuses the graph.
    """
    specs = {t: model.index.tensors[t] for t in tensors}
    unknown = [
        t for t, s in specs.items() if s.shape is None and model.index.name_to_node_map[model.index.producer[t]].kind == "op"
    ]
    if not unknown or runtime_of(model).states_shapes:
        return specs
    shapes = _batched(model, unknown)
    if shapes is None:
        shapes = _once(model, unknown, None)
    for tensor, (dtype, shape) in shapes.items():
        specs[tensor] = TensorSpec(tensor, specs[tensor].dtype or dtype, shape)
    return specs


def _once(model: Model, tensors: list[str], batch: int | None) -> dict[str, tuple[str, Shape | None]]:
    from graphsplit.runtimes.tensorflow import infer_shapes

    skeleton, names = as_graphdef(model, "the inference of shapes").skeleton(tensors, batch)
    try:
        specs = infer_shapes(skeleton, list(names.values()))
    except FormatError as error:
        raise FormatError(f"{error} (shapes=False leaves the shapes of border tensors unknown)", path=model.path) from error
    return {t: specs[name] for t, name in names.items()}


def _batched(model: Model, tensors: list[str]) -> dict[str, tuple[str, Shape | None]] | None:
    """Shapes that two batch sizes agree on; None for a graph whose batch size is fixed."""
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
    """Bytes of each tensor for one frame (a batch of 1), for choosing a cut.

    Returns:
        Tensor → bytes. Unknown sizes are counted as 64; tensors of unknown rank or dtype are omitted. Empty for a graph that
        TensorFlow refuses.
    """
    index = model.index
    tensors = [t for n in index.nodes if n.kind != "const" for t in n.outputs if t not in index.captive]
    if runtime_of(model).states_shapes:
        specs = [index.tensors[t].frame() for t in tensors]
    else:
        try:
            specs = [TensorSpec(t, dtype, shape) for t, (dtype, shape) in _once(model, tensors, 1).items()]
        except FormatError:
            return {}
    return {spec.name: size for spec in specs if (size := _guessed(spec).nbytes) is not None}


def _guessed(spec: TensorSpec) -> TensorSpec:
    """The same tensor with a guess for every unknown dimension."""
    shape = None if spec.shape is None else tuple(_GUESS if d is None else d for d in spec.shape)
    return TensorSpec(spec.name, spec.dtype, shape)
