"""How pipelines and runners end: with the interpreter, with the last reference, in a fork, from anywhere, at any moment."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphsplit as gs
from graphsplit.errors import GraphSplitError
from graphsplit.execution import engine
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import Stage
from tests.graphs import model, node, placeholder

ROOT = Path(__file__).parents[1]

POSIX = pytest.mark.skipif(os.name == "nt", reason="no fork, no signals")


def stages(call=lambda values: values, close=lambda: None):
    """x ─▶ a ─▶ y ─▶ b ─▶ z"""
    return [
        Stage("a", "/cpu:0", ("x",), ("y",), call, close),
        Stage("b", "/cpu:0", ("y",), ("z",), lambda values: values, close),
    ]


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("graphsplit-") and t.name != "graphsplit-child"]


def ended(seconds=30.0):
    """Whether the threads of pipelines end in time."""
    end = time.monotonic() + seconds
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    return not threads()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert ended()


# the exit of the interpreter

_SCRIPT = """
    import sys, threading, time
    from graphsplit.execution import engine
    from graphsplit.execution.pipeline import Pipeline
    from graphsplit.execution.stages import Stage

    def stages(call=lambda values: values, close=lambda: print("closed", flush=True)):
        return [Stage("a", "/cpu:0", ("x",), ("y",), call, close), Stage("b", "/cpu:0", ("y",), ("z",), lambda v: v)]

    def endless(then=lambda: None):
        for n in range(10**9):
            if n == 3:
                then()
            yield {"x": n}
"""


def run_script(text: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(_SCRIPT) + textwrap.dedent(text)
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("stream = Pipeline.from_stages(stages()).stream(endless()); next(stream)", 0),
        ("stream = Pipeline.from_stages(stages()).stream(endless()); next(stream); sys.exit(3)", 3),
        ("stream = Pipeline.from_stages(stages()).stream(endless(), policy='latest'); next(stream)", 0),
        ("stream = Pipeline.from_stages(stages()).stream(endless(lambda: time.sleep(1000))); next(stream)", 0),
        ("pipe = Pipeline.from_stages(stages()); pipe.run({'x': 1})", 0),
        (
            """
            stream = Pipeline.from_stages(stages(lambda v: time.sleep(0.01) or v)).stream(endless())
            threading.Thread(target=lambda: list(stream), daemon=True).start(); time.sleep(0.2)
            """,
            0,
        ),
        (
            """
            pipe = Pipeline.from_stages(stages(lambda v: time.sleep(1) or v))
            threading.Thread(target=lambda: pipe.run({'x': 1}), daemon=True).start(); time.sleep(0.2)
            """,
            0,
        ),
    ],
)
def test_the_interpreter_exits_in_the_middle_of_a_stream_with_its_own_status(text, status):
    start = time.monotonic()
    done = run_script(text)
    assert (done.returncode, done.stdout, done.stderr) == (status, "closed\n", "")
    assert time.monotonic() - start < 40


def test_a_call_that_outlasts_the_exit_is_cancelled_by_closing_its_stage():
    done = run_script("""
        engine.PATIENCE = 0.2
        cancelled = threading.Event()
        def close():
            print("closed", flush=True)
            cancelled.set()
        stream = Pipeline.from_stages(stages(lambda v: cancelled.wait(1000) and v, close)).stream(endless())
        threading.Thread(target=lambda: list(stream), daemon=True).start()
        time.sleep(0.2)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


