"""A chart of a measurement: what each stage did when, and how the ways to run the model compare."""

from __future__ import annotations

from pathlib import Path

from graphsplit.benchmark.measure import BenchReport
from graphsplit.errors import MissingExtraError

__all__ = ["draw_chart"]

_COLOURS = ("#3b6fb6", "#e0873a", "#4a9d6f", "#8a63b5", "#b5525c")
_GREY = "#9aa0a6"


def draw_chart(report: BenchReport, path: str | Path, *, title: str = "") -> Path:
    """Write a PNG: a timeline of the stages above, bars of frames per second below.

    Args:
        report: The measurement.
        path: The file to write.
        title: Title of the chart.

    Returns:
        The path.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Matplotlib", extra="detect") from error

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[3, 2])
    names = list(report.sections)

    for place in range(len(names)):
        spans = [(1000 * f[place][0], 1000 * (f[place][1] - f[place][0])) for f in report.timeline if len(f) > place]
        shades = [_COLOURS[place % len(_COLOURS)]] * len(spans)
        above.broken_barh(spans, (place - 0.35, 0.7), facecolors=shades, edgecolor="white", linewidth=1)
        for number, (start, width) in enumerate(spans[:12]):
            above.text(start + width / 2, place, str(number), ha="center", va="center", color="white", fontsize=8)
    above.set_yticks(range(len(names)), [f"{n}\n{report.devices.get(n, '')}" for n in names])
    above.invert_yaxis()
    above.set_xlabel("milliseconds (the numbers are frames)")
    above.set_title(title or "What each stage did")

    modes = {"whole": report.whole, "one after the other": report.sequential, "pipelined": report.pipelined}
    bars = below.barh(list(modes), [m.fps for m in modes.values()], color=[_GREY, _GREY, _COLOURS[0]])
    below.bar_label(bars, labels=[f"{m.fps:.1f} fps, {m.p50:.1f} ms latency" for m in modes.values()], padding=4)
    below.set_xlim(0, max(m.fps for m in modes.values()) * 1.45)
    below.invert_yaxis()
    below.set_xlabel("frames per second")
    below.set_title(f"{report.verdict}: {report.reason}", fontsize=9, wrap=True)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=110)
    return Path(path)
