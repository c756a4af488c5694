"""The callback runners: every promise of how frames come in, go out, end and fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import graphsplit as gs
from graphsplit.errors import CutError, FeedError, GraphSplitError, OptionError, PlacementError, SectionRunError
from graphsplit.execution.callbacks import AsyncRunner, MultiStreamRunner
from graphsplit.execution.streams import Stop, Turns
from graphsplit.formats import GraphDefModel
from graphsplit.inference.fed_arrays import fed_array


@pytest.fixture(scope="module")
def parts():
    """x ─▶ pre_add ─▶ main_mul ─┬─▶ post_neg ─▶ result        s is read by main only, side is read by nobody in post
    s ──────────────────▲        └─▶ side
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 2], name="x")
        s = tf.compat.v1.placeholder(tf.float32, [1, 2], name="s")
        mid = tf.multiply(tf.add(x, 1.0, name="pre_add"), s, name="main_mul")
        tf.identity(tf.negative(mid, name="post_neg"), name="result")
        tf.square(mid, name="side")
    model = GraphDefModel([graph.as_graph_def().SerializeToString()])
    return gs.split(model, inputs="pre_add", outputs=["main_mul", "side"], devices={"main": "/cpu:0"})


def number(i):
    return np.full((1, 2), i, np.float32)


def runner_of(parts, *roles, **options):
    runner = AsyncRunner(parts["main"], **options)
    if "pre" in roles:
        runner.set_preprocessing_model(parts["pre"])
    if "post" in roles:
        runner.set_postprocessing_model(parts["post"])
    return runner


def test_results_arrive_in_order_and_all_of_them_before_wait_returns(parts):
    got = []
    with runner_of(parts, "pre", "post") as runner:
        assert [p.tensor for p in runner.inputs] == ["x:0", "s:0"]
        assert [p.tensor for p in runner.outputs] == ["result:0", "side:0"]
        runner.connect_input(lambda: ([number(i), number(2)] for i in range(20)))
        runner.connect_output(lambda result, side: got.append((result[0, 0], side[0, 0])))
        runner.wait()
    assert got == [(-2.0 * (i + 1), 4.0 * (i + 1) ** 2) for i in range(20)]


def test_main_alone_takes_and_gives_its_own_tensors_in_port_order(parts):
    got = []
    with runner_of(parts) as runner:
        assert [p.tensor for p in runner.inputs] == ["s:0", "pre_add:0"]
        assert [p.tensor for p in runner.outputs] == ["main_mul:0", "side:0"]
        values = iter([(number(3), number(2)), None])
        runner.connect_input(lambda: next(values))
        runner.connect_output(lambda *arrays: got.append([float(a[0, 0]) for a in arrays]))
        runner.wait()
    assert got == [[6.0, 36.0]]


def test_stop_iteration_ends_the_stream_and_a_leading_one_may_be_left_out(parts):
    got = []
    values = iter([[np.zeros(2, np.float32), number(1)]] * 3)
    with runner_of(parts) as runner:
        runner.connect_output(lambda *arrays: got.append(arrays))
        runner.connect_input(lambda: next(values))
        runner.wait()
    assert len(got) == 3
    assert got[0][0].shape == (1, 2)


def test_everything_wrong_with_a_frame_is_said_at_once(parts):
    with runner_of(parts) as runner:
        runner.connect_input(lambda: [np.zeros((1, 2), np.float64), np.zeros((1, 3), np.float32)])
        runner.connect_output(lambda *arrays: None)
        with pytest.raises(FeedError, match=r"'s:0' must be float32, .*; 'pre_add:0' must have shape \[1, 2\], not \[1, 3\]"):
            runner.wait()
    with runner_of(parts) as runner:
        runner.connect_input(lambda: number(1))
        runner.connect_output(lambda *arrays: None)
        with pytest.raises(FeedError, match="got 1 arrays for 2 inputs: s:0, pre_add:0"):
            runner.wait()


def test_an_exception_in_the_input_callback_ends_the_stream_and_reaches_the_caller(parts):
    got = []

    def frames():
        yield [number(1), number(1)]
        raise OSError("camera unplugged")

    with runner_of(parts) as runner:
        runner.connect_input(frames)
        runner.connect_output(lambda *arrays: got.append(arrays))
        with pytest.raises(OSError, match="camera unplugged"):
            runner.wait()


