"""Tensors on their way through stages: which are fed, which are still needed after each stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphsplit.execution.stages import Stage
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.feeds import Feeds
from graphsplit.runtimes.arrays import Array

__all__ = ["examples", "fed_specs", "last_uses"]

_WITHOUT_ZEROS = ("string", "resource", "variant")


def fed_specs(stages: Sequence[Stage], inputs: Sequence[str], outputs: Sequence[str]) -> tuple[TensorSpec, ...]:
    """What is known about the tensors to feed: the inputs, and outputs that no stage computes."""
    known: dict[str, TensorSpec] = {}
    computed: set[str] = set()
    for stage in stages:
        for tensor, spec in stage.specs.items():
            # Of several stages that are fed, one that has no default needs a value.
            if tensor not in known or (known[tensor].optional and not spec.optional and tensor not in computed):
                known[tensor] = spec
        computed |= set(stage.outputs)
    fed = dict.fromkeys((*inputs, *(t for t in outputs if t not in computed)))
    return tuple(known.get(tensor, TensorSpec(tensor)) for tensor in fed)


def examples(stage: Stage, fed: Feeds) -> list[Array | None] | None:
    """Values for the inputs of a stage: what is fed, or zeros, or a default; None if the shape of one is unknown."""
    known = dict(fed)
    for tensor in stage.inputs:
        spec = stage.specs.get(tensor)
        if tensor not in known and (spec is None or not spec.optional):
            value = _zeros(spec)
            if value is None:
                return None
            known[tensor] = value
    return stage.values(known)


def last_uses(stages: Sequence[Stage], outputs: Sequence[str]) -> list[tuple[str, ...]]:
    """For each stage the tensors that nothing needs after it, so that a frame does not carry them further."""
    kept = set(outputs)
    drop: list[tuple[str, ...]] = []
    for stage in reversed(stages):
        gone = tuple(t for t in dict.fromkeys((*stage.inputs, *stage.outputs)) if t not in kept)
        kept.update(stage.inputs)
        drop.append(gone)
    return drop[::-1]


def _zeros(spec: TensorSpec | None) -> Array | None:
    """Zeros for one frame, if shape and dtype are known and NumPy has that dtype."""
    shape = None if spec is None else spec.frame().shape
    if spec is None or spec.dtype is None or spec.dtype in _WITHOUT_ZEROS or shape is None or None in shape:
        return None
    try:
        return np.zeros([d or 0 for d in shape], spec.dtype)
    except TypeError:  # one of TensorFlow's own
        return None
