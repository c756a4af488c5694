"""The format of a file, detected from its content. A name is never trusted, only used to word an error.

A GraphDef has no magic number, so its structure is examined, and before anything else: a graph whose first node is called
``TFL3/conv`` has TFLite's identifier in TFLite's place. Other kinds of files are distinguished only to say what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.foreign import FREEZE, archived, foreign_binary, foreign_folder, foreign_text, missing, named
from graphsplit.formats.graphdef.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, varint
from graphsplit.formats.source import FileView

__all__ = ["FORMATS", "FORMATS_TEXT", "check_readable", "detect_format"]

#: The formats that are read.
FORMATS = ("graphdef", "pbtxt", "saved_model", "keras", "tflite")
#: The same for help texts and messages.
FORMATS_TEXT = "frozen .pb or .pbtxt, SavedModel folder, .keras or .tflite file"

_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last bytes of a LevelDB table: a checkpoint's index or V1 data
# How many fields of a message are looked at, bytes of a name that is believed to be one.
_LOOK, _LONGEST = 1000, 2**20


def detect_format(path: Path) -> str:
    """The format of a file or folder: one of `FORMATS`.

    Raises FormatError that says what the file seems to be and what to do.
    """
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except FormatError:
        raise
    except (OSError, ValueError) as error:  # no permission, a name that no file can have
        raise FormatError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=path) from error


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return "saved_model"
    what, then = foreign_folder(path)
    raise FormatError(f"{what}; {then}", path=path)


def check_readable(path: Path) -> None:
    """Refuse what is not there, and what could be waited on for ever. Raises FormatError."""
    if not path.exists():
        what, then = missing(path)
        raise FormatError(f"{what}; {then}" if then else what, path=path)
    if not path.is_file() and not path.is_dir():
        raise FormatError("neither a file nor a folder (a pipe or a device is never opened)", path=path)


def _file(path: Path) -> str:
    check_readable(path)
    if path.stat().st_size == 0:
        raise FormatError("the file is empty; was a download interrupted?", path=path)
    with path.open("rb", buffering=0) as file:
        data = FileView(file, path)
        return "graphdef" if _is_graph(data, 0, len(data)) else _no_graph(path, data)


def _no_graph(path: Path, data: FileView) -> str:
    head = data[:4096]
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        if (known := archived(path)) is None:
            return "keras"
        raise _is(path, *known)
    if data[-8:] == _TABLE_MAGIC:
        raise FormatError(f"this is a checkpoint, which holds values but no graph; {FREEZE}", path=path)
    if (known := foreign_binary(path, data)) is not None:
        raise _is(path, *known)
    if _is_text(head):
        return _text(path, head)
    return _binary(path, data)


def _is(path: Path, what: str, then: str, *, seems: bool = False) -> FormatError:
    return FormatError(f"this {'seems to be' if seems else 'is'} {what}; {then}", path=path)


# text


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else only the last character was cut in two
            return False
        text = head[: error.start].decode()
    return sum(c.isprintable() or c in "\r\n\t" for c in text) >= len(text) - 1


def _text(path: Path, head: bytes) -> str:
    lines = head.decode("utf-8-sig", errors="ignore").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).lstrip()
    if re.match(r"(version\s*:\s*\d+\s*)?(node|versions|library|debug_info)\s*:?\s*[{<]", text):
        return "pbtxt"
    raise _is(path, *foreign_text(path, text))


# protobuf messages, distinguished by their fields


def _fields(data: FileView, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The first fields of what may be a message: (number, wire type, start, end of its value).

    Stops at the first bytes that are not a field; a field that reaches past the end is the last and ends there (a truncated file).
    """
    pos = start
    try:
        for _ in range(_LOOK):
            if pos >= end:
                return
            tag, low = varint(data, pos, end)
            number, wire = tag >> 3, tag & 7
            if wire == BYTES:
                length, low = varint(data, low, end)
                pos = low + length
            elif wire == VARINT:
                pos = varint(data, low, end)[1]
            elif wire in (FIXED64, FIXED32):
                pos = low + (8 if wire == FIXED64 else 4)
            else:
                return
            if number == 0:
                return
            yield number, wire, low, min(pos, end)
    except WireError:
        return


