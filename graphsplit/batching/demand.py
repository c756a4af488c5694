"""What the stages request of a cluster: actors, and the CPUs and GPUs of each; checked to fit before anything starts.

Ray lets an actor that fits nowhere wait forever. So the requests are laid out on the nodes first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphsplit.errors import PlacementError

__all__ = ["Demand", "Node", "demands"]


@dataclass(frozen=True, slots=True)
class Node:
    """The resources of one machine of a cluster.

    Attributes:
        cpus: In all.
        gpus: In all.
    """

    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Demand:
    """What a stage requests.

    Attributes:
        stage: Its name.
        actors: Their number.
        cpus: CPUs of each actor; may be a fraction.
        gpus: GPUs of each actor; may be a fraction.
    """

    stage: str
    actors: int
    cpus: float
    gpus: float


def demands(
    stages: Sequence[str],
    accelerated: Sequence[str],
    nodes: Sequence[Node],
    *,
    actors: Mapping[str, int] | None = None,
    cpus: Mapping[str, float] | None = None,
    gpus: Mapping[str, float] | None = None,
) -> tuple[Demand, ...]:
    """Decide what each stage requests.

    By default every stage has one actor, an accelerated one as many as there are GPUs. An actor requests a whole CPU if that
    fits, with one CPU left for Ray's own tasks; else an equal share of what there is, in hundredths. CPUs that are left over
    go to further actors, first of the stage with the most work: the accelerated one, if there are no GPUs.

    Args:
        stages: Their names, in order.
        accelerated: Those that use a GPU, or CPUs if there is none.
        nodes: The machines of the cluster.
        actors: Stage → number of actors, overriding the default.
        cpus: Stage → CPUs of each actor, overriding the default.
        gpus: Stage → GPUs of each actor, overriding the default.

    Raises:
        PlacementError: for a stage that does not exist, and for requests that can never be scheduled.
    """
    named, shares, cards = dict(actors or {}), dict(cpus or {}), dict(gpus or {})
    for name in (*named, *shares, *cards):
        if name not in stages:
            raise PlacementError(f"no stage {name!r}; there are {', '.join(stages)}", section=name, device="ray")
    total = sum(n.cpus for n in nodes)
    all_gpus = math.floor(sum(n.gpus for n in nodes))
    requests = []
    for stage in stages:
        card = cards.get(stage, 1.0 if stage in accelerated and all_gpus else 0.0)
        count = named.get(stage, max(1, math.floor(all_gpus / card)) if card and stage in accelerated else 1)
        requests.append(Demand(stage, count, shares.get(stage, -1.0), card))
    stated = sum(d.actors * d.cpus for d in requests if d.cpus >= 0)
    unstated = sum(d.actors for d in requests if d.cpus < 0)
    if unstated:
        each = 1.0 if stated + unstated + 1 <= total else math.floor(100 * max(0.0, total - stated) / (unstated + 1)) / 100
        if each <= 0:
            raise PlacementError(
                f"the actors request {stated:g} CPUs and the cluster has {total:g}: none is left for "
                f"{', '.join(d.stage for d in requests if d.cpus < 0)}; request fewer (cpus=…, actors=…)",
                section=requests[0].stage,
                device="ray",
            )
        requests = [replace(d, cpus=each) if d.cpus < 0 else d for d in requests]
    _check(requests, nodes)
    return tuple(_spread(requests, [s for s in stages if s not in named], accelerated, nodes))


def _spread(requests: list[Demand], free: Sequence[str], accelerated: Sequence[str], nodes: Sequence[Node]) -> list[Demand]:
    """Add actors of whole CPUs while one CPU stays free: two to an accelerated stage for each one to another stage."""
    spare = sum(n.cpus for n in nodes) - 1 - sum(d.actors * d.cpus for d in requests)
    while True:
        order = sorted(
            (d for d in requests if d.stage in free and d.cpus >= 1 and not d.gpus and d.cpus <= spare),
            key=lambda d: d.actors / (2 if d.stage in accelerated else 1),
        )
        grown = None
        for demand in order:
            more = [replace(d, actors=d.actors + 1) if d is demand else d for d in requests]
            if _unplaced(more, nodes) is None:
                grown, spare = more, spare - demand.cpus
                break
        if grown is None:
            return requests
        requests = grown


def _check(requests: Sequence[Demand], nodes: Sequence[Node]) -> None:
    unplaced = _unplaced(requests, nodes)
    if unplaced is None:
        return
    listed = ", ".join(f"{d.stage} {d.actors} × {d.cpus:g} CPU" + (f" and {d.gpus:g} GPU" if d.gpus else "") for d in requests)
    available = ", ".join(f"{n.cpus:g} CPU and {n.gpus:g} GPU" for n in nodes) or "nothing"
    raise PlacementError(
        f"an actor of stage {unplaced.stage!r} can never be scheduled: the requests are {listed}; the machines have {available}. "
        "Request fewer actors, or fractions (actors=…, cpus=…, gpus=…)",
        section=unplaced.stage,
        device="ray",
    )


def _unplaced(requests: Sequence[Demand], nodes: Sequence[Node]) -> Demand | None:
    """The first demand with an actor that fits nowhere when the large ones are placed first; None: all fit."""
    room = [[n.cpus, n.gpus] for n in nodes]
    for demand in sorted(requests, key=lambda d: (-d.gpus, -d.cpus)):
        for _ in range(demand.actors):
            # The fullest node that still fits it; one with GPUs last if it needs none.
            fits = [r for r in room if r[0] >= demand.cpus - 1e-9 and r[1] >= demand.gpus - 1e-9]
            if not fits:
                return demand
            place = min(fits, key=lambda r: (r[1] > 0 and not demand.gpus, r[0], r[1]))
            place[0] -= demand.cpus
            place[1] -= demand.gpus
    return None
