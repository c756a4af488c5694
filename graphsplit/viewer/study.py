"""What takes seconds to find out about a model: cuts to suggest, and the estimated cost of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from graphsplit.formats import Model
from graphsplit.graph.text import bytes_text
from graphsplit.inference.shapes import Sizes, frame_bytes
from graphsplit.parts.parts import default_device
from graphsplit.planning.affinity import refusing
from graphsplit.planning.cost import estimate
from graphsplit.planning.plan import Plan
from graphsplit.planning.targets import Target
from graphsplit.splitting.searching import Finder
from graphsplit.splitting.suggestions import Suggestion, suggest
from graphsplit.splitting.surgery import border_specs, plan
from graphsplit.viewer.session import cut_of
from graphsplit.viewer.tensors import tensor_json

__all__ = ["Study", "examine", "planned_cut_json", "share_of"]


@dataclass(frozen=True, slots=True)
class Study:
    """Suggested cuts as the page shows them, and costs.

    Attributes:
        answer: ``cuts``, best first, and ``reason``: why there are none, or why the first one is there.
        costs: Node → arithmetic operations per frame.
        islands: The plan of the last suggestion, where that puts sections on accelerator and host in turn.
    """

    answer: dict[str, object]
    costs: dict[str, int]
    islands: Plan | None = None


def examine(model: Model, target: Target | None = None) -> Study:
    """Suggest cuts and estimate costs. Nothing is run, no compiler either.

    Args:
        model: The model.
        target: Whose table says what stays on the host.

    Raises:
        FormatError: TensorFlow refuses the graph.
    """
    suggestions = suggest(model, target=target)
    cuts = [_cut_json(cut) for cut in suggestions]
    islands = None
    if suggestions.islands is not None:
        planned = plan(model, islands=True, target=target, ask=False)
        if planned.devices:
            islands = planned
            described = planned_cut_json(
                model, planned, source="autocrop", name="islands", reason=planned.origin, share=suggestions.islands
            )
            cuts.append(described)
    answer: dict[str, object] = {"cuts": cuts, "reason": suggestions.reason}
    return Study(answer, estimate(model.index, frame_bytes(model)), islands)


def _cut_json(cut: Suggestion) -> dict[str, object]:
    return {
        "source": cut.source,
        "name": cut.name,
        "inputs": list(cut.inputs),
        "ends": [[tensor_json(o) for o in cut.outputs]],
        "added": list(cut.added),
        "bytes_text": bytes_text(cut.nbytes),
        "nodes": cut.nodes,
        "hosts": [name for name in cut.nodes if name != "main"],
        "share": cut.share,
        "reason": cut.reason,
    }


def share_of(model: Model, planned: Plan) -> float | None:
    """Part of the multiplications that the accelerator's sections of a plan for a target hold; None if there are no layers."""
    refused = () if planned.target is None else planned.target.refused
    tied = {model.index.producer[r.tensor]: r.reason for r in refused if r.tensor in model.index.producer}
    hosts = _hosts(planned)
    found = Finder(model, Sizes(model)).search(refusing(tied))
    return found.share(n for s in planned.sections if s.name not in hosts for n in s.nodes)


def _hosts(planned: Plan) -> list[str]:
    """The sections that stay on the host."""
    return [s.name for s in planned.sections if planned.devices.get(s.name, default_device(s.name)) == default_device("post")]


def planned_cut_json(
    model: Model, planned: Plan, *, source: str, name: str, reason: str, share: float | None = None
) -> dict[str, object]:
    """The cut of a plan as the page shows suggestions.

    Args:
        model: The model.
        planned: The plan.
        source: Who made it.
        name: What it is called.
        reason: Why the cut is there.
        share: Part of the multiplications that the accelerator's sections hold.
    """
    specs = border_specs(model, planned)
    cut = cut_of(planned, None)
    return {
        "source": source,
        "name": name,
        "inputs": list(cut.inputs),
        "ends": [[tensor_json(specs[t]) for t in end] for end in cut.ends],
        "added": list(dict.fromkeys(a.tensor for a in planned.added)),
        "bytes_text": bytes_text(sum(specs[t].frame().nbytes or 0 for t in planned.borders)),
        "nodes": {s.name: len(s.nodes) for s in planned.sections},
        "hosts": _hosts(planned),
        "share": share,
        "reason": reason,
    }
