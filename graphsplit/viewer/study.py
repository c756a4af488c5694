"""What takes seconds to find out about a model: cuts to suggest, and the estimated cost of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from graphsplit.formats import Model
from graphsplit.graph.text import bytes_text
from graphsplit.inference.shapes import frame_bytes
from graphsplit.planning.cost import estimate
from graphsplit.splitting.suggestions import Suggestion, suggest
from graphsplit.viewer.tensors import tensor_json

__all__ = ["Study", "examine"]


@dataclass(frozen=True, slots=True)
class Study:
    """Suggested cuts as the page shows them, and costs.

    Attributes:
        answer: ``cuts``, best first, and ``reason``: why there are none, or why the first one is there.
        costs: Node → arithmetic operations per frame.
    """

    answer: dict[str, object]
    costs: dict[str, int]


def examine(model: Model) -> Study:
    """Suggest cuts and estimate costs. Nothing is run.

    Raises:
        FormatError: TensorFlow refuses the graph.
    """
    suggestions = suggest(model)
    answer: dict[str, object] = {"cuts": [_cut_json(cut) for cut in suggestions], "reason": suggestions.reason}
    return Study(answer, estimate(model.index, frame_bytes(model)))


def _cut_json(cut: Suggestion) -> dict[str, object]:
    return {
        "source": cut.source,
        "name": cut.name,
        "inputs": list(cut.inputs),
        "outputs": [tensor_json(o) for o in cut.outputs],
        "added": list(cut.added),
        "bytes_text": bytes_text(cut.nbytes),
        "nodes": cut.nodes,
        "reason": cut.reason,
    }
