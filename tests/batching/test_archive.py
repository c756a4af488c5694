"""The folder of results: whole parts, interrupted runs, what is refused."""

from __future__ import annotations

import json

import pytest

from graphsplit.batching.archive import Archive
from graphsplit.batching.events import End, Row
from graphsplit.batching.inventory import Item
from graphsplit.batching.journal import JOURNAL
from graphsplit.errors import FormatError, GraphSplitError, OverwriteError
from tests.batching.conftest import rejects, rows

ITEMS = [Item(name, f"/{name}") for name in "abcde"]
FOUND = {"boxes": [[0.1, 0.2, 0.3, 0.4]], "scores": [0.7], "classes": [1]}


def events_of(*frames):
    """What an engine yields for sources with so many frames each."""
    for source, count in enumerate(frames):
        yield from (Row(source, frame, FOUND) for frame in range(count))
        yield End(source, count, "" if count else "no picture")


def write(folder, items, events, *, settings=None, **options):
    with Archive(folder, settings or {"t": 1}, sources_per_part=2, **options) as archive:
        left = [i for i in items if i.name not in archive.finished]
        for _ in archive.write(left, events):
            pass
        return archive.finish()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_parts_hold_whole_sources_and_one_without_rows_has_no_file(tmp_path):
    out = tmp_path / "deep" / "out"
    write(out, ITEMS, events_of(1, 3, 0, 0, 2))
    assert names(out) == [JOURNAL, "part-00000.jsonl", "part-00002.jsonl", "rejects.jsonl"]
    assert [(r["source"], r["frame"]) for r in rows(out)] == [("a", 0), ("b", 0), ("b", 1), ("b", 2), ("e", 0), ("e", 1)]
    assert list(rows(out)[0]) == ["source", "frame", "boxes", "scores", "classes"]
    assert rejects(out) == {"c": "no picture", "d": "no picture"}


def test_a_frame_that_failed_is_rejected_alone(tmp_path):
    events = [Row(0, 0, FOUND), Row(0, 1, None, "section 'post' failed"), Row(0, 2, FOUND), End(0, 3)]
    write(tmp_path / "out", ITEMS[:1], events)
    assert [r["frame"] for r in rows(tmp_path / "out")] == [0, 2]
    assert rejects(tmp_path / "out") == {"a": "frame 1: section 'post' failed"}


def failing(count):
    for number, event in enumerate(events_of(1, 1, 1, 1, 1)):
        if number == count:
            raise KeyboardInterrupt
        yield event


def test_an_interrupted_run_keeps_whole_parts_and_goes_on_behind_them(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write(out, ITEMS, failing(7))
    assert names(out) == [JOURNAL, "part-00000.jsonl"]
    with Archive(out, {"t": 1}, resume=True) as archive:
        assert archive.finished == {"a", "b"}
    write(out, ITEMS, events_of(1, 1, 1), resume=True)
    assert [r["source"] for r in rows(out)] == list("abcde")


def test_nothing_is_left_where_nothing_was_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", ITEMS, failing(1))
    assert names(tmp_path) == []


def test_what_a_kill_leaves_is_done_again(tmp_path):
    """A part that took its name before the journal had its line, half a line, half a file."""
    out = tmp_path / "out"
    write(out, ITEMS, events_of(1, 1, 1, 1, 1))
    journal = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    (out / JOURNAL).write_bytes(b"".join(journal[:2]) + journal[2][:30])
    (out / ".part-00002.jsonl.0123abcd.tmp").write_text("half")
    write(out, ITEMS, events_of(1, 1, 1), resume=True)
    assert [r["source"] for r in rows(out)] == list("abcde")
    assert names(out) == [JOURNAL, *(f"part-0000{i}.jsonl" for i in range(3)), "rejects.jsonl"]


def test_sources_that_came_later_are_done_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    write(out, ITEMS[1:3], events_of(1, 1))
    write(out, ITEMS, events_of(1, 1, 1), resume=True)
    assert sorted(r["source"] for r in rows(out)) == list("abcde")
    assert write(out, ITEMS, events_of(), resume=True) == ()


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([Row(0, 0, FOUND), Row(0, 0, FOUND), End(0, 2)], r"^expected frame 1 of a, got Row\(source=0, frame=0"),
        ([Row(0, 1, FOUND), End(0, 2)], r"^expected frame 0 of a, got Row\(source=0, frame=1"),
        ([Row(0, 0, FOUND), End(0, 2)], r"^expected frame 1 of a, got End\(source=0, frames=2"),
        ([Row(1, 0, FOUND), End(1, 1)], r"^expected frame 0 of a, got Row\(source=1, frame=0"),
        ([Row(0, 0, FOUND)], r"^expected the end of a, got no event after frame 0$"),
        ([Row(0, 0, FOUND), End(0, 1), End(0, 1)], r"^unexpected event \(duplicate or unknown source\): End\(source=0"),
    ],
    ids=["twice", "begins late", "lost", "another source", "no end", "ends twice"],
)
def test_an_engine_that_loses_or_repeats_a_frame_is_found_out(tmp_path, events, message):
    with pytest.raises(GraphSplitError, match=message):
        write(tmp_path / "out", ITEMS[:1], events)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(OverwriteError, match=r"not empty \(notes.txt\)"):
            Archive(tmp_path, {}, resume=resume)
    assert names(tmp_path) == ["notes.txt"]
    with pytest.raises(OverwriteError, match="is a file"):
        Archive(tmp_path / "notes.txt", {})
    write(tmp_path / "out", ITEMS, events_of(1, 1, 1, 1, 1))
    with pytest.raises(OverwriteError, match=r"resume=True continues it"):
        Archive(tmp_path / "out", {"t": 1})


