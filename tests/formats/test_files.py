"""Single files: written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats.atomic import whole_file
from graphsplit.formats.graphdef.model import GraphDefModel
from tests.formats import raw


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def write(path: Path, *pieces: bytes | BaseException) -> None:
    with whole_file(path) as file:
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            file.write(piece)


@pytest.mark.parametrize("there", [False, True])
def test_a_file_takes_its_name_when_all_went_well(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "model.pb"
    if there:
        path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new ")
        assert path.exists() == there
        file.write(b"content")
    assert files(tmp_path) == {"model.pb": b"new content"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError(), OverwriteError("there", paths=["x"])])
@pytest.mark.parametrize("there", [{}, {"model.pb": b"old"}])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: BaseException, there: dict[str, bytes]) -> None:
    for name, content in there.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(type(error)) as caught:
        write(tmp_path / "model.pb", b"half", error)
    assert caught.value is error
    assert files(tmp_path) == there


def test_a_full_disk_is_told_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    with pytest.raises(FormatError, match=r"model\.pb: cannot be written: No space left on device$") as caught:
        write(path, b"half", OSError(errno.ENOSPC, "No space left on device"))
    assert caught.value.path == str(path)
    assert files(tmp_path) == {}


def test_a_folder_that_is_not_there_or_no_folder(tmp_path: Path) -> None:
    model = GraphDefModel([raw.graph(raw.placeholder("x", raw.FLOAT))])
    with pytest.raises(FormatError, match=r"nowhere/x\.pb: cannot be written: No such file or directory$"):
        model.save(tmp_path / "nowhere" / "x.pb")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match=r"folder: cannot be written: Is a directory$"):
        model.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o037)
    try:
        write(tmp_path / "model.pb", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.pb").stat().st_mode) == 0o640


def test_a_model_saves_the_bytes_it_was_read_from(tmp_path: Path) -> None:
    data = raw.graph(raw.placeholder("x", raw.FLOAT), raw.identity("y", "x"))
    assert GraphDefModel([data]).save(tmp_path / "model.pb") == tmp_path / "model.pb"
    assert files(tmp_path) == {"model.pb": data}
