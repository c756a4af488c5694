"""graphsplit check: what a compiler takes of a model, or of a split."""

from __future__ import annotations

import pytest

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import chain
from tests.quantised import network, target_file

KEYS = ["target", "compiler", "version", "taken", "asked", "refused", "reason", "sections"]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(network("a", "b", custom="Decoder"))
    return path


def test_refused_ops_are_a_table_and_status_3(call, model, tmp_path):
    answer = call("check", model, "--target", target_file(tmp_path, "print('taken 2'); print('no CUSTOM y: not supported')"))
    assert answer.status == 3
    assert "not supported" in answer.out
    assert answer.err == "graphsplit: fake takes 2 of 3 ops\n"


def test_all_taken_is_status_0(call, model, tmp_path):
    answer = call("check", model, "--target", target_file(tmp_path, "print('taken 3')"))
    assert (answer.status, answer.out, answer.err) == (0, "fake takes 3 of 3 ops\n", "")


def test_json_is_one_object(call, model, tmp_path):
    target = target_file(tmp_path, "print('taken 2'); print('no CUSTOM y: not supported')")
    answer = call("check", model, "--target", target, "--json")
    assert answer.status == 3
    assert list(answer.json) == KEYS
    assert answer.json["refused"] == [{"op": "CUSTOM", "tensor": "y", "reason": "not supported"}]


def test_reasons_that_differ_in_names_are_one_row(call, model, tmp_path):
    program = "print('taken 1'); print('no FC a: wide (a is 16)'); print('no FC b: wide (b is 16)')"
    out = call("check", model, "--target", target_file(tmp_path, program)).out
    assert out.count("wide (…)") == 1
    assert "a, b" in out


def test_a_split_is_asked_about_main(call, model, tmp_path):
    assert call("split", model, "--at", "b", "-o", tmp_path / "out", "--no-verify").status == 0
    answer = call("check", tmp_path / "out", "--target", target_file(tmp_path, "print('taken 2')"))
    assert (answer.status, answer.out) == (0, "fake takes 2 of 2 ops of main\n")


def test_a_float_model_is_one_sentence(call, tmp_path):
    path = tmp_path / "float.tflite"
    path.write_bytes(chain(3).bytes())
    answer = call("check", path, "--target", "ethos-u55")
    assert (answer.status, answer.out) == (3, "")
    assert answer.err.count("quantise the model first") == 1
    assert answer.err.count("\n") == 1


def test_no_ask_runs_nothing(call, model, tmp_path):
    target = target_file(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    answer = call("check", model, "--target", target, "--no-ask", "--json")
    assert (answer.status, answer.json["compiler"], answer.json["reason"]) == (3, None, "from the table")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{model}"], 2, "--target"),
        (["{model}", "--target", "etos-u55"], 1, "no target named 'etos-u55'; did you mean ethos-u55"),
        (
            ["demo", "--target", "ethos-u55"],
            1,
            "a graphdef model, and ethos-u55 reads tflite; graphsplit export --to tflite writes one",
        ),
        (["{model}", "--target", "none.json"], 1, "none.json: cannot be read"),
        (["nowhere.tflite", "--target", "ethos-u55"], 1, "nowhere.tflite"),
    ],
)
def test_errors_are_one_line(call, model, arguments, status, message):
    answer = call("check", *(a.replace("{model}", str(model)) for a in arguments))
    assert (answer.status, answer.out) == (status, "")
    assert message in answer.err
    if status == 1:
        assert answer.err.count("\n") == 1
