"""Sections ready to run: each in a session of its own, on its device, in the runtime of its format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from graphsplit.errors import PlacementError
from graphsplit.inference.endpoints import GivenCluster, Site, devices_at, sites_of
from graphsplit.inference.sessions import Session
from graphsplit.parts.parts import Part, Port

__all__ = ["Stage", "open_sections"]

Call = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Stage:
    """One section, ready to run.

    call     takes the values of `inputs` in order and gives those of `outputs`
    device   where it really runs
    close    releases what it holds
    shapes   tensor → (dtype, shape) of its inputs, where they are known; for the warm-up
    """

    name: str
    device: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    call: Call
    close: Callable[[], None] = field(default=lambda: None)
    shapes: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


def open_sections(
    sections: Sequence[Part],
    *,
    devices: Mapping[str, str] | None = None,
    cluster: GivenCluster | None = None,
    target: str | None = None,
    threads: int | None = None,
    strict: bool = False,
    trust: bool = False,
    config: Any = None,
    delegates: Mapping[str, str | PathLike[str]] | None = None,
) -> tuple[Stage, ...]:
    """A stage for each section, with a session and thread pools of its own. The options are those of `Pipeline`."""
    there = {p.name: p.device for p in sections}
    for name, device in (*(devices or {}).items(), *(delegates or {}).items()):
        if name not in there:
            raise PlacementError(f"no section {name!r}; there are {', '.join(there)}", section=name, device=str(device))
    chosen = {**there, **(devices or {})}
    taken = {p.name: str(delegate) for p in sections if (delegate := (delegates or {}).get(p.name)) is not None}
    for part in sections:
        if part.name in taken and part.format != "tflite":
            raise PlacementError(
                f"section {part.name!r} is a {part.format} section; a delegate takes TFLite",
                section=part.name,
                device=taken[part.name],
            )
    sites, own = _sites(sections, chosen, cluster, target), None
    here = [p.name for p in sections if p.format != "tflite" and p.name not in sites]
    if here:
        own = _tensorflow_devices(here, chosen, threads or _share(chosen, sites), strict, config)
    opened: list[Stage] = []
    try:
        for part in sections:
            part.model.check_frozen()
            part.model.check_trust(trust)
            if part.format == "tflite":
                opened.append(_open_tflite(part, chosen, threads or _share(chosen, sites), strict, taken.get(part.name)))
            elif part.name in sites:
                opened.append(_open_on_worker(part, chosen[part.name], sites[part.name], strict, config))
            else:
                opened.append(_open(part, chosen[part.name], own))
    except BaseException:
        for stage in opened:
            stage.close()
        raise
    return tuple(opened)


def _sites(
    sections: Sequence[Part], chosen: dict[str, str], cluster: GivenCluster | None, target: str | None
) -> Mapping[str, Site]:
    """The sections that run on workers; `chosen` is brought to full names. Raises PlacementError."""
    if cluster is None and target is None and not any("/job:" in str(device) for device in chosen.values()):
        return {}
    sites = sites_of(chosen, cluster, target)
    for part in sections:
        if part.format == "tflite" and part.name in sites:
            raise PlacementError(
                f"section {part.name!r} is TFLite and runs in this process, not on {chosen[part.name]}; a worker runs TensorFlow",
                section=part.name,
                device=chosen[part.name],
            )
    return sites


def _tensorflow_devices(names: Sequence[str], chosen: dict[str, str], threads: int, strict: bool, config: Any) -> Any:
    """The configuration of TensorFlow's sessions; `chosen` is brought to the devices that are there. Raises PlacementError."""
    from graphsplit.inference.devices import available_devices, check_devices, is_available
    from graphsplit.runtimes.tensorflow import session_config

    check_devices({name: chosen[name] for name in names})
    given = session_config() if config is None else config
    available = available_devices(_pooled(given, threads))
    for name in names:
        device = chosen[name]
        if not is_available(device, available):
            if strict:
                raise PlacementError(
                    f"section {name!r} wants {device}, which is not here; there are {', '.join(available)}",
                    section=name,
                    device=device,
                )
            warnings.warn(f"{device} is not here: section {name!r} runs on {available[0]}", stacklevel=4)
            chosen[name] = available[0]
    return _pooled(given, threads)


