"""What `graphsplit detect` says: how it goes while it runs, and what was found in the end."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from graphsplit.cli.printing import console, table

if TYPE_CHECKING:
    from graphsplit.detection.detector import Detector
    from graphsplit.detection.frame import Frame
    from graphsplit.detection.sources import Source

__all__ = ["Tally", "answer_of", "print_answer", "progress"]


class Tally:
    """What was found so far.

    found    class → (how often, in how many frames, best score)
    written  the files and folders that were written
    stopped  "interrupted" or "window closed"; empty when the source ended, or enough frames were seen
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.frames = 0
        self.stopped = ""
        self.written: list[str] = []
        self.found: dict[str, tuple[int, int, float]] = {}
        self.last: Frame | None = None
        self._times: deque[float] = deque(maxlen=30)

    def add(self, frame: Frame) -> None:
        """Count a frame."""
        self.frames += 1
        self.last = frame
        self._times.append(perf_counter())
        names = [str(n) for n in frame.detections.data["class_name"]]
        for name in dict.fromkeys(names):
            scores = [float(s) for n, s in zip(names, frame.detections.confidence, strict=True) if n == name]
            times, frames, best = self.found.get(name, (0, 0, 0.0))
            self.found[name] = (times + len(scores), frames + 1, max(best, *scores))

    @property
    def fps(self) -> float:
        """Frames a second, of late."""
        elapsed = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        return (len(self._times) - 1) / elapsed if elapsed > 0 else 0.0


@contextmanager
def progress(source: Source, max_frames: int | None, detector: Detector) -> Iterator[Callable[[Tally], None]]:
    """Where sections run, and a bar with the rate of the moment, on stderr; nothing outside of a terminal, and for a single
    picture.
    """
    if not sys.stderr.isatty() or source.kind == "image":
        yield lambda tally: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    known = [n for n in (source.count, max_frames) if n is not None]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        bar.console.print(", ".join(f"{name} on {device}" for name, device in detector.devices.items()), soft_wrap=True)
        task = bar.add_task(source.name, total=min(known) if known else None, now="")

        def advance(tally: Tally) -> None:
            dropped = detector.pipeline.statistics.dropped
            found = len(tally.last.detections) if tally.last is not None else 0
            now = f"{tally.fps:.1f} frames/s, {found} found" + (f", {dropped} dropped" if dropped else "")
            bar.update(task, completed=tally.frames, now=now)

        yield advance


def answer_of(args: argparse.Namespace, detector: Detector, tally: Tally) -> dict[str, Any]:
    """The answer as one JSON object. Times in milliseconds."""
    figures = detector.pipeline.statistics.summary()
    return {
        "source": tally.source.name,
        "kind": tally.source.kind,
        "cut": detector.cut,
        "frames": tally.frames,
        "dropped": figures.dropped,
        "fps": figures.fps,
        "latency_ms": {"p50": figures.latency_p50, "p95": figures.latency_p95},
        "sections": {n: {"ms_p50": ms, "device": detector.devices[n]} for n, ms in figures.sections.items()},
        "found": {n: {"count": c, "frames": f, "best": best} for n, (c, f, best) in sorted(tally.found.items())},
        "files": list(tally.source.files[: tally.frames]),
        "written": tally.written,
        "stopped": tally.stopped or None,
        "notes": _notes(args, detector, tally),
    }


def print_answer(args: argparse.Namespace, detector: Detector, tally: Tally) -> None:
    """Tables of the sections and of what was found, and a line of figures."""
    out = console()
    figures = detector.pipeline.statistics.summary()
    out.print(f"[bold]{args.model}[/] cut at: {detector.cut}", soft_wrap=True)
    rows = [(name, detector.devices[name], f"{ms:.1f}") for name, ms in figures.sections.items()]
    table("Sections", ["section", "runs on", "ms a frame (median)"], rows)
    if tally.source.kind == "image" and tally.last is not None:
        found = tally.last.detections
        boxes = [", ".join(f"{v:.0f}" for v in box) for box in found.xyxy]
        scores = [f"{s:.3f}" for s in found.confidence]
        names = [str(n) for n in found.data["class_name"]]
        table("Found", ["class", "score", "xmin, ymin, xmax, ymax"], zip(names, scores, boxes, strict=True))
    elif tally.found:
        ordered = sorted(tally.found.items(), key=lambda f: (-f[1][0], f[0]))
        counted = [(name, f"{times:,}", f"{frames:,}", f"{best:.3f}") for name, (times, frames, best) in ordered]
        table("Found", ["class", "count", "in frames", "best score"], counted)
    if not tally.found:
        out.print(f"nothing found with a score of {args.threshold:g} or more", soft_wrap=True)
    latency = f"latency {figures.latency_p50:.1f} ms (median), {figures.latency_p95:.1f} ms (95 %)"
    if tally.frames == 1:
        out.print(f"1 frame, latency {figures.latency_p50:.1f} ms", soft_wrap=True)
    else:
        out.print(f"{tally.frames:,} frames, {figures.fps:.1f} frames/s, {latency}, {figures.dropped:,} dropped", soft_wrap=True)
    for note in _notes(args, detector, tally):
        out.print(f"note: {note}", soft_wrap=True)
    for path in tally.written:
        out.print(f"wrote {path}", soft_wrap=True)


def _notes(args: argparse.Namespace, detector: Detector, tally: Tally) -> list[str]:
    asked = {part.name: part.device for part in detector.parts} | dict(args.device)
    notes = list(detector.notes)
    for name, device in detector.devices.items():
        if asked[name] != device:
            notes.append(f"{asked[name]} is not here: section {name!r} runs on {device}")
    if tally.source.note:
        notes.append(tally.source.note)
    if tally.stopped:
        kept = "; what was done until then is kept" if tally.written else ""
        notes.append(f"{tally.stopped} after {tally.frames} frames{kept}")
    return notes
