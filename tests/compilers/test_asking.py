"""A compiler is asked about the bytes of a model. The compilers here are a few lines of Python."""

from __future__ import annotations

import sys

import pytest

import graphsplit as gs
from graphsplit.compilers import Refused, ask, asking, check, patterns, process
from graphsplit.planning.targets import read_target

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import chain
from tests.quantised import network, target_file

SAYS = "print('fake version 1.2'); print('taken 2'); print('no CUSTOM y: not supported')"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(network("a", "b", custom="Decoder"))
    return gs.load(path)


def test_the_answer_is_what_its_patterns_find(model, tmp_path):
    answer = check(model, target=target_file(tmp_path, SAYS))
    assert (answer.target, answer.compiler, answer.version, answer.taken, answer.asked) == ("mine", "fake", "1.2", 2, 3)
    assert answer.refused == (Refused("CUSTOM", "y", "not supported"),)
    assert not answer
    assert answer.summary() == "fake 1.2 takes 2 of 3 ops"
    assert answer.json() == {
        "target": "mine",
        "compiler": "fake",
        "version": "1.2",
        "taken": 2,
        "asked": 3,
        "refused": [{"op": "CUSTOM", "tensor": "y", "reason": "not supported"}],
        "reason": "",
        "sections": [],
    }


def test_it_reads_the_bytes_of_the_model(model, tmp_path):
    program = (
        "import hashlib, sys; print('fake version', hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest()); print('taken 3')"
    )
    answer = check(model, target=target_file(tmp_path, program))
    assert answer.version == model.sha256
    assert answer


def test_its_folder_is_removed(model, tmp_path):
    program = "import sys; open(sys.argv[2] + '/made', 'w').write('x'); print('taken 3'); print('fake version', sys.argv[2])"
    folder = check(model, target=target_file(tmp_path, program)).version
    assert folder
    assert not (tmp_path / folder).exists()


def test_without_counts_the_ops_of_the_model_are_counted(model, tmp_path):
    target = target_file(tmp_path, "print('no CUSTOM y: a'); print('no CUSTOM y: a')", compiler={"taken": ""})
    answer = check(model, target=target)
    assert (answer.taken, answer.asked, len(answer.refused)) == (2, 3, 1)  # printed twice


def test_ops_without_a_name_are_not_taken_for_one(model, tmp_path):
    target = target_file(tmp_path, "print('no FC ?: a'); print('no FC ?: a')", compiler={"taken": ""})
    answer = check(model, target=target)
    assert (answer.taken, answer.asked, len(answer.refused)) == (1, 3, 2)


