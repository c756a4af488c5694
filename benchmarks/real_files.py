#!/usr/bin/env python3
"""How many of the model files in a folder can be split, and whether the sections compute what the whole computes.

    python benchmarks/real_files.py FOLDER
    python benchmarks/real_files.py FOLDER --cuts 5 --json results.json
    python benchmarks/real_files.py FOLDER --markdown results.md

FOLDER is searched for models of every format, also packed ones (`.pb.gz`, `.tflite.gz`, a SavedModel as `.tar.gz`). Each is
split in a process of its own, which has a time limit: by default, by the automatic cut, and at random inner tensors. Every
split is proven on synthetic inputs. Nothing is written to FOLDER.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from processes import once, print_table

import graphsplit as gs

_TRIES = 200  # inner tensors that may turn out to be no legal border
_ENDINGS = (".pb", ".pbtxt", ".tflite", ".keras")
_SHORT = ("proven", "whole", "differs")
_PACKED = tuple(f"{ending}.gz" for ending in _ENDINGS)


@dataclass
class Row:
    """What became of one file. Each result is "proven", "whole" (there is one section), "differs", or an error."""

    file: str
    format: str = ""
    nodes: int = 0
    default: str = ""
    autocrop: str = ""
    inner: list[str] = field(default_factory=list)
    sections: str = ""
    seconds: float = 0.0
    error: str = ""

    @property
    def results(self) -> list[str]:
        """The result of every attempt."""
        return [self.error] if self.error else [self.default, self.autocrop, *self.inner]

    @property
    def is_fine(self) -> bool:
        """Whether everything was proven."""
        return all(result in ("proven", "whole") for result in self.results)


# the files


def models(folder: Path) -> list[Path]:
    """Everything in the folder that may be a model: SavedModel folders, and files by their endings."""
    saved = {path.parent for path in folder.rglob("saved_model.pb*")}
    files = (path for path in folder.rglob("*") if path.is_file() and not any(parent in saved for parent in path.parents))
    return sorted([*saved, *(p for p in files if p.name.endswith((*_ENDINGS, *_PACKED, ".tar.gz")))])


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The model, unpacked if need be."""
    if not path.name.endswith(".gz"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="real.") as folder:
        plain = Path(folder) / path.stem
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            plain = next((p.parent for p in Path(folder).rglob("saved_model.pb*")), plain)
        else:
            plain.write_bytes(gzip.decompress(path.read_bytes()))
        yield plain


# one file, in a process of its own


def tried(path: Path, row: Row, cuts: int, seed: int) -> None:
    """Split a model in several ways and fill in its row."""
    try:
        model = gs.load(path)
        row.format, row.nodes = model.format, len(model.index.nodes)
    except gs.GraphSplitError as error:
        row.error = message(error, path)
        return

    def attempt(split: Callable[[], gs.Parts]) -> str:
        """The result of a split, or the error it ended with."""
        try:
            parts = split()
            return "whole" if len(parts) == 1 else "proven" if gs.verify(model, parts) else "differs"
        except gs.GraphSplitError as error:
            return message(error, path)

    def default() -> gs.Parts:
        parts = gs.split(model)
        row.sections = " → ".join(f"{part.name} {len(part.model.index.nodes):,}" for part in parts)
        return parts

    row.seconds = once(lambda: setattr(row, "default", attempt(default)))
    row.autocrop = attempt(lambda: gs.split(model, autocrop=True))
    row.inner = [attempt(lambda cut=cut: gs.split(model, cut)) for cut in inner_cuts(model, cuts, seed)]


def message(error: gs.GraphSplitError, path: Path) -> str:
    """An error on one line, without the path of the file."""
    return " ".join(str(error).split()).removeprefix(f"{path}: ")


def inner_cuts(model: gs.Model, count: int, seed: int) -> Iterator[gs.Plan]:
    """Plans that end main at random tensors where that is legal."""
    tensors = sorted(model.index.tensors)
    chance = random.Random(seed)
    for name in chance.sample(tensors, min(_TRIES, len(tensors))):
        if count == 0:
            return
        try:
            plan = gs.plan(model, outputs=[name])
        except gs.GraphSplitError:
            continue
        if len(plan.sections) > 1:
            count -= 1
            yield plan


def tried_apart(path: Path, name: str, args: argparse.Namespace) -> Row:
    """The row of a file, filled in by another process."""
    command = [sys.executable, __file__, str(path), "--one", "--cuts", str(args.cuts), "--seed", str(args.seed)]
    row = Row(name)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=args.timeout)
    except subprocess.TimeoutExpired:
        row.error = f"no end after {args.timeout:g} s"
        return row
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [""]
        row.error = f"died with status {done.returncode}: {last[0]}"
        return row
    return Row(**json.loads(done.stdout) | {"file": name})


# the answer


class Notes:
    """Errors, numbered in the order in which they are met; the table has their numbers."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def short(self, result: str) -> str:
        """A result as the table shows it."""
        if not result or result in _SHORT:
            return result
        return f"error {self.numbers.setdefault(result, len(self.numbers) + 1)}"

    def counted(self, results: list[str]) -> str:
        """Several results in one cell."""
        counts = Counter(map(self.short, results))
        return ", ".join(key if n == 1 else f"{n} × {key}" for key, n in counts.items())


def lines(rows: list[Row], notes: Notes) -> list[list[str]]:
    """The rows of the table."""
    return [
        [
            row.file,
            row.format,
            f"{row.nodes:,}",
            notes.short(row.error or row.default),
            row.sections,
            notes.short(row.autocrop),
            notes.counted(row.inner),
            f"{row.seconds:.1f}",
        ]
        for row in rows
    ]


_HEADER = ["file", "format", "nodes", "default split", "its sections", "automatic cut", "random inner cuts", "seconds"]


def markdown(table: list[list[str]], notes: Notes) -> str:
    """The table for a page, and the errors below it."""
    cells = [_HEADER, ["---"] * len(_HEADER), *table]
    rows = "".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in cells)
    return rows + "".join(f"\nError {number}: {error}\n" for error, number in notes.numbers.items())


def summary(rows: list[Row]) -> str:
    """How many files of how many, and how many splits."""
    results = [r for row in rows for r in row.results]
    proven, differ = results.count("proven"), results.count("differs")
    return f"{sum(r.is_fine for r in rows)} of {len(rows)} files without an error; {proven} splits proven, {differ} differ"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with models, searched with its folders")
    parser.add_argument("--cuts", type=int, default=3, metavar="N", help="random inner cuts of each file (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the random cuts (default 0)")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for each file (default 600)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to a file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table to a file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # FOLDER is a model
    args = parser.parse_args()
    if args.one:
        row = Row(args.folder.name)
        tried(args.folder, row, args.cuts, args.seed)
        print(json.dumps(asdict(row)))
        return
    found = models(args.folder)
    if not found:
        raise SystemExit(f"no model in {args.folder}")
    rows = []
    for number, path in enumerate(found, 1):
        print(f"\r{number} of {len(found)}", end="", file=sys.stderr, flush=True)
        with unpacked(path) as plain:
            rows.append(tried_apart(plain, str(path.relative_to(args.folder)), args))
    print("\r", end="", file=sys.stderr)
    notes = Notes()
    table = lines(rows, notes)
    print_table("Files split and proven", _HEADER, table)
    for error, number in notes.numbers.items():
        print(f"error {number}: {error}")
    print(summary(rows))
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    if args.markdown is not None:
        args.markdown.write_text(markdown(table, notes), encoding="utf-8")


if __name__ == "__main__":
    main()
