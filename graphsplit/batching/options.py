"""The keyword arguments that a batch takes: where to cut the model, how to run its sections, and what to ask of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from graphsplit.execution.options import RunOptions
from graphsplit.splitting.request import CutOptions

__all__ = ["BatchOptions", "RayOptions"]


class BatchOptions(CutOptions, RunOptions, total=False):
    """The options of `run_batch` that it shares: `CutOptions` as of `graphsplit.plan`, `RunOptions` as of `Pipeline`."""


class RayOptions(TypedDict, total=False):
    """What a batch asks of Ray.

    The stages are ``read``, each section between, and ``answer``; see `graphsplit.batching.demand.demands`.

    Attributes:
        address: Of a cluster. None: the one that this process is connected to, RAY_ADDRESS, else one is started on this machine.
        batch_size: Frames that an actor takes at a time (default 8); rows do not depend on it.
        actors: Stage → number of actors.
        cpus: Stage → CPUs of each actor; may be a fraction.
        gpus: Stage → GPUs of each actor; may be a fraction.
        verbose: Show Ray's log and progress bars.
    """

    address: str | None
    batch_size: int | None
    actors: Mapping[str, int] | None
    cpus: Mapping[str, float] | None
    gpus: Mapping[str, float] | None
    verbose: bool
