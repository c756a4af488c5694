"""A file that changes while its model is in use: an error, never mixed bytes, never a signal.

x ─▶ a = x + w ─▶ y = relu     w: small, or so large that it stays in the file
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from graphsplit.errors import FormatError
from graphsplit.formats import Model, load
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import split
from tests.formats import raw
from tests.formats.tflite.builder import chain

SIZES = {"in memory": 64, "in the file": 10 * 2**20}  # floats of w
CHANGED = r"x\.pb: changed (while|after) it was read.*; try again when nothing writes to it$"


def graph(floats: int, value: int = 1) -> bytes:
    return raw.graph(
        raw.placeholder("x", raw.FLOAT, floats),
        raw.const("w", bytes([0, 0, 128, 62 + value]) * floats, floats, dtype=raw.FLOAT),
        raw.node("a", "AddV2", "x", "w", attrs={"T": raw.kind(raw.FLOAT)}),
        raw.node("y", "Relu", "a", attrs={"T": raw.kind(raw.FLOAT)}),
    )


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "x.pb"
    path.write_bytes(graph(request.param))
    return path


def overwrite(path: Path, data: bytes) -> None:
    """In place: same inode."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def keep_times(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        before = path.stat()
        change(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


CHANGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, 40),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: overwrite(path, path.read_bytes() + raw.graph(raw.placeholder("z", raw.FLOAT))),
    "overwritten": lambda path: overwrite(path, graph((path.stat().st_size - 200) // 4, 0)),
    "one byte": lambda path: overwrite(path, (data := path.read_bytes())[:90] + bytes([data[90] ^ 1]) + data[91:]),
    "one byte at its old time": keep_times(
        lambda path: overwrite(path, (data := path.read_bytes())[:90] + bytes([data[90] ^ 1]) + data[91:])
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_before_the_split_is_saved_is_refused(path: Path, tmp_path: Path, change: str) -> None:
    parts = split(load(path), outputs="a", shapes=False)
    CHANGES[change](path)
    with pytest.raises(FormatError, match=CHANGED):
        save(parts, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pb"]


USES: dict[str, Callable[[Model], object]] = {
    "index": lambda model: [n.name for n in model.index.nodes],
    "split": lambda model: len(split(model, outputs="a", shapes=False)),
    "serialized": lambda model: model.serialized(),
    "sha256": lambda model: model.sha256,
    "section": lambda model: split(model, outputs="a", shapes=False)["main"].model.serialized(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES)
def test_a_model_is_what_was_read_or_an_error(path: Path, change: str, use: str) -> None:
    expected, model = USES[use](load(path)), load(path)
    CHANGES[change](path)
    if change == "one byte at its old time" and path.stat().st_size > 2**20:
        return  # seen when the sections are saved
    with suppress(FormatError):
        assert USES[use](model) == expected


@pytest.mark.parametrize("change", ["removed", "renamed", "touched", "permissions"])
def test_what_leaves_the_content_alone_is_accepted(path: Path, tmp_path: Path, change: str) -> None:
    data = path.read_bytes()
    parts = split(load(path), outputs="a", shapes=False)
    if change == "removed":
        path.unlink()
    elif change == "renamed":
        path.rename(tmp_path / "z.pb")
    elif change == "touched" and len(data) < 2**20:  # else it might have been written to
        path.touch()
    else:
        path.chmod(0o600)
    assert whole(save(parts, tmp_path / "out"), data)


def test_another_file_of_that_name_is_refused(path: Path, tmp_path: Path) -> None:
    parts = split(load(path), outputs="a", shapes=False)
    (tmp_path / "new.pb").write_bytes(graph(8))
    (tmp_path / "new.pb").replace(path)
    with pytest.raises(FormatError, match=CHANGED):
        save(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def whole(out: Path, data: bytes) -> bool:
    """The sections are those of a file with that content."""
    reference = out.parent / "reference" / "x.pb"
    reference.parent.mkdir(exist_ok=True)
    reference.write_bytes(data)
    expected: Parts = split(load(reference), outputs="a", shapes=False)
    return [p.model.sha256 for p in load_parts(out)] == [p.model.sha256 for p in expected]


def test_a_tflite_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(chain(2).bytes())
    parts = split(load(path), outputs="t0", shapes=False)
    os.truncate(path, 8)
    assert len(parts["main"].model.index.nodes) > 1
    with pytest.raises(FormatError, match=r"x\.tflite: changed after it was read"):
        save(parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["truncated", "overwritten"])
@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_file_that_changes_at_any_moment_ends_no_process(tmp_path: Path, change: str, rounds: int) -> None:
    """The command, while its file changes: a whole split of the old content, or one line."""
    path, data, other = tmp_path / "x.pb", graph(SIZES["in the file"]), graph(SIZES["in the file"], 0)
    rng = random.Random(rounds)
    refused, seconds = 0, 0.0
    for number in range(rounds + 1):
        path.write_bytes(data)
        out = tmp_path / str(number) / "out"
        command = ["graphsplit", "split", str(path), "--outputs", "a", "-o", str(out), "--no-verify", "--no-shapes"]
        started = time.monotonic()
        running = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while number % 2 and not out.exists() and running.poll() is None:  # when it begins to write
            time.sleep(0.0005)
        if number:
            time.sleep(0 if number % 2 else rng.uniform(0.2, 1) * seconds)
            if change == "truncated":
                os.truncate(path, 40)
            else:
                overwrite(path, other)
        _, errors = running.communicate(timeout=60)
        seconds = seconds or time.monotonic() - started
        assert running.returncode in (0, 1), signal.Signals(-running.returncode)
        if running.returncode:
            refused += 1
            assert not out.exists()
            assert errors.count("\n") == 1, errors
        else:
            assert whole(out, data) or whole(out, other)  # the other, if it was there before the command looked
    assert refused
