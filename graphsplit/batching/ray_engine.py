"""The engine of a cluster: Ray Data streams frames through stages of actors. Ray schedules, restarts what dies and moves the
tensors; nothing of that is done here.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from graphsplit.batching.demand import Demand, Node, demands
from graphsplit.batching.events import Event
from graphsplit.batching.inventory import Item
from graphsplit.batching.work import Work
from graphsplit.errors import GraphSplitError, MissingExtraError
from graphsplit.parts.parts import Part, Source

__all__ = ["check_ray", "run_ray"]

_NOWHERE = Source(None, "", "", None)
_BATCH = 8  # frames an actor takes at a time
_RETRIES = 10  # of a task whose actor died; a file that kills its decoder is not tried for ever
_BLOCK = 16 * 2**20  # bytes after which frames of a video travel on
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


def check_ray() -> None:
    """Raises MissingExtraError where Ray Data is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Ray Data (ray[data])", extra="ray") from error


def run_ray(
    work: Work,
    items: Sequence[Item],
    *,
    address: str | None = None,
    batch_size: int | None = None,
    actors: Mapping[str, int] | None = None,
    cpus: Mapping[str, float] | None = None,
    gpus: Mapping[str, float] | None = None,
    verbose: bool = False,
) -> Iterator[Event]:
    """Every frame of every source, in order.

    address     of a cluster; None: the one this process is in already, RAY_ADDRESS, else one is started on this machine
    batch_size  frames an actor takes at a time (default 8); rows do not depend on it
    actors, cpus, gpus  stage → how many actors, and the CPUs and GPUs of each; see `graphsplit.batching.demand.demands`

    The stages are ``read``, each section between, and ``answer``; a section ``pre`` runs in the first, the sections behind
    ``main`` in the last. The machines of the cluster need this package and the sources under the same paths.

    Raises PlacementError for what can never be scheduled, GraphSplitError when Ray gives up.
    """
    check_ray()
    import ray

    first, middle, last = _grouped(work.parts.sections)
    with _cluster(address, verbose):
        nodes = [Node(n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0)) for n in ray.nodes() if n["Alive"]]
        stages = ("read", *(p.name for p in middle), "answer")
        wanted = demands(stages, [p.name for p in middle], nodes, actors=actors, cpus=cpus, gpus=gpus)
        try:
            yield from _stream(work, items, (first, middle, last), wanted, batch_size or _BATCH, verbose)
        except (ray.exceptions.RayError, ray.exceptions.RayTaskError) as error:
            raise _told(error) from error


def _grouped(sections: Sequence[Part]) -> tuple[list[Part], list[Part], list[Part]]:
    """Sections that run with the reading, those with a stage of their own, and those that run with the answering."""
    names = [p.name for p in sections]
    if "main" in names:
        at = names.index("main")
        return list(sections[:at]), [sections[at]], list(sections[at + 1 :])
    return [], list(sections[:-1]) or list(sections), list(sections[-1:]) if len(sections) > 1 else []


@contextmanager
def _cluster(address: str | None, verbose: bool) -> Iterator[None]:
    """Ray, connected to; one that was begun here ends here."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not verbose:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side writes to stderr, past any logger
    there = address or os.environ.get("RAY_ADDRESS")
    try:
        with _held_back(not verbose):
            ray.init(
                address=there or "local",
                include_dashboard=None if there else False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise GraphSplitError(f"no Ray cluster at {there or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _held_back(held: bool) -> Iterator[None]:
    """Drop what native code writes to stderr meanwhile; errors of Ray are raised, not written."""
    sys.stderr.flush()
    if not held:
        yield
        return
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _stream(
    work: Work,
    items: Sequence[Item],
    groups: tuple[list[Part], list[Part], list[Part]],
    wanted: Sequence[Demand],
    batch_size: int,
    verbose: bool,
) -> Iterator[Event]:
    import ray

    from graphsplit.batching.actors import Answerer, Reader, Section, event_of
    from graphsplit.batching.packing import PackedPart

    first, middle, last = groups
    stages = [first, *([p] for p in middle), last]
    devices = {p.name: _device(work.devices.get(p.name, p.device), d) for g, d in zip(stages, wanted, strict=True) for p in g}
    # The weights, and everything else that all frames share, go into the object store here, once.
    refs = {p.name: ray.put(PackedPart.of(p, devices[p.name])) for group in stages for p in group}
    shared = ray.put(replace(work, parts=replace(work.parts, sections=(), source=_NOWHERE, plan=None)))
    travel = _travelling(stages, work.layout.tensors)
    context = _context(verbose)
    with context:
        rows = [{"source": n, "path": item.path} for n, item in enumerate(items)]
        # A block of sources is what is done again when a reader dies.
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), -(-len(rows) // batch_size)))
        for number, (group, demand) in enumerate(zip(stages, wanted, strict=True)):
            kind: Any = Reader if number == 0 else Answerer if number == len(stages) - 1 else Section
            options: dict[str, Any] = {
                "refs": [refs[p.name] for p in group],
                "travel": travel[number],
                "work": shared,
                "strict": demand.gpus > 0,
            }
            if kind is Reader:
                options["batch_size"] = batch_size
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # later versions of Ray have another way to say max_task_retries
                data = data.map_batches(
                    kind,
                    fn_constructor_kwargs=options,
                    batch_size=batch_size,
                    batch_format="numpy",
                    compute=ray.data.ActorPoolStrategy(size=demand.actors),
                    num_cpus=demand.cpus,
                    num_gpus=demand.gpus or None,
                    max_task_retries=_RETRIES,
                    runtime_env={"env_vars": _ENVIRONMENT},
                )
        for batch in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            for text in batch["event"]:
                yield event_of(str(text))


@contextmanager
def _context(verbose: bool) -> Iterator[None]:
    """Ray Data's settings of this process, as they are needed; put back afterwards."""
    import ray

    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order, context.target_max_block_size, context.enable_progress_bars
    context.execution_options.preserve_order = True
    context.target_max_block_size = _BLOCK
    context.enable_progress_bars = verbose
    log = logging.getLogger("ray.data")
    level = log.level
    if not verbose:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        context.execution_options.preserve_order, context.target_max_block_size, context.enable_progress_bars = before


def _device(device: str, demand: Demand) -> str:
    """An actor sees its own GPUs only, counted from 0; without one it runs on the CPU."""
    return "/gpu:0" if demand.gpus else "/cpu:0" if "gpu" in device.lower() else device


def _travelling(stages: Sequence[Sequence[Part]], answers: Sequence[str]) -> list[tuple[str, ...]]:
    """For each stage the tensors that leave it: what a later one reads."""
    needed = dict.fromkeys(answers)
    found: list[tuple[str, ...]] = []
    for group in reversed(stages):
        found.append(tuple(needed))
        for part in reversed(group):
            for port in part.outputs:
                needed.pop(port.tensor, None)
            needed.update(dict.fromkeys(p.tensor for p in part.inputs))
    return found[::-1]


def _told(error: BaseException) -> GraphSplitError:
    """What went wrong in an actor, in one line; an error of ours as it was."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None)
        if isinstance(inner, GraphSplitError):
            return inner
        if isinstance(cause, GraphSplitError):
            return cause
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return GraphSplitError(f"Ray gave up: {lines[-1] if lines else type(error).__name__}")
