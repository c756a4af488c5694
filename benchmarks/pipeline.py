"""What the pipeline costs and what it gains.

    python benchmarks/pipeline.py                       # overhead with stages that do nothing
    python benchmarks/pipeline.py MODEL [--threads 1]   # and whole, sections and pipeline of a model, in turns

Overhead is the time of a frame through two stages that only pass a value on: queues and threads, no TensorFlow. Efficiency is
the pipeline's pace against that of its slowest section alone, both measured in the same rounds.
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter

from rich.console import Console
from rich.table import Table

from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import Stage


def overhead(frames: int = 5000, rounds: int = 7) -> list[float]:
    """Microseconds a frame, one figure a round."""
    stages = [
        Stage("main", "/cpu:0", ("x",), ("m",), lambda values: [values[0]]),
        Stage("post", "/cpu:0", ("m",), ("y",), lambda values: [values[0]]),
    ]
    found = []
    with Pipeline.from_stages(stages) as pipe:
        for _ in range(rounds):
            started = perf_counter()
            for _ in pipe.stream({"x": 1} for _ in range(frames)):
                pass
            found.append(1e6 * (perf_counter() - started) / frames)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a frozen graph with a preset")
    parser.add_argument("--threads", type=int, default=1, help="of each section (default 1)")
    parser.add_argument("--frames", type=int, default=150, help="for each way to run")
    args = parser.parse_args()
    out = Console(width=120)

    found = overhead()
    table = Table("", "min", "median", "max", title="Overhead of the pipeline, µs a frame (target: at most 100)")
    table.add_row("two empty stages", *(f"{f(found):.0f}" for f in (min, statistics.median, max)))
    out.print(table)
    if args.model is None:
        return

    import graphsplit as gs

    report = gs.bench(args.model, frames=args.frames, threads=args.threads)
    table = Table("", "frames/s", "ms p50", title=f"{args.model}, {args.threads} thread(s) a section, the whole with all cores")
    for name, mode in (("whole", report.whole), ("one after the other", report.sequential), ("pipelined", report.pipelined)):
        table.add_row(name, f"{mode.fps:.1f}", f"{mode.p50:.1f}")
    for name, ms in report.sections.items():
        table.add_row(f"{name} alone", f"{1000 / ms:.1f}", f"{ms:.1f}")
    out.print(table)
    out.print(f"efficiency {report.efficiency:.3f} of the slowest section (target: at least 0.95)")
    out.print(f"pipelined / whole {report.ratio:.2f}: {report.verdict}, {report.reason}")


if __name__ == "__main__":
    main()