def test_a_count_of_what_is_left_is_believed(model, tmp_path):
    target = target_file(tmp_path, "print('taken 5'); print('left 2')", compiler={"left": r"left (\d+)"})
    answer = check(model, target=target)
    assert (answer.taken, answer.asked, answer.refused) == (5, 7, ())
    assert not answer


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "fake crashed on net.tflite: signal 11"),
        ("import time; time.sleep(60)", "fake did not end within 0.5 seconds on net.tflite"),
        ("open('big', 'wb').write(bytes(2**26))", "fake wrote more than 8.0 MB on net.tflite"),
        ("while True: print('x' * 1000)", "fake printed more than 1.0 MB on net.tflite"),
    ],
)
def test_a_compiler_that_fails_has_answered(program, reason, model, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_DISK", 8 * 10**6 - 4 * model.nbytes)
    monkeypatch.setattr(process, "_OUTPUT", 10**6)
    answer = check(model, target=target_file(tmp_path, program, compiler={"seconds": 0.5 if "sleep" in program else 20}))
    assert answer.reason == reason
    assert (answer.taken, answer.asked, answer.refused) == (0, 3, ())
    assert not answer


@pytest.mark.parametrize(
    ("program", "fields", "message"),
    [
        ("import sys; sys.exit('bad licence')", {}, r"\$\.compiler\.refused: matches nothing .* its exit status is 1: bad licence"),
        ("print('all is well')", {}, r"\$\.compiler\.taken: matches nothing in what fake printed"),
        ("print('taken x')", {"taken": "taken (.*)"}, r"\$\.compiler\.taken: its first group found 'x'"),
        ("", {"command": ["/nowhere/cc", "{model}"]}, r"\$\.compiler\.command\[0\]: there is no program '/nowhere/cc'"),
        ("", {"command": ["no-such-compiler", "{model}"]}, "there is no program 'no-such-compiler'; install it"),
        ("print('a' * 60 + '!')", {"refused": "(?P<op>(a+)+)(?P<tensor>)(?P<reason>)$"}, "a pattern takes more than 1 seconds"),
    ],
)
def test_a_target_that_cannot_work_is_one_line(program, fields, message, model, tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "_SECONDS", 1)
    target = target_file(tmp_path, program or "pass", compiler=fields)
    with pytest.raises(gs.FormatError, match=message) as caught:
        check(model, target=target)
    assert str(caught.value).startswith(f"{target}: ")
    assert "\n" not in str(caught.value)


def test_a_refusal_counts_although_the_compiler_failed(model, tmp_path):
    answer = check(model, target=target_file(tmp_path, "import sys; print('no CUSTOM y: bad'); sys.exit(1)"))
    assert (answer.taken, answer.asked) == (2, 3)
    assert [r.tensor for r in answer.refused] == ["y"]


def test_without_the_package_the_table_answers(model, tmp_path):
    target = target_file(tmp_path, SAYS, compiler={"package": "no-such-package", "extra": "ethos-u"})
    answer = check(model, target=target)
    assert (answer.compiler, answer.version, answer.taken, answer.asked) == (None, None, 2, 3)
    assert answer.reason == "from the table; install graphsplit[ethos-u] to ask"
    assert answer.refused == (Refused("Decoder", "y", "Decoder is a custom op, which stays on the host"),)
    assert answer.summary() == "the table of mine takes 2 of 3 ops"


def test_the_table_answers_where_there_is_no_compiler_or_none_is_wanted(model, tmp_path):
    assert check(model, target=target_file(tmp_path)).reason == "from the table"
    answer = check(model, target=target_file(tmp_path, "raise SystemExit"), compile=False)
    assert (answer.compiler, answer.reason) == (None, "from the table")


def test_a_float_model_is_not_asked_about(tmp_path):
    path = tmp_path / "float.tflite"
    path.write_bytes(chain(3).bytes())
    answer = check(path, target=target_file(tmp_path, "raise SystemExit", ops={"ADD": "accelerator"}))
    assert answer.compiler is None
    assert answer.reason == "the network computes in float32, and mine takes int8: quantise the model first"
    assert [r.reason for r in answer.refused] == [answer.reason]
    assert (answer.taken, answer.asked) == (0, 3)


def test_a_model_of_another_format_is_refused(tmp_path):
    with pytest.raises(gs.FormatError, match="a graphdef model, and mine reads tflite; export"):
        check("demo", target=target_file(tmp_path, SAYS))


def test_the_accelerators_sections_of_a_split_are_asked_about(model, tmp_path):
    parts = gs.split(model, outputs=["b"])
    target = target_file(tmp_path, "print('taken 2')")
    answer = check(parts, target=target)
    assert (answer.sections, answer.taken, answer.asked) == (("main",), 2, 2)
    folder = gs.save(parts, tmp_path / "out")
    assert check(folder, target=target) == answer
    assert check(str(folder / "split.json"), target=target) == answer
    assert answer.summary() == "fake takes 2 of 2 ops of main"
    several = gs.split(model, outputs=[["a"], ["b"]], devices={"part_0": "/gpu:0", "part_1": "/gpu:1"})
    answer = check(several, target=target)
    assert (answer.sections, answer.taken, answer.asked) == (("part_0", "part_1"), 4, 4)
    with pytest.raises(gs.CutError, match=r"no section runs on an accelerator: part_0 on /cpu:0"):
        check(gs.split(model, outputs=[["a"], ["b"]]), target=target)


def test_python_finds_modules_where_this_process_does(model, tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "own_compiler.py").write_text("print('taken 3')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "lib")])
    target = target_file(tmp_path, "pass", compiler={"command": ["{python}", "-m", "own_compiler", "{model}"]})
    assert check(model, target=target).taken == 3


def test_a_program_is_found_beside_python_and_by_a_shell_nowhere(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert asking.found_program("python") or asking.found_program("python3")
    target = target_file(tmp_path, "pass", compiler={"command": ["echo taken 3; true", "{model}"]})
    with pytest.raises(gs.FormatError, match="there is no program 'echo taken 3; true'"):
        ask(model, read_target(target))
