#!/usr/bin/env python3
"""How long it takes to load, index and plan graphs of 1,000 to 100,000 nodes, and whether that grows with their size alone.

    python benchmarks/planning.py
    python benchmarks/planning.py --nodes 5000 50000 --rounds 9

The graphs are chains with skip edges, constants and a loop (made_graphs.py), cut in the middle. Everything happens in
this process; every round loads the file anew. Targets: 100,000 nodes in less than 3 s; ten times the nodes, about ten
times the seconds (at most 13).
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from made_graphs import chain
from processes import many, median, once, print_machine, print_table, spread, verdict

import graphsplit

STEPS = ("load", "index", "plan", "sections")


def plan_once(path: Path, target: str) -> dict[str, float]:
    """Seconds of each step, for one file, and under "cpu" the CPU seconds of load, index and plan."""
    gc.collect()
    begin = time.process_time()
    model = None

    def load() -> None:
        nonlocal model
        model = graphsplit.load(path)

    seconds = {"load": once(load)}
    seconds["index"] = once(lambda: model.index)
    plan = None

    def make() -> None:
        nonlocal plan
        plan = graphsplit.plan(model, outputs=[target])

    seconds["plan"] = once(make)
    seconds["cpu"] = time.process_time() - begin
    seconds["sections"] = once(lambda: graphsplit.split(model, plan, shapes=False))
    return seconds


def time_sizes(sizes: Sequence[int], rounds: int) -> dict[int, dict[str, list[float]]]:
    """Seconds of each step in each round; the sizes take turns, and a first round is not counted."""
    found = {size: {step: [] for step in (*STEPS, "cpu")} for size in sizes}
    with tempfile.TemporaryDirectory(prefix="planning.") as folder:
        files = {}
        for size in sizes:
            data, target = chain(size)
            files[size] = (Path(folder) / f"chain_{size}.pb", target)
            files[size][0].write_bytes(data)
        for number in range(rounds + 1):
            for size, (path, target) in files.items():
                for step, seconds in plan_once(path, target).items():
                    if number:
                        found[size][step].append(seconds)
            print(f"\rround {number} of {rounds}", end="", file=sys.stderr, flush=True)
        print("\r", end="", file=sys.stderr)
    return found


def report(found: dict[int, dict[str, list[float]]]) -> None:
    """Print seconds, seconds per 1,000 nodes, and how they grow."""
    rounds = len(next(iter(found.values()))["load"])
    whole = {size: many(*(steps[s] for s in STEPS[:3]), of=lambda *s: sum(s)) for size, steps in found.items()}
    print_table(
        f"Seconds in this process, median (min–max) of {rounds} rounds",
        ["nodes", "load", "index", "plan", "load + index + plan", "per 1,000 nodes", "CPU seconds", "then: sections"],
        [
            (
                f"{size:,}",
                *(f"{median(steps[s]):.4f}" for s in STEPS[:3]),
                spread(whole[size], 3),
                f"{median(whole[size]) / size * 1000:.4f}",
                spread(steps["cpu"], 3),
                f"{median(steps['sections']):.4f}",
            )
            for size, steps in found.items()
        ],
    )
    rows = []
    sizes = sorted(found)
    for small, large in pairwise(sizes):
        growth = many(whole[large], whole[small], of=lambda a, b: a / b)
        times = large / small
        rows.append((f"seconds of {large:,} / {small:,} nodes", spread(growth, 1), verdict(median(growth), most=1.3 * times)))
    largest = median(whole[sizes[-1]])
    rows.append((f"seconds of {sizes[-1]:,} nodes", spread(whole[sizes[-1]]), verdict(largest, most=3 * sizes[-1] / 100_000)))
    print_table("Growth", ["", "median (min–max)", "target"], rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N", help="sizes")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measured rounds (default 5)")
    args = parser.parse_args()
    found = time_sizes(sorted(set(args.nodes)), args.rounds)
    print_machine()
    report(found)


if __name__ == "__main__":
    main()
