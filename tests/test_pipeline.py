"""The pipeline, mostly on stages without TensorFlow: order, overlap, feeds, errors, ends, options."""

from __future__ import annotations

import threading
import time
import warnings

import numpy as np
import pytest

import graphsplit as gs
from graphsplit.errors import FeedError, GraphSplitError, OptionError, SectionRunError
from graphsplit.execution.latest import Newest
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import Stage
from graphsplit.graph.index import TensorSpec
from tests.graphs import model, node, placeholder


def stage(name, inputs, outputs, function, **options):
    return Stage(name, "/cpu:0", tuple(inputs), tuple(outputs), lambda values: function(*values), **options)


def two_stages(main=lambda x: [x + 1], post=lambda m, x: [m * 10]):
    """x ─▶ main ─▶ m ─▶ post ─▶ y        post reads x as well"""
    return [stage("main", ["x"], ["m"], main), stage("post", ["m", "x"], ["y"], post)]


def graphsplit_threads():
    return [t for t in threading.enumerate() if t.name.startswith("graphsplit-") and t.name != "graphsplit-child"]


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
    with pytest.raises(
        GraphSplitError,
        match=r"^the pipeline is closed because section 'post' on /cpu:0 failed at frame 3: division by zero; open another one$",
    ):
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
        pipe._engine.done = Interrupted(pipe._engine.done)
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


# Feeds


SPEC = {"x": TensorSpec("x", "uint8", (1, None, 3)), "k:0": TensorSpec("k:0", "float32", ())}


def stated(main=lambda x, k: [x]):
    """x, k ─▶ main ─▶ m ─▶ post ─▶ y        dtypes and shapes of x and k are known"""
    return [stage("main", ["x", "k:0"], ["m"], main, specs=SPEC), stage("post", ["m"], ["y"], lambda m: [m])]


def frame(value):
    return {"x": np.full((1, 2, 3), value, np.uint8), "k": np.float32(2)}


def test_everything_wrong_with_feeds_is_said_at_once_before_anything_runs_and_the_pipeline_remains_usable():
    ran = []
    with Pipeline.from_stages(stated(lambda x, k: [ran.append(x) or x])) as pipe:
        wrong = {"x": np.zeros((1, 2, 4), np.float32), "z": 1}
        told = "no input 'z'; there are x, k:0; 'x' must be uint8, not float32; 'x' must have shape [1, ?, 3], not [1, 2, 4]; "
        for door in (pipe.run, pipe.warm_up, lambda feeds: list(pipe.stream([feeds])), lambda feeds: list(latest(pipe, [feeds]))):
            with pytest.raises(FeedError) as caught:
                door(wrong)
            assert str(caught.value) == told + "'k:0' is not fed"
            assert len(caught.value.mismatches) == 4
        for feeds, message in (
            ({"x": [[[1], [2, 3]]], "k": 1.0}, "'x' is not an array"),
            ({**frame(1), "k:0": np.float32(1)}, "'k:0' is fed twice"),
            ({"x": np.zeros((1, 2), np.uint8), "k": np.float32(1)}, r"'x' must have shape \[1, \?, 3\], not \[1, 2\]"),
        ):
            with pytest.raises(FeedError, match=message):
                pipe.run(feeds)
        assert not ran
        assert pipe.run(frame(7))["y"].max() == 7


def latest(pipe, feeds):
    return pipe.stream(feeds, policy="latest")


def test_a_name_means_its_first_port():
    with Pipeline.from_stages(stated(lambda x, k: [x * k])) as pipe:
        by_name = [pipe.run(frame(3)), *pipe.stream([frame(3)]), *latest(pipe, [frame(3)])]
        assert [float(out["y"].max()) for out in by_name] == [6.0, 6.0, 6.0]
        pipe.warm_up(frame(3))


def test_feeds_after_a_wrong_frame_are_not_asked_for_and_results_before_it_are_delivered():
    asked = []

    def source():
        for i in range(10):
            asked.append(i)
            yield {"x": i} if i != 2 else {"z": i}

    got = []
    with Pipeline.from_stages(two_stages()) as pipe:
        with pytest.raises(FeedError, match="no input 'z'; there are x; 'x' is not fed"):
            got.extend(out["y"] for out in pipe.stream(source()))
        assert got == [10, 20]
        assert asked == [0, 1, 2]
        assert pipe.run({"x": 1}) == {"y": 20}


def reused(count, wait=lambda: None):
    """Frames 0, 1, 2 … in one buffer, as a capture reads them."""
    buffer = np.empty((1, 2, 3), np.uint8)
    for i in range(count):
        buffer[:] = i
        yield {"x": buffer, "k": np.float32(1)}
        wait()


