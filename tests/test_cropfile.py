"""Crop files: every shape the contract names is read, everything else is refused with what is wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphsplit.errors import CutError, FormatError, TensorNotFoundError
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.splitting.crop_file import Crop, read_crop_file
from graphsplit.splitting.surgery import plan
from tests.formats import raw


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "crop.json"


def crop(file: Path, content: Any, entry: int = 0) -> Crop:
    file.write_text(json.dumps(content), encoding="utf-8")
    return read_crop_file(file, entry)


# what may stand in it


@pytest.mark.parametrize("inputs", ["inputs", "input"])
@pytest.mark.parametrize("outputs", ["outputs", "output"])
@pytest.mark.parametrize("names", ["a", ["a"], ["a", "b:1"]])
def test_either_key_in_singular_or_plural_with_a_name_or_a_list(file: Path, inputs: str, outputs: str, names: Any) -> None:
    expected = (names,) if isinstance(names, str) else tuple(names)
    assert crop(file, {inputs: names, outputs: "z"}) == Crop(expected, ("z",))
    assert crop(file, {inputs: "z", outputs: names}) == Crop(("z",), expected)


@pytest.mark.parametrize("empty", [{}, {"inputs": []}])
def test_either_key_may_be_left_out_or_empty(file: Path, empty: dict[str, Any]) -> None:
    assert crop(file, {**empty, "outputs": ["a"]}) == Crop(None, ("a",))
    assert crop(file, {"inputs": ["a"], **{k.replace("in", "out"): v for k, v in empty.items()}}) == Crop(("a",), None)


def test_names_are_kept_as_they_are_written(file: Path) -> None:
    names = ["Postprocessor/Slice:0", "^order", "sequential/conv2d;conv2d/bias1", "Größe", "a,b", " spaced "]
    assert crop(file, {"outputs": names}).outputs == tuple(names)


SEVERAL = [{"outputs": "first"}, {"inputs": "second"}, {"outputs": ["third"]}]


@pytest.mark.parametrize(
    "content", [SEVERAL, {str(i): e for i, e in enumerate(SEVERAL)}, {"2": SEVERAL[2], "0": SEVERAL[0], "1": SEVERAL[1]}]
)
def test_several_models_are_a_list_or_numbered(file: Path, content: Any) -> None:
    assert crop(file, content) == Crop(None, ("first",), entries=3)
    assert crop(file, content, 1) == Crop(("second",), None, entries=3)
    assert crop(file, content, 2) == Crop(None, ("third",), entries=3)


def test_ten_comes_after_nine(file: Path) -> None:
    content = {str(i): {"outputs": f"name{i}"} for i in range(12)}
    assert [crop(file, content, i).outputs for i in (1, 2, 10, 11)] == [("name1",), ("name2",), ("name10",), ("name11",)]


def test_a_list_of_one_is_one_model(file: Path) -> None:
    assert crop(file, [{"outputs": "a"}]).entries == crop(file, {"0": {"outputs": "a"}}).entries == 1


def test_a_byte_order_mark_is_no_error(file: Path) -> None:
    """Windows' Notepad writes one."""
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps({"outputs": "a"}).encode())
    assert read_crop_file(file).outputs == ("a",)


# what is wrong

