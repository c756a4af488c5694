"""The format of a file, detected from its content. A name is never trusted, only used to word an error.

A GraphDef has no magic number, so its structure is examined, and before anything else: a graph whose first node is called
``TFL3/conv`` has TFLite's identifier in TFLite's place. Other kinds of files are distinguished only to say what to do next.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, varint
from graphsplit.formats.source import FileView

__all__ = ["FORMATS", "FORMATS_TEXT", "check_readable", "detect_format"]

#: The formats that are read.
FORMATS = ("graphdef", "pbtxt", "saved_model", "keras", "tflite")
#: The same for help texts and messages.
FORMATS_TEXT = "frozen .pb or .pbtxt, SavedModel folder, .keras or .tflite file"

_FREEZE = "pass the frozen graph (frozen_inference_graph.pb) or the SavedModel folder"
_UNPACK = "unpack it and pass the frozen_inference_graph.pb inside"
_PICTURE = "the model comes first, then pictures and videos"
_PICKLE = "export the model to TensorFlow first; pickles are never opened here"
# (offset, bytes, what it is, what to do)
_MAGIC = [
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (0, b"\x89HDF", "an HDF5 file (Keras weights or a legacy .h5 model)", "save the model as .keras or as a SavedModel"),
    *((0, bytes([0x80, version]), "a Python pickle (PyTorch?)", _PICKLE) for version in range(2, 6)),
    (0, b"\x93NUMPY", "a NumPy array", "the model comes first"),
    (0, b"\x89PNG", "a picture", _PICTURE),
    (0, b"\xff\xd8\xff", "a picture", _PICTURE),
    (0, b"GIF8", "a picture", _PICTURE),
    (0, b"RIFF", "a picture or video", _PICTURE),
    (4, b"ftyp", "a video", _PICTURE),
    (0, b"\x1aE\xdf\xa3", "a video", _PICTURE),
]
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
    if (path / "split.json").is_file():
        raise FormatError(
            "this folder holds a split, not a model; pass the model to cut it again; load_parts and `graphsplit view` open a split",
            path=path,
        )
    for name in ("frozen_inference_graph.pb", "saved_model"):
        if (path / name).exists():
            raise FormatError(f"a folder with a model in it; pass {path / name}", path=path)
    if (path / "checkpoint").is_file() or any(path.glob("*.ckpt*.index")):
        raise FormatError(f"a folder with a checkpoint, which holds values but no graph; {_FREEZE}", path=path)
    raise FormatError("a folder without saved_model.pb; pass a SavedModel folder or a frozen .pb file", path=path)


def check_readable(path: Path) -> None:
    """Refuse what is not there, and what could be waited on for ever. Raises FormatError."""
    if not path.exists():
        raise FormatError("no such file or folder", path=path)
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
        return _zip(path)
    if data[-8:] == _TABLE_MAGIC:
        raise FormatError(f"this is a checkpoint, which holds values but no graph; {_FREEZE}", path=path)
    for offset, magic, what, then in _MAGIC:
        if head.startswith(magic, offset):
            raise FormatError(f"this is {what}; {then}", path=path)
    if _is_text(head):
        return _text(path, head)
    return _binary(path, data)


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise FormatError(f"a damaged zip archive: {error}", path=path) from error
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    if any(n.endswith("/data.pkl") for n in names):
        raise FormatError("this is a PyTorch archive; export the model to TensorFlow first", path=path)
    raise FormatError("this is a zip archive; unpack it and pass the model inside", path=path)


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


_TEXTS = [
    (r"model_checkpoint_path\s*:", "the list of a checkpoint folder", _FREEZE),
    (r"item\s*:?\s*{", "a label map", "pass it as labels=…"),
    (r"(model|train_config|train_input_reader)\s*:?\s*{", "a training configuration (pipeline.config)", _FREEZE),
    (r"(saved_model_schema_version\s*:|meta_graphs\s*{)", "a saved_model.pbtxt", "pass the folder that holds it"),
    (r"meta_info_def\s*:?\s*{", "a MetaGraphDef (.meta), a graph without its values", _FREEZE),
    (r"(name|layer|input)\s*:?\s*[{\"]", "a Caffe prototxt", "convert the model to TensorFlow first"),
    (r"{.*\"(modelTopology|weightsManifest|format)\"", "a TensorFlow.js model", "convert it to a GraphDef first"),
    (r"<!DOCTYPE|<html", "a web page", "the download gave a page instead of the file"),
    (r"<\?xml|<net\b", "an XML file (OpenVINO?)", _FREEZE),
    (r"[{\[]", "a JSON file", "a crop file is passed as crop_file=…"),
]


def _text(path: Path, head: bytes) -> str:
    lines = head.decode("utf-8-sig", errors="ignore").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).lstrip()
    if re.match(r"(version\s*:\s*\d+\s*)?(node|versions|library|debug_info)\s*:?\s*[{<]", text):
        return "pbtxt"
    for pattern, what, then in _TEXTS:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            raise FormatError(f"this is {what}; {then}", path=path)
    raise FormatError(f"this is a text file, but not a GraphDef in text form (it would start with 'node {{'); {_FREEZE}", path=path)


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
        raise FormatError(f"this is a MetaGraphDef (.meta), a graph without its values; {_FREEZE}", path=path)
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
        raise FormatError(f"this seems to be the values of a checkpoint, without a graph; {_FREEZE}", path=path)
    if not any(data[:4096]):
        raise FormatError("it begins with nothing but zeros; was a download or a copy interrupted?", path=path)
    if data[4:8] == b"\0\0\0\0" and int.from_bytes(data[:8], "little") + 8 <= len(data):  # begins with a length
        kind = "a safetensors file, which holds values but no graph" if data[8:9] == b"{" else "a TFRecord or events file"
        raise FormatError(f"this seems to be {kind}; {_FREEZE}", path=path)
    if kinds & {(1, BYTES), (2, BYTES), (4, BYTES)}:
        raise FormatError(f"not a GraphDef: damaged, truncated, or the protobuf message of something else; {_FREEZE}", path=path)
    raise FormatError(f"unknown content (it starts with {data[:8].hex(' ')}); {_FREEZE}", path=path)
