"""A split on disk: what is written, that it is written whole or not at all, and that what is read is not believed.

x ─▶ doubled ─┬─▶ top:0 ─▶ relu ──┬─▶ y        cut at top:0 and top:1, which gets a name of its own in the file
              │   top:1 ─▶ cast ──┘
              └─▶ early                        an output that lives in the first section
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any

import pytest

from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats import load, locks, staging, switch
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.parts import folder as folder_module
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import split
from tests.formats import raw
from tests.permissions import ordinary_user

FLOAT, INT32 = raw.FLOAT, raw.INT32
GRAPH = raw.graph(
    raw.placeholder("x", FLOAT, -1, 8),
    raw.const("k", (3).to_bytes(4, "little"), dtype=INT32),
    raw.node("doubled", "AddV2", "x", "x", attrs={"T": raw.kind(FLOAT)}),
    raw.node("top", "TopKV2", "doubled", "k", attrs={"T": raw.kind(FLOAT), "sorted": raw.number(5, 1)}),
    raw.node("relu", "Relu", "top", attrs={"T": raw.kind(FLOAT)}),
    raw.node("cast", "Cast", "top:1", attrs={"SrcT": raw.kind(INT32), "DstT": raw.kind(FLOAT)}),
    raw.node("y", "AddV2", "relu", "cast", attrs={"T": raw.kind(FLOAT)}),
    raw.identity("early", "doubled"),
)
FILES = {"x_pre.pb", "x_main.pb", "x_post.pb", "split.json"}


@pytest.fixture
def whole(tmp_path: Path) -> GraphDefModel:
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "x.pb"
    path.write_bytes(GRAPH)
    return load(path)


@pytest.fixture
def parts(whole: GraphDefModel) -> Parts:
    return split(whole, inputs="doubled", outputs="top:0,top:1", shapes=False)


def json_of(directory: Path) -> Any:
    return json.loads((directory / "split.json").read_text(encoding="utf-8"))


State = dict[str, tuple[bytes, int, int]]


def state(directory: Path) -> State:
    """Everything below a folder: content, inode, time of the last change."""
    return {
        str(p.relative_to(directory)): (
            b"" if p.is_dir() else p.read_bytes(),
            p.lstat().st_ino,
            0 if p.is_dir() else p.lstat().st_mtime_ns,
        )
        for p in sorted(directory.rglob("*"))
    }


# what is written


def test_sections_and_manifest_are_named_after_the_model(parts: Parts, tmp_path: Path) -> None:
    assert save(parts, tmp_path / "out") == tmp_path / "out"
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES


def test_an_empty_section_gives_no_file(whole: GraphDefModel, tmp_path: Path) -> None:
    save(split(whole, inputs="x", outputs="relu", shapes=False), tmp_path)
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {"x_main.pb", "x_post.pb", "split.json"}


def test_the_parts_of_an_n_way_split_are_numbered(whole: GraphDefModel, tmp_path: Path) -> None:
    save(split(whole, outputs=[["doubled"], ["top", "top:1"]], shapes=False), tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x_part_0.pb", "x_part_1.pb", "x_part_2.pb", "split.json"}
    assert [s["name"] for s in json_of(tmp_path / "out")["sections"]] == ["part_0", "part_1", "part_2"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("frozen_inference_graph.pb", "frozen_inference_graph"),
        ("a.b.pb", "a.b"),
        ("plain", "plain"),
        (".pb", ".pb"),
        ("Größe 1.pb", "Größe 1"),
    ],
)
def test_the_stem_of_the_files(tmp_path: Path, name: str, stem: str) -> None:
    (tmp_path / name).write_bytes(GRAPH)
    save(split(load(tmp_path / name), outputs="relu", shapes=False), tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{stem}_main.pb", f"{stem}_post.pb", "split.json"}
    assert load_parts(tmp_path / "out").source.stem == stem


def test_a_model_made_in_memory_has_no_file(tmp_path: Path) -> None:
    save(split(GraphDefModel([GRAPH]), outputs="relu", shapes=False), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model_main.pb", "model_post.pb", "split.json"}
    assert json_of(tmp_path)["source"] == {"file": None, "sha256": hashlib.sha256(GRAPH).hexdigest(), "format": "graphdef"}
    assert load_parts(tmp_path).source.path is None


def test_the_manifest_holds_what_the_contract_says(parts: Parts, tmp_path: Path) -> None:
    """Keys, their order and their values, word for word: other languages rely on them."""
    out = save(parts, tmp_path / "out")
    made = json_of(out)

    def port(tensor: str, name: str, dtype: str, shape: list[int | None] | None) -> dict[str, Any]:
        return {"tensor": tensor, "name": name, "dtype": dtype, "shape": shape}

    def section(name: str, device: str, inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
        content = (out / f"x_{name}.pb").read_bytes()
        return {
            "name": name,
            "file": f"x_{name}.pb",
            "sha256": hashlib.sha256(content).hexdigest(),
            "format": "graphdef",
            "device": device,
            "inputs": inputs,
            "outputs": outputs,
        }

    x, doubled = port("x:0", "x:0", "float32", [None, 8]), port("doubled:0", "doubled:0", "float32", None)
    top = [port("top:0", "top:0", "float32", None), port("top:1", "top:1", "int32", None)]
    given = [top[0], port("top:1", "top_port_1:0", "int32", None)]
    assert made == {
        "graphsplit": "0.1.0",
        "schema": 1,
        "source": {"file": "../models/x.pb", "sha256": hashlib.sha256(GRAPH).hexdigest(), "format": "graphdef"},
        "sections": [
            section("pre", "/cpu:0", [x], [doubled]),
            section("main", "/gpu:0", [doubled], top),
            section(
                "post",
                "/cpu:0",
                [doubled, *given],
                [port("y:0", "y:0", "float32", None), port("early:0", "early:0", "float32", None)],
            ),
        ],
        "inputs": ["x:0"],
        "outputs": ["y:0", "early:0"],
        "added": [],
        "replicated": [],
        "rewrites": [],
    }
    assert list(made) == ["graphsplit", "schema", "source", "sections", "inputs", "outputs", "added", "replicated", "rewrites"]
    assert list(made["sections"][0]) == ["name", "file", "sha256", "format", "device", "inputs", "outputs"]
    assert list(made["sections"][0]["inputs"][0]) == ["tensor", "name", "dtype", "shape"]


def test_added_and_replicated_are_told(whole: GraphDefModel, tmp_path: Path) -> None:
    save(split(whole, outputs="relu", shapes=False, repair="border"), tmp_path / "added")
    made = json_of(tmp_path / "added")
    assert [list(a.values())[:3] for a in made["added"]] == [["top:1", "post", "cast"], ["doubled:0", "post", "early"]]
    assert [list(a) for a in made["added"]] == [["tensor", "section", "consumer", "reason"]] * 2
    assert made["replicated"] == []
    save(split(whole, outputs="relu", shapes=False, repair="replicate"), tmp_path / "replicated")
    made = json_of(tmp_path / "replicated")
    assert (made["added"], made["replicated"]) == ([], ["doubled", "top"])
    save(split(whole, outputs="relu", shapes=False), tmp_path / "moved")
    made = json_of(tmp_path / "moved")
    assert ([a["tensor"] for a in made["added"]], made["replicated"]) == (["top:1"], [])


@pytest.mark.parametrize("directory", [".", "out", "out/deep/er", "../elsewhere", "models", "../{tmp}/models"])
def test_the_source_is_named_relative_to_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    here = tmp_path / "here"
    (here / "models").mkdir(parents=True)
    (here / "models" / "x.pb").write_bytes(GRAPH)
    monkeypatch.chdir(here)
    target = Path(directory.format(tmp=here.name))
    save(split(load("models/x.pb"), outputs="relu", shapes=False), target)
    file = json_of(target)["source"]["file"]
    assert not os.path.isabs(file)
    assert (target.resolve() / file).resolve() == here / "models" / "x.pb"
    monkeypatch.chdir(tmp_path)
    assert load_parts(here / target).source.path == here / "models" / "x.pb"


def test_a_link_as_folder_leads_to_the_source_all_the_same(parts: Parts, tmp_path: Path) -> None:
    """link ─▶ real/deep/er: what is relative to the one is not relative to the other."""
    real = tmp_path / "real" / "deep" / "er"
    real.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real)
    save(parts, link)
    assert {p.name for p in real.iterdir()} == FILES
    assert link.is_symlink()
    for directory in (link, real):
        assert load_parts(directory).source.path == tmp_path / "models" / "x.pb"
    assert json_of(link)["source"]["file"] == "../../../models/x.pb"


def test_a_linked_model_is_named_where_it_lies(tmp_path: Path, whole: GraphDefModel) -> None:
    (tmp_path / "latest.pb").symlink_to(whole.path)  # type: ignore[arg-type]
    save(split(load(tmp_path / "latest.pb"), outputs="relu", shapes=False), tmp_path / "out")
    assert json_of(tmp_path / "out")["source"]["file"] == "../models/x.pb"


def test_a_source_on_another_drive_is_named_in_full(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relpath(path: object, start: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("graphsplit.parts.manifest.os", SimpleNamespace(path=SimpleNamespace(relpath=relpath)))
    save(parts, tmp_path / "out")
    monkeypatch.undo()
    assert json_of(tmp_path / "out")["source"]["file"] == str(tmp_path / "models" / "x.pb")
    assert load_parts(tmp_path / "out").source.path == tmp_path / "models" / "x.pb"


def test_a_name_that_is_no_text_survives(tmp_path: Path) -> None:
    """A file name is bytes; these are no UTF-8."""
    path = tmp_path / os.fsdecode(b"gr\xf6sse.pb")
    try:
        path.write_bytes(GRAPH)
    except OSError:
        pytest.skip("this file system wants UTF-8")
    save(split(load(path), outputs="relu", shapes=False), tmp_path / "out")
    (tmp_path / "out" / "split.json").read_text(encoding="utf-8")
    assert load_parts(tmp_path / "out").source.path == path


def test_the_same_input_and_options_give_the_same_bytes(whole: GraphDefModel, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two", "three"):
        again = load(whole.path or "")
        save(split(again, inputs="doubled", outputs=["top", "top:1"], shapes=False), tmp_path / name)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert made[0] == made[1] == made[2]


def test_what_was_loaded_is_saved_as_it_was(parts: Parts, tmp_path: Path) -> None:
    save(parts, tmp_path / "one")
    save(load_parts(tmp_path / "one"), tmp_path / "two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(("umask", "file", "directory"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)])
def test_permissions_are_those_of_the_umask(parts: Parts, tmp_path: Path, umask: int, file: int, directory: int) -> None:
    before = os.umask(umask)
    try:
        out = save(parts, tmp_path / "new" / "out")
        single = parts["main"].save(tmp_path / "new" / "main.pb")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (*out.iterdir(), single)} == {file}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (out, out.parent)} == {directory}


# what is there already


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_of_ours_that_is_there_is_refused_by_name(parts: Parts, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("precious")
    before = state(out)
    with pytest.raises(OverwriteError, match=rf"^{out / name} exists already; overwrite=True replaces it$") as caught:
        save(parts, out)
    assert caught.value.paths == (str(out / name),)
    assert state(out) == before


def test_all_of_ours_are_named_at_once(parts: Parts, tmp_path: Path) -> None:
    save(parts, tmp_path / "out")
    with pytest.raises(OverwriteError, match=r"x_main\.pb.* and 1 more exist already") as caught:
        save(parts, tmp_path / "out")
    assert {Path(p).name for p in caught.value.paths} == FILES


def test_a_dangling_link_is_there_too(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "x_main.pb").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OverwriteError, match=r"x_main\.pb exists already"):
        save(parts, out)
    save(parts, out, overwrite=True)
    assert not (out / "x_main.pb").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_overwrite_replaces_ours_and_touches_nothing_else(parts: Parts, whole: GraphDefModel, tmp_path: Path) -> None:
    out = save(split(whole, outputs="relu", shapes=False), tmp_path / "out")
    for name in ("x.pb", "x_pre.pb.bak", "notes.txt", "y_main.pb", ".hidden", "sub/split.json"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("foreign")
    (out / "x_pre.pb").write_text("of a split that had one")
    before = state(out)
    save(parts, out, overwrite=True)
    after = state(out)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == FILES
    assert load_parts(out)["pre"].outputs[0].tensor == "doubled:0"


def test_a_file_that_is_no_longer_made_stays(parts: Parts, whole: GraphDefModel, tmp_path: Path) -> None:
    """x_pre.pb is not among the files of the second split, so it is not touched."""
    out = save(parts, tmp_path / "out")
    pre = (out / "x_pre.pb").read_bytes()
    save(split(whole, outputs="relu", shapes=False), out, overwrite=True)
    assert (out / "x_pre.pb").read_bytes() == pre
    assert [p.name for p in load_parts(out)] == ["main", "post"]


def test_a_link_is_replaced_and_what_it_leads_to_is_not(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("precious")
    (out / "x_main.pb").symlink_to(tmp_path / "precious")
    save(parts, out, overwrite=True)
    assert (tmp_path / "precious").read_text() == "precious"
    assert (out / "x_main.pb").read_bytes()[:1] == b"\x0a"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_the_place_of_a_file_is_never_replaced(parts: Parts, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out" / "x_main.pb" / "inside").mkdir(parents=True)
    before = state(tmp_path)
    with pytest.raises(OverwriteError, match=r"x_main\.pb is a folder; name a file, or move it away$"):
        save(parts, tmp_path / "out", overwrite=overwrite)
    assert state(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_folder(parts: Parts, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OverwriteError, match=r"out is a file; name a folder$"):
        save(parts, tmp_path / "out", overwrite=overwrite)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OverwriteError, match=r"link is a link to nothing; name a folder$"):
        save(parts, tmp_path / "link", overwrite=overwrite)
    with pytest.raises(FormatError, match=r"cannot be written: Not a directory$"):
        save(parts, tmp_path / "out" / "below", overwrite=overwrite)
    assert (tmp_path / "out").read_text() == "precious"


def test_a_name_too_long_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".pb")
    path.write_bytes(GRAPH)
    with pytest.raises(FormatError, match=r"cannot be written: File name too long$"):
        save(split(load(path), outputs="relu", shapes=False), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# whole or not at all


class Stop(BaseException):
    """Somebody pressed Ctrl-C, at the worst of moments."""


def old_split(whole: GraphDefModel, out: Path) -> None:
    """What is there before: a split whose files the next one replaces in part, and a foreign file."""
    save(split(whole, outputs="relu", shapes=False), out)
    (out / "notes.txt").write_text("foreign")


def code_of(*places: object) -> Iterator[CodeType]:
    """The code of functions and methods."""
    for place in places:
        for value in vars(place).values():
            function = getattr(value, "__wrapped__", getattr(value, "fget", value))
            if hasattr(function, "__code__"):
                yield function.__code__


CODE = {*code_of(folder_module, locks, switch, staging, switch.Switch, staging.Staging)}


def stopped(step: int, call: Callable[[], object]) -> str | None:
    """Run something until so many lines of the module have been run; the function it was stopped in, None when it had ended."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code not in CODE:
            return None
        if event == "line":
            lines += 1
            if lines > step:
                sys.settrace(None)
                raise Stop(frame.f_code.co_name)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Stop as stop:
        return str(stop)
    finally:
        sys.settrace(before)
    return None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that only the collector could close
