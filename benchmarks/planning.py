#!/usr/bin/env python3
"""How long it takes to load, index and plan graphs of 1,000 to 100,000 nodes, and whether that grows with their size alone.

    python benchmarks/planning.py
    python benchmarks/planning.py --nodes 5000 50000 --rounds 9
    python benchmarks/planning.py --shapes
    python benchmarks/planning.py --shapes switches comb_replicate

The graphs are chains with skip edges, constants and a loop (made_graphs.py), cut in the middle. Everything happens in
this process; every round loads the file anew. Targets: 100,000 nodes in less than 3 s; ten times the nodes, about ten
times the seconds (at most 13).

With --shapes, graphs of awkward shapes (hostile_graphs.py) instead, of 10,000 and of 100,000 nodes, each read, planned, cut,
serialised, searched for cuts and drawn in a process of its own. Targets: 100,000 nodes in less than 10 s and 1 GB, and at most
15 times the seconds of 10,000.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hostile_graphs import SHAPES
from made_graphs import chain
from processes import many, median, once, print_machine, print_table, run, spread, verdict

import graphsplit
from graphsplit.diagram.picture import draw

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


def run_shape(path: Path) -> None:
    """All steps on one graph, in this process, and the seconds of each on stderr."""
    shape = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    model = graphsplit.load(path)

    def drawn() -> None:
        str(draw(model, plan, shapes=False))

    plan = None
    seconds = {"index": once(lambda: model.index)}
    begin = time.perf_counter()
    plan = graphsplit.plan(model, outputs=shape["targets"], repair=shape["repair"])
    seconds["plan"] = time.perf_counter() - begin
    seconds["sections"] = once(lambda: [p.model.serialized() for p in graphsplit.split(model, plan, shapes=False)])
    seconds["suggest"] = once(lambda: graphsplit.suggest(model, shapes=False))
    seconds["draw"] = once(drawn)
    print(json.dumps(seconds), file=sys.stderr)


def time_shapes(names: Sequence[str], sizes: Sequence[int]) -> None:
    """Seconds and peak memory of each shape, and how the seconds grow; the bare process is taken off."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="planning.") as folder:
        bare = run([sys.executable, "-c", "import graphsplit"])
        for name in names:
            took = []
            for size in sizes:
                write = [sys.executable, __file__, "--write", folder, "--shapes", name, "--nodes", str(size)]
                run(write)  # not here: what this process holds counts towards the peak of its children
                took.append(run([sys.executable, __file__, "--one", str(Path(folder) / f"{name}_{size}.pb")]))
                print(f"\r{name} {size:,}    ", end="", file=sys.stderr, flush=True)
            seconds = [t.cpu - bare.cpu for t in took]  # one thread; others of the machine do not count
            growth = seconds[-1] / seconds[0]
            met = seconds[-1] <= 10 * sizes[-1] / 100_000 and took[-1].peak < 1e9 and growth <= 1.5 * sizes[-1] / sizes[0]
            figures = [f"{s:.2f}" for s in seconds] + [f"{t.peak / 1e6:.0f}" for t in took]
            rows.append((name, *figures, f"{growth:.1f}", "met" if met else "missed"))
        print("\r", end="", file=sys.stderr)
    columns = [f"{what}, {size:,} nodes" for what in ("CPU seconds", "peak MB") for size in sizes]
    print_table("Index, plan, cut, serialise, suggest and draw, in a process each", ["shape", *columns, "growth", "target"], rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", metavar="N", help="sizes (default 1000 10000 100000)")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, metavar="NAME", help=f"awkward shapes: {', '.join(SHAPES)}")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measured rounds (default 5)")
    args = parser.parse_args()
    if args.one is not None:
        run_shape(args.one)
        return
    if args.write is not None:
        (name,), (size,) = args.shapes, args.nodes
        shape = SHAPES[name](size)
        path = args.write / f"{name}_{size}.pb"
        path.write_bytes(shape.data)
        path.with_suffix(".json").write_text(json.dumps({"targets": shape.targets, "repair": shape.repair}), encoding="utf-8")
        return
    if args.shapes is not None:
        print_machine()
        time_shapes(args.shapes or list(SHAPES), sorted(set(args.nodes or [10_000, 100_000])))
        return
    found = time_sizes(sorted(set(args.nodes or [1000, 10_000, 100_000])), args.rounds)
    print_machine()
    report(found)


if __name__ == "__main__":
    main()