def test_a_buffer_that_is_reused_changes_no_frame_of_a_stream():
    """main waits until the source has written into its buffer again."""
    written = threading.Semaphore(0)

    def main(x, k):
        written.acquire(timeout=60)
        return [x]

    with Pipeline.from_stages(stated(main)) as pipe:
        assert [int(out["y"].max()) for out in pipe.stream(reused(8, written.release))] == list(range(8))


def test_a_buffer_that_is_reused_changes_no_result_of_a_run():
    buffer = np.ones((1, 2, 3), np.uint8)
    with Pipeline.from_stages(stated()) as pipe:
        out = pipe.run({"x": buffer, "k": np.float32(1)})
        buffer[:] = 9
        assert out["y"].max() == 1


def test_a_buffer_that_is_reused_changes_no_frame_of_a_camera():
    """The newest frame waits while the buffer is written again: it must still be one whole frame, and be counted as such."""
    seen = []

    def main(x, k):
        seen.append((int(x.min()), int(x.max())))
        time.sleep(0.01)
        return [x]

    def camera():
        buffer = np.empty((1, 200, 3), np.uint8)
        for i in range(60):
            buffer[:, :100] = i
            time.sleep(0.001)
            buffer[:, 100:] = i
            yield {"x": buffer, "k": np.float32(1)}

    with Pipeline.from_stages(stated(main)) as pipe:
        results = [int(out["y"].max()) for out in latest(pipe, camera())]
    assert all(low == high for low, high in seen), "a frame of two halves"
    assert results == [high for _, high in seen] == sorted(set(results))
    assert results[-1] == 59


def test_what_no_stage_computes_travels_with_its_frame_by_reference_and_must_be_fed():
    ticket = object()
    with Pipeline.from_stages(two_stages(), outputs=["y", "\0ticket"]) as pipe:
        out = pipe.run({"x": 1, "\0ticket": ticket})
        assert out["\0ticket"] is ticket
        with pytest.raises(FeedError, match="'\\\\x00ticket' is not fed"):
            pipe.run({"x": 1})


# Ends


def test_closing_from_another_thread_ends_a_run_that_waits():
    entered, leave = threading.Event(), threading.Event()

    def main(x):
        entered.set()
        leave.wait(60)
        return [x]

    pipe = Pipeline.from_stages(two_stages(main))
    errors = []

    def run():
        try:
            pipe.run({"x": 1})
        except GraphSplitError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    entered.wait(60)
    closer = threading.Thread(target=pipe.close)
    closer.start()
    thread.join(60)  # before the stage returns
    assert errors == ["the pipeline was closed while frames were in flight"]
    leave.set()
    closer.join(60)
    with pytest.raises(GraphSplitError, match=r"^the pipeline is closed; open another one$"):
        pipe.stream([])


def test_closing_from_another_thread_ends_a_stream_whose_source_waits():
    asked, leave = threading.Event(), threading.Event()

    def source():
        yield {"x": 1}
        asked.set()
        leave.wait(60)

    pipe = Pipeline.from_stages(two_stages())
    stream = pipe.stream(source())
    assert next(stream) == {"y": 20}
    closer = threading.Thread(target=lambda: asked.wait(60) and pipe.close())
    closer.start()
    with pytest.raises(GraphSplitError, match="the pipeline was closed while frames were in flight"):
        next(stream)
    closer.join(60)
    leave.set()


def test_finishing_ends_a_stream_after_the_frames_in_flight_though_its_source_waits():
    asked, leave = threading.Event(), threading.Event()

    def source():
        yield from ({"x": i} for i in range(3))
        asked.set()
        leave.wait(60)
        yield {"x": 9}

    with Pipeline.from_stages(two_stages(), depth=4) as pipe:
        stream = pipe.stream(source())
        first = next(stream)
        asked.wait(60)
        pipe.finish()
        assert [first, *stream] == [{"y": 10}, {"y": 20}, {"y": 30}]
        assert pipe.run({"x": 4}) == {"y": 50}
        leave.set()
        pipe.finish()  # nothing to finish


# Options


def test_depth_is_fixed_and_a_stream_may_ask_for_another():
    taken = []

    def source():
        for i in range(8):
            taken.append(i)
            yield {"x": i}

    with Pipeline.from_stages(two_stages()) as pipe:
        assert pipe.depth == 4
        with pytest.raises(AttributeError):
            pipe.depth = 1
        for seen, _ in enumerate(pipe.stream(source(), depth=1)):
            assert len(taken) <= seen + 1
        with pytest.raises(OptionError, match="at least 1, not 0"):
            pipe.stream(source(), depth=0)
        assert pipe.depth == 4


