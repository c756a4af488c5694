"""graphsplit show and presets."""

from __future__ import annotations


def test_show_tells_what_is_in_a_model(call, detector):
    answer = call("show", detector, "--json")
    assert answer.status == 0
    found = answer.json
    assert found["format"] == "graphdef"
    assert found["inputs"] == [{"tensor": "image_tensor:0", "dtype": "uint8", "shape": [None, 8, 8, 3]}]
    assert [o["tensor"] for o in found["outputs"]] == ["best:0", "size:0"]
    assert found["outputs"][0]["shape"] is None
    assert found["ops"]["Conv2D"] == 1
    assert found["family"] is None
    assert found["reaches_outside"] == []
    assert sum(found["ops"].values()) == found["nodes"]


def test_show_infers_shapes_only_when_asked(call, detector):
    assert call("show", detector, "--json", "--shapes").json["outputs"][0]["shape"] == [None, 5]


def test_show_prints_tables_whose_lines_are_not_broken_in_a_pipe(call, detector):
    text = call("show", detector).out
    assert "Inputs and outputs" in text
    assert "image_tensor:0" in text
    assert "family: unknown; name a cut: graphsplit split MODEL --outputs A,B,…" in text


def test_show_node_tells_attributes_inputs_and_consumers(call, detector):
    answer = call("show", detector, "--node", "net/conv:0", "--json", "--shapes")
    assert answer.status == 0
    assert answer.json["op"] == "Conv2D"
    assert answer.json["inputs"][0] == "Cast:0"
    assert "net/flat" in answer.json["outputs"][0]["consumers"]
    assert answer.json["outputs"][0]["shape"] == [None, 4, 4, 4]
    assert answer.json["attributes"]["padding"] == 's: "SAME"'
    text = call("show", detector, "--node", "net/conv").out
    assert "read by" in text
    wrong = call("show", detector, "--node", "net/konv")
    assert wrong.status == 1
    assert "no node named 'net/konv'; did you mean 'net/conv'" in wrong.err


def test_presets_are_listed_and_matched(call, detector):
    names = [p["name"] for p in call("presets", "--json").json["presets"]]
    assert "ssd_2018" in names
    assert "ssd_2018" in call("presets").out
    answer = call("presets", "--match", detector, "--json")
    assert all(p["matches"] is False and p["reason"] for p in answer.json["presets"])


def test_verbose_and_json_are_understood_before_and_after_the_command(call, detector):
    assert call("--json", "show", detector).json["nodes"] == call("show", detector, "--json").json["nodes"]


def test_version_and_help(call):
    assert call("--version").out == "graphsplit 0.1.0\n"
    answer = call("--help")
    assert answer.status == 0
    for name in ("show", "plan", "split", "verify", "presets"):
        assert name in answer.out
        assert call(name, "--help").status == 0