def test_an_exception_in_the_output_callback_reaches_the_caller(parts):
    def show(*arrays):
        raise ValueError("no window")

    with runner_of(parts) as runner:
        runner.connect_input(lambda: ([number(i), number(1)] for i in range(50)))
        runner.connect_output(show)
        with pytest.raises(ValueError, match="no window"):
            runner.wait()


def test_a_section_that_fails_is_named_and_nothing_stays_locked(parts):
    """An error in pre once left a lock behind in another runtime: here the next runner works."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 2], name="x")
        with tf.control_dependencies([tf.debugging.assert_less(x, 3.0)]):
            tf.add(x, 1.0, name="pre_add")
    picky = gs.split(GraphDefModel([graph.as_graph_def().SerializeToString()]), outputs="pre_add", devices={"main": "/cpu:0"})
    got = []
    runner = AsyncRunner(parts["main"])
    runner.set_preprocessing_model(picky["main"])
    runner.connect_input(lambda: ([number(i), number(1)] for i in range(10)))
    runner.connect_output(lambda *arrays: got.append(arrays))
    with pytest.raises(SectionRunError, match="failed at frame 3"):
        runner.wait()
    runner.shutdown()
    assert len(got) == 3
    with runner_of(parts, "pre") as again:
        again.connect_input(lambda: iter([[number(1), number(1)]]))
        again.connect_output(lambda *arrays: got.append(arrays))
        again.wait()
    assert len(got) == 4


def test_wait_names_the_callback_that_is_missing(parts):
    with runner_of(parts) as runner:
        with pytest.raises(GraphSplitError, match=r"^call connect_input\(\) and connect_output\(\) before wait\(\)$"):
            runner.wait()
        runner.connect_output(lambda *arrays: None)
        with pytest.raises(GraphSplitError, match=r"^call connect_input\(\) before wait\(\)$"):
            runner.wait()


def test_models_are_set_before_the_stream_runs_and_must_fit(parts):
    with runner_of(parts) as runner:
        with pytest.raises(CutError, match="pre and main share no tensor"):
            runner.set_preprocessing_model(parts["post"])
        runner.connect_input(lambda: None)
        runner.connect_output(lambda *arrays: None)
        with pytest.raises(GraphSplitError, match="the stream is already running"):
            runner.set_postprocessing_model(parts["post"])
        with pytest.raises(GraphSplitError, match="the stream is already running"):
            runner.connect_input(lambda: None)
        runner.wait()


def test_stop_ends_early_and_both_ends_may_be_called_twice(parts):
    got = []
    runner = runner_of(parts)

    def endless():
        while True:
            time.sleep(0.001)
            yield [number(1), number(1)]

    runner.connect_input(endless)
    runner.connect_output(lambda *arrays: got.append(arrays))
    while len(got) < 3:
        time.sleep(0.01)
    runner.stop()
    runner.stop()
    count = len(got)
    time.sleep(0.05)
    assert len(got) == count
    runner.wait()
    runner.shutdown()
    runner.shutdown()
    with pytest.raises(GraphSplitError, match="shut down"):
        AsyncRunner._start(runner, iter([]), print)


def test_sections_are_read_from_their_files(parts, tmp_path):
    gs.save(parts, tmp_path)
    got = []
    with AsyncRunner(tmp_path / "model_main.pb") as runner:
        runner.set_preprocessing_model(tmp_path / "model_pre.pb")
        runner.set_postprocessing_model(str(tmp_path / "model_post.pb"))
        assert [p.tensor for p in runner.inputs] == ["x:0", "s:0"]
        runner.connect_input(lambda: iter([[number(1), number(5)]]))
        runner.connect_output(lambda result, side: got.append(float(result[0, 1])))
        runner.wait()
    assert got == [-10.0]


def test_streams_keep_their_own_order_and_share_fairly(parts):
    got: dict[int, list[float]] = {0: [], 1: [], 2: []}
    sequence = []

    def frames(stream):
        return ([number(100 * stream + i), number(1)] for i in range(30))

    def show(stream, main_mul, side):
        got[stream].append(float(main_mul[0, 0]))
        sequence.append(stream)

    with MultiStreamRunner(parts["main"]) as runner:
        with pytest.raises(ValueError, match="at least 1, not 0"):
            runner.connect_streams(frames, show, 0)
        runner.connect_streams(frames, show, 3)
        runner.wait()
    assert got == {s: [100.0 * s + i for i in range(30)] for s in range(3)}
    for stream in range(3):  # nobody is served much before the others
        assert sequence[:45].count(stream) >= 8


def test_a_slow_stream_does_not_hold_up_the_others(parts):
    done = threading.Event()
    got = []

    def frames(stream):
        if stream == 1:
            assert done.wait(60), "the other stream was held up"
        return iter([[number(i), number(1)] for i in range(5)])

    def show(stream, *arrays):
        got.append(stream)
        if got.count(0) == 5:
            done.set()

    with MultiStreamRunner(parts["main"]) as runner:
        runner.connect_streams(frames, show, 2)
        runner.wait()
    assert got == [0] * 5 + [1] * 5


def test_an_error_in_one_stream_reaches_the_caller(parts):
    def frames(stream):
        if stream == 1:
            raise OSError("camera 1 unplugged")
        return iter([[number(1), number(1)]])

    with MultiStreamRunner(parts["main"]) as runner:
        runner.connect_streams(frames, lambda *a: None, 2)
        with pytest.raises(OSError, match="camera 1 unplugged"):
            runner.wait()


# Options, buffers, ends


def test_sections_go_by_their_roles_whatever_they_are_called(parts):
    """A part called main may be the one before main; devices and errors name the roles."""
    whole = gs.split(GraphDefModel([parts["pre"].model.serialized()], output_names=["pre_add:0"]), autocrop=True)
    assert [p.name for p in whole] == ["main"]
    with AsyncRunner(parts["main"], devices={"pre": "/cpu:0", "main": "/cpu:0"}) as runner:
        runner.set_preprocessing_model(whole["main"])
        assert repr(runner) == "AsyncRunner(pre → main, not connected)"
        got = []
        runner.connect_input(lambda: iter([[number(1), number(2)]]))
        runner.connect_output(lambda *arrays: got.append([float(a[0, 0]) for a in arrays]))
        runner.wait()
        assert repr(runner) == "AsyncRunner(pre → main, ended)"
    assert got == [[4.0, 16.0]]
    runner = AsyncRunner(parts["main"], devices={"pre": "/cpu:0"})
    runner.connect_input(lambda: None)
    with pytest.raises(gs.SectionNotFoundError, match="no section 'pre'; there are main"):
        runner.connect_output(lambda *arrays: None)


def test_runners_take_all_options_of_a_pipeline(parts):
    for kind in (AsyncRunner, MultiStreamRunner):
        with pytest.raises(PlacementError, match="device /gpu:7 of section 'main' is not available"):
            start(kind(parts["main"], devices={"main": "/gpu:7"}, strict=True, threads=1))
        with pytest.raises(OptionError, match="at least 1, not 0"):
            start(kind(parts["main"], depth=0))


def start(runner):
    with runner:
        if isinstance(runner, MultiStreamRunner):
            runner.connect_streams(lambda stream: None, lambda *arrays: None, 1)
        else:
            runner.connect_input(lambda: None)
            runner.connect_output(lambda *arrays: None)
        runner.wait()


def test_a_buffer_that_is_reused_changes_no_frame(parts):
    """A camera that reads into one array: while a frame is in flight, or waits for its turn, the next one is read."""
    got: dict[int, list[float]] = {0: [], 1: []}

    def frames(stream=0):
        buffer = np.empty((1, 2), np.float32)
        for i in range(40):
            buffer[:] = 100 * stream + i
            yield [buffer, number(1)]

    with runner_of(parts, depth=6) as runner:
        runner.connect_input(frames)
        runner.connect_output(lambda main_mul, side: got[0].append(float(main_mul[0, 0])))
        runner.wait()
    assert got.pop(0) == [float(i) for i in range(40)]
    got[0] = []
    with MultiStreamRunner(parts["main"], depth=6) as streams:
        streams.connect_streams(frames, lambda stream, main_mul, side: got[stream].append(float(main_mul[0, 0])), 2)
        streams.wait()
    assert got == {s: [100.0 * s + i for i in range(40)] for s in (0, 1)}


def test_turns_keep_copies_of_what_waits_for_its_turn():
    """Stream 0 has its frame taken only after its callback could have read the next one into the same buffer."""
    stop = Stop()
    read = threading.Semaphore(0)

    def frames(stream):
        buffer = np.zeros(1)
        for i in range(3):
            buffer[:] = i
            yield buffer
            read.release()  # the frame was taken from its slot, and perhaps not looked at yet

    def fed_copy(value):
        return fed_array(value, copy=True)

    taken = []
    for _, value in Turns(frames, fed_copy, 1, stop):
        if len(taken) < 2:
            assert read.acquire(timeout=60)
            time.sleep(0.01)  # now the next frame is in the buffer
        taken.append(float(value[0]))
    assert taken == [0.0, 1.0, 2.0]
    strings = [value for _, value in Turns(lambda stream: iter([[b"ab\0"]]), fed_copy, 1, Stop())]
    assert [frame.tolist() for frame in strings] == [[b"ab\0"]], "not as NumPy's own strings, which lose their zeros"


def test_stopping_does_not_wait_for_an_input_callback_that_blocks(parts):
    unplugged, blocked = threading.Event(), threading.Event()
    got = []

    def camera():
        if blocked.is_set():
            return None
        if len(got) < 3:
            return [number(1), number(1)]
        blocked.set()
        unplugged.wait(60)
        return [number(1), number(1)]

    runner = runner_of(parts, depth=1)
    runner.connect_input(camera)
    runner.connect_output(lambda *arrays: got.append(arrays))
    assert blocked.wait(60)
    runner.shutdown()
    assert len(got) == 3
    runner.wait()
    unplugged.set()


def test_stopping_does_not_wait_for_streams_that_block(parts):
    unplugged, blocked = threading.Event(), threading.Event()

    def frames(stream):
        blocked.set()
        unplugged.wait(60)

    with MultiStreamRunner(parts["main"]) as runner:
        assert repr(runner) == "MultiStreamRunner(main, not connected)"
        with pytest.raises(GraphSplitError, match=r"^call connect_streams\(\) before wait\(\)$"):
            runner.wait()
        runner.connect_streams(frames, lambda *arrays: None, 2)
        with pytest.raises(GraphSplitError, match="the stream is already running"):
            runner.connect_streams(frames, lambda *arrays: None, 2)
        assert blocked.wait(60)
        assert repr(runner) == "MultiStreamRunner(main, running)"
        runner.stop()
        runner.wait()
    unplugged.set()


def test_threads_of_streams_end_when_the_output_callback_fails(parts):
    def show(stream, *arrays):
        raise ValueError("no window")

    with MultiStreamRunner(parts["main"]) as runner:
        runner.connect_streams(lambda stream: ([number(i), number(1)] for i in range(10_000)), show, 3)
        with pytest.raises(ValueError, match="no window"):
            runner.wait()
    deadline = time.time() + 60
    while (
        left := [t.name for t in threading.enumerate() if t.name.startswith("graphsplit-") and t.name != "graphsplit-child"]
    ) and time.time() < deadline:
        time.sleep(0.01)
    assert left == []


WAITING = """
import sys, threading, numpy as np, graphsplit as gs
runner = gs.AsyncRunner(sys.argv[1], devices={"main": "/cpu:0"})
forever = threading.Event()
runner.connect_input(lambda: forever.wait())
runner.connect_output(lambda *arrays: None)
print("waiting", flush=True)
try:
    runner.wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    runner.shutdown()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_interrupts_wait_though_nothing_happens(parts, tmp_path):
    gs.save(parts, tmp_path)
    command = [sys.executable, "-c", WAITING, str(tmp_path / "model_main.pb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.5)  # into the wait
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "interrupted\n"), error


@pytest.mark.parametrize("late", [False, True], ids=["", "before connect_input returns"])
@pytest.mark.parametrize("end", ["stop", "shutdown"])
def test_a_runner_may_be_ended_from_its_first_input_callback(parts, end, late, monkeypatch):
    if late:
        start = threading.Thread.start

        def start_and_sleep(thread):
            start(thread)
            if thread.name == "graphsplit-runner":
                time.sleep(0.3)

        monkeypatch.setattr(threading.Thread, "start", start_and_sleep)
    runner = AsyncRunner(parts["main"])
    ended = threading.Event()

    def frame():
        getattr(runner, end)()
        ended.set()

    runner.connect_output(lambda *_: None)
    runner.connect_input(frame)
    assert ended.wait(60), "the callback waits for itself"
    waiter = threading.Thread(target=runner.wait, daemon=True)
    waiter.start()
    waiter.join(60)
    assert not waiter.is_alive()
    runner.shutdown()
