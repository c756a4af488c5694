"""What a file is, by its content. A name is never trusted, only used to word an error."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from graphsplit.errors import FormatError

__all__ = ["FORMATS", "recognise"]

FORMATS = ("graphdef", "pbtxt", "saved_model", "keras", "tflite")

_FREEZE = "give the frozen graph (frozen_inference_graph.pb) or the SavedModel folder"
_MAGIC = [
    (b"\x1f\x8b", "a gzip archive", "unpack it and give the frozen_inference_graph.pb inside"),
    (b"BZh", "a bzip2 archive", "unpack it and give the model inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and give the model inside"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and give the model inside"),
    (b"\x89HDF", "an HDF5 file (Keras weights or a legacy .h5 model)", "save the model as .keras or as a SavedModel"),
    (b"\x80\x02", "a Python pickle (PyTorch?)", "export the model to TensorFlow first; pickles are never opened here"),
    (b"\x80\x04", "a Python pickle", "export the model to TensorFlow first; pickles are never opened here"),
    (b"\x89PNG", "a picture", "the model comes first, pictures go to --image"),
    (b"\xff\xd8\xff", "a picture", "the model comes first, pictures go to --image"),
    (b"ply\n", "a point cloud", _FREEZE),
    (b"ANDROID!", "an Android image", _FREEZE),
]
_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last bytes of a LevelDB table: a checkpoint's index or V1 data


def recognise(path: Path) -> str:
    """The format of a file or folder: one of `FORMATS`.

    Raises FormatError that says what the file seems to be and what to do.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise FormatError("no such file or folder", path=path)
    if not path.is_file():
        raise FormatError("neither a file nor a folder (a pipe or a device is never opened)", path=path)
    size = path.stat().st_size
    if size == 0:
        raise FormatError("the file is empty; was a download interrupted?", path=path)
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(max(0, size - 512))
        tail = file.read(512)
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[:4] == b"PK\x03\x04" or head[:4] == b"PK\x05\x06":
        return _zip(path)
    if head[257:262] == b"ustar":
        raise FormatError("this is a tar archive; unpack it and give the frozen_inference_graph.pb inside", path=path)
    if tail.endswith(_TABLE_MAGIC):
        raise FormatError(f"this is a checkpoint, which holds values but no graph; {_FREEZE}", path=path)
    if head.startswith(b"version https://git-lfs"):
        raise FormatError("this is a Git LFS pointer, not the file itself; run `git lfs pull`", path=path)
    for magic, what, then in _MAGIC:
        if head.startswith(magic):
            raise FormatError(f"this is {what}; {then}", path=path)
    if _is_text(head):
        return _text(path, head)
    return _protobuf(path, head)


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return "saved_model"
    if (path / "split.json").is_file():
        raise FormatError("this folder holds a split, not a model; `graphsplit verify` takes it", path=path)
    for name in ("frozen_inference_graph.pb", "saved_model"):
        if (path / name).exists():
            raise FormatError(f"a folder with a model in it; give {path / name}", path=path)
    raise FormatError("a folder without saved_model.pb; give a SavedModel folder or a frozen .pb file", path=path)


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
    raise FormatError("this is a zip archive; unpack it and give the model inside", path=path)


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
    text = "\n".join(line for line in head.decode(errors="ignore").splitlines() if not line.lstrip().startswith("#")).lstrip()
    if re.match(r"(node|versions|library)\s*:?\s*[{<]", text):
        return "pbtxt"
    known = [
        (r"model_checkpoint_path\s*:", "the list of a checkpoint folder", _FREEZE),
        (r"item\s*:?\s*{", "a label map", "labels go to --labels"),
        (r"(model|train_config|train_input_reader)\s*:?\s*{", "a training configuration (pipeline.config)", _FREEZE),
        (r"(saved_model_schema_version\s*:|meta_graphs\s*{)", "a saved_model.pbtxt", "give the folder that it lies in"),
        (r"(name|layer|input)\s*:?\s*[{\"]", "a Caffe prototxt", "convert the model to TensorFlow first"),
        (r"{.*\"(modelTopology|weightsManifest|format)\"", "a TensorFlow.js model", "convert it to a GraphDef first"),
        (r"<!DOCTYPE|<html", "a web page", "the download gave a page instead of the file"),
        (r"[{\[]", "a JSON file", "crop files go to --crop-file"),
    ]
    for pattern, what, then in known:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            raise FormatError(f"this is {what}; {then}", path=path)
    raise FormatError(f"this is a text file, but not a GraphDef in text form (it would start with 'node {{'); {_FREEZE}", path=path)


def _protobuf(path: Path, head: bytes) -> str:
    first = head[0]
    if first == 0x08 and head[2:3] == b"\x12" and head[1] == 1:
        raise FormatError("this is the saved_model.pb of a SavedModel; give the folder that it lies in", path=path)
    if first == 0x08 or (first == 0x12 and b"pytorch" in head[:64]):
        raise FormatError("this seems to be an ONNX model; convert it to TensorFlow first", path=path)
    if first == 0x0A and re.search(rb"\x0a\x05serve|\x22\x05serve|tensorflow_version|\x12.{1,5}\x0a.{0,64}NoOp", head[:64]):
        raise FormatError(f"this is a MetaGraphDef (.meta), a graph without its values; {_FREEZE}", path=path)
    if first in (0x0A, 0x12, 0x1A, 0x22):
        return "graphdef"
    raise FormatError(f"unknown content (it starts with {head[:8].hex(' ')}); {_FREEZE}", path=path)