@pytest.mark.parametrize("there", [True, False], ids=["over an old split", "into a new folder"])
def test_an_interrupt_at_any_line_leaves_the_old_state(parts: Parts, whole: GraphDefModel, tmp_path: Path, there: bool) -> None:
    """The exception comes before each line of the module that is run, one after the other."""
    base = tmp_path / "base"
    base.mkdir()
    out = base / "a" / "b"
    if there:
        old_split(whole, out)
    before = plain(base)
    stops = []
    while (where := stopped(len(stops), lambda: save(parts, out, overwrite=True))) is not None:
        stops.append(where)
        if plain(base) != before:
            break
    assert len(stops) > 100
    assert {"save", "check_save", "_write", "place", "keep", "perform", "_append", "locked", "killed"} <= set(stops)
    # Either it was never left half done, or all was in place and only the hidden files remained.
    assert {name for name in plain(out) if "/" not in name} == FILES | ({"notes.txt"} if there else set())
    assert [p.name for p in load_parts(out)] == ["pre", "main", "post"]


def plain(base: Path) -> State:
    """The files below a folder, without what a run keeps there while it writes."""
    return {name: what for name, what in state(base).items() if what[0] and not switch.LITTER.search(name)}


class Fails:
    """Stands for a function; one of the calls raises, before or after it has done what it does."""

    def __init__(self, call: Callable[..., Any], number: int, error: BaseException, *, after: bool) -> None:
        self.call, self.number, self.error, self.after = call, number, error, after
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls != self.number:
            return self.call(*args, **kwargs)
        if self.after and hasattr(made := self.call(*args, **kwargs), "close"):
            made.close()
        raise self.error


