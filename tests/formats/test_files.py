"""Files and folders: written whole or not at all, and never over what nobody asked to replace."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats.atomic import Staging, check_folder, check_free, check_parent, landing, whole_file
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


# several at once


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() if p.is_file() else "" for p in folder.rglob("*")}


def stage(folder: Path, *names: str) -> Staging:
    staging = Staging(folder)
    for name in names:
        staging.place(folder / name).write_text(f"new {name}")
    return staging


def test_staged_files_take_their_places_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    staging = stage(tmp_path, "a", "below/b")
    assert (tmp_path / "a").read_text() == "old"
    staging.keep()
    staging.drop()  # too late
    assert tree(tmp_path) == {"a": "new a", "below": "", "below/b": "new below/b"}


def test_what_is_dropped_leaves_no_trace(tmp_path: Path) -> None:
    stage(tmp_path / "new" / "folder", "a").drop()
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failure_at_any_step_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: type[BaseException], when: str
) -> None:
    (tmp_path / "a").write_text("old a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("old x")
    before = tree(tmp_path)
    staging = stage(tmp_path, "a", "b", "new/c")
    real, count = os.replace, 0

    def replace(old: Path, new: Path) -> None:
        nonlocal count
        count += 1
        if count == step and when == "before":
            raise error
        real(old, new)
        if count == step:
            raise error

    monkeypatch.setattr("graphsplit.formats.atomic.os.replace", replace)
    with pytest.raises(FormatError if error is OSError else error):
        staging.keep()
    assert tree(tmp_path) == before


def test_a_place_that_was_never_written_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("precious")
    with pytest.raises(FormatError, match=r"folder: cannot be written: No such file"), landing(tmp_path / "folder"):
        pass
    assert tree(tmp_path) == {"folder": "", "folder/x": "precious"}


def test_a_landing_creates_the_folders_above_and_keeps_the_name(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x.tflite"
    with landing(target) as place:
        assert place.name == "x.tflite"
        place.write_bytes(b"content")
        assert not target.exists()
    assert tree(tmp_path) == {"new": "", "new/x.tflite": "content"}


# what may be written


def test_a_file_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcde"]
    check_free(paths)
    paths[1].write_text("x")
    paths[3].symlink_to(tmp_path / "nowhere")
    with pytest.raises(OverwriteError, match=r"b, .*d exist already; overwrite=True replaces them$") as caught:
        check_free(paths)
    assert caught.value.paths == (str(paths[1]), str(paths[3]))
    with pytest.raises(OverwriteError, match=r"b exists already; choose another name$"):
        check_free([str(paths[1])], then="choose another name")
    check_free(paths, overwrite=True)
    for path in paths:
        path.touch()
    with pytest.raises(OverwriteError, match=r"c and 2 more exist already"):
        check_free(paths)


def test_a_source_is_never_replaced_not_even_through_a_link(tmp_path: Path) -> None:
    source, link = tmp_path / "model.pb", tmp_path / "link.pb"
    source.write_text("model")
    link.symlink_to(source)
    for path in (source, link):
        with pytest.raises(OverwriteError, match=f"{path.name} is the source itself; name another place$"):
            check_free([tmp_path / "other", path], sources=[tmp_path / "gone", source], overwrite=True)
    check_free([tmp_path / "other.pb"], sources=[source])


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    for overwrite in (True, False):
        with pytest.raises(OverwriteError, match=r"is a folder; name a file, or move it away$"):
            check_free([tmp_path], overwrite=overwrite)
    with pytest.raises(FormatError, match=r"there is no folder .*nowhere; create it first$"):
        check_parent(tmp_path / "nowhere" / "x.pb")


def test_a_folder_to_write_into(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "new")
    check_folder(tmp_path / "empty", overwrite=False)
    check_folder(tmp_path)
    with pytest.raises(OverwriteError, match=r"is not empty \(empty\); name another folder$"):
        check_folder(tmp_path, overwrite=False)
    with pytest.raises(OverwriteError, match=r"file is a file; name a folder$"):
        check_folder(tmp_path / "file")
    with pytest.raises(OverwriteError, match=r"link is a link to nothing; name a folder$"):
        check_folder(tmp_path / "link")
