"""Label maps of the Object Detection API (.pbtxt): ``StringIntLabelMap`` in protobuf's text format.

Source: https://github.com/tensorflow/models/blob/master/research/object_detection/protos/string_int_label_map.proto
The message is defined here, so that neither TensorFlow nor the API is needed to know that 1 is a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from graphsplit.errors import FormatError

__all__ = ["Entry", "is_label_map", "label_map"]

_BEGINS = re.compile(r"(\s|#[^\n]*\n)*item\s*:?\s*[{<]")
_LONGEST = 200  # characters of an error
# What decides where an item begins; strings and comments are matched to be passed over.
_MARK = re.compile(r"""#[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\bitem\b|[{<}>\[\]]""")


class Entry(NamedTuple):
    """One label: the line it begins on, its id, its name."""

    line: int
    id: int
    name: str


def is_label_map(text: str) -> bool:
    """Whether a text begins like a label map."""
    return _BEGINS.match(text) is not None


def label_map(text: str, path: Path) -> Iterator[Entry]:
    """The items of a label map; fields that it does not know are skipped.

    Raises:
        FormatError: Names the line.
    """
    from google.protobuf import text_format

    parsed = _message()()
    try:
        text_format.Merge(text, parsed, allow_unknown_field=True)
    except text_format.ParseError as error:
        reason = " ".join(str(error).split())
        if error.GetLine() is not None:
            reason = f"line {error.GetLine()}: {reason.partition(' : ')[2]}"  # else it begins with line and column
        raise FormatError(reason[:_LONGEST], path=path) from error
    except RecursionError as error:
        raise FormatError("nested too deeply for a label map", path=path) from error
    for line, item in zip(_lines(text), parsed.item, strict=True):
        if not item.HasField("id"):
            raise FormatError(f"line {line}: this item has no id", path=path)
        if item.id < 0:
            raise FormatError(f"line {line}: the id {item.id} is negative", path=path)
        yield Entry(line, item.id, (item.display_name or item.name).decode(errors="replace") or str(item.id))


def _lines(text: str) -> Iterator[int]:
    """The line on which each item begins; protobuf's parser reports only those of errors."""
    depth, item, several = 0, 0, False  # several: item: [{…}, {…}]
    line, before = 1, 0
    for mark in _MARK.finditer(text):
        line += text.count("\n", before, mark.start())
        before = mark.start()
        if mark[0] in "{<":
            if depth == 0 and item:
                yield line if several else item
            depth += 1
        elif mark[0] in "}>":
            depth -= 1
            item = item if several else 0
        elif depth == 0 and mark[0] == "item":
            item = line
        elif depth == 0 and mark[0] in "[]":
            several = mark[0] == "["
            item = item if several else 0


@cache
def _message() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="graphsplit/label_map.proto", package="graphsplit.labels", syntax="proto2")
    kind = descriptor_pb2.FieldDescriptorProto
    item = file.message_type.add(name="Item")
    # Bytes, since a name that is not UTF-8 should not keep the others from being read.
    item.field.add(name="name", number=1, label=kind.LABEL_OPTIONAL, type=kind.TYPE_BYTES)
    item.field.add(name="id", number=2, label=kind.LABEL_OPTIONAL, type=kind.TYPE_INT32)
    item.field.add(name="display_name", number=3, label=kind.LABEL_OPTIONAL, type=kind.TYPE_BYTES)
    labels = file.message_type.add(name="LabelMap")
    labels.field.add(name="item", number=1, label=kind.LABEL_REPEATED, type=kind.TYPE_MESSAGE, type_name=".graphsplit.labels.Item")
    pool = descriptor_pool.DescriptorPool()  # a separate one, so that it never meets the API's
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("graphsplit.labels.LabelMap"))