class FullFile:
    """A file whose writing fails."""

    def __init__(self, file: Any, fails: Fails) -> None:
        self.file, self.fails = file, fails

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        self.fails.call = self.file.write
        return int(self.fails(data))


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full", "interrupt"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("there", [True, False], ids=["over an old split", "into a new folder"])
@pytest.mark.parametrize(("what", "calls"), [("replace", 4), ("mkdir", 1), ("open", 3), ("write", 3)])
def test_a_failure_at_any_call_leaves_the_old_state(
    parts: Parts,
    whole: GraphDefModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    after: bool,
    there: bool,
    what: str,
    calls: int,
) -> None:
    """The call fails without having done anything, or the interrupt comes when it has done all."""
    base = tmp_path / "base"
    base.mkdir()
    out = base / "a" / "b"
    if there:
        old_split(whole, out)
    before, failed = state(base), 0
    expected = (FormatError, "cannot be written: No space left on device$") if error is FULL else (KeyboardInterrupt, "^$")
    for number in count(1):
        fails = Fails({"replace": os.replace, "mkdir": Path.mkdir}.get(what, open), number, error, after=after)
        raised: BaseException | None = None
        with monkeypatch.context() as patch:
            if what == "open":
                patch.setattr(folder_module, "open", fails, raising=False)
            elif what == "write":
                patch.setattr(folder_module, "open", partial(full_file, fails), raising=False)
            elif what == "mkdir":
                patch.setattr(Path, what, lambda *args, fails=fails, **named: fails(*args, **named))
            else:
                patch.setattr(os, what, fails)
            try:
                save(parts, out, overwrite=True)
            except BaseException as caught:
                raised = caught
        if fails.calls < number:
            break
        if raised is None and what == "mkdir":  # a folder that need not be made, because it is there
            before = state(base)
            continue
        with pytest.raises(expected[0], match=expected[1]):
            raise raised or AssertionError("it did not fail")
        failed += 1
        assert state(base) == before, f"{what} number {number}"
    assert failed >= calls
    assert {p.name for p in out.iterdir()} == FILES | ({"notes.txt"} if there else set())


