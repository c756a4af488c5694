"""A batch from its beginning to its end: inputs and a model → a folder of rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from graphsplit.batching.archive import Archive
from graphsplit.batching.events import Event
from graphsplit.batching.inventory import Item, inventory
from graphsplit.batching.tables import Format, check_format
from graphsplit.batching.work import Work
from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.images import picture_input
from graphsplit.detection.models import detectable
from graphsplit.formats import Model
from graphsplit.parts.parts import Parts

__all__ = ["ENGINES", "Engine", "Summary", "run_batch"]

ENGINES = ("ray", "local")
Engine = Literal["ray", "local"]
_SEGMENTED = 513  # pixels: the longest side that DeepLab's exporter was told of


@dataclass(frozen=True)
class Summary:
    """What a batch came to.

    folder, files  where the rows are; names of the files, those of earlier runs among them
    sources        how many there are, rejected ones among them
    resumed        how many of them were finished before this run
    frames         rows in all files; `answered` of them by this run
    rejects        ({source, reason}, …), of all runs
    seconds        of this run, without loading and splitting the model
    cut, notes     as of `graphsplit.Detector`
    """

    folder: Path
    files: tuple[str, ...]
    sources: int
    resumed: int
    frames: int
    answered: int
    rejects: tuple[Mapping[str, str], ...]
    seconds: float
    cut: str
    notes: tuple[str, ...]


def run_batch(
    model: Model | Parts | str | PathLike[str],
    sources: Iterable[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    engine: Engine = "local",
    format: Format = "jsonl",
    threshold: float = 0.5,
    resume: bool = False,
    sources_per_part: int = 64,
    threads: int = 1,
    devices: Mapping[str, str] | None = None,
    pixels: tuple[float, float] | None = None,
    trust: bool = False,
    cluster: Mapping[str, Any] | None = None,
    progress: Callable[[Event, Sequence[Item]], None] | None = None,
    **cut: Any,
) -> Summary:
    """Detect in every frame of every source; the rows go into files in `out`.

    model     a model, its parts, or the path of a model or of a split folder; cut as `graphsplit.Detector` does it
    sources   pictures, videos, folders of them
    out       a folder, new or empty, or one to `resume` in
    engine    "local": a pipeline in this process; "ray": actors of a cluster. Both write the same bytes
    sources_per_part  whole sources in one file; what was not finished with its part is done again after an interruption
    threads   of each section's own pool. One number gives the same rows on every machine; another may round differently
    cluster   options of `graphsplit.batching.ray_engine.run_ray`

    A source that cannot be read, or a frame that the model fails on, is listed in `rejects`, and raises nothing.

    Raises FormatError for an input that is not there, OverwriteError for a folder with something in it, MissingExtraError,
    PlacementError for actors that the cluster can never hold, and what loading, planning and splitting raise.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a score from 0 to 1, not {threshold!r}")
    supervision(), opencv()  # missing ones are told before any work
    check_format(format)
    if engine == "ray":
        from graphsplit.batching.ray_engine import check_ray

        check_ray()
    items = inventory(sources, out=out)
    made = detectable(model, trust=trust, **cut)
    longest = _SEGMENTED if made.layout.labels else 0
    fed = picture_input(made.inputs, pixels=pixels, longest=longest, quantised=made.quantised)
    work = Work(made.parts, fed, made.layout, threshold, dict(devices or {}), threads, trust)
    settings = {
        "model": made.parts.source.sha256,
        "sections": {p.name: [o.tensor for o in p.outputs] for p in made.parts},
        "rewrites": [dict(r) for r in made.parts.rewrites],
        "threshold": threshold,
        "threads": threads,
        "pixels": list(fed.pixels),
        "format": format,
    }
    with Archive(out, settings, format=format, sources_per_part=sources_per_part, resume=resume) as archive:
        left = [item for item in items if item.name not in archive.finished]
        begun, before = perf_counter(), sum(d.frames for d in archive.done)
        with closing(_events(engine, work, left, cluster or {})) as events, closing(archive.write(left, events)) as written:
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
            seconds=perf_counter() - begun,
            cut=made.cut,
            notes=made.notes,
        )


def _events(engine: Engine, work: Work, items: Sequence[Item], cluster: Mapping[str, Any]) -> Generator[Event, None, None]:
    if not items:
        return
    if engine == "ray":
        from graphsplit.batching.ray_engine import run_ray

        yield from run_ray(work, items, **cluster)
    else:
        from graphsplit.batching.local import run_local

        yield from run_local(work, items)
