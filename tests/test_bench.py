"""What a measurement says: the arithmetic and the verdict, on synthetic times; and one measurement."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.benchmark.measure import _report
from graphsplit.benchmark.side import decoded, encoded
from graphsplit.errors import FeedError, FormatError, OptionError
from graphsplit.execution.options import RunOptions
from tests.graphs import model, node, placeholder

CPU = {"main": "/cpu:0", "post": "/cpu:0"}
GPU = {"main": "/gpu:0", "post": "/cpu:0"}


def times(milliseconds, frames=10, rounds=5):
    one = {"seconds": frames * milliseconds / 1000, "latencies": [milliseconds / 1000] * frames, "timeline": [[(0.0, 0.01)]]}
    return [one] * rounds


def report(whole, main, post, sequential, pipelined, devices=GPU):
    found = {
        "whole": times(whole),
        "main": times(main),
        "post": times(post),
        "sequential": times(sequential),
        "pipelined": times(pipelined),
    }
    return _report(found, ["main", "post"], 10, {"devices": devices, "transfer": {}}, None)


def test_a_pipeline_that_is_faster_is_advised_with_the_section_that_sets_its_pace():
    found = report(whole=68.5, main=47.6, post=21.0, sequential=68.6, pipelined=49.9)
    assert found.verdict == "split"
    assert found.ratio == pytest.approx(68.5 / 49.9)
    assert found.efficiency == pytest.approx(47.6 / 49.9)
    assert found.whole.fps == pytest.approx(1000 / 68.5)
    assert found.sections == {"main": pytest.approx(47.6), "post": pytest.approx(21.0)}
    assert "1.37 times the frame rate of the whole; its pace is that of main (47.6 ms a frame)" in found.reason


def test_on_one_processor_that_the_whole_fills_the_answer_is_do_not_split(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = report(whole=35.6, main=25, post=12, sequential=38, pipelined=35.5, devices=CPU)
    assert found.verdict == "do not split"
    assert "the whole already uses both cores" in found.reason


def test_a_section_that_takes_all_the_time_leaves_nothing_to_overlap():
    found = report(whole=50, main=49, post=1, sequential=51, pipelined=49.5)
    assert found.verdict == "do not split"
    assert "main takes 98% of the time, so there is little to overlap" in found.reason


def test_a_border_that_costs_too_much_is_told():
    assert "what crosses the border costs as much" in report(whole=50, main=40, post=30, sequential=80, pipelined=60).reason


def test_splitting_is_never_advised_where_the_pipeline_is_no_faster():
    for pipelined in (48.0, 50.0, 51.5):
        assert report(whole=50, main=30, post=20, sequential=55, pipelined=pipelined).verdict == "do not split"


# A measurement


def lengths():
    """name (string) ─▶ kept ─▶ length"""
    return model(
        placeholder("name", [None], tf.string),
        node("kept", "Identity", "name", T=tf.string),
        node("length", "StringLength", "kept"),
    )


def test_a_split_folder_is_measured_on_synthetic_frames_with_the_options_of_a_pipeline(tmp_path):
    whole = lengths()
    gs.save(gs.split(whole, outputs="kept", devices={"main": "/cpu:0"}), tmp_path / "out")
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
    calls = []
    with pytest.raises(FormatError, match="the whole model"):
        gs.bench(tmp_path / "out")
    found = gs.bench(
        tmp_path / "out",
        model=whole,
        frames=10,
        devices={"main": "/cpu:1"},
        config=config,
        threads=1,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert found.devices == {"main": "/cpu:1", "post": "/cpu:0"}, "where they really ran"
    assert (found.frames, found.threads) == (10, 1)
    assert min(found.whole.fps, found.sequential.fps, found.pipelined.fps, *found.sections.values()) > 0
    assert calls == [(i, 25) for i in range(1, 26)]


def test_what_cannot_be_measured_is_refused_before_a_process_is_started(monkeypatch):
    monkeypatch.setattr("graphsplit.benchmark.measure.Side", None)
    parts = gs.split(lengths(), outputs="kept")
    with pytest.raises(OptionError, match="frames must be at least 1, not 0"):
        gs.bench(parts, frames=0)
    with pytest.raises(FeedError, match="no input 'x'; there are name:0"):
        gs.bench(parts, {"x": 1})
    with pytest.raises(FeedError, match="'name:0' must be string, not int64"):
        gs.bench(parts, {"name": [1]})


def test_run_options_survive_the_way_into_a_process(tmp_path):
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 3})
    (tmp_path / "c.json").write_text('{"gpu": ["10.0.0.5:2222"]}')
    options = RunOptions(
        devices=MappingProxyType({"main": "/job:gpu/task:0"}),
        cluster=tmp_path / "c.json",
        target="grpc://10.0.0.5:2222",
        threads=3,
        strict=True,
        trust=True,
        config=config,
        delegates={"post": Path("a.so")},
    )
    assert set(options) == set(RunOptions.__annotations__), "all of them"
    again = decoded(json.loads(json.dumps(encoded(options))))
    assert again.pop("config").device_count["CPU"] == 3
    assert again == {
        "devices": {"main": "/job:gpu/task:0"},
        "cluster": {"gpu": ["10.0.0.5:2222"]},
        "target": "grpc://10.0.0.5:2222",
        "threads": 3,
        "strict": True,
        "trust": True,
        "delegates": {"post": str(Path("a.so").resolve())},
    }