def full_file(fails: Fails, *args: Any) -> FullFile:
    return FullFile(open(*args), fails)


def test_a_folder_that_cannot_be_written(parts: Parts, tmp_path: Path) -> None:
    save(parts, tmp_path / "allowed")  # all that is imported for it is imported by a user who may read it
    with ordinary_user() as folder:
        (folder / "out").mkdir(mode=0o500)
        with pytest.raises(FormatError, match=rf"^{folder}/out/.*: cannot be written: Permission denied"):
            save(parts, folder / "out")


def test_two_at_a_time_do_not_mix(parts: Parts, whole: GraphDefModel, tmp_path: Path) -> None:
    """Two cuts with the same file names; the sums of the manifest are those of the files beside it."""
    out = tmp_path / "out"
    other = split(whole, inputs="doubled", outputs="relu,cast", shapes=False)
    with ThreadPoolExecutor(4) as pool:
        saved = [pool.submit(save, (parts, other)[i % 2], out, overwrite=True) for i in range(8)]
        assert {f.result() for f in saved} == {out}
    assert {p.name for p in out.iterdir()} == FILES
    assert load_parts(out)["main"].model.sha256 in (parts["main"].model.sha256, other["main"].model.sha256)


def test_files_are_put_in_place_by_one_at_a_time(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds the folder locked waits with its files ready, and has replaced none of those that are there."""
    fcntl = pytest.importorskip("fcntl")
    out, settled, flock = tmp_path / "out", threading.Event(), fcntl.flock
    before = state(save(parts, out))

    def watched(handle: int, operation: int) -> None:
        try:
            flock(handle, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            settled.set()
            flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", watched)
    holder = os.open(out, os.O_RDONLY)
    try:
        flock(holder, fcntl.LOCK_SH)
        with ThreadPoolExecutor(1) as pool:
            saved = pool.submit(save, parts, out, overwrite=True)
            saved.add_done_callback(lambda _: settled.set())
            try:
                assert settled.wait(60)
                assert not saved.done()
                assert {name: state(out)[name] for name in FILES} == {name: before[name] for name in FILES}
            finally:
                flock(holder, fcntl.LOCK_UN)
            assert saved.result(60) == out
    finally:
        os.close(holder)
    after = state(out)
    assert all(after[name][1] != before[name][1] for name in FILES)


# read back


def test_what_is_read_is_what_was_saved(parts: Parts, whole: GraphDefModel, tmp_path: Path) -> None:
    again = load_parts(save(parts, tmp_path / "out"))
    assert [(p.name, p.inputs, p.outputs, p.device) for p in again] == [(p.name, p.inputs, p.outputs, p.device) for p in parts]
    assert [p.model.serialized() for p in again] == [p.model.serialized() for p in parts]
    assert (again.inputs, again.outputs, again.added, again.replicated) == (
        parts.inputs,
        parts.outputs,
        parts.added,
        parts.replicated,
    )
    assert (again.source.path, again.source.sha256) == (whole.path, whole.sha256)
    assert load_parts(tmp_path / "out" / "split.json").outputs == parts.outputs


def test_no_split_here(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "split.json"):
        with pytest.raises(FormatError, match=rf"no split\.json here; `graphsplit split MODEL -o {path}` writes one$") as caught:
            load_parts(path)
        assert caught.value.path == str(path)


def run_by_hand(directory: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    """The sections, run in order with nothing but the manifest and TensorFlow."""
    import tensorflow as tf

    made = json.loads((directory / "split.json").read_text(encoding="utf-8"))
    values = dict(feeds)
    assert set(values) == set(made["inputs"])
    for section in made["sections"]:
        content = (directory / section["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == section["sha256"]
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(content), name="")
        with tf.compat.v1.Session(graph=graph) as session:
            given = {p["name"]: values[p["tensor"]] for p in section["inputs"]}
            got = session.run([p["name"] for p in section["outputs"]], given)
        for port, value in zip(section["outputs"], got, strict=True):
            assert value.dtype.name == port["dtype"]
            assert len(port["shape"]) == value.ndim
            assert all(d in (None, n) for d, n in zip(port["shape"], value.shape, strict=True))
            values[port["tensor"]] = value
    return {t: values[t] for t in made["outputs"]}


@pytest.mark.parametrize(
    "cut",
    [
        {"outputs": "top:0,top:1"},
        {"inputs": "doubled", "outputs": "top:0,top:1"},
        {"inputs": "top:1", "outputs": "relu"},
        {"outputs": [["doubled"], ["top:1"], ["relu"]]},
    ],
    ids=["two", "three", "pre", "four"],
)
def test_sections_run_with_the_manifest_alone(whole: GraphDefModel, tmp_path: Path, cut: dict[str, Any]) -> None:
    np = pytest.importorskip("numpy")
    out = save(split(whole, **cut), tmp_path / "out")
    x = np.linspace(-3, 3, 32, dtype=np.float32).reshape(4, 8)
    made = run_by_hand(out, {"x:0": x})
    order = np.argsort(-2 * x, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(made["early:0"], 2 * x)
    np.testing.assert_array_equal(made["y:0"], np.maximum(np.take_along_axis(2 * x, order, 1), 0) + order.astype(np.float32))


# read with suspicion


@pytest.fixture
def out(parts: Parts, tmp_path: Path) -> Path:
    return save(parts, tmp_path / "out")


def refused(out: Path, content: Any, says: str) -> None:
    (out / "split.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(FormatError, match=says) as caught:
        load_parts(out)
    assert caught.value.path == str(out / "split.json")
    assert "\n" not in str(caught.value)


Way = tuple[str | int, ...]


def ways(content: Any, way: Way = ()) -> Iterator[Way]:
    """The way to every value of a manifest."""
    yield way
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from ways(value, (*way, key))


def named(way: Way) -> str:
    """sections[0].inputs[1].dtype"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in way).removeprefix(".")


def at(content: Any, way: Way) -> Any:
    for key in way:
        content = content[key]
    return content


# What may stand in the place of another kind of value: nobody has to know the file of the whole, a shape, or a size.
FINE_TOO: dict[str, tuple[type, ...]] = {"source.file": (type(None),), "shape": (type(None), list), "size": (type(None), int)}


def kind_of(way: Way) -> str:
    return "size" if "shape" in way[:-1] else "shape" if way[-1:] == ("shape",) else named(way)


def test_every_value_of_the_wrong_kind_is_refused_by_name(out: Path) -> None:
    manifest = (out / "split.json").read_text(encoding="utf-8")
    others = [None, True, 0, 1.5, "text", [], [None], {}]
    checked = 0
    for way in ways(json.loads(manifest)):
        value = at(json.loads(manifest), way)
        for other in others:
            if type(other) is type(value) or (type(other) in FINE_TOO.get(kind_of(way), ())):
                continue
            changed = json.loads(manifest)
            if way:
                at(changed, way[:-1])[way[-1]] = other
            else:
                changed = other
            entry = f"$.{named(way)}" if way else "not a manifest"
            refused(
                out, json.dumps(changed), rf"{escaped(str(out / 'split.json'))}: {escaped(entry)}: (expected .*, got|None, but)"
            )
            checked += 1
    assert checked > 400


def escaped(text: str) -> str:
    import re

    return re.escape(text)


def test_every_missing_key_is_named(out: Path) -> None:
    manifest = (out / "split.json").read_text(encoding="utf-8")
    checked = 0
    for way in ways(json.loads(manifest)):
        if way and isinstance(way[-1], str):
            changed = json.loads(manifest)
            del at(changed, way[:-1])[way[-1]]
            refused(out, changed, rf": \$\.{escaped(named(way))}: is missing$")
            checked += 1
    assert checked > 60


def test_keys_that_nobody_knows_are_left_alone(out: Path) -> None:
    made = json_of(out)
    made["comment"] = made["sections"][0]["comment"] = "by hand"
    (out / "split.json").write_text(json.dumps(made), encoding="utf-8")
    assert len(load_parts(out)) == 3


@pytest.mark.parametrize("schema", [0, 2, -1, 10**20])
def test_another_schema_is_refused(out: Path, schema: int) -> None:
    refused(out, {"schema": schema}, rf"schema: {schema} is not known to this version \(0\.1\.0\), which reads 1$")


@pytest.mark.parametrize(
    "file",
    [
        "../models/x.pb",
        "../../x",
        "/etc/passwd",
        "sub/x_main.pb",
        "./x_main.pb",
        "x_main.pb/",
        "..\\..\\x",
        "C:\\x.pb",
        "x_main.pb\0",
        "\0",
        "",
        ".",
        "..",
    ],
)
def test_paths_stay_in_the_folder(out: Path, file: str) -> None:
    made = json_of(out)
    made["sections"][1]["file"] = file
    refused(out, made, r"sections\[1\]\.file: .* is not a plain file name; section files are beside the manifest$")


def test_a_section_that_is_no_file(out: Path, tmp_path: Path) -> None:
    content = (out / "x_main.pb").read_bytes()
    (out / "x_main.pb").unlink()
    manifest = json_of(out)
    refused(out, manifest, r"sections\[1\]\.file: 'x_main\.pb' is not there$")
    (tmp_path / "secret").write_bytes(content)
    (out / "x_main.pb").symlink_to(tmp_path / "secret")
    refused(out, manifest, r"sections\[1\]\.file: 'x_main\.pb' is a link$")
    (out / "x_main.pb").unlink()
    (out / "x_main.pb").mkdir()
    refused(out, manifest, r"sections\[1\]\.file: 'x_main\.pb' is not there$")
    (out / "x_main.pb").rmdir()
    os.mkfifo(out / "x_main.pb")
    refused(out, manifest, r"sections\[1\]\.file: 'x_main\.pb' is not there$")


@pytest.mark.parametrize("file", ["n" * 5000, "\ud800.pb", "x\n.pb"])
def test_a_name_that_no_file_has(out: Path, file: str) -> None:
    made = json_of(out)
    made["sections"][1]["file"] = file
    refused(out, made, r"sections\[1\]\.file: .* (is not there|cannot be read: )")


def test_a_manifest_that_is_a_pipe_is_not_opened(out: Path) -> None:
    (out / "split.json").unlink()
    os.mkfifo(out / "split.json")
    code = "import sys, graphsplit as gs\ntry:\n    gs.load_parts(sys.argv[1])\nexcept gs.FormatError as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", code, str(out)], timeout=60, capture_output=True, text=True, check=True)
    assert done.stdout == f"{out / 'split.json'}: neither a file nor a folder (a pipe or a device is never opened)\n"


