"""Runs campaigns outside of pytest: `python -m tests.attack [CAMPAIGN …] [--count N] [--first SEED]`; without names all."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.attack.campaigns import CAMPAIGNS, scaled
from tests.attack.harness import Outcome, build_samples, run

__all__ = ["main"]


def main() -> int:
    """The command line; 1 if anything fell."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Try hostile cases; print how many fell.")
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=f"of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--count", type=int, help="cases of each; default: its long size times GRAPHSPLIT_ATTACK")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="seed of the first case (default 0)")
    parser.add_argument("--samples", type=Path, help="folder of samples to use again; written if it does not exist")
    args = parser.parse_args()
    if unknown := set(args.campaigns) - set(CAMPAIGNS):
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    fallen = 0
    with tempfile.TemporaryDirectory(prefix="attack", ignore_cleanup_errors=True) as folder:
        samples = args.samples or Path(folder) / "samples"
        if not samples.exists():
            build_samples(samples)
        for name in args.campaigns or CAMPAIGNS:
            outcome = run(
                name,
                args.count or scaled(CAMPAIGNS[name].long),
                first=args.first,
                samples=samples,
                place=Path(folder) / "place",
                seconds=CAMPAIGNS[name].seconds,
                progress=_Progress(),
            )
            print(outcome, flush=True)
            fallen += len(outcome.falls)
    return int(fallen > 0)


class _Progress:
    """Prints each fall when it is seen."""

    def __init__(self) -> None:
        self.printed = 0

    def __call__(self, outcome: Outcome) -> None:
        for fall in outcome.falls[self.printed :]:
            print(f"  {fall.campaign} --first {fall.seed}: {fall.fault}", flush=True)
        self.printed = len(outcome.falls)


if __name__ == "__main__":
    sys.exit(main())
