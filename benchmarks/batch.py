"""Frames a second of a batch once it has started: the local engine against Ray with 1, 2 … actors of main, in turns in one run.

    python benchmarks/batch.py MODEL VIDEO [--actors 1,2] [--rounds 3] [--copies 2,8]

Each engine does a few copies of the video and then many; the rate is what the further frames took, so that starting actors,
importing TensorFlow and filling the stages cancel out. Ray itself is started before, and ended afterwards.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from graphsplit.batching import run_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--actors", default="1,2", help="numbers of actors of main to try")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", default="2,8", help="how many copies of the video in the short and in the long run")
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    import ray

    few, many = (int(n) for n in args.copies.split(","))
    counts = [int(n) for n in args.actors.split(",")]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    scratch = Path(tempfile.mkdtemp(prefix="gs-bench-"))
    videos = [scratch / "in" / f"{i:03}{Path(args.video).suffix}" for i in range(many)]
    videos[0].parent.mkdir()
    for video in videos:
        shutil.copy(args.video, video)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, _temp_dir=str(scratch / "ray"))
    cores = ray.cluster_resources()["CPU"]
    print(f"{cores:g} CPUs; each engine does {few}, then {many} copies of {Path(args.video).name}")
    rates: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    try:
        for number in range(args.rounds):
            local = None
            for name, actors in (("local", 0), *((f"ray, {n} of main", n) for n in counts)):
                options: dict[str, Any] = {"engine": "local"}
                if actors:
                    share = min(1.0, int(100 * cores / (actors + 3)) / 100)  # of read, main and answer; the rest is for Ray's tasks
                    cpus = dict.fromkeys(("read", "main", "answer"), share)
                    options = {
                        "engine": "ray",
                        "ray": {"actors": {"main": actors}, "cpus": cpus, "batch_size": args.batch_size},
                    }
                short, long = (
                    run_batch(args.model, videos[:n], scratch / f"{number}-{actors}-{n}", **options) for n in (few, many)
                )
                rate = (long.answered - short.answered) / (long.seconds - short.seconds)
                start = short.seconds - short.answered / rate
                local = local or rate
                rates.setdefault(name, []).append(rate)
                ratios.setdefault(name, []).append(rate / local)
                starts.setdefault(name, []).append(start)
                print(
                    f"round {number + 1}  {name:16} {rate:6.1f} frames/s once started after {start:4.1f} s,"
                    f" {rate / local:.2f} × local"
                )
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
    for name, found in rates.items():
        middle, least, most = (f(ratios[name]) for f in (statistics.median, min, max))
        print(
            f"{name:16} {statistics.median(found):6.1f} frames/s, start {statistics.median(starts[name]):4.1f} s, "
            f"{middle:.2f} ({least:.2f}–{most:.2f}) × local"
        )


if __name__ == "__main__":
    main()