def test_wrong_sums_are_refused(out: Path) -> None:
    made = json_of(out)
    sums = [s["sha256"] for s in made["sections"]]
    for wrong in (sums[0], "", sums[2].upper(), sums[2][:-1], "0" * 64):
        made["sections"][2]["sha256"] = wrong
        refused(out, made, rf"sections\[2\]\.sha256: 'x_post\.pb' is not the file that was written \(its checksum is {sums[2]}\)$")


def test_a_section_that_changed_is_refused(out: Path) -> None:
    content = bytearray((out / "x_post.pb").read_bytes())
    content[-1] ^= 1
    (out / "x_post.pb").write_bytes(content)
    refused(out, json_of(out), r"sections\[2\]\.sha256: 'x_post\.pb' is not the file that was written")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"sections\[1\]\.file: .*x_main\.pb: cannot be read"),
        (GRAPH[:-7], r"sections\[1\]\.file: .*x_main\.pb: not a whole GraphDef"),
        (b"some text", r"sections\[1\]\.file: .*x_main\.pb: not a whole GraphDef"),
        (raw.versions(), r"sections\[1\]\.file: .*x_main\.pb: no node in it"),
        (raw.graph(raw.identity("y", "gone")), r"sections\[1\]\.file: .*x_main\.pb: not a legal graph: node 'y' reads 'gone'"),
        (raw.graph(*[raw.node("y", "NoOp")] * 2), r"sections\[1\]\.file: .*x_main\.pb: not a legal graph: two nodes are named 'y'"),
    ],
    ids=["empty", "truncated", "text", "nothing", "illegal", "twice"],
)
def test_a_section_with_the_right_sum_that_is_no_graph(out: Path, content: bytes, says: str) -> None:
    (out / "x_main.pb").write_bytes(content)
    made = json_of(out)
    made["sections"][1]["sha256"] = hashlib.sha256(content).hexdigest()
    refused(out, made, says)


