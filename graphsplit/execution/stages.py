"""Sections ready to run: each in its own session, on its device, in the runtime of its format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from graphsplit.execution.options import RunOptions
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.options import check_count, check_options
from graphsplit.inference.adapters import runtime_of
from graphsplit.inference.devices import check_sections
from graphsplit.inference.endpoints import ClusterLike, Endpoints, Site, find_endpoints
from graphsplit.inference.runtime import Request, Session
from graphsplit.inference.sessions import open_session
from graphsplit.parts.parts import Part
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Stage", "open_sections"]


@dataclass(frozen=True)
class Stage:
    """One section, ready to run.

    Attributes:
        name: Name of the section.
        device: Where it really runs.
        inputs: Tensors it reads, by their names in the whole.
        outputs: Tensors it computes.
        call: Takes the values of `inputs` in order, None for an optional one that is not fed, and returns those of `outputs`.
        close: Releases what it holds.
        specs: Input → what is known about it; feeds are checked against it.
    """

    name: str
    device: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    call: Callable[[Sequence[Array | None]], Sequence[Array]]
    close: Callable[[], None] = field(default=lambda: None)
    specs: Mapping[str, TensorSpec] = field(default_factory=dict)

    def values(self, there: Mapping[str, Array]) -> list[Array | None]:
        """What `call` takes, of the tensors that are there. Raises KeyError for one that is missing and not optional."""
        return [there[t] if t in there or not self._is_optional(t) else None for t in self.inputs]

    def _is_optional(self, tensor: str) -> bool:
        return tensor in self.specs and self.specs[tensor].optional

    def __repr__(self) -> str:
        return f"Stage({self.name} {self.device}, {len(self.inputs)} in, {len(self.outputs)} out)"


def open_sections(sections: Sequence[Part], **options: Unpack[RunOptions]) -> tuple[Stage, ...]:
    """A stage for each section, with its own session and thread pools.

    Args:
        sections: The sections, in the order they run.
        **options: See `graphsplit.execution.options.RunOptions`.

    Raises:
        SectionNotFoundError: `devices` or `delegates` names a section that does not exist.
        PlacementError: A device is invalid or does not exist (strict), or a worker does not answer.
        TrustError: A section reaches files, the network or Python, and `trust` is not set.
        FormatError: A section is not frozen, or its runtime refuses it.
        OptionError: An unknown option.
    """
    check_options(open_sections, options, RunOptions)
    check_count("threads", options.get("threads"))
    names = [p.name for p in sections]
    check_sections("delegates", options.get("delegates"), names)
    check_sections("devices", options.get("devices"), names)
    chosen, delegates = options.get("devices") or {}, options.get("delegates") or {}
    wanted = {p.name: chosen.get(p.name, p.device) for p in sections}
    devices, sites = _endpoints(wanted, options.get("cluster"), options.get("target"))
    threads = options.get("threads") or _share(devices, sites)
    config = options.get("config")
    requests = [
        Request(
            section=name,
            device=devices[name],
            site=sites.get(name),
            delegate=None if delegates.get(name) is None else os.fspath(delegates[name]),
            strict=options.get("strict", False),
            threads=threads,
            config=config,
        )
        for name in names
    ]
    locations = [runtime_of(part.model).locate(request) for part, request in zip(sections, requests, strict=True)]
    for location in locations:
        if location.warning:
            warnings.warn(location.warning, stacklevel=3)
    stages: list[Stage] = []
    try:
        for part, location in zip(sections, locations, strict=True):
            session = open_session(part.model, trust=options.get("trust", False), threads=threads, config=config, location=location)
            stages.append(_stage(part, location.device, session))
    except BaseException:
        for stage in stages:
            stage.close()
        raise
    return tuple(stages)


def _endpoints(devices: Mapping[str, str], cluster: ClusterLike | None, target: str | None) -> Endpoints:
    """Where the sections run; without a word of a cluster, all in this process, without importing TensorFlow."""
    if cluster is None and target is None and not any("/job:" in str(device) for device in devices.values()):
        return Endpoints(devices, {})
    return find_endpoints(devices, cluster, target)


def _share(devices: Mapping[str, str], sites: Mapping[str, Site]) -> int:
    """Cores for each section that is assigned to the CPU of this machine."""
    here = sum("cpu" in str(device).lower() for name, device in devices.items() if name not in sites)
    return max(1, (os.cpu_count() or 1) // max(1, here))


def _stage(part: Part, device: str, session: Session) -> Stage:
    return Stage(
        part.name,
        device,
        tuple(p.tensor for p in part.inputs),
        tuple(p.tensor for p in part.outputs),
        _prepared(part, session),
        session.close,
        {p.tensor: p.spec for p in part.inputs},
    )


def _prepared(part: Part, session: Session) -> Callable[[Sequence[Array | None]], Sequence[Array]]:
    """A call of a section; where it has optional inputs, one for each choice of them that occurs."""
    inputs, outputs = [p.name for p in part.inputs], [p.name for p in part.outputs]
    if not any(p.optional for p in part.inputs):
        return cast(Callable[[Sequence[Array | None]], Sequence[Array]], session.prepare(inputs, outputs))
    calls: dict[tuple[str, ...], Callable[[Sequence[Array]], Sequence[Array]]] = {}

    def call(values: Sequence[Array | None]) -> list[Array]:
        fed = {name: value for name, value in zip(inputs, values, strict=True) if value is not None}
        fetched = [name for name in outputs if name not in fed]  # what is fed cannot be fetched as well
        names = tuple(fed)
        if names not in calls:
            calls[names] = session.prepare(names, fetched)
        results = dict(zip(fetched, calls[names](list(fed.values())), strict=True)) if fetched else {}
        return [fed[name] if name in fed else results[name] for name in outputs]

    return call
