"""The tensors of a model as the page shows them: found by parts of their names, with dtype, shape and bytes per frame."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from graphsplit.errors import FormatError
from graphsplit.formats import Model
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import spec_text
from graphsplit.inference.shapes import Shapes, infer

__all__ = ["Tensors", "tensor_json"]

_MOST = 30  # tensors in the answer to a search


class Tensors:
    """The tensors of a model, with the shapes that have been inferred so far.

    Args:
        model: The model.
        shapes: Shapes of inputs that the file does not state.
    """

    def __init__(self, model: Model, shapes: Shapes = True) -> None:
        self._model, self._shapes = model, shapes
        self._specs: dict[str, TensorSpec] = {}
        self._inferring = Lock()

    def known(self, tensor: str) -> TensorSpec:
        """What is known of a tensor without inferring anything."""
        return self._specs[tensor] if tensor in self._specs else self._model.index.tensors[tensor]

    def infer(self, tensors: Iterable[str]) -> dict[str, TensorSpec]:
        """Specs of some tensors; shapes that cannot be inferred stay unknown."""
        asked = list(tensors)
        with self._inferring:
            missing = [t for t in asked if t not in self._specs]
            if missing:
                try:
                    self._specs |= infer(self._model, missing, shapes=self._shapes)
                except FormatError:
                    self._specs |= {t: self._model.index.tensors[t] for t in missing}
        return {t: self._specs[t] for t in asked}

    def search(self, query: str) -> dict[str, object]:
        """Tensors whose names contain every word of a query, except constants and tensors that cannot be cut at.

        Returns:
            ``tensors``: the best matches; names that equal, end with or start with the first word come first. ``more``: the
            number of further matches.
        """
        words = query.strip().lower().split()
        first = words[0] if words else ""
        index = self._model.index
        matches = []
        for node in index.nodes:
            if node.kind != "op":
                continue
            for tensor in node.outputs:
                name = tensor.lower()
                if all(w in name for w in words) and not (tensor in index.captive and tensor not in index.handles):
                    plain = name.removesuffix(":0")
                    rank = (plain != first, not plain.endswith(first), not name.startswith(first), len(name))
                    matches.append((rank, tensor))
        matches.sort(key=lambda match: match[0])
        best = [tensor_json(self.known(tensor)) for _, tensor in matches[:_MOST]]
        return {"tensors": best, "more": max(0, len(matches) - _MOST)}


def tensor_json(spec: TensorSpec) -> dict[str, object]:
    """A tensor for the page; ``bytes`` is its size for one frame, null if a dimension is unknown."""
    return {
        "tensor": spec.name,
        "dtype": spec.dtype,
        "shape": None if spec.shape is None else list(spec.shape),
        "bytes": spec.frame().nbytes,
        "text": spec_text(spec),
    }
