"""The pipeline on stages without TensorFlow: order, overlap, errors, ends."""

from __future__ import annotations

import threading
import time

import pytest

from graphsplit.errors import FeedError, GraphSplitError, OptionError, SectionRunError
from graphsplit.execution.latest import Newest
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import Stage
from graphsplit.graph.index import TensorSpec


def stage(name, inputs, outputs, function, **options):
    return Stage(name, "/cpu:0", tuple(inputs), tuple(outputs), lambda values: function(*values), **options)


def two_stages(main=lambda x: [x + 1], post=lambda m, x: [m * 10]):
    """x ─▶ main ─▶ m ─▶ post ─▶ y        post reads x as well"""
    return [stage("main", ["x"], ["m"], main), stage("post", ["m", "x"], ["y"], post)]


def graphsplit_threads():
    return [t for t in threading.enumerate() if t.name.startswith("graphsplit-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    deadline = time.time() + 60
    while graphsplit_threads() and time.time() < deadline:
        time.sleep(0.01)
    assert graphsplit_threads() == []


def test_one_request_gives_the_outputs_by_name():
    with Pipeline.from_stages(two_stages()) as pipe:
        assert pipe.run({"x": 1}) == {"y": 20}
        assert pipe.run({"x": 2}) == {"y": 30}


def test_a_stream_gives_every_result_in_order_whatever_the_stages_take():
    def slow_at_times(x):
        time.sleep(0.003 if x % 3 else 0)
        return [x]

    with Pipeline.from_stages(two_stages(slow_at_times, lambda m, x: [m])) as pipe:
        assert [out["y"] for out in pipe.stream({"x": i} for i in range(100))] == list(range(100))
        assert pipe.statistics.frames == 100
        assert pipe.statistics.dropped == 0


def test_stages_work_at_the_same_time():
    """Each stage waits for the other one to be busy with its neighbour: alone, neither would ever end."""
    meet = threading.Barrier(2, timeout=60)

    def wait(*values):
        if values[0] in (0, 9):  # the first frame is alone in main, the last one alone in post
            return [values[0]]
        meet.wait()
        return [values[0]]

    def main(x):
        if x:
            meet.wait()
        return [x]

    def post(m, x):
        if m < 9:
            meet.wait()
        return [m]

    with Pipeline.from_stages(two_stages(main, post)) as pipe:
        assert [out["y"] for out in pipe.stream({"x": i} for i in range(10))] == list(range(10))


def test_a_result_is_given_as_soon_as_it_is_there_though_the_source_is_slow():
    """The second picture comes only once the first answer was taken; a pipeline that waited for it would never end."""
    taken = threading.Event()

    def source():
        yield {"x": 1}
        assert taken.wait(60), "the first result was held back"
        yield {"x": 2}

    for policy in ("block", "latest"):
        taken.clear()
        got = []
        with Pipeline.from_stages(two_stages()) as pipe:
            for out in pipe.stream(source(), policy=policy):
                got.append(out["y"])
                taken.set()
        assert got == [20, 30]


def test_no_more_frames_are_in_flight_than_depth_allows():
    taken = []

    def source():
        for i in range(20):
            taken.append(i)
            yield {"x": i}

    for depth in (1, 3):
        taken.clear()
        with Pipeline.from_stages(two_stages(), depth=depth) as pipe:
            for seen, _ in enumerate(pipe.stream(source())):
                assert len(taken) <= seen + depth
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Pipeline.from_stages(two_stages(), depth=0)


def test_tensors_pass_by_reference_and_are_let_go_when_nobody_needs_them():
    sent, seen = object(), []

    def post(m, x):
        seen.append((m, x))
        return [m]

    with Pipeline.from_stages(two_stages(lambda x: [x], post)) as pipe:
        assert pipe.run({"x": sent})["y"] is sent
    assert seen == [(sent, sent)]


def test_an_error_in_a_stage_reaches_the_caller_with_section_device_and_frame():
    def post(m, x):
        if x == 3:
            raise ZeroDivisionError("division by zero")
        return [m]

    got = []
    pipe = Pipeline.from_stages(two_stages(post=post))
    with pytest.raises(SectionRunError, match=r"section 'post' on /cpu:0 failed at frame 3: division by zero") as caught:
        got.extend(out for out in pipe.stream({"x": i} for i in range(100)))
    assert len(got) == 3
    assert caught.value.section == "post"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(GraphSplitError, match="the pipeline is closed"):
        pipe.run({"x": 1})


def test_an_error_of_the_source_reaches_the_caller_and_the_pipeline_can_go_on():
    def source():
        yield {"x": 1}
        raise OSError("camera unplugged")

    with Pipeline.from_stages(two_stages()) as pipe:
        with pytest.raises(OSError, match="camera unplugged"):
            list(pipe.stream(source()))
        assert pipe.run({"x": 4}) == {"y": 50}


def test_a_consumer_that_stops_early_leaves_nothing_behind():
    with Pipeline.from_stages(two_stages()) as pipe:
        stream = pipe.stream({"x": i} for i in range(100))
        next(stream)
        stream.close()
        assert pipe.run({"x": 7}) == {"y": 80}


def test_an_interrupt_between_a_frame_and_its_count_leaves_the_pipeline_usable():
    class Interrupted:
        """Gives what it has, and is interrupted before the caller counted it."""

        def __init__(self, queue):
            self.queue, self.left = queue, 2

        def put(self, frame):
            self.queue.put(frame)

        def get(self):
            frame = self.queue.get()
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return frame

    with Pipeline.from_stages(two_stages()) as pipe:
        pipe._done = Interrupted(pipe._done)
        with pytest.raises(KeyboardInterrupt):
            list(pipe.stream({"x": i} for i in range(10)))
        assert pipe.run({"x": 1}) == {"y": 20}


def test_frames_are_counted_from_the_beginning_of_each_stream():
    def post(m, x):
        if x == 3:
            raise ZeroDivisionError("division by zero")
        return [m]

    with Pipeline.from_stages(two_stages(post=post)) as pipe:
        pipe.warm_up({"x": 0})
        with pytest.raises(SectionRunError, match=r"failed at frame 3"):
            list(pipe.stream({"x": i} for i in range(100)))


def test_what_waits_when_the_consumer_stops_is_not_run():
    ran = []
    entered, leave = threading.Event(), threading.Event()

    def main(x):
        ran.append(x)
        if x == 1:
            entered.set()
            leave.wait(60)
        return [x]

    with Pipeline.from_stages(two_stages(main, lambda m, x: [m]), depth=6) as pipe:
        stream = pipe.stream({"x": i} for i in range(100))
        next(stream)
        entered.wait(60)
        threading.Timer(0.5, leave.set).start()
        stream.close()
        assert ran == [0, 1]
        assert pipe.run({"x": 7}) == {"y": 7}


def test_a_missing_input_is_named():
    with Pipeline.from_stages(two_stages()) as pipe:
        with pytest.raises(FeedError, match="'x' is not fed"):
            pipe.run({"z": 1})
        assert pipe.run({"x": 0}) == {"y": 10}


def test_one_stream_at_a_time():
    with Pipeline.from_stages(two_stages()) as pipe:
        stream = pipe.stream({"x": i} for i in range(3))
        next(stream)
        with pytest.raises(GraphSplitError, match="in use by another stream"):
            pipe.run({"x": 1})
        stream.close()


def test_closing_twice_is_fine_and_releases_every_stage_once():
    closed = []
    stages = [stage("a", ["x"], ["y"], lambda x: [x], close=lambda: closed.append("a"))]
    pipe = Pipeline.from_stages(stages)
    pipe.close()
    pipe.close()
    assert closed == ["a"]


def test_latest_drops_what_cannot_be_kept_up_with_and_counts_it():
    over = threading.Event()

    def camera():
        for i in range(100):
            yield {"x": i}
        over.set()

    def slow(x):
        assert over.wait(60)
        return [x]

    with Pipeline.from_stages(two_stages(slow, lambda m, x: [m])) as pipe:
        got = [out["y"] for out in pipe.stream(camera(), policy="latest")]
        assert got == sorted(got)
        assert got[-1] == 99, "the newest frame is never dropped"
        assert len(got) < 20
        assert pipe.statistics.dropped == 100 - len(got)
    with (
        Pipeline.from_stages(two_stages()) as pipe,
        pytest.raises(OptionError, match="one of block, latest, not 'lates'"),
    ):
        pipe.stream([], policy="lates")  # at the call, before anything is asked of it


def test_an_error_of_a_camera_reaches_the_caller():
    def camera():
        yield {"x": 1}
        time.sleep(0.05)
        raise OSError("camera unplugged")

    with Pipeline.from_stages(two_stages()) as pipe, pytest.raises(OSError, match="camera unplugged"):
        list(pipe.stream(camera(), policy="latest"))


def test_newest_hands_out_only_the_newest():
    ready = threading.Event()

    def source():
        yield from range(5)
        ready.set()

    newest = Newest(source())
    ready.wait(60)
    assert list(newest) == [4]
    assert newest.dropped == 4


def test_statistics_tell_capture_stages_waiting_and_utilisation():
    def source():
        for i in range(10):
            time.sleep(0.005)
            yield {"x": i}

    def main(x):
        time.sleep(0.01)
        return [x]

    with Pipeline.from_stages(two_stages(main)) as pipe:
        list(pipe.stream(source()))
        found = pipe.statistics.summary()
    assert found.frames == 10
    assert 5 <= found.capture_p50 < 1000
    assert 10 <= found.sections["main"] < 1000
    assert found.sections["post"] < found.sections["main"]
    assert 1 >= found.utilisation["main"] > found.utilisation["post"] > 0
    assert found.latency_p95 >= found.latency_p50 >= 10


def test_warm_up_runs_stages_at_once_where_their_inputs_are_known_and_does_not_count():
    both = threading.Barrier(2, timeout=60)
    ran = []

    def first(name, result):
        def call(*values):
            ran.append((name, values))
            if len(ran) <= 2:
                both.wait()
            return [result]

        return call

    stages = [
        stage("main", ["x"], ["m"], first("main", 1)),
        stage("post", ["m"], ["y"], first("post", 2), specs={"m": TensorSpec("m", "float32", (None, 2))}),
    ]
    with Pipeline.from_stages(stages) as pipe:
        pipe.warm_up({"x": 5})
        assert [name for name, _ in ran[2:]] == ["main", "post"]
        assert pipe.statistics.frames == 0


@pytest.mark.slow
def test_memory_does_not_grow_over_twenty_thousand_frames():
    import tracemalloc

    import numpy as np

    with Pipeline.from_stages(two_stages(lambda x: [x + 1], lambda m, x: [m * 2])) as pipe:

        def frames(count):
            for _ in range(count):
                yield {"x": np.zeros(1000, np.float32)}

        for _ in pipe.stream(frames(6000)):  # fills the bounded history
            pass
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in pipe.stream(frames(20_000)):
            pass
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 4_000_000  # the history was allocated before tracing began and is replaced by traced entries