def _open_tflite(part: Part, chosen: dict[str, str], threads: int, strict: bool, delegate: str | None) -> Stage:
    """A stage that runs in LiteRT: on the CPU, or where its delegate takes it."""
    from graphsplit.inference.sessions import open_session

    device = chosen[part.name]
    if delegate is None and "cpu" not in device.lower():
        if strict:
            raise PlacementError(
                f"section {part.name!r} is TFLite and wants {device}: give the delegate that takes it there",
                section=part.name,
                device=device,
            )
        warnings.warn(f"section {part.name!r} is TFLite: it runs on the CPU, and on {device} only by a delegate", stacklevel=4)
        chosen[part.name] = "/cpu:0"
    shown = chosen[part.name] if delegate is None else f"delegate {delegate}"
    session = open_session(part.model, threads=threads, delegates=[] if delegate is None else [delegate])
    return _stage(part, shown, session)


def _share(devices: Mapping[str, str], sites: Mapping[str, Site]) -> int:
    """Cores for each section that runs on the CPU of this machine."""
    return max(1, (os.cpu_count() or 1) // max(1, sum("cpu" in d.lower() for n, d in devices.items() if n not in sites)))


def _pooled(config: Any, threads: int) -> Any:
    """A configuration with thread pools of its own: with TensorFlow's shared ones two stages do not overlap on the CPU."""
    own = type(config)()
    own.CopyFrom(config)
    own.use_per_session_threads = True
    own.inter_op_parallelism_threads = own.intra_op_parallelism_threads = threads
    return own


def _open(part: Part, device: str, config: Any) -> Stage:
    from graphsplit.inference.devices import pin
    from graphsplit.runtimes.tensorflow import TensorFlowSession

    graph_def = part.graph_def
    pin(graph_def, device)
    session = TensorFlowSession(graph_def.SerializeToString(), config=config)
    return _stage(part, device, session)


def _open_on_worker(part: Part, device: str, site: Site, strict: bool, config: Any) -> Stage:
    """A stage whose session runs in another process."""
    from graphsplit.inference.devices import host_of, is_available, pin
    from graphsplit.runtimes.remote import RemoteSession, remote_config
    from graphsplit.runtimes.tensorflow import session_config

    own = remote_config(session_config() if config is None else config, site.tasks)
    available = devices_at(site, own, {part.name: device})
    if not is_available(device, available):
        if strict:
            raise PlacementError(
                f"section {part.name!r} wants {device}, which is not there; there are {', '.join(available)}",
                section=part.name,
                device=device,
            )
        host = next((d for d in available if is_available(host_of(device), (d,))), host_of(device))
        warnings.warn(f"{device} is not there: section {part.name!r} runs on {host}", stacklevel=4)
        device = host
    graph_def = part.graph_def
    pin(graph_def, device)
    session = RemoteSession(graph_def.SerializeToString(), target=site.target, addresses=site.addresses, config=own)
    return _stage(part, device, session)


def _stage(part: Part, device: str, session: Session) -> Stage:
    call = session.prepare([p.name for p in part.inputs], [p.name for p in part.outputs])
    return Stage(
        part.name,
        device,
        tuple(p.tensor for p in part.inputs),
        tuple(p.tensor for p in part.outputs),
        call,
        session.close,
        {p.tensor: (p.dtype, shape) for p in part.inputs if p.dtype and (shape := _one_frame(p)) is not None},
    )


def _one_frame(port: Port) -> tuple[int, ...] | None:
    """The shape of a border tensor for a batch of one, where it is known."""
    if port.shape is None or port.dtype in ("string", "resource", "variant", "bfloat16"):
        return None
    sizes = [1 if i == 0 and d is None else d for i, d in enumerate(port.shape)]
    return None if None in sizes else tuple(d for d in sizes if d is not None)
