"""The engine of a cluster: Ray Data streams frames through stages of actors.

Ray schedules, restarts what dies and moves the tensors; none of that is done here.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from graphsplit.batching.demand import Demand, Node, demands
from graphsplit.batching.events import Event
from graphsplit.batching.inventory import Item
from graphsplit.batching.options import RayOptions
from graphsplit.batching.work import Work
from graphsplit.errors import GraphSplitError, MissingExtraError
from graphsplit.parts.parts import Part, Source

__all__ = ["check_ray", "run_ray"]

_NOWHERE = Source(None, "", "", None)
_BATCH = 8  # frames that an actor takes at a time
_RETRIES = 10  # of a task whose actor died; a file that kills its decoder is not retried forever
_BLOCK = 16 * 2**20  # bytes after which frames of a video move on
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


def check_ray() -> None:
    """Raise MissingExtraError if Ray Data is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Ray Data (ray[data])", extra="ray") from error


def run_ray(work: Work, items: Sequence[Item], options: RayOptions) -> Iterator[Event]:
    """Run every frame of every source, in order.

    The stages are ``read``, each section between, and ``answer``; a section ``pre`` runs in the first, the sections after
    ``main`` in the last. The machines of the cluster need this package and the sources under the same paths.

    Args:
        work: The model, and how to run it.
        items: The sources.
        options: What to ask of Ray.

    Yields:
        A row for each frame, and the end of each source.

    Raises:
        PlacementError: for a stage that does not exist, and for requests that can never be scheduled.
        GraphSplitError: if there is no cluster at the address, or Ray fails.
    """
    check_ray()
    import ray

    first, middle, last = _grouped(work.parts.sections)
    verbose = options.get("verbose", False)
    with _cluster(options.get("address"), verbose):
        nodes = [Node(n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0)) for n in ray.nodes() if n["Alive"]]
        stages = ("read", *(p.name for p in middle), "answer")
        requests = demands(
            stages,
            [p.name for p in middle],
            nodes,
            actors=options.get("actors"),
            cpus=options.get("cpus"),
            gpus=options.get("gpus"),
        )
        try:
            yield from _stream(work, items, (first, middle, last), requests, options.get("batch_size") or _BATCH, verbose)
        except (ray.exceptions.RayError, ray.exceptions.RayTaskError) as error:
            raise _own_error(error) from error


def _grouped(sections: Sequence[Part]) -> tuple[list[Part], list[Part], list[Part]]:
    """The sections that run in the stage ``read``, those with their own stage, and those that run in ``answer``."""
    names = [p.name for p in sections]
    if "main" in names:
        at = names.index("main")
        return list(sections[:at]), [sections[at]], list(sections[at + 1 :])
    return [], list(sections[:-1]) or list(sections), list(sections[-1:]) if len(sections) > 1 else []


@contextmanager
def _cluster(address: str | None, verbose: bool) -> Iterator[None]:
    """Connect to Ray; a cluster that is started here ends here."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not verbose:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side writes to stderr, past any logger
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        with _held_back(not verbose):
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = f"cannot connect to the Ray cluster at {address}" if address else "cannot start Ray on this machine"
        raise GraphSplitError(f"{what}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _held_back(held: bool) -> Iterator[None]:
    """Discard what native code writes to stderr; Ray raises its errors."""
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
    requests: Sequence[Demand],
    batch_size: int,
    verbose: bool,
) -> Iterator[Event]:
    import ray

    from graphsplit.batching.actors import Answerer, Reader, Section, event_of
    from graphsplit.batching.packing import PackedPart

    first, middle, last = groups
    stages = [first, *([p] for p in middle), last]
    chosen = work.run.get("devices") or {}
    devices = {p.name: _device(chosen.get(p.name, p.device), d) for g, d in zip(stages, requests, strict=True) for p in g}
    # The weights, and everything else that all frames share, are put into the object store once.
    refs = {p.name: ray.put(PackedPart.of(p, devices[p.name])) for group in stages for p in group}
    shared = ray.put(replace(work, parts=replace(work.parts, sections=(), source=_NOWHERE, plan=None)))
    travel = _travelling(stages, work.layout.tensors)
    context = _context(verbose)
    with context:
        rows = [{"source": n, "path": item.path} for n, item in enumerate(items)]
        # A block of sources is repeated if its reader dies.
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), -(-len(rows) // batch_size)))
        for number, (group, demand) in enumerate(zip(stages, requests, strict=True)):
            kind = Reader if number == 0 else Answerer if number == len(stages) - 1 else Section
            arguments = {
                "refs": [refs[p.name] for p in group],
                "travel": travel[number],
                "work": shared,
                "strict": demand.gpus > 0,
            }
            if kind is Reader:
                arguments["batch_size"] = batch_size
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # later versions of Ray rename max_task_retries
                data = data.map_batches(
                    kind,
                    fn_constructor_kwargs=arguments,
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
    """Set Ray Data's settings of this process, and restore them afterwards."""
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
    """The device in an actor, which sees only its own GPUs, counted from 0; without one it runs on the CPU."""
    return "/gpu:0" if demand.gpus else "/cpu:0" if "gpu" in device.lower() else device


def _travelling(stages: Sequence[Sequence[Part]], answers: Sequence[str]) -> list[tuple[str, ...]]:
    """For each stage the tensors that leave it: what a later stage reads."""
    needed = dict.fromkeys(answers)
    travel: list[tuple[str, ...]] = []
    for group in reversed(stages):
        travel.append(tuple(needed))
        for part in reversed(group):
            for port in part.outputs:
                needed.pop(port.tensor, None)
            needed.update(dict.fromkeys(p.tensor for p in part.inputs))
    return travel[::-1]


def _own_error(error: BaseException) -> GraphSplitError:
    """The error of this package that an actor raised, else one line of Ray's."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None)
        if isinstance(inner, GraphSplitError):
            return inner
        if isinstance(cause, GraphSplitError):
            return cause
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return GraphSplitError(f"Ray failed: {lines[-1] if lines else type(error).__name__}")