def test_a_journal_of_other_settings_is_refused_with_what_differs(tmp_path):
    out = tmp_path / "out"
    write(out, ITEMS, events_of(1, 1, 1, 1, 1))
    with pytest.raises(FormatError, match="t: 1 then, 2 now"):
        Archive(out, {"t": 2}, resume=True)
    (out / "part-00001.jsonl").unlink()
    with pytest.raises(FormatError, match=r"part-00001\.jsonl: a finished part that the journal lists is missing"):
        Archive(out, {"t": 1}, resume=True)


@pytest.mark.parametrize(
    ("line", "field", "value", "message"),
    [
        (1, "schema", "1", r"line 1: .*Expected `int`, got `str` - at `\$\.schema`"),
        (1, "settings", [], r"line 1: .*Expected `object`, got `array` - at `\$\.settings`"),
        (2, "frames", "2", r"line 2: .*Expected `int`, got `str` - at `\$\.frames`"),
        (3, "sources", "ab", r"line 3: .*Expected `array`, got `str` - at `\$\.sources`"),
        (3, "rejects", [{"source": "c"}], r"line 3: .*missing required field `reason` - at `\$\.rejects\[0\]`"),
        (4, "file", 7, r"line 4: .*Expected `str \| null`, got `int` - at `\$\.file`"),
        (4, "part", None, r"line 4: .*Expected `int`, got `null` - at `\$\.part`"),
    ],
)
def test_a_wrong_type_in_a_journal_is_an_error_with_its_line(tmp_path, line, field, value, message):
    out = tmp_path / "out"
    write(out, ITEMS, events_of(1, 1, 1, 1, 1))
    content = [json.loads(text) for text in (out / JOURNAL).read_text().splitlines()]
    content[line - 1][field] = value
    (out / JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in content))
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(FormatError, match=message):
        Archive(out, {"t": 1}, resume=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.parametrize("content", ["[]\n", "no journal\n", "no journal", '{"graphsplit": "1", "schema": 1}\n', '{"a": 1}\n{}\n'])
def test_a_journal_that_is_none_is_refused(tmp_path, content):
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(FormatError, match="not the journal of a batch"):
        Archive(tmp_path, {}, resume=True)
    assert (tmp_path / JOURNAL).read_text() == content


def test_a_journal_of_a_later_version_is_refused(tmp_path):
    (tmp_path / JOURNAL).write_text(json.dumps({"graphsplit": "9", "schema": 2, "settings": {}}) + "\n")
    with pytest.raises(FormatError, match="schema 2 of a later version"):
        Archive(tmp_path, {}, resume=True)


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    pytest.importorskip("fcntl")
    with Archive(tmp_path / "out", {}), pytest.raises(OverwriteError, match="another run is writing there"):
        Archive(tmp_path / "out", {}, resume=True)
