"""Times of the frames of a pipeline, in bounded space."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphsplit.graph.text import count_text, shortened

__all__ = ["FrameTimes", "Statistics", "Summary", "percentile"]

_KEPT = 4096  # frames whose times are kept for percentiles and timelines


@dataclass
class FrameTimes:
    """Points in time of one frame, in seconds of `time.perf_counter`.

    Attributes:
        asked: When the source was asked for it.
        entered: When it was handed to the first stage.
        stages: Start and end in each stage.
        left: When the caller took the result.
    """

    asked: float
    entered: float
    stages: list[tuple[float, float]] = field(default_factory=list)
    left: float = 0.0

    @property
    def capture(self) -> float:
        """Seconds the source took."""
        return self.entered - self.asked

    @property
    def busy(self) -> float:
        """Seconds in stages."""
        return sum(end - start for start, end in self.stages)

    @property
    def latency(self) -> float:
        """Seconds from the queue of the first stage to the end of the last stage."""
        return (self.stages[-1][1] if self.stages else self.left) - self.entered

    @property
    def waiting(self) -> float:
        """Seconds of the latency in which no stage worked on it."""
        return max(0.0, self.latency - self.busy)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of a pipeline. Times are in milliseconds.

    Attributes:
        frames: Number of frames.
        fps: Frames per second.
        latency_p50: Median time of a frame in the pipeline.
        latency_p95: Its 95th percentile.
        capture_p50: Median time the source took.
        waiting_p50: Median part of the latency in which no stage worked on the frame.
        sections: Section → median time in it.
        utilisation: Section → share of the elapsed time in which it was busy.
        dropped: Frames that were replaced by newer ones before they entered.
    """

    frames: int
    fps: float
    latency_p50: float
    latency_p95: float
    capture_p50: float
    waiting_p50: float
    sections: dict[str, float]
    utilisation: dict[str, float]
    dropped: int


class Statistics:
    """Times of the frames of a pipeline. Sums are over all frames, percentiles over the last few thousand.

    Attributes:
        stages: Names of the stages.
        frames: Frames counted.
        dropped: Frames dropped by a stream with policy "latest".
        recent: Times of the last few thousand frames.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = tuple(stages)
        self.clear()

    def __repr__(self) -> str:
        rate = f", {self.frames / self.elapsed:.1f} frames/s" if self.elapsed > 0 else ""
        dropped = f", {self.dropped:,} dropped" if self.dropped else ""
        return f"Statistics({count_text(self.frames, 'frame')}{rate}{dropped}; {shortened(' → '.join(self.stages), 200)})"

    def clear(self) -> None:
        """Forget everything."""
        self.frames = 0
        self.dropped = 0
        self.recent: deque[FrameTimes] = deque(maxlen=_KEPT)
        self._busy = [0.0] * len(self.stages)
        self._first: float | None = None
        self._last = 0.0

    def add(self, times: FrameTimes) -> None:
        """Count a frame."""
        self.frames += 1
        self.recent.append(times)
        for i, (start, end) in enumerate(times.stages):
            self._busy[i] += end - start
        if self._first is None:
            self._first = times.asked
        self._last = times.left

    @property
    def elapsed(self) -> float:
        """Seconds from the first frame asked for to the last result taken."""
        return 0.0 if self._first is None else self._last - self._first

    def summary(self) -> Summary:
        """The figures so far."""
        elapsed = self.elapsed

        def ms(values: Iterable[float], share: float = 0.5) -> float:
            return 1000 * percentile(list(values), share)

        return Summary(
            frames=self.frames,
            fps=self.frames / elapsed if elapsed > 0 else 0.0,
            latency_p50=ms(t.latency for t in self.recent),
            latency_p95=ms((t.latency for t in self.recent), 0.95),
            capture_p50=ms(t.capture for t in self.recent),
            waiting_p50=ms(t.waiting for t in self.recent),
            sections={n: ms(t.stages[i][1] - t.stages[i][0] for t in self.recent) for i, n in enumerate(self.stages)},
            utilisation={n: self._busy[i] / elapsed if elapsed > 0 else 0.0 for i, n in enumerate(self.stages)},
            dropped=self.dropped,
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share (0 … 1) of the values lies, by linear interpolation; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