def test_a_call_that_never_returns_does_not_keep_the_interpreter():
    done = run_script("""
        engine.PATIENCE = 0.2
        stream = Pipeline.from_stages(stages(lambda v: time.sleep(1000))).stream(endless())
        threading.Thread(target=lambda: list(stream), daemon=True).start()
        time.sleep(0.2)
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_interpreter_exits_while_tensorflow_runs_sections_of_a_stream_and_of_a_runner():
    done = run_script("""
        import os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import warnings
        warnings.simplefilter("ignore")
        import numpy as np
        import graphsplit as gs
        parts = gs.split("demo", shapes=False)
        images = np.zeros((1, 128, 128, 3), np.uint8)
        pipe = gs.Pipeline(parts)
        stream = pipe.stream({"image_tensor:0": images} for _ in range(10**6))
        threading.Thread(target=lambda: list(stream), daemon=True).start()
        runner = gs.AsyncRunner(parts["main"])
        runner.connect_input(lambda: images)
        got = threading.Event()
        runner.connect_output(lambda *arrays: got.set())
        got.wait(120)
        print("running", flush=True)
        sys.exit(5)
    """, 200)  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "running\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "terminate" not in done.stderr


# the last reference


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_pipeline_that_is_dropped_ends_its_threads_and_says_so(policy):
    closed = []
    pipe = Pipeline.from_stages(stages(close=lambda: closed.append(1)))
    stream = pipe.stream(({"x": n} for n in range(10**9)), policy=policy)
    next(stream)
    del stream
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pipe
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == [
        "Pipeline(a /cpu:0 → b /cpu:0) was never closed; use it in a `with` block, or call close()"
    ]
    assert ended()
    assert closed == [1, 1]


def test_one_that_was_closed_is_dropped_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe = Pipeline.from_stages(stages())
        pipe.close()
        del pipe
        gc.collect()


def test_a_pipeline_in_a_cycle_is_collected_in_the_thread_of_a_stage():
    """The collector runs wherever an object is made last; there nobody may wait for the thread itself."""
    held = []

    def call(values):
        while held:
            held.pop()
        gc.collect()
        return values

    pipe = Pipeline.from_stages(stages(call))
    cycle = [pipe]
    cycle.append(cycle)
    held.append(cycle)
    engine_ = pipe._engine
    del cycle
    engine_.doors[0].put(engine.Frame(0, {"x": 1}, engine.Frame.sentinel().times))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del pipe
        assert ended()
    assert engine_.closed


# a fork


def in_fork(work) -> str:
    """What a forked child says, within a deadline; it ends without the teardown of this process."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        try:
            text = str(work())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0, "the child waits for ever"
    return text


@POSIX
@pytest.mark.parametrize("use", ["run", "stream", "warm_up", "next", "finish"])
def test_a_forked_process_is_told_to_open_its_own(use):
    with Pipeline.from_stages(stages()) as pipe:
        stream = pipe.stream({"x": n} for n in range(100))
        works = {
            "run": lambda: pipe.run({"x": 1}),
            "stream": lambda: list(pipe.stream([{"x": 1}])),
            "warm_up": lambda: pipe.warm_up({"x": 1}),
            "next": lambda: next(stream),
            "finish": pipe.finish,
        }
        said = in_fork(works[use])
        assert said.startswith(f"GraphSplitError: the pipeline belongs to process {os.getpid()}, and its threads do not exist in")
        assert said.endswith("a fork of it; open a pipeline of its own there")
        assert next(stream)["z"] == 0
        stream.close()
        assert pipe.run({"x": 7}) == {"z": 7}


@POSIX
def test_a_stream_that_was_begun_before_the_fork_is_refused_in_the_child():
    with Pipeline.from_stages(stages()) as pipe:
        stream = pipe.stream({"x": n} for n in range(100))
        next(stream)
        assert in_fork(lambda: next(stream)).startswith("GraphSplitError: the pipeline belongs to process")
        assert in_fork(stream.close) == "None"
        assert [out["z"] for out in stream] == list(range(1, 100))


@POSIX
def test_a_forked_process_may_close_and_drop_what_it_inherited_and_open_its_own():
    pipe = Pipeline.from_stages(stages())

    def own() -> int:
        nonlocal pipe
        pipe.close()
        del pipe
        gc.collect()
        with Pipeline.from_stages(stages()) as other:
            return other.run({"x": 4})["z"]

    assert in_fork(own) == "4"
    assert pipe.run({"x": 5}) == {"z": 5}
    pipe.close()


def two_parts():
    return gs.split(
        model(placeholder("x", shape=[None, 2]), node("y", "Relu", "x"), node("z", "Tanh", "y")), outputs=["y"], shapes=False
    )


@POSIX
def test_a_forked_process_is_told_to_open_its_own_runner():
    runner = gs.AsyncRunner(two_parts()["main"], devices={"main": "/cpu:0"})
    expected = f"GraphSplitError: the runner belongs to process {os.getpid()}"
    for use in (runner.wait, runner.stop, lambda: runner.connect_input(lambda: None), lambda: runner.connect_output(print)):
        assert in_fork(use).startswith(expected)
    assert in_fork(runner.shutdown) == "None"
    runner.shutdown()


@POSIX
def test_a_fork_of_a_process_that_has_run_tensorflow_is_told_how_to_start_processes():
    parts = two_parts()
    feeds = {"x:0": np.ones((1, 2), np.float32)}
    devices = {"main": "/cpu:0"}
    with gs.Pipeline(parts, devices=devices) as pipe:
        pipe.run(feeds)
        placed = gs.place(parts, devices)
        for use in (lambda: gs.Pipeline(parts, devices=devices), placed.session, lambda: placed.run(feeds)):
            said = in_fork(use)
            assert said.startswith("GraphSplitError: TensorFlow has run in the process that this one was forked from")
            assert 'multiprocessing.get_context("spawn")' in said


# close, from anywhere


def in_vain(use):
    with pytest.raises(GraphSplitError):
        use()


def test_closing_waits_a_stated_time_for_a_call_then_cancels_it(monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    entered, cancelled = threading.Event(), threading.Event()

    def call(values):
        entered.set()
        cancelled.wait(60)
        return values

    pipe = Pipeline.from_stages(stages(call, cancelled.set))
    stream = pipe.stream([{"x": 1}])
    threading.Thread(target=lambda: entered.wait(60) and pipe.close()).start()
    with pytest.raises(GraphSplitError, match="closed while frames were in flight"):
        next(stream)
    assert cancelled.wait(60)


def test_closing_gives_up_a_call_that_cannot_be_cancelled_and_says_so(monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.1)
    entered, leave = threading.Event(), threading.Event()

    def call(values):
        entered.set()
        leave.wait(60)
        return values

    pipe = Pipeline.from_stages(stages(call))
    stream = pipe.stream([{"x": 1}])
    thread = threading.Thread(target=in_vain, args=(lambda: next(stream),))
    thread.start()
    entered.wait(60)
    with pytest.warns(ResourceWarning, match="a call that does not return keeps its thread: a"):
        pipe.close()
    thread.join(60)
    leave.set()


def test_what_a_stage_raises_when_it_is_closed_is_raised_by_close():
    def close():
        raise OSError("the device is gone")

    pipe = Pipeline.from_stages(stages(close=close))
    with pytest.raises(OSError, match="the device is gone"):
        pipe.close()
    assert ended()


def test_a_stage_may_close_its_own_pipeline():
    pipes = []
    closed = []

    def call(values):
        pipes[0].close()
        return values

    pipes.append(Pipeline.from_stages(stages(call, lambda: closed.append(threading.current_thread().name))))
    with pytest.raises(GraphSplitError, match="closed while frames were in flight"):
        pipes[0].run({"x": 1})
    assert ended()
    assert sorted(closed) == ["graphsplit-a", "graphsplit-b"]


@POSIX
@pytest.mark.parametrize("wait", ["run", "stream", "close"])
def test_a_signal_handler_may_close_at_any_moment(wait):
    """While the main thread waits for a frame, for a source that blocks, and while it closes."""
    leave = threading.Event()
    pipe = Pipeline.from_stages(stages(lambda values: values if wait == "stream" else leave.wait(60) and values))

    def source():
        yield {"x": 1}
        leave.wait(60)

    def handler(number, frame):
        threading.Timer(0.1, leave.set).start()
        pipe.close()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        if wait == "close":
            threading.Thread(target=in_vain, args=(lambda: pipe.run({"x": 1}),)).start()
            time.sleep(0.05)
            pipe.close()
        else:
            with pytest.raises(GraphSplitError, match="closed while frames were in flight"):
                _ = pipe.run({"x": 1}) if wait == "run" else list(pipe.stream(source()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@POSIX
def test_an_interrupt_at_any_moment_leaves_a_pipeline_that_can_be_closed_and_mostly_used():
    """Forty interrupts, spread over open, run, stream and close."""

    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    interrupted = 0
    try:
        for n in range(40):
            pipe = None
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.0005 * n)
                pipe = Pipeline.from_stages(stages(lambda values: time.sleep(0.0005) or values))
                for _ in range(100):
                    list(pipe.stream({"x": i} for i in range(3)))
                    pipe.run({"x": 1})
            except KeyboardInterrupt:
                interrupted += 1
            except RuntimeError as error:  # Python's own Condition, interrupted between taking its lock and releasing it
                if str(error) != "release unlocked lock":
                    raise
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                if pipe is not None:
                    pipe.close()
    finally:
        signal.signal(signal.SIGALRM, before)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # one that was interrupted while it was opened
            gc.collect()
    assert interrupted == 40
    assert ended()


# sources


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_stream_is_let_go_at_once_though_its_source_blocks_and_a_section_is_busy(policy):
    leave = threading.Event()

    def source():
        yield {"x": 1}
        leave.wait(60)
        yield {"x": 2}

    with Pipeline.from_stages(stages()) as pipe:
        stream = pipe.stream(source(), policy=policy)
        next(stream)
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 5
        assert pipe.run({"x": 3}) == {"z": 3}
        leave.set()
        assert pipe.run({"x": 4}) == {"z": 4}


@pytest.mark.parametrize("policy", ["block", "latest"])
@pytest.mark.parametrize("error", [OSError("unplugged"), KeyboardInterrupt(), SystemExit(2), MemoryError()])
def test_whatever_a_source_raises_reaches_the_caller_and_the_pipeline_remains_usable(policy, error):
    def source():
        yield {"x": 1}
        raise error

    with Pipeline.from_stages(stages()) as pipe:
        with pytest.raises(type(error)):
            list(pipe.stream(source(), policy=policy))
        assert pipe.run({"x": 3}) == {"z": 3}


def test_a_runner_takes_anything_that_load_takes():
    demo = gs.load("demo")
    for what in ("demo", demo, demo.path):
        with gs.AsyncRunner(what) as runner:
            assert [p.tensor for p in runner.inputs] == ["image_tensor:0"]
    with gs.AsyncRunner(two_parts()["main"].graph_def) as runner:
        assert [p.tensor for p in runner.inputs] == ["x:0"]