def parts_of_two():
    whole = model(placeholder("x", [None, 4]), node("border", "Neg", "x"), node("y", "Neg", "border"))
    return gs.split(whole, outputs="border", devices={"main": "/cpu:0"})


@pytest.mark.parametrize("call", [gs.Pipeline, gs.AsyncRunner, gs.MultiStreamRunner, gs.bench])
def test_a_misspelt_option_names_the_nearest_one(call):
    parts = parts_of_two()
    what = parts["main"] if call in (gs.AsyncRunner, gs.MultiStreamRunner) else parts
    with pytest.raises(
        OptionError, match=rf"{call.__name__}\(\) got an unexpected keyword argument 'device'; did you mean 'devices'"
    ):
        call(what, device={"main": "/cpu:0"})


def test_unknown_sections_are_one_class_of_error_wherever_they_are_named():
    parts = parts_of_two()
    for call in (
        lambda: gs.Pipeline(parts, devices={"mian": "/cpu:0"}),
        lambda: gs.Pipeline(parts, delegates={"mian": "x.so"}),
        lambda: gs.place(parts, {"mian": "/cpu:0"}),
        lambda: gs.bench(parts, devices={"mian": "/cpu:0"}),
    ):
        with pytest.raises(gs.SectionNotFoundError, match="no section 'mian'; there are main, post") as caught:
            call()
        assert caught.value.section == "mian"
        assert isinstance(caught.value, (gs.PlacementError, KeyError))


def test_devices_that_are_passed_are_not_changed(monkeypatch):
    """Neither is what the parts say: a missing device is replaced in what runs, and nowhere else."""
    devices = {"main": "/gpu:7"}
    parts = parts_of_two()
    with pytest.warns(UserWarning, match="/gpu:7 is not available: section 'main' runs on /cpu:0"):
        pipe = gs.Pipeline(parts, devices=devices)
    with pipe:
        assert [s.device for s in pipe.stages] == ["/cpu:0", "/cpu:0"]
    assert devices == {"main": "/gpu:7"}
    assert [p.device for p in parts] == ["/cpu:0", "/cpu:0"]


def test_a_pipeline_takes_parts_a_split_folder_and_a_model(tmp_path):
    parts = parts_of_two()
    gs.save(parts, tmp_path / "out")
    parts.source.model.save(tmp_path / "x.pb")
    feeds = {"x": np.ones((1, 4), np.float32)}
    for what in (parts, tmp_path / "out", str(tmp_path / "out" / "split.json"), parts.source.model, tmp_path / "x.pb"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the main of a model is meant for a GPU
            pipe = gs.Pipeline(what)
        with pipe:
            np.testing.assert_array_equal(pipe.run(feeds)["y:0"], feeds["x"])


def test_a_repr_is_short_and_says_where_sections_run():
    with Pipeline.from_stages(two_stages()) as pipe:
        assert repr(pipe) == "Pipeline(main /cpu:0 → post /cpu:0)"
        assert repr(pipe.stages[1]) == "Stage(post /cpu:0, 2 in, 1 out)"
    assert repr(pipe) == "Pipeline(main /cpu:0 → post /cpu:0, closed)"
    assert repr(Pipeline.__new__(Pipeline)) == "Pipeline(, closed)", "one that failed to open"
    many = [stage(f"part_{i}", [f"t{i}"], [f"t{i + 1}"], lambda x: [x]) for i in range(100)]
    with Pipeline.from_stages(many) as pipe:
        assert len(repr(pipe)) < 250
    placed = gs.place(parts_of_two())
    assert repr(placed) == "Placed(main /cpu:0 → post /cpu:0)"


def test_a_stream_let_go_in_the_thread_of_a_stage_leaves_the_pipeline_usable():
    """The collector runs wherever an object is made last: here, in the stage that a stream still has frames in."""
    streams = []

    def call(values):
        while streams:
            streams.pop().close()  # as the collector would
        return values

    stage = Stage("only", "/cpu:0", ("x",), ("x",), call)
    with Pipeline.from_stages([stage]) as pipe:
        taken = threading.Event()

        def feeds():
            yield {"x": 0}
            taken.wait(60)
            yield {"x": 1}

        stream = pipe.stream(feeds())
        assert next(stream)["x"] == 0
        streams.append(stream)
        taken.set()
        del stream
        for _ in range(200):
            try:
                assert pipe.run({"x": 5})["x"] == 5
                break
            except GraphSplitError:  # the stream has not been let go yet
                time.sleep(0.05)
        else:
            raise AssertionError("the pipeline stays in use")
