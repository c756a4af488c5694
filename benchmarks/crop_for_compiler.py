#!/usr/bin/env python3
"""What an accelerator's compiler takes of the files of a folder, whole, and of main after a split for it.

    python benchmarks/crop_for_compiler.py FOLDER
    python benchmarks/crop_for_compiler.py FOLDER --target ethos-u85 --json figures.json

FOLDER holds models (`.tflite`, also packed as `.tflite.gz`). For each: ops that the compiler takes and leaves to the CPU, of
the whole and of main; the share of the layers' multiplications in main; bytes that cross a frame; seconds of the search for a
cut alone, and of the whole loop of splitting and asking; rounds. The compiler has to be installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import once, print_table

import graphsplit as gs


@dataclass
class Row:
    """The figures of one file; `error` instead of the others where it cannot be split."""

    file: str
    whole_taken: int = 0
    whole_asked: int = 0
    main_taken: int = 0
    main_asked: int = 0
    macs_in_main: float | None = None
    bytes: int = 0
    suggest_seconds: float = 0.0
    loop_seconds: float = 0.0
    rounds: int = 0
    sections: str = ""
    error: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the compiler takes all of main."""
        return not self.error and 0 < self.main_taken == self.main_asked


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file, or what is packed in it."""
    if path.suffix != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="crop.") as folder:
        plain = Path(folder) / path.stem
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        yield plain


def measured(path: Path, target: str) -> Row:
    """The figures of one file."""
    row = Row(path.name)
    try:
        whole = gs.check(path, target=target)
        if whole.compiler is None:
            raise SystemExit(f"{target}: {whole.reason}; this benchmark asks the compiler")
        row.whole_taken, row.whole_asked = whole.taken, whole.asked
        model = gs.load(path)
        found: list[gs.Suggestions] = []
        row.suggest_seconds = once(lambda: found.append(gs.suggest(model, target=target)))
        split: list[gs.Parts] = []
        row.loop_seconds = once(lambda: split.append(gs.split(model, target=target)))
        parts, answer = split[0], split[0].target
        row.main_taken, row.main_asked, row.rounds = answer.taken, answer.asked, len(answer.rounds)
        row.macs_in_main = next((cut.share for cut in found[0]), 1.0 if len(parts) == 1 else None)
        ports = {p.tensor: p for part in parts for p in part.inputs}
        specs = (gs.TensorSpec(t, ports[t].dtype, ports[t].shape).frame() for t in parts.borders)
        row.bytes = sum(spec.nbytes or 0 for spec in specs)
        row.sections = " → ".join(f"{part.name} {len(part.model.index.nodes)}" for part in parts)
    except gs.GraphSplitError as error:
        row.error = str(error)
    return row


def report(rows: list[Row], target: str) -> None:
    """Print the table, and how many files of how many."""
    print_table(
        f"What the compiler of {target} takes",
        ["file", "whole: ops, CPU", "main: ops, CPU", "multiplications", "bytes cross", "suggest s", "loop s", "rounds"],
        [
            (
                row.file,
                f"{row.whole_taken:,}, {row.whole_asked - row.whole_taken:,}",
                row.error or f"{row.main_taken:,}, {row.main_asked - row.main_taken:,}",
                "" if row.macs_in_main is None else f"{row.macs_in_main:.1%}",
                f"{row.bytes:,}",
                f"{row.suggest_seconds:.2f}",
                f"{row.loop_seconds:.2f}",
                row.rounds,
            )
            for row in rows
        ],
    )
    before = sum(row.whole_taken == row.whole_asked > 0 for row in rows)
    print(f"taken whole: {before} of {len(rows)} files as they are, main of {sum(r.is_whole for r in rows)}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with models")
    parser.add_argument("--target", default="ethos-u55", metavar="NAME|FILE", help="as of graphsplit check (default ethos-u55)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    args = parser.parse_args()
    files = sorted(p for p in args.folder.iterdir() if p.name.endswith((".tflite", ".tflite.gz")))
    if not files:
        raise SystemExit(f"no .tflite file in {args.folder}")
    rows = []
    for number, path in enumerate(files, 1):
        print(f"\r{number} of {len(files)}", end="", file=sys.stderr, flush=True)
        with unpacked(path) as plain:
            rows.append(measured(plain, args.target))
    print("\r", end="", file=sys.stderr)
    report(rows, args.target)
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
