"""What writes files: a split, an export, single files, a batch, the sinks of detections, a download."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from graphsplit.batching.archive import Archive
from graphsplit.batching.events import End, Event, Row
from graphsplit.batching.inventory import Item
from graphsplit.detection.frame import Frame
from graphsplit.detection.sinks import ImageFile, ImageFolder, SinkPerSource
from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats import load, switch
from graphsplit.formats.atomic import Staging, check_free, landing
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.staging import recover
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import split
from tests.attack.kill_points import Writer
from tests.formats import raw

FLOAT = raw.FLOAT
GRAPH = raw.graph(
    raw.placeholder("x", FLOAT, -1, 8),
    raw.node("a", "Relu", "x", attrs={"T": raw.kind(FLOAT)}),
    raw.node("b", "Relu", "a", attrs={"T": raw.kind(FLOAT)}),
    raw.node("c", "Relu", "b", attrs={"T": raw.kind(FLOAT)}),
    raw.node("y", "Relu", "c", attrs={"T": raw.kind(FLOAT)}),
)


def _split(inputs: str, outputs: str) -> Parts:
    return split(GraphDefModel([GRAPH]), inputs=inputs, outputs=outputs, shapes=False)


def _old() -> Parts:
    return _split("a", "b")


def _new() -> Parts:
    return _split("b", "c")


def _sums(parts: Parts) -> list[str]:
    return [p.model.sha256 for p in parts]


# a split


def _save_fresh(folder: Path) -> None:
    save(_new(), folder / "deep" / "out")


def _save_over(folder: Path) -> None:
    save(_new(), folder / "out", overwrite=True)


def _before_over(folder: Path) -> None:
    save(_old(), folder / "out")
    (folder / "out" / "notes.txt").write_text("foreign")


def _check_fresh(folder: Path) -> list[str]:
    out = folder / "deep" / "out"
    try:
        parts = load_parts(out)
    except FormatError as error:
        left = [p.name for p in out.iterdir() if not p.name.startswith(".")] if out.exists() else []
        return [] if "no split.json here" in str(error) and not left else [f"{error}; there are {left}"]
    return [] if _sums(parts) == _sums(_new()) else ["another split"]


def _check_over(folder: Path) -> list[str]:
    faults = [] if (folder / "out" / "notes.txt").read_text() == "foreign" else ["a foreign file was changed"]
    return faults + ([] if _sums(load_parts(folder / "out")) in (_sums(_old()), _sums(_new())) else ["another split"])


def _check_over_unwritable(folder: Path) -> list[str]:
    """As somebody who may only read."""
    expected = (_sums(_old()), _sums(_new()))
    load_parts(save(_new(), folder / "warm"))  # all that is imported for it is imported by a user who may read it
    shutil.rmtree(folder / "warm")
    folders = [folder / "out", *(p for p in (folder / "out").rglob("*") if p.is_dir())]
    for place in folders:
        place.chmod(0o555)
    reader = os.fork()
    if reader == 0:
        status = 1
        try:
            os.chdir(folder)  # the folders above are nobody's business
            if os.geteuid() == 0:
                os.seteuid(65534)
            before = sorted(Path("out").rglob("*"))
            status = int(_sums(load_parts("out")) not in expected or sorted(Path("out").rglob("*")) != before)
        finally:
            os._exit(status)
    faults = ["a reader does not see one split, or writes"] if os.waitpid(reader, 0)[1] else []
    for place in folders:
        place.chmod(0o755)
    return faults + _check_over(folder)


# a file, a folder


def _file(overwrite: bool) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        _new()["main"].model.save(folder / "x.pb", overwrite=overwrite)

    return write


def _before_file(folder: Path) -> None:
    _old()["main"].save(folder / "x.pb")


def _check_file(old: bool) -> Callable[[Path], list[str]]:
    def check(folder: Path) -> list[str]:
        if not (folder / "x.pb").exists():
            return ["there is no file"] if old else []
        expected = [_new()["main"].model.sha256, *([_old()["main"].model.sha256] if old else [])]
        return [] if load(folder / "x.pb").sha256 in expected else ["another file"]

    return check


def _fill(place: Path, content: str) -> None:
    (place / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/a", "variables/b"):
        (place / name).write_text(content)


def _folder(overwrite: bool, *, exchange: bool = True) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        if not exchange:
            switch._replace_at_once = lambda place, target: False  # type: ignore[assignment]
        with landing(folder / "export", overwrite=overwrite) as place:
            _fill(place, "new")

    return write


def _before_folder(folder: Path) -> None:
    _fill(folder / "export", "old")


def _check_folder(old: bool) -> Callable[[Path], list[str]]:
    def check(folder: Path) -> list[str]:
        if not (folder / "export").exists():
            with suppress(FormatError):  # what is in it is no model
                load(folder / "export")
        content = {p.name: p.read_text() for p in (folder / "export").rglob("*") if p.is_file()}
        if not content:
            return ["there is no folder"] if old else []
        names, texts = set(content), set(content.values())
        whole = names == {"saved_model.pb", "a", "b"} and (texts == {"new"} or (old and texts == {"old"}))
        return [] if whole else [f"a mixture: {content}"]

    return check


# a batch: repeated as it was begun while nothing is finished, then with resume=True

_ITEMS = [Item(name, name) for name in "abcd"]
_PARTS = {"part-00000.jsonl": ["a", "b"], "part-00001.jsonl": ["c", "d"]}


def _write_batch(folder: Path) -> None:
    try:
        _run_batch(folder, resume=False)
    except OverwriteError:
        _run_batch(folder, resume=True)


def _run_batch(folder: Path, *, resume: bool) -> None:
    with Archive(folder / "out", {"model": "m"}, sources_per_part=2, resume=resume) as archive:
        left = [i for i in _ITEMS if i.name not in archive.finished]
        events: list[Event] = []
        for source in range(len(left)):
            events += [Row(source, 0, {"boxes": [], "scores": [], "classes": []}), End(source, 1)]
        for _ in archive.write(left, events):
            pass
        archive.finish()


def _check_batch(folder: Path) -> list[str]:
    """Parts are whole; the journal lists none that is not there."""
    out = folder / "out"
    rows = {p.name: [json.loads(line)["source"] for line in p.read_text().splitlines()] for p in out.glob("part-*")}
    faults = [f"{name}: {held}" for name, held in rows.items() if held != _PARTS.get(name)]
    journal = out / "batch.journal"
    lines = journal.read_text().splitlines(keepends=True)[1:] if journal.exists() else []
    return faults + [f"listed: {line}" for line in lines if line.endswith("\n") and json.loads(line)["file"] not in rows]


# detections: the images of several sources, kept together


def _frame(number: int, source: str) -> Frame:
    return cast("Frame", SimpleNamespace(number=number, source=source, drawn=np.full((8, 8, 3), number, np.uint8)))


def _images(overwrite: bool) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        staging = Staging(folder, overwrite=overwrite)
        if not overwrite:
            check_free([folder / "out" / "a.png", folder / "out" / "b" / "0.png"])
        sinks = {
            "a": ImageFile(folder / "out" / "a.png", staging=staging),
            "b": ImageFolder(folder / "out" / "b", ("0.png", "deep/1.png"), staging=staging),
        }
        sink = SinkPerSource(folder / "out", sinks, staging)
        try:
            for frame in (_frame(0, "a"), _frame(0, "b"), _frame(1, "b")):
                sink.write(frame)
            sink.keep()
        finally:
            sink.drop()

    return write


def _before_images(folder: Path) -> None:
    (folder / "out" / "b").mkdir(parents=True)
    for name in ("out/a.png", "out/b/0.png"):
        (folder / name).write_text("old")


def _check_images(old: bool) -> Callable[[Path], list[str]]:
    def check(folder: Path) -> list[str]:
        recover(folder)
        there = {p.relative_to(folder).as_posix(): p.read_bytes() == b"old" for p in (folder / "out").rglob("*.png")}
        before = {"out/a.png": True, "out/b/0.png": True} if old else {}
        after = dict.fromkeys(("out/a.png", "out/b/0.png", "out/b/deep/1.png"), False)
        return [] if there in (before, after) else [f"a mixture: {there}"]

    return check


def _nothing(folder: Path) -> None:
    pass


WRITERS: dict[str, Writer] = {
    "save": Writer(_nothing, _save_fresh, _check_fresh),
    "save over": Writer(_before_over, _save_over, _check_over),
    "save over, read only": Writer(_before_over, _save_over, _check_over_unwritable),
    "file": Writer(_nothing, _file(False), _check_file(False)),
    "file over": Writer(_before_file, _file(True), _check_file(True)),
    "folder": Writer(_nothing, _folder(False), _check_folder(False)),
    "folder over": Writer(_before_folder, _folder(True), _check_folder(True)),
    "folder over, in two steps": Writer(_before_folder, _folder(True, exchange=False), _check_folder(True)),
    "batch": Writer(_nothing, _write_batch, _check_batch),
    "images": Writer(_nothing, _images(False), _check_images(False)),
    "images over": Writer(_before_images, _images(True), _check_images(True)),
}
