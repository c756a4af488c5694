"""Sections on workers: two processes on loopback, as `graphsplit worker` starts them.

this process ─▶ /job:gpu/task:0 (127.0.0.1:A) ─▶ /job:cpu/task:0 (127.0.0.1:B)
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.demo import data as demo_data
from graphsplit.errors import FormatError, PlacementError, SectionRunError
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.tensorflow import session_config

MODEL = Path(str(demo_data.model()))
FAR = {"main": "/job:gpu/task:0/cpu:0", "post": "/job:cpu/task:0/cpu:0"}


class Workers:
    """Two workers, and what they printed when they were started."""

    def __init__(self, folder: Path) -> None:
        self.cluster = {"gpu": [f"127.0.0.1:{free_port()}"], "cpu": [f"127.0.0.1:{free_port()}"]}
        self.file = folder / "cluster.json"
        self.file.write_text(json.dumps(self.cluster))
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.said: dict[str, Any] = {}
        self.start()

    def start(self) -> None:
        """Start those that are not running."""
        missing = [job for job in self.cluster if job not in self.processes or self.processes[job].poll() is not None]
        for job in set(missing) & set(self.processes):
            self.processes[job].communicate()
        self.processes |= {job: worker(self.file, job) for job in missing}
        self.said |= {job: json.loads(read_object(self.processes[job])) for job in missing}

    def port(self, job: str) -> int:
        return int(self.cluster[job][0].rpartition(":")[2])

    def kill(self, job: str) -> None:
        self.processes[job].kill()
        self.processes[job].wait()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def worker(file: Path, job: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "graphsplit", "worker", "--job", job, "--task", "0", "--cluster", str(file), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_object(process: subprocess.Popen[str]) -> str:
    """The JSON object that a worker prints when it serves. Fails with its error if it ends instead."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            return "".join(lines)
    pytest.fail(f"the worker ended: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    workers = Workers(tmp_path_factory.mktemp("cluster"))
    yield workers
    workers.end()


@pytest.fixture
def mortals(workers: Workers) -> Iterator[Workers]:
    """The workers, for a test that ends some of them; they are started again afterwards."""
    yield workers
    workers.start()


@pytest.fixture(scope="module")
def parts() -> Parts:
    return gs.split(gs.load(MODEL))


@pytest.fixture(scope="module")
def feeds(parts: Parts) -> list[dict[str, Any]]:
    random = np.random.default_rng(7)
    return [{parts.inputs[0]: random.integers(0, 256, (1, 128, 160, 3), np.uint8)} for _ in range(3)]


@pytest.fixture(scope="module")
def expected(parts: Parts, feeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with gs.Pipeline(parts, devices={"main": "/cpu:0"}) as pipe:
        return list(pipe.stream(feeds))


def same(result: dict[str, Any], expected: dict[str, Any]) -> bool:
    return result.keys() == expected.keys() and all(
        result[t].dtype == v.dtype and np.array_equal(result[t], v, equal_nan=v.dtype.kind == "f") for t, v in expected.items()
    )


# A worker


def test_a_worker_prints_its_name_address_and_devices(workers):
    for job, said in workers.said.items():
        address = workers.cluster[job][0]
        assert said["name"] == f"/job:{job}/task:0"
        assert (said["address"], said["target"]) == (address, f"grpc://{address}")
        assert f"/job:{job}/task:0/cpu:0" in said["devices"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="loopback has a second address on Linux only")
def test_a_worker_answers_on_the_address_of_the_file_only(workers):
    port = workers.port("gpu")
    socket.create_connection(("127.0.0.1", port), 5).close()
    others = ["127.0.0.2", *({i[4][0] for i in socket.getaddrinfo(socket.gethostname(), port)} - {"127.0.0.1"})]
    if Path("/proc/net/if_inet6").exists():
        others.append("::1")
    for other in others:
        with pytest.raises(OSError):
            socket.create_connection((other, port), 0.5).close()


def test_help_says_that_there_is_no_authentication():
    done = subprocess.run([sys.executable, "-m", "graphsplit", "worker", "--help"], capture_output=True, text=True, check=True)
    text = " ".join(done.stdout.split())
    assert "NO AUTHENTICATION" in text
    assert "private network" in text


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_worker_cleanly(mortals):
    process = mortals.processes["gpu"]
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (0, "", "")


def start(cluster: dict[str, Any], folder: Path, *, job: str = "gpu", task: str = "0") -> tuple[int, str]:
    """Exit status and message of a worker that cannot be started."""
    (folder / "c.json").write_text(json.dumps(cluster))
    command = [sys.executable, "-m", "graphsplit", "worker", "--job", job, "--task", task, "--cluster", str(folder / "c.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def test_a_worker_that_cannot_serve_says_why(tmp_path):
    def refused(cluster: dict[str, Any], **who: str) -> str:
        status, said = start(cluster, tmp_path, **who)
        assert status == 1
        assert said.startswith("graphsplit: ")
        assert "\n" not in said
        return said

    port = free_port()
    assert "no job 'tpu'; there are gpu" in refused({"gpu": [f"127.0.0.1:{port}"]}, job="tpu")
    assert "no task 3; it has 1, counted from 0" in refused({"gpu": [f"127.0.0.1:{port}"]}, task="3")
    assert "192.0.2.213 is not an address of this machine" in refused({"gpu": [f"192.0.2.213:{port}"]})
    assert "cannot resolve the address 'no-such-host.invalid'" in refused({"gpu": [f"no-such-host.invalid:{port}"]})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        there = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"cannot listen on {there}" in refused({"gpu": [there]})


def test_a_task_that_is_not_a_number_is_wrong_usage(tmp_path):
    status, said = start({"gpu": ["127.0.0.1:2222"]}, tmp_path, task="-1")
    assert status == 2
    assert "-1" in said


# Placed on workers


def test_placed_sections_run_where_they_were_pinned_and_compute_the_same_bits(workers, parts, feeds, expected):
    placed = gs.place(parts, FAR, cluster=workers.file)
    assert placed.absent == ()
    assert placed.devices == FAR
    with placed.session() as session:
        for feed, values in zip(feeds, expected, strict=True):
            assert same(placed.run(feed, session), values)
        for name, device in FAR.items():
            ran = ran_on(placed, session, name, feeds[0])
            assert ran == {device.replace("/task", "/replica:0/task").replace("/cpu", "/device:CPU")}
    assert same(placed.run(feeds[0]), expected[0]), "without a session, one is opened for the run"


def ran_on(placed: Any, session: Any, section: str, feed: dict[str, Any]) -> set[str]:
    """The devices on which TensorFlow says that the nodes of a section ran, fed with what earlier sections computed."""
    values = dict(feed)
    for part in placed.parts:
        names = placed.names[part.name]
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        metadata = tf.compat.v1.RunMetadata()
        results = session.run(
            [names[p.tensor] for p in part.outputs],
            {names[p.tensor]: values[p.tensor] for p in part.inputs},
            options=options,
            run_metadata=metadata,
        )
        values |= dict(zip([p.tensor for p in part.outputs], results, strict=True))
        if part.name == section:
            nodes = {n.name for n in placed.graph.as_graph_def().node}
            ran = {d.device for d in metadata.step_stats.dev_stats for n in d.node_stats if n.node_name in nodes}
            assert len({n.node_name for d in metadata.step_stats.dev_stats for n in d.node_stats} & nodes) > 20
            return ran
    raise AssertionError(section)


def test_a_target_alone_is_enough_where_its_worker_knows_the_others(workers, parts, feeds, expected):
    placed = gs.place(parts, FAR, target=workers.said["cpu"]["target"])
    assert placed.site is not None
    assert placed.site.target == workers.said["cpu"]["target"]
    assert same(placed.run(feeds[0]), expected[0])


def test_a_device_that_a_worker_lacks_is_a_warning_or_refused(workers, parts, feeds, expected):
    devices = {**FAR, "main": "/job:gpu/task:0/gpu:0"}
    with pytest.warns(UserWarning, match="main' was pinned to /job:gpu/task:0/gpu:0, which its worker lacks"):
        placed = gs.place(parts, devices, cluster=workers.cluster)
    assert same(placed.run(feeds[0]), expected[0])
    with pytest.raises(PlacementError, match="device /job:gpu/task:0/gpu:0 of section 'main' is not available; there are /job:gpu"):
        gs.place(parts, devices, cluster=workers.cluster, strict=True)
    with pytest.warns(UserWarning, match="section 'main' runs on /job:gpu/task:0/cpu:0"):
        pipe = gs.Pipeline(parts, devices=devices, cluster=workers.cluster)
    with pipe:
        assert pipe.stages[0].device == "/job:gpu/task:0/cpu:0"
        assert same(pipe.run(feeds[0]), expected[0])
    with pytest.raises(
        PlacementError, match="/job:gpu/task:0/gpu:0 of section 'main' is not available; there are /job:gpu/task:0/cpu:0"
    ):
        gs.Pipeline(parts, devices=devices, cluster=workers.cluster, strict=True)


# Pipelines on workers


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param({"main": "/job:gpu/task:0/cpu:0"}, id="main far, post here"),
        pytest.param(FAR, id="both far"),
        pytest.param({"main": "/job:gpu/cpu:0", "post": "/job:cpu/task:0/cpu:0"}, id="a job of one task needs no number"),
        pytest.param({"main": "/cpu:0", "post": "/job:cpu/task:0"}, id="post far, any device of the task"),
    ],
)
def test_a_pipeline_with_sections_on_workers_computes_the_same_bits(workers, parts, feeds, expected, devices):
    with gs.Pipeline(parts, devices=devices, cluster=workers.file) as pipe:
        pipe.warm_up(feeds[0])
        results = list(pipe.stream(feeds))
        assert all(same(r, e) for r, e in zip(results, expected, strict=True))
        assert all("/job:" in s.device for s in pipe.stages if "/job:" in devices.get(s.name, ""))


def test_an_explicit_target_is_asked_for_every_worker(workers, parts, feeds, expected):
    with gs.Pipeline(parts, devices=FAR, cluster=workers.file, target=workers.said["cpu"]["target"]) as pipe:
        assert same(pipe.run(feeds[0]), expected[0])


def test_detect_runs_sections_on_workers(workers, tmp_path, capfd):
    from PIL import Image

    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(tmp_path / "a.png")
    devices = [f"--device={name}={device}" for name, device in FAR.items()]
    command = [sys.executable, "-m", "graphsplit", "detect", str(MODEL), str(tmp_path / "a.png"), "--cluster", str(workers.file)]
    done = subprocess.run([*command, *devices, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {n: s["device"] for n, s in json.loads(done.stdout)["sections"].items()} == FAR


def in_flight(parts: Parts, workers: Workers, feed: dict[str, Any], what: Any, **options: Any) -> tuple[SectionRunError, float]:
    """Stream, and do something to the workers after a few frames. Returns the error and the seconds until it was raised."""
    began = 0.0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal began
        for i in range(10_000):
            if i == 10:
                began = time.perf_counter()
                what()
            yield feed

    with gs.Pipeline(parts, devices=FAR, cluster=workers.file, **options) as pipe, pytest.raises(SectionRunError) as caught:
        for _ in pipe.stream(source()):
            pass
    return caught.value, time.perf_counter() - began


@pytest.mark.parametrize("job", ["gpu", "cpu"])
def test_a_worker_that_ends_is_an_error_within_seconds(mortals, parts, feeds, job):
    error, seconds = in_flight(parts, mortals, feeds[0], lambda: mortals.kill(job))
    section = {"gpu": "main", "cpu": "post"}[job]
    assert error.section == section
    assert f"section {section!r} on {FAR[section]} failed at frame" in str(error)
    assert f"the worker at {mortals.cluster[job][0]} has ended" in str(error)
    assert seconds < 20
    with pytest.raises(
        PlacementError, match=rf"no worker is listening on {mortals.cluster[job][0]} .*start one there with `graphsplit worker`"
    ):
        gs.Pipeline(parts, devices=FAR, cluster=mortals.file)
    for thread in threading.enumerate():
        if thread.name.startswith("graphsplit-") and thread.name not in ("graphsplit-remote", "graphsplit-child"):
            thread.join(60)
    # Only abandoned calls are left: a run and a close, which end with their deadline.
    names = [t.name for t in threading.enumerate() if t.name.startswith("graphsplit-")]
    assert set(names) <= {"graphsplit-remote", "graphsplit-child"}
    assert names.count("graphsplit-remote") <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_worker_that_hangs_is_an_error_when_the_deadline_is_over(mortals, parts, feeds):
    config = session_config()
    config.operation_timeout_in_ms = 3000
    frozen = mortals.processes["cpu"]
    error, seconds = in_flight(parts, mortals, feeds[0], lambda: os.kill(frozen.pid, signal.SIGSTOP), config=config)
    os.kill(frozen.pid, signal.SIGCONT)
    assert error.section == "post"
    assert "did not answer in time" in str(error)
    assert seconds < 20


def test_a_placed_graph_whose_worker_ends_raises(mortals, parts, feeds, expected):
    placed = gs.place(parts, FAR, cluster=mortals.file)
    session = placed.session()
    assert same(placed.run(feeds[0], session), expected[0])
    mortals.kill("gpu")
    began = time.perf_counter()
    with pytest.raises(SectionRunError, match=r"section 'main' on /job:gpu/task:0/cpu:0 failed to run: the worker at .* has ended"):
        placed.run(feeds[0], session)
    session.close()
    del session
    assert time.perf_counter() - began < 20


# Refusals


def refusal(parts: Parts, call: Any = gs.Pipeline, **options: Any) -> str:
    with pytest.raises(PlacementError) as caught:
        call(parts, **options)
    assert caught.value.section in [p.name for p in parts]
    return str(caught.value)


def test_workers_that_are_not_known_are_refused(parts, tmp_path):
    nowhere = f"127.0.0.1:{free_port()}"
    cluster = {"gpu": [nowhere], "cpu": ["127.0.0.1:1", "127.0.0.1:2"]}
    main = {"main": "/job:gpu/task:0/cpu:0"}
    assert "pass cluster=… or target='grpc://host:port'" in refusal(parts, devices=main)
    assert f"no worker is listening on {nowhere}" in refusal(parts, devices=main, cluster=cluster)
    assert f"no worker is listening on {nowhere}" in refusal(parts, devices=main, target=f"grpc://{nowhere}")
    assert "no job 'tpu'; there are gpu, cpu" in refusal(parts, devices={"main": "/job:tpu/task:0/cpu:0"}, cluster=cluster)
    assert "job 'gpu' has no task 1" in refusal(parts, devices={"main": "/job:gpu/task:1/cpu:0"}, cluster=cluster)
    assert "names no task; write /job:cpu/task:0/" in refusal(parts, devices={"main": "/job:cpu/cpu:0"}, cluster=cluster)
    assert "invalid target '127.0.0.1:1'" in refusal(parts, devices=main, target="127.0.0.1:1")
    assert "'main' is on /gpu:0: write /job:NAME/task:N/gpu:0" in refusal(parts, target=f"grpc://{nowhere}")


def test_a_job_that_the_asked_worker_does_not_know_is_refused(workers, parts):
    target = workers.said["gpu"]["target"]
    for call in (gs.Pipeline, gs.place):
        devices = {**FAR, "main": "/job:tpu/task:0/cpu:0"}
        assert "does not know; it knows /job:gpu/task:0/cpu:0" in refusal(parts, call, devices=devices, target=target)


def test_a_placed_graph_without_a_cluster_keeps_the_pins_for_a_session_that_the_user_opens(workers, parts, feeds, expected):
    with pytest.warns(UserWarning, match="a device of a cluster: it runs only in a session on that cluster"):
        placed = gs.place(parts, FAR)
    with tf.compat.v1.Session(workers.said["gpu"]["target"], graph=placed.graph) as session:
        assert same(placed.run(feeds[0], session), expected[0])


def test_one_session_takes_no_section_of_this_process(workers, parts):
    message = refusal(parts, gs.place, devices={"main": FAR["main"]}, cluster=workers.file)
    assert "section 'post' is on /cpu:0, which names no worker" in message
    assert "use a Pipeline" in message


def test_a_damaged_cluster_file_is_refused(parts, tmp_path):
    (tmp_path / "c.json").write_text('{"gpu": "127.0.0.1:1"}')
    with pytest.raises(FormatError, match=r"c\.json: \$\.gpu: expected array, got str"):
        gs.Pipeline(parts, devices={"main": "/job:gpu/task:0/cpu:0"}, cluster=tmp_path / "c.json")
