"""graphsplit detect, as its users meet it, on a tiny model that finds what is white."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from graphsplit.cli.detect_answer import Tally
from graphsplit.errors import FormatError
from tests.detection import conftest
from tests.detection.spotter import white_box

cv2 = pytest.importorskip("cv2")
pytest.importorskip("supervision")

spotter, moving = conftest.spotter, conftest.moving
KEYS = ["source", "frame", "time_s", "boxes", "scores", "classes", "labels", "latency_ms"]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(white_box(48, 64, (16, 12, 32, 24))).save(path)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_an_image_prints_what_is_in_it(call, spotter, picture, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("white\n")
    answer = call("detect", spotter, picture, "--labels", labels)
    assert answer.status == 0, answer.err
    assert "white" in answer.out
    assert "16, 12, 32, 24" in answer.out
    assert "1 frame, latency" in answer.out
    assert " not cut: nothing to crop" in answer.out
    assert "note: the model runs whole, as one section: nothing to crop" in answer.out
    assert "note: /gpu:0 is not available: section 'main' runs on /cpu:0" in answer.out


def test_json_lines_have_the_keys_that_others_read(call, spotter, moving, tmp_path):
    out = tmp_path / "out.jsonl"
    answer = call("detect", spotter, moving, "--outputs", "heat", "--jsonl", out)
    assert answer.status == 0, answer.err
    found = lines(out)
    assert [list(f) for f in found] == [KEYS] * 24
    assert [f["frame"] for f in found] == list(range(24))
    assert found[6]["time_s"] == pytest.approx(0.5)
    assert np.abs(np.array(found[6]["boxes"][0]) - [8 / 48, 12 / 64, 24 / 48, 28 / 64]).max() < 0.05
    assert {f["source"] for f in found} == {str(moving)}
    assert (found[6]["classes"], found[6]["labels"]) == ([1], ["1"])
    assert all(f["latency_ms"] > 0 for f in found)
    assert "24 frames, " in answer.out
    assert ", 0 dropped" in answer.out
    assert f"wrote {out}" in answer.out


def test_json_is_alone_on_stdout(call, spotter, moving):
    answer = call("detect", spotter, moving, "--outputs", "heat", "--json", "--device", "main=/cpu:0")
    assert answer.status == 0, answer.err
    found = answer.json
    assert (found["frames"], found["dropped"], found["stopped"], found["written"]) == (24, 0, None, [])
    assert found["cut"] == "named"
    assert found["fps"] > 0
    assert set(found["latency_ms"]) == {"p50", "p95"}
    assert {n: s["device"] for n, s in found["sections"].items()} == {"main": "/cpu:0", "post": "/cpu:0"}
    assert found["sections"]["main"]["ms_p50"] > 0
    assert found["found"]["1"]["frames"] == 24
    assert found["notes"] == []


def test_a_video_is_saved_with_the_size_rate_and_length_of_its_source(call, spotter, moving, tmp_path):
    out = tmp_path / "out.mp4"
    assert call("detect", spotter, moving, "--save", out).status == 0
    capture = cv2.VideoCapture(str(out))
    sizes = [capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)]
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    assert (sizes, count) == ([64, 48, 12], 24)
    assert names(tmp_path) == ["out.mp4"]


def test_an_image_is_saved_annotated_and_a_folder_as_a_folder(call, spotter, picture, tmp_path):
    assert call("detect", spotter, picture, "--save", tmp_path / "out.png").status == 0
    before, after = (np.asarray(Image.open(tmp_path / n).convert("RGB")) for n in ("x.png", "out.png"))
    assert before.shape == after.shape
    assert (before != after).any()
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("in/a/1.png", "in/2.png"):
        picture.rename(tmp_path / name) if name == "in/2.png" else (tmp_path / name).write_bytes(picture.read_bytes())
    answer = call("detect", spotter, tmp_path / "in", "--save", tmp_path / "marked", "--jsonl", tmp_path / "o.jsonl", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["files"] == ["2.png", "a/1.png"], "in the order of the frames"
    assert answer.json["kind"] == "folder"
    assert (tmp_path / "marked" / "a" / "1.png").is_file()
    assert names(tmp_path / "marked") == ["2.png", "a"]
    rows = lines(tmp_path / "o.jsonl")
    assert [(row["source"], row["frame"]) for row in rows] == [(f"{tmp_path}/in/2.png", 0), (f"{tmp_path}/in/a/1.png", 1)]


def test_several_sources_are_one_run_and_rows_name_them(call, spotter, picture, moving, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "y.png").write_bytes(picture.read_bytes())
    out, saved = tmp_path / "o.jsonl", tmp_path / "out"
    answer = call("detect", spotter, picture, tmp_path / "in", moving, "--jsonl", out, "--save", saved, "--json")
    assert (answer.status, answer.err) == (0, "")
    assert (answer.json["frames"], answer.json["kind"], answer.json["source"]) == (26, "several", "3 sources")
    assert answer.json["files"] == [str(picture), f"{tmp_path}/in/y.png", str(moving)]
    rows = [(row["source"], row["frame"]) for row in lines(out)]
    assert rows == [(str(picture), 0), (f"{tmp_path}/in/y.png", 0), *((str(moving), i) for i in range(24))]
    assert sorted(p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()) == ["in/y.png", "moving.avi", "x.png"]
    capture = cv2.VideoCapture(str(saved / "moving.avi"))
    assert [capture.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)] == [12, 24]
    capture.release()


def test_what_cannot_be_read_is_listed_on_stderr_and_the_rest_is_done(call, spotter, picture, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("1.png", "3.png"):
        (folder / name).write_bytes(picture.read_bytes())
    (folder / "2.png").write_bytes(b"\x89PNG")
    reason = "not an image that OpenCV can read, or a damaged one"
    saved, out = tmp_path / "out", tmp_path / "o.jsonl"
    answer = call("detect", spotter, folder, "--save", saved, "--jsonl", out)
    assert (answer.status, answer.err) == (4, f"graphsplit: {folder}/2.png: {reason}\n")
    assert [(row["source"], row["frame"]) for row in lines(out)] == [(f"{folder}/1.png", 0), (f"{folder}/3.png", 2)]
    assert names(saved) == ["1.png", "3.png"]
    answer = call("detect", spotter, folder / "2.png", picture, "--json")
    assert answer.status == 4
    assert answer.json["rejects"] == [{"source": f"{folder}/2.png", "reason": reason}]
    assert (answer.json["frames"], answer.json["files"]) == (1, [str(picture)])


def test_if_nothing_can_be_read_nothing_is_written(call, spotter, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(b"\x89PNG")
    for sources in ([folder], [folder / "1.png", folder / "2.png"]):
        answer = call("detect", spotter, *sources, "--save", tmp_path / "out", "--jsonl", tmp_path / "o.jsonl")
        assert (answer.status, len(answer.err.splitlines())) == (4, 2)
        assert "0 frames" in answer.out
        assert names(tmp_path) == ["in"]


def test_only_so_many_frames(call, spotter, moving, tmp_path):
    answer = call("detect", spotter, moving, "--max-frames", "5", "--jsonl", tmp_path / "o.jsonl", "--json")
    assert (answer.status, answer.json["frames"], len(lines(tmp_path / "o.jsonl"))) == (0, 5, 5)


def test_a_threshold_leaves_out_what_is_below(call, spotter, moving):
    assert call("detect", spotter, moving, "--threshold", "0", "--json").json["found"]["1"]["count"] == 24
    dark = call("detect", spotter, moving, "--threshold", "1", "--json", "--max-frames", "2")
    assert dark.status == 0


def test_nothing_found_is_said(call, spotter, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "dark.png")
    assert "no detections with a score of 0.5 or more" in call("detect", spotter, tmp_path / "dark.png").out


def test_a_split_folder_is_run_as_it_was_split_and_whole_when_asked(call, spotter, picture, tmp_path):
    assert call("split", spotter, "--at", "heat", "-o", tmp_path / "out", "--no-verify", "--no-shapes").status == 0
    split = call("detect", tmp_path / "out", picture, "--json")
    assert list(split.json["sections"]) == ["main", "post"]
    whole = call("detect", tmp_path / "out", picture, "--no-split", "--json")
    assert list(whole.json["sections"]) == ["main"]
    assert whole.json["found"] == split.json["found"]


def test_the_newest_frame_wins_when_asked_for_and_the_video_keeps_its_length(call, spotter, moving, tmp_path):
    out = tmp_path / "out.mp4"
    answer = call("detect", spotter, moving, "--policy", "latest", "--jsonl", tmp_path / "o.jsonl", "--save", out, "--json")
    assert answer.status == 0, answer.err
    numbers = [line["frame"] for line in lines(tmp_path / "o.jsonl")]
    assert numbers == sorted(set(numbers))
    assert answer.json["dropped"] == 24 - len(numbers)
    capture = cv2.VideoCapture(str(out))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 24
    capture.release()


@pytest.fixture
def camera(monkeypatch):
    """A camera of 40 pictures that do not wait for anybody."""

    class Camera:
        def __init__(self, what):
            assert what == 3
            self.left = 40

        def isOpened(self):
            return True

        def get(self, what):
            return {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FPS: 200.0}.get(what, 0.0)

        def read(self):
            time.sleep(0.002)
            self.left -= 1
            return self.left >= 0, np.ascontiguousarray(white_box(48, 64, (10, 8, 30, 24))[..., ::-1])

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)


def test_of_a_camera_the_newest_frame_is_taken_and_drops_are_counted(call, spotter, camera, tmp_path, monkeypatch):
    add = Tally.add

    def slow(self, frame):
        add(self, frame)
        time.sleep(0.02)

    monkeypatch.setattr(Tally, "add", slow)
    answer = call("detect", spotter, "camera:3", "--jsonl", tmp_path / "o.jsonl", "--json")
    assert answer.status == 0, answer.err
    found = answer.json
    assert found["kind"] == "camera"
    assert found["dropped"] > 10
    assert found["frames"] + found["dropped"] == 40
    assert [line["frame"] for line in lines(tmp_path / "o.jsonl")][-1] == 39, "the newest is never dropped"
    assert "camera:3: ended after 40 frames" in found["notes"]


def test_ending_a_camera_is_no_failure(call, spotter, camera, tmp_path, monkeypatch):
    def interrupted(self, frame):
        self.frames += 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", interrupted)
    answer = call("detect", spotter, "camera:3", "--jsonl", tmp_path / "o.jsonl", "--json")
    assert (answer.status, answer.json["stopped"], len(lines(tmp_path / "o.jsonl"))) == (0, "interrupted", 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["{picture}", "nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["{picture}", "camera:0"], "camera:0: a camera or a stream must be the only source"),
        ([""], "'' is not a source; name an image"),
        (["{picture}", "", "--save", "out"], "'' is not a source; name an image"),
        (["{picture}", "{folder}/x.png", "{folder}", "--save", "out", "--jsonl", "there.jsonl"], "there.jsonl exists already"),
        (["camera:99"], "camera:99: no such camera, or it is in use"),
        (["{picture}", "--labels", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["{picture}", "--save", "out.xyz"], "an image is written as .png"),
        (["{picture}", "--save", "{picture}", "--overwrite"], "is the source itself; name another place"),
        (["{picture}", "--jsonl", "there.jsonl"], "there.jsonl exists already; --overwrite replaces it"),
        (["{picture}", "--save", "a.png", "--jsonl", "a.png"], "a.png is named by both --save and --jsonl"),
        (["{picture}", "--jsonl", "nowhere/a.jsonl"], "there is no folder"),
        (["{picture}", "--outputs", "haet"], "no tensor named 'haet'; did you mean 'heat'"),
        (["{picture}", "--outputs", "heat", "--no-split"], "outputs says where to cut, but the model is to run whole"),
        (["{picture}", "--device", "middle=/cpu:0"], "no section 'middle'; there are main"),
        (["{picture}", "--show"], "a window needs"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_nothing_is_left_behind(call, spotter, picture, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    (tmp_path / "there.jsonl").write_text("mine")
    before = names(tmp_path)
    answer = call("detect", spotter, *[a.format(picture=picture, folder=tmp_path) for a in args])
    assert answer.status == 1
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert names(tmp_path) == before


def test_pictures_given_before_the_model_are_told_as_such(call, spotter, picture):
    answer = call("detect", picture, spotter)
    assert (answer.status, "this is a picture; the model comes first" in answer.err) == (1, True)


def test_after_an_error_on_the_way_nothing_is_left_behind(call, spotter, picture, tmp_path, monkeypatch):
    def fail(self, frame):
        if frame.source.endswith("2.png"):
            raise FormatError("the disk is full")

    (tmp_path / "in").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "in" / name).write_bytes(picture.read_bytes())
    monkeypatch.setattr(Tally, "add", fail)
    for sources in ([tmp_path / "in"], [tmp_path / "in", picture]):
        answer = call("detect", spotter, *sources, "--save", tmp_path / "out", "--jsonl", tmp_path / "o.jsonl")
        assert (answer.status, answer.err) == (1, "graphsplit: the disk is full\n")
        assert names(tmp_path) == ["in", "x.png"]


@pytest.mark.parametrize(
    "args", [["--threshold", "2"], ["--threshold", "x"], ["--max-frames", "0"], ["--policy", "any"], ["--pixels", "3"], []]
)
def test_wrong_usage_is_told_by_the_status(call, spotter, args):
    assert call("detect", spotter, *(["x.png", *args] if args else [])).status == 2


def test_existing_files_are_replaced_when_asked(call, spotter, picture, tmp_path):
    (tmp_path / "o.jsonl").write_text("old")
    assert call("detect", spotter, picture, "--jsonl", tmp_path / "o.jsonl", "--overwrite").status == 0
    assert len(lines(tmp_path / "o.jsonl")) == 1


def test_an_interrupt_ends_cleanly_and_what_was_done_is_kept(call, spotter, moving, tmp_path, monkeypatch):
    add = Tally.add

    def interrupted(self, frame):
        add(self, frame)
        if self.frames == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", interrupted)
    answer = call("detect", spotter, moving, "--jsonl", tmp_path / "o.jsonl", "--save", tmp_path / "o.mp4")
    assert answer.status == 130
    assert "interrupted after 7 frames; the results so far are kept" in answer.out
    assert len(lines(tmp_path / "o.jsonl")) == 7
    capture = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7
    capture.release()
    assert names(tmp_path) == ["o.jsonl", "o.mp4"]


def test_an_interrupt_before_the_first_frame_leaves_nothing(call, spotter, moving, tmp_path, monkeypatch):
    def interrupted(self, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(Tally, "add", interrupted)
    answer = call("detect", spotter, moving, "--jsonl", tmp_path / "o.jsonl")
    assert (answer.status, names(tmp_path)) == (130, [])


def test_a_closed_window_is_a_normal_end(call, spotter, moving, tmp_path, monkeypatch):
    from graphsplit.detection import window

    class Closed:
        def __init__(self, title):
            self.left = 4

        def show(self, frame):
            self.left -= 1
            return self.left > 0

        def close(self):
            pass

    monkeypatch.setattr(window, "Window", Closed)
    answer = call("detect", spotter, moving, "--show", "--jsonl", tmp_path / "o.jsonl", "--json")
    assert (answer.status, answer.json["stopped"], len(lines(tmp_path / "o.jsonl"))) == (0, "window closed", 4)


def test_on_a_terminal_the_rate_is_shown_while_it_runs(call, spotter, moving, monkeypatch):
    class Terminal:
        def __init__(self, stream):
            self.stream = stream

        def isatty(self):
            return True

        def __getattr__(self, name):
            return getattr(self.stream, name)

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
    answer = call("detect", spotter, moving, "--json")
    assert answer.status == 0
    assert answer.json["frames"] == 24
    assert "moving.avi" in answer.err
    assert "frames/s" in answer.err
    assert "main on /cpu:0" in answer.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_control_c_itself_ends_cleanly(spotter, tmp_path):
    """A real signal, at any moment of a long run."""
    source = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"MJPG"), 25, (1280, 720))
    for i in range(600):
        writer.write(white_box(720, 1280, (i, 8, i + 100, 240)))
    writer.release()
    # Where the tests run in the background, ^C is ignored, and what they start would ignore it as well.
    code = "import signal, graphsplit.cli as c; signal.signal(signal.SIGINT, signal.default_int_handler); c.main()"
    command = [sys.executable, "-c", code, "detect", spotter, source, "--outputs", "heat", "--jsonl", tmp_path / "o.jsonl"]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and not any(p.stat().st_size for p in tmp_path.glob(".graphsplit.*.tmp/*/o.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "interrupted after" in out
    assert len(lines(tmp_path / "o.jsonl")) > 0
    assert names(tmp_path) == ["long.avi", "o.jsonl"]
