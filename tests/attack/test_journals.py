"""Journals that nobody of ours has written: in a folder from elsewhere they lead to no error, and to nothing outside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from graphsplit.batching.archive import Archive
from graphsplit.batching.journal import JOURNAL
from graphsplit.errors import FormatError
from graphsplit.formats.staging import reading, recover

pytest.importorskip("fcntl")

TOKEN = "0123abcd"
NESTED = b"[" * 100_000


def folder_with(place: Path, line: bytes) -> Path:
    """A folder in which a killed run seems to have moved `secret` aside, the first of its targets."""
    folder = place / "sent"
    work = folder / f".graphsplit.{TOKEN}.new.tmp"
    work.mkdir(parents=True)
    (work / "0.before").write_text("secret")
    (folder / f".graphsplit.{TOKEN}.tmp").write_bytes(line + b"\n")
    return folder


def line(name: str, *folders: str) -> bytes:
    return json.dumps({"targets": [[name, 1, True]], "folders": folders}).encode()


def test_what_a_killed_run_has_moved_is_put_back(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, line("x/y.txt"))
    (folder / "x").mkdir()
    recover(folder)
    assert (folder / "x" / "y.txt").read_text() == "secret"
    assert sorted(os.listdir(folder)) == ["x"]


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    folder_with(tmp_path, line("x/y.txt"))
    (tmp_path / "sent" / "x").mkdir()
    (tmp_path / "link").symlink_to("sent")
    recover(tmp_path / "link")
    assert (tmp_path / "sent" / "x" / "y.txt").read_text() == "secret"


@pytest.mark.parametrize("name", ["link/y.txt", "x/link/y.txt", "link/x/y.txt"])
@pytest.mark.parametrize("first", [True, False])
def test_no_target_is_behind_a_link(name: str, first: bool, tmp_path: Path) -> None:
    (tmp_path / "outside" / "x").mkdir(parents=True)
    folder = folder_with(tmp_path, line(name) if first else line("inside.txt", f"{Path(name).parent}/empty"))
    (folder / "x").mkdir()
    for place in (folder, folder / "x"):
        (place / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "empty").mkdir()
    (tmp_path / "outside" / "x" / "empty").mkdir()
    recover(folder)
    with reading(folder) as path_of:
        assert path_of("split.json") == folder / "split.json"
    outside = sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "outside").rglob("*"))
    assert outside == ["outside/empty", "outside/x", "outside/x/empty"]
    assert (folder / f".graphsplit.{TOKEN}.new.tmp" / "0.before").read_text() == "secret"  # nothing is lost


@pytest.mark.parametrize(
    "content",
    [
        line("a\0b"), line("x", "a\0b"), line("../y"), line("/y"), line(""), line("."), line("a" * 5000),
        NESTED, b'{"targets":' + NESTED,

        b"\xff", b"", b"null", b'{"targets": [["y", "1", true]], "folders": []}',
        b'{"targets": [["\\ud800", 1, true]], "folders": []}',
        b'{"targets": [["y", 99999999999999999999999, true]], "folders": []}', b'{"targets": 0}',
    ],
)  # fmt: skip
def test_a_journal_of_nobody_is_no_error(content: bytes, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, content)
    recover(folder)
    with reading(folder) as path_of:
        assert path_of("split.json") == folder / "split.json"
    assert os.listdir(tmp_path) == ["sent"]


@pytest.mark.parametrize("content", [NESTED, b'{"graphsplit":' + NESTED, b'{"schema": 1, "settings":' + b'{"a":' * 50_000])
@pytest.mark.parametrize("second", [True, False])
def test_a_batch_is_not_continued_from_absurd_lines(content: bytes, second: bool, tmp_path: Path) -> None:
    head = b'{"graphsplit": "1", "schema": 1, "settings": {}}\n' if second else b""
    (tmp_path / JOURNAL).write_bytes(head + content + b"\n")
    with pytest.raises(FormatError, match=f"line {1 + second}: not the journal of a batch, or a damaged one"):
        Archive(tmp_path, {}, resume=True)
