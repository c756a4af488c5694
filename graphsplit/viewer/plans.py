"""The plans of a workbench by number, and a plan as the page shows it."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from graphsplit.diagram.colours import REFUSED, legend
from graphsplit.diagram.picture import draw
from graphsplit.errors import GraphSplitError
from graphsplit.formats import Model
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import bytes_text
from graphsplit.parts.manifest import added_json
from graphsplit.planning.plan import Plan
from graphsplit.viewer.targets import answer_json
from graphsplit.viewer.tensors import tensor_json

__all__ = ["Plans", "Shown", "plan_json"]

_KEPT = 16


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan as it is shown.

    Attributes:
        plan: The plan.
        refused: Node that the chosen target refuses → reason.
        target: Name of that target; empty: none is chosen.
    """

    plan: Plan
    refused: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


class Plans:
    """The latest plans by number. A number is a secret, because the explorer requests graphs by it alone."""

    def __init__(self) -> None:
        self._plans: OrderedDict[int, Shown] = OrderedDict()
        self._lock = Lock()

    def add(self, plan: Shown) -> int:
        """Keep a plan, and drop the oldest one if there are too many.

        Returns:
            Its number: 53 random bits, which JavaScript represents exactly.
        """
        number = secrets.randbelow(2**53 - 1) + 1
        with self._lock:
            self._plans[number] = plan
            while len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        return number

    def __getitem__(self, number: int) -> Shown:
        """The plan of a number. Raises GraphSplitError if it is unknown or has been dropped."""
        with self._lock:
            for known, plan in self._plans.items():
                if secrets.compare_digest(str(known), str(number)):
                    return plan
        raise GraphSplitError("this plan is unknown or too old; reload the page")


def plan_json(model: Model, shown: Shown, specs: Mapping[str, TensorSpec]) -> dict[str, object]:
    """A plan for the page: sections, borders, what was added and why, and the picture.

    Args:
        model: The model.
        shown: Its plan.
        specs: Dtypes and shapes of the tensors that enter or leave sections.
    """
    plan = shown.plan
    colours = legend([s.name for s in plan.sections])
    if shown.refused:
        colours.append((f"refused by {shown.target}", REFUSED))
    sizes = [specs[t].frame().nbytes for t in plan.borders]
    known = sum(size for size in sizes if size is not None)
    return {
        "sections": [
            {
                "name": s.name,
                "nodes": len(s.nodes),
                "inputs": [tensor_json(specs[t]) for t in s.inputs],
                "outputs": [tensor_json(specs[t]) for t in s.outputs],
            }
            for s in plan.sections
        ],
        "borders": [tensor_json(specs[t]) for t in plan.borders],
        "bytes": known,
        "bytes_text": ("at least " if None in sizes else "") + bytes_text(known),
        "added": [added_json(a) for a in plan.added],
        "replicated": list(plan.replicated),
        "notes": [n for n in plan.notes if plan.target is None or not n.startswith(plan.target.summary())],
        "marks": str(hash((shown.target, *shown.refused))) if shown.refused else "",  # other nodes coloured: another number
        "target": None if plan.target is None else answer_json(plan.target),
        "legend": [{"name": n, "back": t.back, "frame": t.frame} for n, t in colours],
        "svg": draw(model, plan, specs=specs).svg,
    }