Change = Callable[[dict[str, Any]], None]


def changed(way: str, value: Any) -> Change:
    """A change of a manifest: ``sections.0.inputs.1.name``."""
    *path, last = way.split(".")

    def change(content: Any) -> None:
        for key in path:
            content = content[int(key) if key.isdigit() else key]
        content[int(last) if last.isdigit() else last] = value

    return change


SHAPE = r"\$\.sections\[0\]\.inputs\[0\]\.shape"
HOSTILE: dict[str, tuple[Change, str]] = {
    "no sections": (changed("sections", []), r"\$\.sections: a split has 1 to 1000 sections, not 0$"),
    "too many sections": (
        lambda content: content.update(sections=content["sections"] * 334),
        r"\$\.sections: a split has 1 to 1000 sections, not 1002$",
    ),
    "a name twice": (changed("sections.1.name", "pre"), r"sections\[1\]\.name: 'pre' is also that of sections\[0\]$"),
    "a file twice": (changed("sections.1.file", "x_pre.pb"), r"sections\[1\]\.file: 'x_pre\.pb' is also that of sections\[0\]$"),
    "a name of no section": (changed("sections.1.name", "keep"), r"name: 'keep' is not the name of a section$"),
    "a path with a zero": (changed("source.file", "a\0b"), r"source\.file: 'a\\x00b' is not a path$"),
    "a name with a path": (changed("sections.1.name", "../main"), r"name: '\.\./main' is not the name of a section$"),
    "a name with a line feed": (changed("sections.1.name", "main\n"), r"name: 'main\\n' is not the name of a section$"),
    "a number of another script": (changed("sections.1.name", "part_٣"), r"name: 'part_٣' is not the name of a section$"),
    "another format": (changed("sections.1.format", "pickle"), r"sections\[1\]\.format: .* does not read 'pickle' sections$"),
    "an input nobody gives": (
        changed("sections.1.inputs.0.tensor", "gone:0"),
        r"sections\[1\]\.inputs\[0\]: no earlier section outputs 'gone:0'$",
    ),
    "an input of the whole left out": (changed("inputs", []), r"sections\[0\]\.inputs\[0\]: no earlier section outputs 'x:0'$"),
    "an output nobody gives": (changed("outputs.1", "gone:0"), r"outputs\[1\]: no section outputs 'gone:0'$"),
    "an input that is not in the file": (
        changed("sections.1.inputs.0.name", "gone:0"),
        r"sections\[1\]\.inputs\[0\]\.name: no tensor 'gone:0' in 'x_main\.pb'$",
    ),
    "an output that is not in the file": (
        changed("sections.2.outputs.0.name", "y:7"),
        r"sections\[2\]\.outputs\[0\]\.name: no tensor 'y:7' in 'x_post\.pb'$",
    ),
    "a node for a tensor": (
        changed("sections.2.outputs.0.name", "y"),
        r"sections\[2\]\.outputs\[0\]\.name: no tensor 'y' in 'x_post\.pb'$",
    ),
    "another dtype": (
        changed("sections.2.outputs.0.dtype", "int8"),
        r"sections\[2\]\.outputs\[0\]\.dtype: 'int8', but 'y:0' in 'x_post\.pb' is float32$",
    ),
    **{
        f"a size of {str(size)[:20]}": (changed("sections.0.inputs.0.shape", [None, size]), rf"{SHAPE}\[1\]: {says}$")
        for size, says in [
            (-1, "-1 is not the size of a dimension"),
            (2**63, "9223372036854775808 is not the size of a dimension"),
            (10**39, "10{39} is not the size of a dimension"),
            (True, r"expected int \| null, got bool"),
            (8.0, r"expected int \| null, got float"),
            ("8", r"expected int \| null, got str"),
            ([8], r"expected int \| null, got array"),
        ]
    },
    "a rank of 255": (changed("sections.0.inputs.0.shape", [1] * 255), rf"{SHAPE}: 255 dimensions, more than 254$"),
    "a huge list of names": (changed("outputs", ["gone:0"] * 500_000), r"outputs\[0\]: no section outputs 'gone:0'$"),
    "a huge list of ports": (
        changed("sections.0.inputs", [{"tensor": "x:0", "name": "gone:0", "dtype": None, "shape": None}] * 200_000),
        r"sections\[0\]\.inputs\[0\]\.name: no tensor 'gone:0' in 'x_pre\.pb'$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused_by_entry(out: Path, name: str) -> None:
    change, says = HOSTILE[name]
    made = json_of(out)
    change(made)
    refused(out, made, says)


def test_sections_in_the_wrong_order_are_refused(out: Path) -> None:
    made = json_of(out)
    made["sections"].reverse()
    refused(out, made, r"sections\[0\]\.inputs\[0\]: no earlier section outputs 'doubled:0'$")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1, 2", "{'schema': 1}", '{"schema": 1} 2', "[" * 200_000, '{"a":' * 200_000, '{"schema": ' + "9" * 9999 + "}"],
    ids=["empty", "open", "list", "python", "more", "deep list", "deep object", "digits"],
)
def test_what_is_no_json_is_refused(out: Path, content: str) -> None:
    refused(out, content, r"split\.json: not JSON: ")


def test_what_is_no_text_is_refused(out: Path) -> None:
    (out / "split.json").write_bytes(b'{"schema": "\xff"}')
    with pytest.raises(FormatError, match=r"split\.json: not JSON: 'utf-8' codec can't decode byte 0xff"):
        load_parts(out)


def test_nesting_to_the_limit_is_refused_by_name(out: Path) -> None:
    manifest = json_of(out)
    for depth in (100, 900, 960, 980, 990):
        manifest["added"] = "HERE"
        refused(
            out,
            json.dumps(manifest).replace('"HERE"', "[" * depth + "]" * depth),
            r"\$\.added\[0\]: expected object, got array|not JSON",
        )


def test_a_manifest_of_a_gigabyte_is_not_read(out: Path) -> None:
    with (out / "split.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(FormatError, match=r"split\.json: too large for a manifest \(more than 16,777,216 bytes\)$"):
        load_parts(out)