SHAPE = r'a crop file is \{"inputs": \[…\], "outputs": \[…\]\}, or several of these numbered or in a list$'
WRONG: dict[str, tuple[Any, str]] = {
    "a number": (5, SHAPE),
    "a name": ("Postprocessor/Slice", SHAPE),
    "null": (None, SHAPE),
    "true": (True, SHAPE),
    "an empty list": ([], SHAPE),
    "a list of names": (["a", "b"], r"\$\[0\]: expected object, got str$"),
    "a list of lists": ([["a"]], r"\$\[0\]: expected object, got array$"),
    "a numbered name": ({"0": "a"}, r"\$\.0: expected object, got str$"),
    "another key": ({"targets": ["a"]}, r"unknown key 'targets'; there are inputs, input, outputs, output$"),
    "a misspelt key": ({"outputs": "a", "ouputs": "b"}, r"unknown key 'ouputs'; there are inputs, input, outputs, output$"),
    "numbers and keys mixed": ({"0": {"outputs": "a"}, "outputs": "b"}, r"unknown key '0'; there are"),
    "a number of another script": ({"²": {"outputs": "a"}}, r"unknown key '²'; there are"),
    "a number of 5,000 digits": ({"1" * 5000: {"outputs": "a"}}, r"unknown key '1{60}'; there are"),
    "both spellings": ({"outputs": ["a"], "output": ["b"]}, r"'outputs' is named twice$"),
    "both spellings, one empty": ({"input": [], "inputs": ["b"]}, r"'inputs' is named twice$"),
    "a number for a name": ({"outputs": 5}, r"\$\.outputs: expected array, got int$"),
    "null for a name": ({"input": None, "output": "a"}, r"\$\.input: expected array, got null$"),
    "an object for a name": ({"outputs": {"name": "a"}}, r"\$\.outputs: expected array, got object$"),
    "a number among names": ([{"outputs": "z"}, {"outputs": ["a", 5]}], r"\$\[1\]\.outputs\[1\]: expected str, got int$"),
    "true among names": ({"7": {"outputs": ["a", True]}}, r"\$\.7\.outputs\[1\]: expected str, got bool$"),
    "a list among names": ({"outputs": [["a"]]}, r"\$\.outputs\[0\]: expected str, got array$"),
    "an empty name": ({"outputs": ""}, r"\$\.outputs: a tensor name is empty$"),
    "a blank among names": ({"outputs": ["a", " "]}, r"\$\.outputs: a tensor name is empty$"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(file: Path, name: str) -> None:
    content, says = WRONG[name]
    with pytest.raises(FormatError, match=says) as caught:
        crop(file, content, len(content) - 1 if isinstance(content, list) and len(content) == 2 and content[0] != "a" else 0)
    assert caught.value.path == str(file)


@pytest.mark.parametrize(
    ("text", "bracket"), [('{"outputs": ["a"],}', "}"), ('{"outputs": ["a", ]}', "]"), ('{\n "outputs": ["a"],\n}\n', "}")]
)
def test_a_comma_before_a_closing_bracket_is_pointed_out(file: Path, text: str, bracket: str) -> None:
    file.write_text(text)
    with pytest.raises(FormatError, match=rf"not JSON: .*; remove the comma before the '\{bracket}'$"):
        read_crop_file(file)


@pytest.mark.parametrize("text", ['{"outputs": ["a"]', '{"outputs": ["a" "b"]}', '{"outputs": ,}'])
def test_other_mistakes_of_json_are_not_called_a_comma_too_many(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(FormatError, match=r"not JSON: [^;]*$"):
        read_crop_file(file)


@pytest.mark.parametrize("content", [{}, {"inputs": [], "outputs": []}, [{}], {"0": {"outputs": []}}])
def test_a_cut_without_names_is_no_cut(file: Path, content: Any) -> None:
    with pytest.raises(CutError, match=r"crop\.json: neither inputs nor outputs are named, so there is nothing to crop at$"):
        crop(file, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"outputs: a",
        b'{"outputs": ["a"',
        b'{"outputs": ["a"]} and more',
        b"\xff\xfe{\0}\0",
        b'{"outputs": "\xff"}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"outputs": ' + b"9" * 10_000 + b"}",
    ],
    ids=["empty", "yaml", "truncated", "more", "utf-16", "latin-1", "deep", "digits"],
)
def test_what_is_no_json_is_said_to_be_none(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"crop\.json: not JSON: ") as caught:
        read_crop_file(file)
    assert caught.value.path == str(file)


def test_names_nested_as_deep_as_json_goes_are_refused(file: Path) -> None:
    for depth in (100, 500, 900, 950, 980, 990):
        file.write_bytes(b'{"outputs": ' + b"[" * depth + b"]" * depth + b"}")
        with pytest.raises(FormatError, match=r"\$\.outputs\[0\]: expected str, got array|not JSON"):
            read_crop_file(file)


def test_no_such_file_no_such_entry_too_large(file: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"crop\.json: cannot be read: No such file or directory$"):
        read_crop_file(file)
    with pytest.raises(FormatError, match=r"cannot be read: Is a directory$"):
        read_crop_file(tmp_path)
    for entry in (3, -1):
        with pytest.raises(FormatError, match=rf"crop\.json: no entry {entry}: there are 3$"):
            crop(file, SEVERAL, entry)
    with file.open("wb") as out:
        out.truncate(20 * 2**20)
    with pytest.raises(FormatError, match=r"crop\.json: too large for a crop file \(more than [0-9,]+ bytes\)$"):
        read_crop_file(file)


# what becomes of it


@pytest.fixture
def model() -> GraphDefModel:
    """x ─▶ a ─▶ b ─▶ y, and a ─▶ score"""
    nodes = [raw.placeholder("x", raw.FLOAT, -1, 2), *(raw.identity(n, s) for n, s in ("ax", "ba", "yb"))]
    return GraphDefModel([raw.graph(*nodes, raw.identity("score", "a"))])


def test_a_crop_file_is_a_cut(file: Path, model: GraphDefModel) -> None:
    crop(file, {"inputs": "a", "outputs": ["b"]})
    made = plan(model, crop_file=file)
    assert [(s.name, s.inputs, s.outputs) for s in made.sections] == [
        ("pre", ("x:0",), ("a:0",)),
        ("main", ("a:0",), ("b:0",)),
        ("post", ("a:0", "b:0"), ("y:0", "score:0")),
    ]
    assert plan(model, crop_file=file).origin == f"crop file {file}"


def test_a_true_output_may_stand_among_inner_tensors(file: Path, model: GraphDefModel) -> None:
    crop(file, {"outputs": ["b", "score"]})
    made = plan(model, crop_file=file)
    assert made["main"].outputs == ("b:0", "score:0")
    assert made["post"].outputs == ("y:0",)


def test_a_command_on_one_model_takes_entry_0_and_says_so(file: Path, model: GraphDefModel) -> None:
    crop(file, [{"outputs": "a"}, {"outputs": "b"}])
    choice = plan(model, crop_file=file)
    assert [c.tensors for c in choice.cuts] == [("a:0",)]
    assert choice.notes[0] == f"{file} has 2 entries; entry 0 is used"
    crop(file, [{"outputs": "a"}])
    assert not any("entries" in note for note in plan(model, crop_file=file).notes)


def test_a_name_that_is_not_in_the_model(file: Path, model: GraphDefModel) -> None:
    crop(file, {"outputs": "scores"})
    with pytest.raises(TensorNotFoundError, match="no tensor named 'scores'; did you mean 'score'"):
        plan(model, crop_file=file)


def test_a_crop_file_and_names_contradict(file: Path, model: GraphDefModel) -> None:
    crop(file, {"outputs": "a"})
    with pytest.raises(CutError, match=r"outputs/inputs and crop_file both say where to cut; pass one of them"):
        plan(model, crop_file=file, outputs="b")
