"""Files that nobody here made: what a split of each is by default, proven, or the message where it cannot be.

The files lie beside the repository; where they are not, these tests are skipped. ``files.json`` has a row for each: the sections
of the default split, or a part of the message; `benchmarks/real_files.py` tries any other folder.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import graphsplit as gs
from tests.shared import SHARED

ROWS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "files.json").read_text(encoding="utf-8"))


def rows() -> list[Any]:
    """A parameter for each row; those that take seconds are slow."""
    return [pytest.param(name, marks=pytest.mark.slow if row.get("slow") else (), id=name) for name, row in ROWS.items()]


@cache
def unpacked(path: Path, folder: Path) -> Path:
    """The model in a file, unpacked if need be."""
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        return next(p.parent for p in folder.rglob("saved_model.pb"))
    if path.suffix == ".gz":
        plain = folder / path.stem
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        return plain
    return path


@pytest.mark.parametrize("name", rows())
def test_a_file_is_split_and_proven_or_the_message_says_why_not(name, tmp_path):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no {name} in a folder `shared` beside the repository")
    row = ROWS[name]
    options = {k: row[k] for k in ("signature",) if k in row}
    if "message" in row:
        with pytest.raises(gs.GraphSplitError) as caught:
            prove(unpacked(path, tmp_path), options)
        assert re.search(row["message"], str(caught.value)), str(caught.value)
        return
    parts, report = prove(unpacked(path, tmp_path), options)
    assert report.equal, report.summary()
    assert [part.name for part in parts] == row["sections"].split()


def prove(path: Path, options: dict[str, Any]) -> tuple[gs.Parts, gs.Report]:
    """The default split of a model, and its proof."""
    model = gs.load(path, **options)
    parts = gs.split(model)
    return parts, gs.verify(model, parts)
