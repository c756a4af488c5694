"""Class names: COCO's, label maps, plain lists, and how they match the class ids of a model."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from graphsplit.detection.labels import coco, for_model, read_labels
from graphsplit.errors import FormatError


@pytest.fixture
def file(tmp_path):
    def write(text, name="labels.txt"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_coco_has_eighty_names_and_ids_up_to_ninety_with_gaps():
    names = coco()
    assert len(names) == 80
    assert (min(names), max(names)) == (1, 90)
    assert (names[1], names[13], names[17], names[44], names[90]) == ("person", "stop sign", "cat", "bottle", "toothbrush")
    assert set(range(1, 91)) - set(names) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_a_label_map_gives_display_names_before_names(file):
    path = file(
        """
        # Open Images
        item {
          name: "/m/01g317"
          id: 1
          display_name: "Person"
        }
        item: < id: 2, name: 'traffic' " light"; >
        item {
          id: 3
          name: "caf\\303\\251 \\"x\\"\\n"
          keypoints { id: 7 label: "nose" }
          ancestor_ids: [1, 2]
        }
        """,
        "map.pbtxt",
    )
    assert read_labels(path) == {1: "Person", 2: "traffic light", 3: 'café "x"\n'}


def test_what_is_not_a_label_is_passed_over(file):
    text = """item { id: 1 name: "item { id: 9 }" }  # item { id: 8 }
        other { item { id: 7 } }
        list: [{ item { id: 6 } }]
        item: [{ id: 2 id: 3 name: "\\377" },
               { id: 4 }]
        item
        { id: 4 }"""
    with pytest.raises(FormatError, match="line 6: id 4 is already defined on line 5"):
        read_labels(file(text, "map.pbtxt"))
    assert read_labels(file(text.rpartition("item")[0], "map.pbtxt")) == {1: "item { id: 9 }", 3: "\ufffd", 4: "4"}


def test_an_item_without_a_name_is_called_by_its_id(file):
    assert read_labels(file("item { id: 4 }")) == {4: "4"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item {\n id: 1\n}\nitem {\n id: 1\n}", r"line 4: id 1 is already defined on line 1"),
        ("item {\n name: 'x'\n}", r"line 1: this item has no id"),
        ("item {\n id: 'one'\n}", r"line 2: .*Couldn't parse integer: 'one'"),
        ("item {\n id: -1\n}", r"line 1: the id -1 is negative"),
        ("item {\n id: 1\n\n", r'line 2: Expected "}"'),
        ("item {\n id: 1\n}\nitem", r'line 4: .*Expected "{"'),
        ("item {\n id: 1\n}\n}", r"line 4: .*Expected identifier or number, got }"),
        ("item {\n id: 1\n}\n!", r"line 4: .*Expected identifier or number, got !"),
        ("item {\n id: }", r"line 2: .*Couldn't parse integer: }"),
        ("item {\n id: 1 name: '\\xzz' }", r"line 2: .*truncated"),
        ("item { x: [1, 2", r'line 1: .*Expected ","'),
        ("item " + "{ x " * 5000, r"nested too deeply"),
    ],
)
def test_a_damaged_label_map_is_refused_with_its_line(file, text, message):
    path = file(text, "map.pbtxt")
    with pytest.raises(FormatError, match=re.escape(str(path)) + ": .*" + message):
        read_labels(path)


def test_plain_lines_are_numbered_from_one_and_empty_ones_count(file):
    assert read_labels(file("person\n\n traffic light \n\n")) == {1: "person", 3: "traffic light"}


@pytest.mark.parametrize(
    "line", ["3 traffic light", "3: traffic light", "3,traffic light", "3\ttraffic light", '3 "traffic light"']
)
def test_lines_may_state_ids(file, line):
    assert read_labels(file(f"1 person\n{line}\n")) == {1: "person", 3: "traffic light"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a\n2 b\nc\n4 d", "line 3: 'c' has no id, while most lines do"),
        ("1 a\n1 b", "line 2: id 1 is already defined on line 1"),
        ("\n \n", "it holds no labels"),
    ],
)
def test_a_wrong_list_is_refused(file, text, message):
    with pytest.raises(FormatError, match=message):
        read_labels(file(text))


def test_what_is_no_text_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.txt: cannot be read: No such file"):
        read_labels(tmp_path / "nowhere.txt")
    with pytest.raises(FormatError, match="not a file"):
        read_labels(tmp_path)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(FormatError, match="not a text file; labels are"):
        read_labels(tmp_path / "x.png")
    with open(tmp_path / "huge.txt", "wb") as file:
        file.truncate(2**25)
    with pytest.raises(FormatError, match="too large for a label file"):
        read_labels(tmp_path / "huge.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="not a file"):
            read_labels(tmp_path / "pipe")


def test_a_model_of_ninety_classes_gets_cocos_names_by_their_ids():
    names = for_model(None, classes=90, first=1)
    assert (names[1], names[90], 12 in names) == ("person", "toothbrush", False)
    assert for_model(None, classes=90, first=0)[0] == "person", "TFLite counts from 0"
    assert for_model(None, classes=90, first=0)[16] == "cat"


def test_a_model_of_eighty_classes_that_counts_from_zero_gets_them_in_order():
    names = for_model(None, classes=80, first=0)
    assert (names[0], names[15], names[41], names[79]) == ("person", "cat", "cup", "toothbrush")


@pytest.mark.parametrize("classes", [None, 3, 80, 91])
def test_other_models_get_numbers(classes):
    assert for_model(None, classes=classes, first=1) == {}


def test_files_lists_and_coco_follow_the_numbering_of_the_model(file):
    path = file("cat\ndog")
    assert for_model(path, classes=None, first=1) == {1: "cat", 2: "dog"}
    assert for_model(str(path), classes=None, first=0) == {0: "cat", 1: "dog"}
    assert for_model(["cat", "dog"], classes=None, first=0) == {0: "cat", 1: "dog"}
    assert for_model("coco", classes=None, first=1)[90] == "toothbrush"
    assert for_model("coco", classes=80, first=0)[79] == "toothbrush", "as many names as classes: they go by their order"


def test_a_file_with_an_id_zero_counts_as_the_model_does(file):
    assert for_model(file("0 person\n1 bicycle\n5 bus"), classes=None, first=0) == {0: "person", 1: "bicycle", 5: "bus"}


def test_the_keys_of_a_dict_are_class_ids_as_the_model_gives_them():
    assert for_model({0: "cat", 7: "dog"}, classes=2, first=0) == {0: "cat", 7: "dog"}


@pytest.mark.parametrize("text", ["9" * 5000 + " person\n", "1 cat\n" + "1" * 11 + ": dog\n"])
def test_an_id_of_absurd_length_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"line \d: the id (9{20}|1{11})… has [\d,]+ digits"):
        read_labels(path)
