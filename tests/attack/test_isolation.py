"""Native code of models runs in a child process: it may crash, hang, print and fill memory, and one line says so."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.cli import run as run_cli
from graphsplit.errors import FeedError, FormatError, SectionRunError
from graphsplit.inference import shapes
from graphsplit.inference.feeds import made_feeds
from graphsplit.inference.sessions import open_session
from graphsplit.isolation import child_process
from graphsplit.isolation import shared as isolation
from graphsplit.isolation.child_process import Child, processor_time
from graphsplit.isolation.failures import ChildError, OutOfMemoryError, OutOfTimeError, RuntimeFailure, error_kind
from graphsplit.isolation.messages import MessageError, receive, send
from graphsplit.verification import equivalence
from graphsplit.viewer.requests import CutEnds, PlanRequest, StudyRequest, VerifyRequest
from graphsplit.viewer.session import open_model
from graphsplit.viewer.workbench import Workbench
from tests.graphs import Func, FunctionDef, const, function, model, node, placeholder

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals")
CRASHES = {
    "abort": r"crashed \(signal 6: Check failed: rank >= 0  \[31m\(-14 vs\. 0\)\)",
    "segfault": r"crashed \(signal 11\)",
    "bad_alloc": r"needed more than [\d.]+ GiB of memory",
    "killed": r"was killed by the system, most likely because memory ran out",
    "quit": r"crashed \(status 0\)",
    "babble": r"sent what is not an answer",
    "lie": r"sent what is not an answer \(arrays of more than",
}


@pytest.fixture
def hazard():
    """A child of its own that misbehaves on request."""
    child = Child(module="tests.attack.hazards", memory=2**31)
    yield child
    child.close()


@pytest.fixture
def hazards(monkeypatch):
    """The shared child misbehaves on request, and so does each one that replaces it."""
    isolation.stop()
    monkeypatch.setattr(isolation, "Child", lambda *args, **options: Child(*args, module="tests.attack.hazards", **options))
    yield
    isolation.stop()


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends in time; a zombie has."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def script(text: str, *args: object) -> subprocess.Popen[str]:
    """A Python program that imports this package and the tests."""
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def output(text: str, *args: object) -> str:
    program = script(text, *args)
    out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err
    return out.strip()


def named(name: str) -> gs.formats.Model:
    """x ─▶ border ─▶ NAME, which sets off a fault where the child is a hazard."""
    return model(placeholder("x", [None, 2]), node("border", "Neg", "x"), node(name, "Exp", "border"))


# the child


@POSIX
@pytest.mark.parametrize("fault", CRASHES)
def test_a_child_that_dies_is_an_error_that_says_how(hazard, fault):
    with pytest.raises(ChildError, match=f"^{CRASHES[fault]}") as caught:
        hazard.call("fault", fault, deadline=60)
    assert str(caught.value).isprintable()
    assert hazard.dead
    with pytest.raises(ChildError, match="an earlier request ended"):
        hazard.call("process", None)


@POSIX
@pytest.mark.parametrize("fault", ["spin", "native", "sleep", "family"])
def test_a_request_has_a_deadline_and_all_that_it_started_ends_with_it(hazard, fault):
    pid = hazard.call("process", None).value
    started = time.monotonic()
    with pytest.raises(OutOfTimeError, match=r"^did not end within 1\.5 seconds$"):
        hazard.call("fault", fault, deadline=1.5)
    assert 1.4 < time.monotonic() - started < 10
    assert gone(pid)
    if fault == "family":
        (printed,) = [line for line in b"".join(hazard._printed).splitlines() if line.startswith(b"family")]
        assert gone(int(printed.split()[1]))


@pytest.mark.skipif(processor_time(os.getpid()) is None, reason="the system does not tell the time of processes")
@pytest.mark.parametrize("fault", ["native", "sleep"])
def test_what_waits_for_nothing_is_given_up_before_its_deadline(hazard, fault, monkeypatch):
    monkeypatch.setattr(child_process, "_STALLED", 2.0)
    hazard.call("process", None)
    with pytest.raises(OutOfTimeError, match="waits for something, and computed nothing for 2 seconds"):
        hazard.call("fault", fault, deadline=60)


@POSIX
def test_what_computes_or_may_wait_is_not_given_up_before_its_deadline(monkeypatch):
    monkeypatch.setattr(child_process, "_STALLED", 1.0)
    for fault, patient in (("spin", False), ("sleep", True)):
        child = Child(module="tests.attack.hazards")
        child.call("process", None)
        with pytest.raises(OutOfTimeError, match="did not end within 4 seconds"):
            child.call("fault", fault, deadline=4, patient=patient)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_memory_is_bounded(hazard):
    with pytest.raises(OutOfMemoryError, match="needed more memory than there is"):
        hazard.call("fault", "allocate", deadline=60)
    assert hazard.call("process", None).value  # Python's own error does not end it


def test_what_it_prints_reaches_nobody(hazard, capfd):
    for text in ("plain", "\x1b[2J\x07bell", "x" * 300_000):
        hazard.call("print", text, deadline=60)
    assert capfd.readouterr() == ("", "")
    assert len(b"".join(hazard._printed)) < 2**17


def test_what_it_prints_is_shown_on_request_without_control_characters(capfd):
    child = Child(module="tests.attack.hazards", echo=True)
    child.call("print", "before\x1b[2Jafter\n", deadline=60)
    child.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "before [2Jafter\n" in err
    assert "\x1b" not in err


def test_requests_of_many_threads_get_their_own_answers(hazard):
    answers: dict[int, object] = {}

    def ask(number: int) -> None:
        for _ in range(20):
            answer = hazard.call("echo", number, [np.full(number, number)], deadline=60)
            assert answer.value == number
            assert answer.arrays[0].tolist() == [number] * number
        answers[number] = True

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == list(range(8))


def test_an_array_that_cannot_be_sent_leaves_the_child_as_it_is(hazard):
    for value in (np.array([1], dtype="datetime64[s]"), np.array([object()], dtype=object), np.zeros(2, dtype="i4,f4")):
        with pytest.raises(ValueError, match=r"cannot be passed|holds bytes or str"):
            hazard.call("echo", None, [value])
    assert hazard.call("echo", 1).value == 1


def test_a_dead_child_is_replaced(hazards):
    first, _ = isolation.call("process", None)
    with pytest.raises(ChildError):
        isolation.call("fault", "abort")
    second, _ = isolation.call("process", None)
    os.kill(second.value, signal.SIGKILL)  # while it is idle
    assert gone(second.value)
    time.sleep(0.1)
    third, _ = isolation.call("process", None)
    assert len({first.value, second.value, third.value}) == 3


def test_an_interrupt_ends_the_child_and_the_next_request_gets_another(hazards, monkeypatch):
    first, child = isolation.call("process", None)
    monkeypatch.setattr(child, "_exchange", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        isolation.call("process", None)
    assert gone(first.value)
    assert isolation.call("process", None)[0].value != first.value


# its end


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only what returns to Python ends")
@pytest.mark.parametrize("fault", ["spin", "native", ""])
def test_it_ends_with_its_parent_whatever_it_does(fault):
    program = script(
        """
        import sys, threading
        from graphsplit.isolation.child_process import Child
        child = Child(module="tests.attack.hazards")
        print(child.call("process", None).value, flush=True)
        if sys.argv[1]:
            child.call("fault", sys.argv[1])
        sys.stdin.read()
        """,
        fault,
    )
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    time.sleep(0.5)
    assert not gone(pid, 0.1)
    program.kill()
    program.communicate()
    assert gone(pid)


def test_it_ends_when_the_program_does():
    pid = int(output('from graphsplit.isolation import shared as isolation; print(isolation.call("process", None)[0].value)'))
    assert gone(pid)


def test_a_thread_that_ends_leaves_the_child_to_the_others():
    text = """
        import threading, time
        from graphsplit.isolation import shared as isolation
        asked = []
        thread = threading.Thread(target=lambda: asked.append(isolation.call("process", None)[0].value))
        thread.start(); thread.join(); time.sleep(1.5)
        asked.append(isolation.call("process", None)[0].value)
        print(len(set(asked)))
    """
    assert output(text) == "1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_a_child_of_its_own():
    text = """
        import os
        from graphsplit.isolation import shared as isolation
        before = isolation.call("process", None)[0].value
        reader, writer = os.pipe()
        if (forked := os.fork()) == 0:
            os.write(writer, str(isolation.call("process", None)[0].value).encode())
            isolation.stop()
            os._exit(0)
        os.waitpid(forked, 0)
        other = int(os.read(reader, 100))
        after = isolation.call("process", None)[0].value
        print(before == after, other != before)
    """
    assert output(text) == "True True"


def test_neither_an_import_nor_what_only_reads_starts_one(tmp_path):
    text = """
        import sys, threading
        import graphsplit as gs
        from graphsplit.cli import run
        model = gs.load("demo")
        gs.split(model, shapes=False)
        run(["show", "demo", "--json"])
        run(["split", "demo", "-o", sys.argv[1], "--no-verify", "--no-shapes", "--json"])
        print()
        print([t.name for t in threading.enumerate() if "graphsplit-child" in t.name], "tensorflow" in sys.modules)
    """
    assert output(text, tmp_path / "out").splitlines()[-1] == "[] False"


# models


def test_many_proofs_import_tensorflow_once_and_not_here(tmp_path):
    text = """
        import sys
        import graphsplit as gs
        from graphsplit.isolation import shared as isolation
        model = gs.load(sys.argv[1])
        asked = set()
        for number in range(100):
            assert gs.verify(model, gs.split(model, "border")).equal
            asked.add(isolation.call("process", None)[0].value)
        gs.suggest(model)
        print(len(asked), "tensorflow" in sys.modules)
    """
    assert output(text, named("y").save(tmp_path / "m.pb")) == "1 False"


@POSIX
@pytest.mark.parametrize("fault", ["abort", "segfault", "killed", "quit", "babble"])
def test_inference_names_the_step_and_the_way_on(hazards, fault):
    whole = named(fault)
    way = r"^inferring shapes (crashed|was killed|sent).*\(shapes=False leaves the shapes of border tensors unknown\)$"
    for ask in (lambda: gs.split(whole, "border"), lambda: gs.suggest(whole), lambda: shapes.frame_bytes(whole)):
        with pytest.raises(FormatError, match=way):
            ask()
    parts = gs.split(whole, "border", shapes=False)
    assert [p.name for p in parts] == ["main", "post"]
    assert gs.suggest(whole, shapes=False).reason


@POSIX
@pytest.mark.parametrize("fault", ["abort", "babble"])
def test_a_run_names_the_step_and_the_way_on(hazards, fault):
    whole = named(fault)
    parts = gs.split(whole, "border", shapes=False)
    way = (
        r"^the whole model (crashed|was killed|sent).*; feeds=… and shapes=… run on other feeds, verify=False leaves the proof out$"
    )
    for _ in range(2):  # the second one gets a child of its own
        with pytest.raises(SectionRunError, match=way) as caught:
            gs.verify(whole, parts)
        assert caught.value.section == "whole"
    assert gs.verify(named("harmless"), gs.split(named("harmless"), "border")).equal


def test_a_hang_names_the_step_and_the_way_on(hazards, monkeypatch):
    monkeypatch.setattr(shapes, "_DEADLINE", 1.5)
    monkeypatch.setattr(equivalence, "_TIMEOUT", 1.5)
    whole = named("spin")
    isolation.call("process", None)
    with pytest.raises(FormatError, match=r"^inferring shapes did not end within 1\.503 seconds \(shapes=False"):
        gs.split(whole, "border")
    isolation.prestart("tensorflow")
    with pytest.raises(
        SectionRunError, match=r"^the whole model did not end within 1\.5 seconds; feeds=… and shapes=… run on other feeds"
    ):
        gs.verify(whole, gs.split(whole, "border", shapes=False))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_a_model_that_fills_memory_is_told_of(monkeypatch):
    monkeypatch.setattr(child_process, "memory_limit", lambda: 2**31)
    isolation.stop()
    try:
        whole = model(
            placeholder("x", []), const("size", [2**20, 2**10]), node("border", "Fill", "size", "x"), node("y", "Exp", "border")
        )
        parts = gs.split(whole, "border")
        with pytest.raises(SectionRunError, match=r"^the whole model needed more .*; feeds=…"):
            gs.verify(whole, parts, {"x:0": np.float32(1)})
    finally:
        isolation.stop()


def test_a_model_prints_to_nobody(capfd):
    whole = model(
        placeholder("x", [None, 2]),
        node("text", "StringFormat", "x", T=[tf.float32], template=b"\x1b[2J{}", placeholder=b"{}", summarize=3),
        node("say", "PrintV2", "text", output_stream=b"stdout", end=b"\n"),
        node("border", "Neg", "x"),
        node("y", "Exp", "border", "^say"),
    )
    assert gs.verify(whole, gs.split(whole, "border")).equal
    assert capfd.readouterr() == ("", "")


def test_results_are_those_of_this_process():
    whole = gs.load("demo")
    (feed, *_) = made_feeds(whole)
    fetches = list(whole.index.outputs)
    with open_session(whole, optimize=False) as here:
        expected = here.run(feed, fetches)
    apart = open_session(whole, optimize=False, isolate=True)
    for one, other in zip(expected, apart.run(feed, fetches), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
        other += 1  # an array of one's own
    call = apart.prepare(list(feed), fetches)
    assert [a.shape for a in call(list(feed.values()))] == [a.shape for a in expected]
    apart.close()
    apart.close()


@pytest.mark.parametrize("dtype", [tf.string, tf.bool, tf.int64, tf.uint8, tf.bfloat16, tf.float16, tf.complex64, tf.qint8])
def test_every_dtype_crosses(dtype):
    whole = model(placeholder("x", [None, 3], dtype), node("y", "Identity", "x", T=dtype))
    values = {tf.string: np.array([[b"a\0", "ü".encode(), b""]], dtype=object), tf.qint8: np.zeros((1, 3), dtype.as_numpy_dtype)}
    value = values.get(dtype, np.ones((1, 3), dtype.as_numpy_dtype))
    apart = open_session(whole, isolate=True)
    (same,) = apart.run({"x:0": value}, ["y:0"])
    apart.close()
    assert same.shape == (1, 3)
    assert same.ravel().tolist() == np.asarray(value, value.dtype[0] if value.dtype.names else value.dtype).ravel().tolist()


def test_the_error_of_a_runtime_keeps_its_kind_and_its_node():
    whole = model(
        placeholder("x", [None]),
        const("at", 7),
        const("axis", 0),
        node("y", "GatherV2", "x", "at", "axis", Tparams=tf.float32, Tindices=tf.int32, Taxis=tf.int32),
    )
    apart = open_session(whole, isolate=True)
    with pytest.raises(RuntimeFailure, match="is not in") as caught:
        apart.run({"x:0": np.zeros(2, np.float32)}, ["y:0"])
    apart.close()
    assert error_kind(caught.value) == "InvalidArgumentError"
    assert caught.value.node_def.name == "y"


def test_what_a_runtime_refuses_is_the_error_that_it_is_here():
    whole = model(placeholder("x", [None]), node("y", "Neg", "x", T=tf.int32))
    messages = []
    for isolate in (True, False):
        with pytest.raises(FormatError, match=r"^TensorFlow refuses the graph") as caught:
            open_session(whole, isolate=isolate)
        messages.append(str(caught.value))
        assert caught.value.path is None
    assert messages[0] == messages[1]


def test_a_trusted_model_stays_where_its_ops_are_registered():
    def work(x):
        calls.append(1)
        return x

    calls: list[int] = []
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        tf.identity(tf.compat.v1.py_func(work, [x], tf.float32), name="y")
    whole = gs.load(graph)
    session = open_session(whole, trust=True, isolate=True)
    assert session.run({"x:0": np.ones(2, np.float32)}, ["y:0"])[0].tolist() == [1, 1]
    session.close()
    assert calls


# the command line


@POSIX
def test_a_command_ends_in_one_line_with_flags(hazards, tmp_path, capfd):
    path = named("abort").save(tmp_path / "m.pb")
    out = tmp_path / "out"

    def failed(*command: str) -> str:
        assert run_cli(list(command)) == 1
        stdout, stderr = capfd.readouterr()
        assert stdout == ""
        assert stderr.count("\n") == 1
        assert not out.exists()
        return stderr

    split = ["split", str(path), "--outputs", "border", "-o", str(out), "--json"]
    assert "inferring shapes" in failed(*split)
    assert "(--no-shapes leaves the shapes" in failed("plan", str(path), "--outputs", "border")
    assert "(--no-shapes leaves the shapes" in failed("suggest", str(path))
    assert "--no-verify leaves the proof out" in failed(*split, "--no-shapes")
    assert run_cli([*split, "--no-shapes", "--no-verify"]) == 0
    assert json.loads(capfd.readouterr().out)["verified"] is None


def test_a_models_prints_stay_out_of_the_answer(tmp_path):
    whole = model(
        placeholder("x", [None, 2]),
        const("text", np.array(b"here", dtype=object)),
        node("say", "PrintV2", "text", output_stream=b"stdout", end=b"\n"),
        node("border", "Neg", "x"),
        node("y", "Exp", "border", "^say"),
    )
    path = whole.save(tmp_path / "m.pb")
    text = "import sys; from graphsplit.cli import run; sys.exit(run(sys.argv[1:]))"
    assert json.loads(output(text, "split", path, "--outputs", "border", "-o", tmp_path / "out", "--json"))["verified"] is True
    assert json.loads(output(text, "verify", tmp_path / "out", "--json"))["equal"] is True


# the workbench


@POSIX
def test_the_workbench_survives_any_model(hazards, tmp_path):
    bench = Workbench(open_model(named("abort"), outputs="border"), tmp_path)

    def done(number: str) -> dict[str, object]:
        while not (answer := bench.job(number))["done"]:
            time.sleep(0.02)
        return answer

    try:
        assert "inferring shapes crashed" in str(done(bench.study(StudyRequest())["job"])["error"])
        plan = bench.plan(PlanRequest(cut=CutEnds(ends=(("border:0",),))))
        assert [s["name"] for s in plan["sections"]] == ["main", "post"]
        assert "crashed" in str(done(bench.verify(VerifyRequest(plan=plan["plan"]))["job"])["error"])
        assert bench.tensors("border")["tensors"]
    finally:
        bench.close()


# messages


def some_arrays() -> list[np.ndarray]:
    kinds = [np.dtype(d) for d in ("f4", "f8", "f2", "i1", "u8", "?", "c16", ">i4")]
    foreign = ("bfloat16", "float8_e5m2", "float8_e4m3fn", "int4", "quint8")
    kinds += [np.dtype(tf.as_dtype(d).as_numpy_dtype) for d in foreign]
    shapes_ = [(), (0,), (3,), (2, 0, 2), (2, 3, 4)]
    return [np.zeros(shape, kind) for kind in kinds for shape in shapes_] + [
        np.arange(24.0).reshape(4, 6)[::2, ::3],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array([[b"", b"\0a\0"], [b"x" * 70_000, "ü".encode()]], dtype=object),
        np.array(b"scalar", dtype=object),
        np.zeros((0, 2), dtype=object),
    ]


def test_messages_arrive_as_they_were_sent():
    arrays = some_arrays()
    pieces = [b"ab", memoryview(b"c" * 3_000_000), b"", b"d"]
    pipe = io.BytesIO()
    send(pipe, {"a": [1, None, "ü"]}, [*arrays, pieces])
    send(pipe, None)
    pipe.seek(0)
    message = receive(pipe)
    assert message is not None
    assert message.value == {"a": [1, None, "ü"]}
    *same, joined = message.arrays
    assert joined.tobytes() == b"".join(pieces)
    for one, other in zip(arrays, same, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tolist() == other.tolist()
        assert other.flags.writeable or other.size == 0
    assert receive(pipe) == (None, ())
    assert receive(pipe) is None


def test_no_bytes_of_a_child_are_more_than_an_error():
    """4,000 messages with bytes changed, cut or inserted, seed 0: read, refused, or at their end."""
    rng = random.Random(0)
    plain = []
    for value in ({"value": 1}, [1, [2, "x"]], None):
        pipe = io.BytesIO()
        send(pipe, value, rng.sample(some_arrays()[:-5], 3) + some_arrays()[-3:-1:2])
        plain.append(pipe.getvalue())
    outcomes = set()
    for _ in range(4000):
        content = bytearray(rng.choice(plain))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(min(len(content), 700)) if content else 0
            match rng.randrange(3):
                case 0:
                    content[place : place + 1] = bytes([rng.randrange(256)])
                case 1:
                    del content[place : place + rng.randint(1, 40)]
                case _:
                    content[place:place] = rng.choice([b"9" * 12, b"-1", b"[", b"null", b"|O", b'"string"', b"\xff" * 8])
        try:
            outcomes.add("end" if receive(io.BytesIO(content), 2**24) is None else "read")
        except MessageError:
            outcomes.add("refused")
    assert outcomes == {"end", "read", "refused"}


# what is refused before anything is computed


@pytest.mark.parametrize(
    ("shape", "dtype", "size"),
    [
        ([1, 60000, 60000, 3], tf.float32, "86.4 GB"),
        ([None, 200000, 200000, 3], tf.uint8, "1920.0 GB"),
        ([2**40], tf.float32, "8796.1 GB"),
        ([2**31, 2**31, 2**31], tf.int64, "GB"),
        ([100_000_000], tf.string, "102.4 GB"),
        ([2**33], tf.bool, "68.7 GB"),
        ([None, 2**33], tf.bfloat16, "137.4 GB"),
        ([50_000, 300, 300, 3], tf.float32, "108.0 GB"),
    ],
)
def test_synthetic_feeds_are_bounded_before_they_are_computed(shape, dtype, size):
    whole = model(placeholder("x", shape, dtype), node("y", "Identity", "x", T=dtype))
    with pytest.raises(FeedError, match=rf"^'x:0' \[.*\] needs .*{size}, too much for a synthetic feed; feeds=… and shapes=…"):
        gs.verify(whole, gs.split(whole, "y", shapes=False))


def test_large_inputs_that_fit_are_fed():
    whole = model(placeholder("x", [1, 2000, 2000, 3]), node("y", "Shape", "x", T=tf.float32))
    assert made_feeds(whole)[0]["x:0"].nbytes == 48_000_000


def caller(name: str, *called: str, by: str = "op") -> FunctionDef:
    """A function of x that calls some others, by their names as ops or by an attribute."""
    nodes = [node("n", "Neg", "x")]
    for number, other in enumerate(called):
        if by == "op":
            nodes.append(node(f"c{number}", other, "x"))
        else:
            attrs = {"Tin": [tf.float32], "Tout": [tf.float32], "f": Func(name=other)}
            nodes.append(node(f"c{number}", "StatefulPartitionedCall", "x", **attrs))
    return function(name, {"x": tf.float32}, {"y": tf.float32}, nodes, {"y": "n:y:0"})


@pytest.mark.parametrize("by", ["op", "attribute"])
@pytest.mark.parametrize("ring", [1, 2, 3, 40])
def test_functions_that_call_themselves_are_refused(ring, by):
    functions = [caller(f"f{i}", f"f{(i + 1) % ring}", by=by) for i in range(ring)]
    whole = model(placeholder("x", [None]), node("y", "f0", "x"), functions=functions)
    with pytest.raises(FormatError, match=r"a function calls itself: 'f\d+' → "):
        whole.index  # noqa: B018


def test_deep_and_shared_calls_are_read():
    chain = [caller(f"f{i}", f"f{i + 1}") for i in range(3000)] + [caller("f3000")]
    diamonds = [caller(f"d{i}", f"d{i + 1}", f"d{i + 1}", f"d{min(i + 2, 40)}") for i in range(40)] + [caller("d40")]
    whole = model(placeholder("x", [None]), node("y", "f0", "x"), node("z", "d0", "x"), functions=[*chain, *diamonds])
    assert len(whole.index.functions) == 3001 + 41
