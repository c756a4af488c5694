"""What `graphsplit detect` prints: its progress, and a summary of the detections."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from graphsplit.cli.printing import cut_text, say, table
from graphsplit.cli.progress import bar

if TYPE_CHECKING:
    from graphsplit.detection.detector import Detector
    from graphsplit.detection.frame import Frame
    from graphsplit.detection.pictures import Notice, Source

__all__ = ["Tally", "answer_of", "print_answer", "progress"]


class Tally:
    """The results so far.

    Attributes:
        frames: The number of frames.
        stopped: "interrupted" or "window closed"; empty if the source ended, or `--max-frames` was reached.
        written: The files and folders that were written.
        classes: Class → (detections, frames with them, best score).
        files: The files of a folder or of several sources that were read, as keys in their order.
        notices: What the source reported.
        last: The last frame.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.frames = 0
        self.stopped = ""
        self.written: list[str] = []
        self.classes: dict[str, tuple[int, int, float]] = {}
        self.files: dict[str, None] = {}
        self.notices: list[Notice] = []
        self.last: Frame | None = None
        self._times: deque[float] = deque(maxlen=30)

    def add(self, frame: Frame) -> None:
        """Count a frame."""
        self.frames += 1
        self.last = frame
        self._times.append(perf_counter())
        if self.source.kind in ("folder", "several"):
            folder = f"{self.source.id}/" if self.source.kind == "folder" else ""
            self.files[frame.source.removeprefix(folder)] = None
        names = [str(n) for n in frame.detections.data["class_name"]]
        for name in dict.fromkeys(names):
            scores = [float(s) for n, s in zip(names, frame.detections.confidence, strict=True) if n == name]
            count, frames, best = self.classes.get(name, (0, 0, 0.0))
            self.classes[name] = (count + len(scores), frames + 1, max(best, *scores))

    @property
    def rejects(self) -> list[Notice]:
        """The files that could not be read."""
        return [notice for notice in self.notices if notice.rejected]

    @property
    def fps(self) -> float:
        """Frames per second, over the last 30 frames."""
        elapsed = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        return (len(self._times) - 1) / elapsed if elapsed > 0 else 0.0


@contextmanager
def progress(source: Source, max_frames: int | None, detector: Detector) -> Iterator[Callable[[Tally], None]]:
    """Show where sections run, and a progress bar with the current rate; nothing for a single image."""
    known = [n for n in (source.count, max_frames) if n is not None]
    where = ", ".join(f"{name} on {device}" for name, device in detector.devices.items())
    with bar(source.name, note=where, quiet=source.kind == "image") as move:

        def advance(tally: Tally) -> None:
            dropped = detector.pipeline.statistics.dropped
            detected = len(tally.last.detections) if tally.last is not None else 0
            text = f"{tally.fps:.1f} frames/s, {detected} detected" + (f", {dropped} dropped" if dropped else "")
            move(tally.frames, min(known) if known else None, text)

        yield advance


def answer_of(args: argparse.Namespace, detector: Detector, tally: Tally) -> dict[str, object]:
    """The summary as one JSON object. Times in milliseconds."""
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
        "found": {n: {"count": c, "frames": f, "best": best} for n, (c, f, best) in sorted(tally.classes.items())},
        "files": list(tally.files),
        "rejects": [{"source": notice.source, "reason": notice.reason} for notice in tally.rejects],
        "written": tally.written,
        "stopped": tally.stopped or None,
        "notes": _notes(args, detector, tally),
    }


def print_answer(args: argparse.Namespace, detector: Detector, tally: Tally) -> None:
    """Print tables of the sections and of the detections, and a line of figures."""
    figures = detector.pipeline.statistics.summary()
    say(f" {cut_text(detector.cut, len(detector.parts))}", bold=args.model)
    rows = [(name, detector.devices[name], f"{ms:.1f}") for name, ms in figures.sections.items()]
    table("Sections", ["section", "runs on", "ms per frame (median)"], rows)
    if tally.source.kind == "image" and tally.last is not None:
        detections = tally.last.detections
        boxes = [", ".join(f"{v:.0f}" for v in box) for box in detections.xyxy]
        scores = [f"{s:.3f}" for s in detections.confidence]
        names = [str(n) for n in detections.data["class_name"]]
        table("Detections", ["class", "score", "xmin, ymin, xmax, ymax"], zip(names, scores, boxes, strict=True))
    elif tally.classes:
        ordered = sorted(tally.classes.items(), key=lambda f: (-f[1][0], f[0]))
        counted = [(name, f"{count:,}", f"{frames:,}", f"{best:.3f}") for name, (count, frames, best) in ordered]
        table("Detections", ["class", "count", "in frames", "best score"], counted)
    if not tally.classes:
        say(f"no detections with a score of {args.threshold:g} or more")
    latency = f"latency {figures.latency_p50:.1f} ms (median), {figures.latency_p95:.1f} ms (95 %)"
    if tally.frames == 1:
        say(f"1 frame, latency {figures.latency_p50:.1f} ms")
    else:
        say(f"{tally.frames:,} frames, {figures.fps:.1f} frames/s, {latency}, {figures.dropped:,} dropped")
    for note in _notes(args, detector, tally):
        say(f"note: {note}")
    for path in tally.written:
        say(f"wrote {path}")


def _notes(args: argparse.Namespace, detector: Detector, tally: Tally) -> list[str]:
    asked = {part.name: part.device for part in detector.parts} | dict(args.device)
    notes = list(detector.notes)
    for name, device in detector.devices.items():
        if asked[name] != device:
            notes.append(f"{asked[name]} is not available: section {name!r} runs on {device}")
    notes += [f"{notice.source}: {notice.reason}" for notice in tally.notices if not notice.rejected]
    if tally.stopped:
        kept = "; the results so far are kept" if tally.written else ""
        notes.append(f"{tally.stopped} after {tally.frames} frames{kept}")
    return notes
