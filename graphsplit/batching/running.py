"""A batch from start to end: inputs and a model → a folder of rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal, get_args

from graphsplit.batching.archive import Archive
from graphsplit.batching.events import Event, Reject
from graphsplit.batching.inventory import Item, inventory
from graphsplit.batching.options import BatchOptions, RayOptions
from graphsplit.batching.tables import FORMATS, Format, check_format
from graphsplit.batching.work import Work
from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.images import picture_input
from graphsplit.detection.models import detectable
from graphsplit.detection.options import check_threshold, separate_options
from graphsplit.errors import OptionError
from graphsplit.formats import ModelLike
from graphsplit.graph.options import check_choice, check_count, check_options, check_path
from graphsplit.parts.parts import Parts

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ENGINES", "Engine", "Summary", "run_batch"]

Engine = Literal["ray", "local"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
_LOCAL = ("cluster", "target", "strict", "config", "delegates")  # options that Ray's actors do not have


@dataclass(frozen=True)
class Summary:
    """The result of a batch.

    Attributes:
        folder: Where the rows are.
        files: Names of the files of rows, including those of earlier runs.
        sources: The number of sources, including rejected ones.
        resumed: How many of them were finished before this run.
        frames: Rows in all files.
        answered: Rows of this run.
        rejects: Of all runs.
        seconds: Of this run, without loading and splitting the model.
        cut: Where the cut comes from, as `Detector.cut`.
        notes: What else was decided, as `Detector.notes`.
    """

    folder: Path
    files: tuple[str, ...]
    sources: int
    resumed: int
    frames: int
    answered: int
    rejects: tuple[Reject, ...]
    seconds: float
    cut: str
    notes: tuple[str, ...]


def run_batch(
    model: ModelLike | Parts,
    sources: Iterable[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    engine: Engine = "local",
    format: Format = "jsonl",
    threshold: float = 0.5,
    resume: bool = False,
    sources_per_part: int = 64,
    pixels: tuple[float, float] | None = None,
    fuse_nms: bool = False,
    ray: RayOptions | None = None,
    progress: Callable[[Event, Sequence[Item]], None] | None = None,
    **options: Unpack[BatchOptions],
) -> Summary:
    """Detect the objects in every frame of every source, and write them as files of rows.

    A source that cannot be read, or a frame on which the model fails, is listed in `rejects` and does not raise.

    Args:
        model: As of `graphsplit.Detector`, and split in the same way.
        sources: Images, videos, and folders of them.
        out: A folder, new or empty, or with `resume` one with an unfinished batch.
        engine: "local": a pipeline in this process; "ray": actors of a cluster. Both write the same bytes.
        format: Of the files: "jsonl" or "parquet".
        threshold: The lowest score of a detection, 0 … 1.
        resume: Continue the batch in `out`, if there is one.
        sources_per_part: Whole sources in one file; after an interruption the sources of an unfinished file are done again.
        pixels: As of `graphsplit.Detector`.
        fuse_nms: As of `graphsplit.Detector`.
        ray: What to ask of Ray, for `engine` "ray".
        progress: Called with each event, after it was written, and the list of items that `Event.source` counts in.
        **options: Where to cut and how to run, as of `graphsplit.Detector`; also `devices`. `threads` is 1 by default: the same
            number yields the same rows on every machine, another may round differently. Ray decides where sections run:
            `cluster`, `target`, `strict`, `config` and `delegates` are for `engine` "local".

    Raises:
        OptionError: for an option or value that does not exist, or that the engine does not have.
        FormatError: for an input that does not exist.
        OverwriteError: for a folder that holds files.
        MissingExtraError: without supervision, OpenCV, Ray for its engine, or pyarrow for its format.
        PlacementError: for actors that the cluster can never hold, and as of `graphsplit.Detector`.
        FeedError, CutError, TensorNotFoundError, TrustError: as of `graphsplit.Detector`.
    """
    check_options(run_batch, options, BatchOptions)
    check_options(RayOptions, ray or {}, RayOptions)
    check_choice("engine", engine, ENGINES)
    check_choice("format", format, FORMATS)
    check_threshold(threshold)
    check_path("out", out, "a folder")
    check_count("sources_per_part", sources_per_part)
    cut, run = separate_options(options)
    _check_engine(engine, run, ray or {})
    supervision(), opencv()  # if missing, say so before any work
    check_format(format)
    if engine == "ray":
        from graphsplit.batching.ray_engine import check_ray

        check_ray()
    run = {"threads": 1, **run}
    items = inventory(sources, out=out)
    target = detectable(model, trust=run.get("trust", False), fuse_nms=fuse_nms, **cut)
    fed = picture_input(target.inputs, pixels=pixels, longest=target.layout.longest_side, quantised=target.quantised)
    settings = {
        "model": target.parts.source.sha256,
        **({"signature": signature} if (signature := target.parts.source.signature) is not None else {}),
        "sections": {p.name: [o.tensor for o in p.outputs] for p in target.parts},
        "rewrites": [dict(r) for r in target.parts.rewrites],
        "threshold": threshold,
        "threads": run["threads"],
        "pixels": list(fed.pixels),
        "format": format,
    }
    work = Work(target.parts, fed, target.layout, threshold, run)
    with Archive(out, settings, format=format, sources_per_part=sources_per_part, resume=resume) as archive:
        left = [item for item in items if item.name not in archive.finished]
        started, before = perf_counter(), sum(d.frames for d in archive.done)
        with closing(_events(engine, work, left, ray or {})) as events, closing(archive.write(left, events)) as written:
            for event in written:
                if progress is not None:
                    progress(event, left)
        rejects = archive.finish()
        frames = sum(d.frames for d in archive.done)
        return Summary(
            folder=archive.folder,
            files=tuple(d.file for d in archive.done if d.file is not None),
            sources=len(items),
            resumed=len(items) - len(left),
            frames=frames,
            answered=frames - before,
            rejects=rejects,
            seconds=perf_counter() - started,
            cut=target.cut,
            notes=target.notes,
        )


def _check_engine(engine: Engine, run: Mapping[str, object], ray: Mapping[str, object]) -> None:
    local = next((name for name in _LOCAL if run.get(name)), None)
    if engine == "ray" and local is not None:
        raise OptionError(f"{local} goes with engine 'local'; Ray decides where sections run", option=local)
    cluster = next((name for name, value in ray.items() if value and name != "verbose"), None)
    if engine == "local" and cluster is not None:
        raise OptionError(f"{cluster} goes with engine 'ray'", option=cluster)


def _events(engine: Engine, work: Work, items: Sequence[Item], ray: RayOptions) -> Generator[Event, None, None]:
    if not items:
        return
    if engine == "ray":
        from graphsplit.batching.ray_engine import run_ray

        yield from run_ray(work, items, ray)
    else:
        from graphsplit.batching.local import run_local

        yield from run_local(work, items)