def _is_graph(data: FileView, start: int, end: int) -> bool:
    """A GraphDef: one of its first fields is a node."""
    return any(number == 1 and wire == BYTES and _is_node(data, low, high) for number, wire, low, high in _fields(data, start, end))


def _is_node(data: FileView, start: int, end: int) -> bool:
    """A NodeDef: it has an op (2) that reads like one; its name (1), inputs (3) and device (4) are text."""
    has_name = has_op = False
    for number, wire, low, high in _fields(data, start, end):
        if number > 4:
            continue
        if wire != BYTES or high - low > _LONGEST:
            return False
        try:
            text = data[low:high].decode()
        except UnicodeDecodeError:
            return False
        if number == 2 and not re.fullmatch(r"[^\0-\x20\x7f]+", text):  # a message would hold a control character
            return False
        has_name |= number == 1
        has_op |= number == 2
        if has_name and has_op:
            return True
    return False


def _is_meta_graph(data: FileView, start: int, end: int) -> bool:
    """A MetaGraphDef: its field 2 is a graph, where a GraphDef has its library."""
    return any(
        number == 2 and wire == BYTES and _is_graph(data, low, high) for number, wire, low, high in _fields(data, start, end)
    )


def _binary(path: Path, data: FileView) -> str:
    found = list(_fields(data, 0, len(data)))
    kinds = {(number, wire) for number, wire, _, _ in found}
    if _is_meta_graph(data, 0, len(data)):
        raise FormatError(f"this is a MetaGraphDef (.meta), a graph without its values; {FREEZE}", path=path)
    if any(number == 2 and wire == BYTES and _is_meta_graph(data, low, high) for number, wire, low, high in found):
        raise FormatError(
            f"this is the saved_model.pb of a SavedModel; pass the folder that holds it ({path.parent})",
            path=path,
        )
    if {(1, VARINT), (7, BYTES)} <= kinds or {(7, BYTES), (8, BYTES)} <= kinds:
        raise FormatError("this seems to be an ONNX model; convert it to TensorFlow first", path=path)
    if (1, VARINT) in kinds and any(200 <= number < 4000 for number, _ in kinds):
        raise FormatError("this seems to be a Core ML model; convert it to TensorFlow first", path=path)
    if (100, BYTES) in kinds:
        raise FormatError("this seems to be a Caffe model; convert it to TensorFlow first", path=path)
    if kinds and kinds <= {(2, BYTES), (3, VARINT), (4, BYTES), (5, BYTES)} and found[-1][3] == len(data):
        return "graphdef"  # with only a library or versions; the reader reports that it has no nodes
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        raise FormatError(f"this seems to be the values of a checkpoint, without a graph; {FREEZE}", path=path)
    if not any(data[:4096]):
        raise FormatError("it begins with nothing but zeros; was a download or a copy interrupted?", path=path)
    if data[4:8] == b"\0\0\0\0" and int.from_bytes(data[:8], "little") + 8 <= len(data):  # begins with a length
        kind = "a safetensors file, which holds values but no graph" if data[8:9] == b"{" else "a TFRecord or events file"
        raise FormatError(f"this seems to be {kind}; {FREEZE}", path=path)
    if (known := named(path)) is not None:
        raise _is(path, *known, seems=True)
    if kinds & {(1, BYTES), (2, BYTES), (4, BYTES)}:
        raise FormatError(f"not a GraphDef: damaged, truncated, or the protobuf message of something else; {FREEZE}", path=path)
    raise FormatError(f"unknown content (it starts with {data[:8].hex(' ')}); {FREEZE}", path=path)
