"""graphsplit batch --engine local, as its users meet it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from graphsplit.batching import run_batch
from graphsplit.batching.work import Failed, guarded
from graphsplit.errors import OptionError, PlacementError
from graphsplit.execution.stages import Stage
from tests.batching.conftest import frames, rejects, rows

cv2 = pytest.importorskip("cv2")
pytest.importorskip("supervision")

LOCAL = ("--engine", "local", "--outputs", "heat")


def test_good_frames_are_answered_once_and_bad_sources_listed(call, spotter, archive, tmp_path):
    out = tmp_path / "out"
    answer = call("batch", spotter, archive, "-o", out, *LOCAL, "--json")
    assert answer.status == 4, answer.err
    found = rows(out)
    read = frames(found)
    early = sum(name == "short.avi" for name, _ in read)
    assert 0 < early < 24
    assert read == [
        ("a.png", 0),
        ("c.png", 0),
        *(("moving.avi", i) for i in range(24)),
        *(("short.avi", i) for i in range(early)),
    ]
    reasons = {name.rpartition("/")[2]: reason for name, reason in rejects(out).items()}
    assert reasons == {
        "b.png": "not an image that OpenCV can read, or a damaged one",
        "empty.jpg": "the file is empty",
        "short.avi": f"ended early: {early} of 24 frames could be read",
    }
    assert list(found[0]) == ["source", "frame", "boxes", "scores", "classes"]
    assert found[0]["boxes"] == [pytest.approx([12 / 48, 16 / 64, 24 / 48, 32 / 64])]
    assert answer.json["sources"] == 6
    assert answer.json["frames"] == answer.json["answered"] == len(found)
    assert len(answer.json["rejects"]) == 3


def test_rows_say_what_detect_says(call, spotter, moving, tmp_path):
    assert call("batch", spotter, moving, "-o", tmp_path / "out", *LOCAL).status == 0
    assert (tmp_path / "out" / "rejects.jsonl").read_text() == ""
    assert call("detect", spotter, moving, "--outputs", "heat", "--threads", "1", "--jsonl", tmp_path / "d.jsonl").status == 0
    detected = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    for one, other in zip(rows(tmp_path / "out"), detected, strict=True):
        assert {k: one[k] for k in ("frame", "boxes", "scores", "classes")} == {
            k: other[k] for k in ("frame", "boxes", "scores", "classes")
        }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"otuputs": "heat"}, r"^run_batch\(\) got an unexpected keyword argument 'otuputs'; did you mean 'outputs'\?$"),
        ({"sources_per_prt": 2}, r"did you mean 'sources_per_part'\?"),
        ({"ray": {"adress": "auto"}}, r"^RayOptions\(\) got an unexpected keyword argument 'adress'; did you mean 'address'\?$"),
        ({"engine": "rey"}, "engine is one of ray, local, not 'rey'"),
        ({"format": "csv"}, "format is one of jsonl, parquet, not 'csv'"),
        ({"threshold": -1}, "threshold must be a number from 0 to 1, not -1"),
        ({"sources_per_part": 0}, "sources_per_part must be at least 1, not 0"),
        ({"engine": "ray", "target": "grpc://h:1"}, "target goes with engine 'local'; Ray decides where sections run"),
    ],
)
def test_wrong_options_are_refused_at_the_call(spotter, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        run_batch(spotter, ["none.png"], tmp_path / "out", **options)


def test_run_options_reach_the_sections(spotter, pictures, tmp_path):
    with pytest.raises(PlacementError, match="/gpu:7"):
        run_batch(spotter, [pictures], tmp_path / "out", devices={"main": "/gpu:7"}, strict=True)
    assert not (tmp_path / "out").exists()
    cpu = {"main": "/cpu:0", "post": "/cpu:0"}
    run_batch(spotter, [pictures], tmp_path / "out", devices=cpu, outputs="heat", threads=2, strict=True)
    assert '"threads": 2' in (tmp_path / "out" / "batch.journal").read_text()
    run_batch(spotter, [pictures], tmp_path / "one", devices=cpu, outputs="heat")
    assert '"threads": 1' in (tmp_path / "one" / "batch.journal").read_text()


def test_a_finished_run_is_resumed_without_running_anything(call, spotter, pictures, tmp_path):
    out = tmp_path / "out"
    assert call("batch", spotter, pictures, "-o", out, *LOCAL).status == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    answer = call("batch", spotter, pictures, "-o", out, *LOCAL, "--resume", "--json")
    assert (answer.status, answer.json["answered"], answer.json["resumed"]) == (0, 0, 12)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["none.png"], "none.png: no such file or folder"),
        (["--outputs", "nothing"], "no tensor named 'nothing'"),
    ],
)
def test_what_is_wrong_from_the_beginning_writes_nothing(call, spotter, pictures, tmp_path, more, message):
    answer = call("batch", spotter, pictures, *more, "-o", tmp_path / "out", "--engine", "local")
    assert answer.status == 1
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_stage_that_fails_on_a_frame_goes_on_with_the_next():
    def call(values):
        if values[0] == 3:
            raise ValueError("three\nis too many")
        return [values[0] + 1]

    stage = guarded(Stage("post", "/cpu:0", ("a",), ("b",), call))
    assert [stage.call([n]) for n in (2, 3, 4)] == [[3], [Failed("section 'post' failed: three")], [5]]
    assert stage.call([Failed("before")]) == [Failed("before")]


def test_lack_of_memory_is_no_fault_of_a_frame():
    def call(values):
        raise MemoryError

    with pytest.raises(MemoryError):
        guarded(Stage("post", "/cpu:0", ("a",), ("b",), call)).call([1])


def test_parquet_has_the_same_rows(call, spotter, archive, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for format in ("jsonl", "parquet"):
        assert call("batch", spotter, archive, "-o", tmp_path / format, *LOCAL, "--format", format).status == 4
    assert parquet.read_table(tmp_path / "parquet" / "part-00000.parquet").to_pylist() == rows(tmp_path / "jsonl")
    assert rejects(tmp_path / "parquet") == rejects(tmp_path / "jsonl")


def test_a_killed_run_goes_on_and_every_frame_is_there_once(spotter, pictures, archive, tmp_path):
    def command(out):
        return [
            *(sys.executable, "-m", "graphsplit", "batch", spotter, pictures, archive, "-o", out),
            *(*LOCAL, "--sources-per-part", "1", "--json"),
        ]

    out = tmp_path / "out"
    # It is killed in the middle, since the ninth source never comes.
    slow = "import sys, time, graphsplit.batching.local as l; whole = l.read\n"
    slow += "def read(item, number):\n if number == 8: time.sleep(3600)\n yield from whole(item, number)\n"
    slow += "l.read = read; sys.argv = sys.argv[2:]\n"
    slow += "from graphsplit.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", slow, *command(out)[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as killed:
        ended = time.monotonic() + 120
        while len(list(out.glob("part-*"))) < 3:
            assert killed.poll() is None, killed.communicate()
            assert time.monotonic() < ended
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    parts = {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}
    assert 3 <= len(parts) < 12
    assert not (out / "rejects.jsonl").exists()
    done = subprocess.run([*command(out), "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    answer = json.loads(done.stdout)
    assert len(parts) - 1 <= answer["resumed"] <= len(parts)
    kept = sorted(parts)[: answer["resumed"]]
    assert all((out / name).stat().st_mtime_ns == parts[name] for name in kept)
    whole = subprocess.run(command(tmp_path / "whole"), capture_output=True, text=True, check=False)
    assert whole.returncode == 4, whole.stderr
    assert rows(out) == rows(tmp_path / "whole")
    assert rejects(out) == rejects(tmp_path / "whole")
    assert not list(out.glob(".*"))
