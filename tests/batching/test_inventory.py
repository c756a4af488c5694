"""Inputs → sources: their order, their names, and each file once."""

from __future__ import annotations

import pytest

from graphsplit.batching.inventory import inventory
from graphsplit.errors import FormatError


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.png", "in/deep/c.png", "in/.git/d.png", "in/out/part-00000.jsonl", "x.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names(items):
    return [i.name for i in items]


def test_files_of_a_folder_are_sorted_and_named_with_it_and_hidden_ones_left_out(there):
    assert names(inventory(["x.png", "in"], out="in/out")) == ["x.png", "in/a.png", "in/b.png", "in/deep/c.png"]


def test_a_name_does_not_depend_on_how_the_path_is_spelt(there):
    assert names(inventory(["./in/"], out="in/out")) == names(inventory(["in/deep/.."], out="in/out"))


def test_a_file_that_is_met_twice_is_one_source_with_the_first_name(there):
    (there / "link.png").symlink_to(there / "x.png")
    assert names(inventory(["x.png", "link.png", there / "x.png", "in/a.png", "in"], out="in/out")) == [
        "x.png",
        "in/a.png",
        "in/b.png",
        "in/deep/c.png",
    ]


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ("none.png", "none.png: no such file or folder"),
        ("", "^'' is not an input; name an image"),
        ("bare", "no files in this folder"),
        ("camera:0", "graphsplit detect` takes cameras"),
        ("rtsp://here/1", "graphsplit detect` takes cameras"),
        ("/dev/null", "neither a file nor a folder"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_is_done(there, input, message):
    (there / "bare").mkdir()
    with pytest.raises(FormatError, match=message):
        inventory(["x.png", input])
