"""What a measurement says: the arithmetic and the verdict, on made times."""

from __future__ import annotations

import pytest

from graphsplit.benchmark.measure import _report

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
