"""graphsplit bench."""

from __future__ import annotations


def test_bench_measures_whole_and_sections_and_gives_a_verdict(call, detector, tmp_path):
    chart = tmp_path / "bench.png"
    answer = call("bench", detector, "--at", "scores", "--frames", 20, "--threads", 1, "--chart", chart, "--json")
    assert answer.status == 0, answer.err
    found = answer.json
    for mode in ("whole", "sequential", "pipelined"):
        assert found[mode]["fps"] > 0
        assert found[mode]["latency_ms"]["p95"] >= found[mode]["latency_ms"]["p50"] > 0
    assert list(found["sections"]) == ["main", "post"]
    assert found["sections"]["main"]["ms_p50"] > 0
    assert found["devices"] == {name: s["device"] for name, s in found["sections"].items()}
    assert found["efficiency"] > 0
    assert found["verdict"] in ("split", "do not split")
    assert found["frames"] == 20
    assert chart.read_bytes().startswith(b"\x89PNG")
    again = call("bench", detector, "--at", "scores", "--chart", chart)
    assert again.status == 1
    assert "exists already; --overwrite replaces it" in again.err


def test_bench_takes_the_folder_of_a_split_and_a_picture(call, detector, tmp_path):
    import numpy as np
    from PIL import Image

    assert call("split", detector, "--at", "scores", "-o", tmp_path / "out", "--no-verify").status == 0
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    answer = call("bench", tmp_path / "out", tmp_path / "a.png", "--frames", 10)
    assert answer.status == 0, answer.err
    assert "Ways to run it" in answer.out
    assert "Sections alone" in answer.out
    assert "split: " in answer.out


def test_bench_never_runs_what_reaches_outside(call, tmp_path):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        tf.identity(tf.nn.relu(x, name="mid") + tf.strings.to_number(tf.io.read_file("/nowhere")), name="y")
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    answer = call("bench", tmp_path / "m.pb", "--at", "mid")
    assert answer.status == 1
    assert "--trust" in answer.err
