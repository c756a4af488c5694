"""Shapes of border tensors: read from the file if it states them, else inferred on a skeleton of the graph.

TensorFlow evaluates constants for that, so it does it in a child process, see `graphsplit.isolation.shared`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Union

from graphsplit.errors import FeedError, FormatError
from graphsplit.formats import Model, as_graphdef
from graphsplit.graph.index import Shape, TensorSpec
from graphsplit.graph.text import shape_text
from graphsplit.inference.adapters import runtime_of
from graphsplit.isolation.failures import ChildError

__all__ = ["Shapes", "Sizes", "frame_bytes", "infer", "refusal", "stated_shapes"]

# Two batch sizes: sizes that both agree on do not depend on the batch, the others stay unknown. Inference with an unknown
# batch stops at every Reshape to [batch, -1, n], which would lose the number of anchors. These two differ in all that a
# graph may compute from a batch: half of it, its remainder, its minimum or maximum with a constant.
_BATCHES = (1, 60)

_UNKNOWN_BYTES = 4096  # of a tensor whose shape nobody knows
_GUESS = 64  # for a size that depends on the image
_DEADLINE = 25.0  # seconds, and another one for each thousand of nodes; TensorFlow takes five for a hundred thousand
_UNKNOWN = "(shapes=False leaves the shapes of border tensors unknown)"


#: Whether shapes are inferred, or the shapes of inputs that the file does not state: input → sizes, None in them: unknown.
Shapes = Union[bool, Mapping[str, Sequence[Union[int, None]]]]  # noqa: UP007  # evaluated at run time


def infer(model: Model, tensors: Iterable[str], *, shapes: Shapes = True, isolate: bool = True) -> dict[str, TensorSpec]:
    """The specs of some tensors, with shapes as far as they can be known without running the model.

    TensorFlow is needed only if the file does not state a shape. Only a skeleton of the graph is imported into it, without
    any op that reaches outside, so this needs no trust.

    Args:
        model: The model.
        tensors: Names of its tensors.
        shapes: Shapes of inputs that the file does not state.
        isolate: Whether TensorFlow does it in a child process; False: in this one.

    Raises:
        FormatError: TensorFlow refuses the graph, or crashes on it, or takes too much time or memory.
    """
    specs = {t: model.index.tensors[t] for t in tensors}
    stated = stated_shapes(model, shapes)
    unknown = [
        t
        for t, s in specs.items()
        if (s.shape is None or (stated and None in s.shape)) and model.index.name_to_node_map[model.index.producer[t]].kind == "op"
    ]
    if not unknown or runtime_of(model).states_shapes:
        return specs
    inferred = _batched(model, unknown, stated, isolate)
    if inferred is None:
        inferred = _once(model, unknown, None, stated, isolate)
    for tensor, (dtype, shape) in inferred.items():
        specs[tensor] = TensorSpec(tensor, specs[tensor].dtype or dtype, shape)
    return specs


class _Died(FormatError):
    """TensorFlow did not survive a graph, so it is not asked again."""


def stated_shapes(model: Model, shapes: Shapes) -> dict[str, Shape]:
    """Shapes that somebody stated, by the full names of their inputs.

    Raises:
        FeedError: An unknown input, or a shape that contradicts the file.
    """
    if isinstance(shapes, bool):
        return {}
    specs = {s.name: s for s in model.inputs}
    stated: dict[str, Shape] = {}
    wrong = []
    for written, shape in shapes.items():
        name = written if written in specs else f"{written}:0"
        if name not in specs:
            close = difflib.get_close_matches(written, [n.removesuffix(":0") for n in specs], n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(specs) or 'none'}"
            wrong.append(f"no input {written!r}; {hint}")
            continue
        held, dims = specs[name].shape, tuple(shape)
        if held is not None and (
            len(held) != len(dims) or any(a not in (None, b) and b is not None for a, b in zip(held, dims, strict=True))
        ):
            wrong.append(f"{name!r} has shape {shape_text(held)} in the file, which {shape_text(dims)} contradicts")
        stated[name] = dims
    if wrong:
        raise FeedError(wrong)
    return stated


def _once(
    model: Model, tensors: list[str], batch: int | None, stated: Mapping[str, Shape], isolate: bool
) -> dict[str, tuple[str, Shape | None]]:
    skeleton, names = as_graphdef(model, "the inference of shapes").skeleton(tensors, batch, stated)
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


def refusal(model: Model, outputs: Sequence[str], shapes: Mapping[str, Shape]) -> str:
    """Why TensorFlow refuses inputs of some shapes; empty if it does not, or cannot say.

    Args:
        model: The model.
        outputs: What is computed.
        shapes: Input → its shape.
    """
    if runtime_of(model).states_shapes:
        return ""
    try:
        _once(model, list(outputs), None, shapes, isolate=True)
    except _Died:
        return ""
    except FormatError as error:
        return str(error).removesuffix(f" {_UNKNOWN}")
    return ""


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


def _batched(
    model: Model, tensors: list[str], stated: Mapping[str, Shape], isolate: bool
) -> dict[str, tuple[str, Shape | None]] | None:
    """Shapes that two batch sizes agree on; None for a graph whose batch size is fixed."""
    try:
        one, two = (_once(model, tensors, batch, stated, isolate) for batch in _BATCHES)
    except _Died:
        raise
    except FormatError:
        return None
    return {t: (dtype, _common(shape, two[t][1])) for t, (dtype, shape) in one.items()}


def _common(one: Shape | None, two: Shape | None) -> Shape | None:
    if one is None or two is None or len(one) != len(two):
        return None
    # Nothing of something (no frame of a sound that is too short) is not what is left of another size.
    return tuple(a if a == b and a else None for a, b in zip(one, two, strict=True))


def frame_bytes(
    model: Model, *, shapes: Shapes = True, isolate: bool = True, outputs: Sequence[str] | None = None
) -> dict[str, int]:
    """Bytes of each tensor for one frame (a batch of 1), for choosing a cut.

    Args:
        model: The model.
        shapes: Shapes of inputs that the file does not state.
        isolate: Whether TensorFlow infers shapes in a child process; False: in this one.
        outputs: Only the tensors that these need; None: all.

    Returns:
        Tensor → bytes. Unknown sizes are counted as 64; tensors of unknown rank or dtype are omitted. Empty for a graph that
        TensorFlow refuses.

    Raises:
        FormatError: TensorFlow crashes on the graph, or takes too much time or memory.
    """
    index = model.index
    needed = index.name_to_node_map.keys() if outputs is None else index.ancestors(index.producer[t] for t in outputs)
    nodes = (n for n in index.nodes if n.kind != "const" and n.name in needed)
    tensors = [t for n in nodes for t in n.outputs if t not in index.captive]
    if runtime_of(model).states_shapes:
        specs = [index.tensors[t].frame() for t in tensors]
    else:
        try:
            specs = [
                TensorSpec(t, dtype, shape)
                for t, (dtype, shape) in _once(model, tensors, 1, stated_shapes(model, shapes), isolate).items()
            ]
        except _Died:
            raise
        except FormatError:
            return {}
    return {spec.name: size for spec in specs if (size := _guessed(spec).nbytes) is not None}


class Sizes:
    """Bytes of the tensors of a model for one frame; inferred when the first of them is asked for.

    Args:
        model: The model.
        shapes: Whether to infer what the file does not state; without, all tensors count the same. Or shapes of inputs.
        isolate: Whether TensorFlow does it in a child process; False: in this one.
        outputs: Only the tensors that these need; None: all.
    """

    def __init__(self, model: Model, *, shapes: Shapes = True, isolate: bool = True, outputs: Sequence[str] | None = None) -> None:
        self._model, self.shapes, self.isolate, self._outputs = model, shapes, isolate, outputs

    @cached_property
    def known(self) -> dict[str, int]:
        """Tensor → bytes, as of `frame_bytes`; empty without `shapes`. Raises FormatError as that does."""
        if self.shapes is False:
            return {}
        return frame_bytes(self._model, shapes=self.shapes, isolate=self.isolate, outputs=self._outputs)

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
