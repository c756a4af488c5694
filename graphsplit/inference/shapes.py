"""Shapes of border tensors: read from the file if it states them, else inferred on a skeleton of the graph.

TensorFlow evaluates constants for that, so it does it in a child process, see `graphsplit.isolation.shared`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from graphsplit.errors import FormatError
from graphsplit.formats import Model, as_graphdef
from graphsplit.graph.index import Shape, TensorSpec
from graphsplit.inference.adapters import runtime_of
from graphsplit.isolation.failures import ChildError

__all__ = ["Sizes", "frame_bytes", "infer"]

# Two batch sizes: sizes that both agree on do not depend on the batch, the others stay unknown. Inference with an unknown
# batch stops at every Reshape to [batch, -1, n], which would lose the number of anchors. These two differ in all that a
# graph may compute from a batch: half of it, its remainder, its minimum or maximum with a constant.
_BATCHES = (1, 60)

_UNKNOWN_BYTES = 4096  # of a tensor whose shape nobody knows
_GUESS = 64  # for a size that depends on the image
_DEADLINE = 60.0  # seconds, and another one for each thousand of nodes; TensorFlow takes five for a hundred thousand
_UNKNOWN = "(shapes=False leaves the shapes of border tensors unknown)"


def infer(model: Model, tensors: Iterable[str], *, isolate: bool = True) -> dict[str, TensorSpec]:
    """The specs of some tensors, with shapes as far as they can be known without running the model.

    TensorFlow is needed only if the file does not state a shape. Only a skeleton of the graph is imported into it, without
    any op that reaches outside, so this needs no trust.

    Args:
        model: The model.
        tensors: Names of its tensors.
        isolate: Whether TensorFlow does it in a child process; False: in this one.

    Raises:
        FormatError: TensorFlow refuses the graph, or crashes on it, or takes too much time or memory.
    """
    specs = {t: model.index.tensors[t] for t in tensors}
    unknown = [
        t for t, s in specs.items() if s.shape is None and model.index.name_to_node_map[model.index.producer[t]].kind == "op"
    ]
    if not unknown or runtime_of(model).states_shapes:
        return specs
    shapes = _batched(model, unknown, isolate)
    if shapes is None:
        shapes = _once(model, unknown, None, isolate)
    for tensor, (dtype, shape) in shapes.items():
        specs[tensor] = TensorSpec(tensor, specs[tensor].dtype or dtype, shape)
    return specs


class _Died(FormatError):
    """TensorFlow did not survive a graph, so it is not asked again."""


def _once(model: Model, tensors: list[str], batch: int | None, isolate: bool) -> dict[str, tuple[str, Shape | None]]:
    skeleton, names = as_graphdef(model, "the inference of shapes").skeleton(tensors, batch)
    try:
        if isolate:
            specs = _infer_apart(skeleton, list(names.values()), _DEADLINE + len(model.index.nodes) / 1000)
        else:
            specs = _infer_here(skeleton, list(names.values()))
    except ChildError as error:
        raise _Died(f"inferring shapes {error} {_UNKNOWN}", path=model.path) from error
    except FormatError as error:
        raise FormatError(f"{error} {_UNKNOWN}", path=model.path) from error
    return {t: specs[name] for t, name in names.items()}


def _infer_here(skeleton: bytes, tensors: list[str]) -> dict[str, tuple[str, Shape | None]]:
    from graphsplit.runtimes.tensorflow import infer_shapes

    return infer_shapes(skeleton, tensors)


def _infer_apart(skeleton: bytes, tensors: list[str], deadline: float) -> dict[str, tuple[str, Shape | None]]:
    from graphsplit.inference.tasks import infer as task
    from graphsplit.isolation.shared import call  # imports NumPy, which --help does not need

    answer, _ = call(task, tensors, [[skeleton]], deadline=deadline)
    if not isinstance(answer.value, dict) or not answer.value.keys() >= set(tensors):
        raise ChildError("sent what is not an answer")
    return {t: _spec(answer.value[t]) for t in tensors}


def _spec(entry: object) -> tuple[str, Shape | None]:
    """Dtype and shape from JSON."""
    dtype, shape = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
    if isinstance(dtype, str) and shape is None:
        return dtype, None
    if isinstance(dtype, str) and isinstance(shape, list) and all(d is None or type(d) is int for d in shape):
        return dtype, tuple(shape)
    raise ChildError("sent what is not an answer")


def _batched(model: Model, tensors: list[str], isolate: bool) -> dict[str, tuple[str, Shape | None]] | None:
    """Shapes that two batch sizes agree on; None for a graph whose batch size is fixed."""
    try:
        one, two = (_once(model, tensors, batch, isolate) for batch in _BATCHES)
    except _Died:
        raise
    except FormatError:
        return None
    return {t: (dtype, _common(shape, two[t][1])) for t, (dtype, shape) in one.items()}


def _common(one: Shape | None, two: Shape | None) -> Shape | None:
    if one is None or two is None or len(one) != len(two):
        return None
    return tuple(a if a == b else None for a, b in zip(one, two, strict=True))


def frame_bytes(model: Model, *, isolate: bool = True) -> dict[str, int]:
    """Bytes of each tensor for one frame (a batch of 1), for choosing a cut.

    Args:
        model: The model.
        isolate: Whether TensorFlow infers shapes in a child process; False: in this one.

    Returns:
        Tensor → bytes. Unknown sizes are counted as 64; tensors of unknown rank or dtype are omitted. Empty for a graph that
        TensorFlow refuses.

    Raises:
        FormatError: TensorFlow crashes on the graph, or takes too much time or memory.
    """
    index = model.index
    tensors = [t for n in index.nodes if n.kind != "const" for t in n.outputs if t not in index.captive]
    if runtime_of(model).states_shapes:
        specs = [index.tensors[t].frame() for t in tensors]
    else:
        try:
            specs = [TensorSpec(t, dtype, shape) for t, (dtype, shape) in _once(model, tensors, 1, isolate).items()]
        except _Died:
            raise
        except FormatError:
            return {}
    return {spec.name: size for spec in specs if (size := _guessed(spec).nbytes) is not None}


class Sizes:
    """Bytes of the tensors of a model for one frame; inferred when the first of them is asked for.

    Args:
        model: The model.
        shapes: Whether to infer what the file does not state; without, all tensors count the same.
        isolate: Whether TensorFlow does it in a child process; False: in this one.
    """

    def __init__(self, model: Model, *, shapes: bool = True, isolate: bool = True) -> None:
        self._model, self.shapes, self.isolate = model, shapes, isolate

    @cached_property
    def known(self) -> dict[str, int]:
        """Tensor → bytes, as of `frame_bytes`; empty without `shapes`. Raises FormatError as that does."""
        return frame_bytes(self._model, isolate=self.isolate) if self.shapes else {}

    def __call__(self, tensor: str) -> int:
        """Bytes of a tensor; 4096 if they are unknown, also because TensorFlow does not survive the graph."""
        try:
            return self.known.get(tensor, _UNKNOWN_BYTES)
        except FormatError:
            self.known = {}  # once is enough
            return _UNKNOWN_BYTES


def _guessed(spec: TensorSpec) -> TensorSpec:
    """The same tensor with a guess for every unknown dimension."""
    shape = None if spec.shape is None else tuple(_GUESS if d is None else d for d in spec.shape)
    return TensorSpec(spec.name, spec.dtype, shape)
