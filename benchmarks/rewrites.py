"""Whole, split and pipelined, as exported and rewritten, side by side: python benchmarks/rewrites.py MODEL… [--rounds N]

Both versions of a model are in one process and take turns, so that the machine's drift meets both; ratios are medians of
the ratios of the rounds. "post" is the section behind the network with one thread. Load time is the import of the graph
and the first run, in turns as well. Without the name of a model the shipped one is measured.
"""

from __future__ import annotations

import argparse
import gc
import os
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import graphsplit as gs
from graphsplit.demo import data as demo_data
from graphsplit.inference.feeds import made_feeds
from graphsplit.planning.planner import plan_sections
from graphsplit.rewrites import fused, rewrite_again
from graphsplit.runtimes.tensorflow import TensorFlowSession, session_config
from graphsplit.verification.equivalence import run_parts

VERSIONS = ("exported", "rewritten")


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    started = perf_counter()
    call()
    return perf_counter() - started


def one_thread() -> Any:
    """A configuration with one thread, as a section on a busy CPU has it."""
    config = session_config()
    config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = 1
    return config


def measure(path: Path, rounds: int, frames: int) -> tuple[dict[str, dict[str, list[float]]], dict[str, int]]:
    """{what: {version: milliseconds, one a round}} and {version: nodes} of a model."""
    model = gs.load(path)
    exported = gs.plan(model, shapes=False)
    rewritten = rewrite_again(model, [*fused(model, exported)[0].rewrites, {"name": "batch_preprocess"}])
    plan = plan_sections(rewritten.index, exported.cuts, last=exported.last)
    feeds = made_feeds(model)[0]
    wholes = dict(zip(VERSIONS, (model, rewritten), strict=True))
    plans = dict(zip(VERSIONS, (exported, plan), strict=True))
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    for _ in range(max(2, rounds // 4)):
        for version, whole in wholes.items():
            data = whole.serialized()
            gc.collect()
            first = seconds(lambda d=data, w=whole: TensorFlowSession(d).run(feeds, w.index.outputs))
            found["import and first run"][version].append(1000 * first)

    calls: dict[tuple[str, str], Callable[[], object]] = {}
    pipelines = {}
    for version, whole in wholes.items():
        parts = gs.split(whole, plans[version], shapes=False)
        session = TensorFlowSession(whole.serialized())
        run = session.prepare(list(feeds), list(whole.index.outputs))
        calls["whole", version] = lambda r=run: r(list(feeds.values()))
        if len(parts) > 1:
            sessions = {p.name: TensorFlowSession(p.model.serialized(), config=one_thread()) for p in parts}
            values = run_parts(parts, feeds, sessions)
            last = parts.sections[-1]
            post = sessions[last.name].prepare([p.name for p in last.inputs], [p.name for p in last.outputs])
            calls["post, one thread", version] = lambda r=post, v=[values[p.tensor] for p in last.inputs]: r(v)
        pipe = pipelines[version] = gs.Pipeline(parts)
        calls["split", version] = lambda p=pipe: p.run(feeds)
        calls["pipelined", version] = lambda p=pipe: [None for _ in p.stream(feeds for _ in range(frames))]
    for call in calls.values():
        call()
    for _ in range(rounds):
        for (what, version), call in calls.items():
            count = frames if what == "pipelined" else 1
            found[what][version].append(1000 * seconds(call) / count)
    for pipe in pipelines.values():
        pipe.close()
    return found, {version: len(whole.index.nodes) for version, whole in wholes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", metavar="MODEL", nargs="*", type=Path, help="frozen .pb (default: the shipped detector)")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--frames", type=int, default=8, help="of a pipelined round (default 8)")
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # where sections really run is of no matter here
    for path in args.models or [Path(str(demo_data.model()))]:
        found, nodes = measure(path, args.rounds, args.frames)
        print(f"\n{path.stem}: {nodes['exported']:,} nodes as exported, {nodes['rewritten']:,} rewritten\n")
        print("| | as exported, ms | rewritten, ms | ratio |\n|---|---|---|---|")
        for what, times in found.items():
            ratio = median(a / b for a, b in zip(times["exported"], times["rewritten"], strict=True))
            print(f"| {what} | {median(times['exported']):.1f} | {median(times['rewritten']):.1f} | {ratio:.2f} × |")


if __name__ == "__main__":
    main()
