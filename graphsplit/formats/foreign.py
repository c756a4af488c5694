"""Files and folders that are no model of a format that is read: what they seem to be, and what to do.

Each function answers with two phrases, "a gzip archive" and "unpack it …", or with None for what it does not know.
"""

from __future__ import annotations

import re
import shlex
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from graphsplit.errors import FormatError
from graphsplit.formats.source import FileView

__all__ = ["FREEZE", "archived", "foreign_binary", "foreign_folder", "foreign_text", "missing", "named"]

FREEZE = "pass the frozen graph (frozen_inference_graph.pb) or the SavedModel folder"
_UNPACK = "unpack it and pass the model inside (frozen_inference_graph.pb, the folder with saved_model.pb, .tflite or .keras)"
_EXPORT = "export the model to TensorFlow or TFLite from the framework that it was trained in"
_COMPILED = "pass the model that it was compiled or converted from"
_PICTURE = "the model comes first, then pictures and videos"
_PICKLE = "export the model to TensorFlow or TFLite first; pickles are never opened here"
_LFS = "a Git LFS pointer, not the file itself"
_ANNEX = "a git-annex pointer, not the file itself"
_KERAS = "load it in Keras and save it as .keras: keras.models.load_model('model.h5').save('model.keras')"

_PAGE = ("a web page", "the download saved a page instead of the file")
_TFJS = ("a TensorFlow.js model", f"convert it back first (tensorflowjs_converter), or {FREEZE}")

# (offset, bytes, what it is, what to do)
_MAGIC = [
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"version https://git-lfs", _LFS, "run `git lfs pull`"),
    (0, b"version https://hawser", _LFS, "run `git lfs pull`"),
    *((0, bytes([0x80, version]), "a Python pickle (PyTorch?)", _PICKLE) for version in range(2, 6)),
    (0, b"\x93NUMPY", "a NumPy array", "the model comes first"),
    (0, b"\x89PNG", "a picture", _PICTURE),
    (0, b"\xff\xd8\xff", "a picture", _PICTURE),
    (0, b"GIF8", "a picture", _PICTURE),
    (0, b"RIFF", "a picture, a video or a sound", _PICTURE),
    (4, b"ftyp", "a video", _PICTURE),
    (0, b"\x1aE\xdf\xa3", "a video", _PICTURE),
    (0, b"%PDF", "a PDF document", "the model comes first"),
    (0, b"GGUF", "a GGUF model (llama.cpp)", _EXPORT),
    (0, b"ftrt", "a TensorRT engine", _COMPILED),
    (0, b"ptrt", "a TensorRT engine", _COMPILED),
    (0, b"\x01HEF", "a HEF, compiled for a Hailo accelerator", _COMPILED),
    (0, b"RKNN", "an RKNN model, compiled for a Rockchip NPU", _COMPILED),
    (0, b"\xdd\x85\x76\x00", "an NCNN model", _COMPILED),
    (0, b"LITERTLM", "a LiteRT-LM model", _COMPILED),
    (4, b"ORTM", "an ONNX Runtime model", "convert the .onnx file that it was made from to TensorFlow"),
    (4, b"ET12", "an ExecuTorch program", _EXPORT),
]
# What only the name tells: these formats have no mark. It words an error, and only that.
_NAMED = {
    ".mnn": ("an MNN model", _COMPILED),
    ".param": ("an NCNN model", _COMPILED),
    ".pdmodel": ("a PaddlePaddle model", _EXPORT),
    ".pdiparams": ("the weights of a PaddlePaddle model", _EXPORT),
    ".onnx": ("an ONNX model", "convert it to TensorFlow first"),
    ".engine": ("a TensorRT engine", _COMPILED),
    ".plan": ("a TensorRT engine", _COMPILED),
    ".trt": ("a TensorRT engine", _COMPILED),
    ".hef": ("a HEF, compiled for a Hailo accelerator", _COMPILED),
    ".bin": ("the weights of an OpenVINO, NCNN or PyTorch model", _COMPILED),
    ".weights": ("the weights of a Darknet model", _EXPORT),
    ".params": ("the weights of an MXNet model", _EXPORT),
}

_TEXTS = [
    (r"model_checkpoint_path\s*:", "the list of a checkpoint folder", FREEZE),
    (r"item\s*:?\s*{", "a label map", "pass it as labels=…"),
    (r"(model|train_config|train_input_reader)\s*:?\s*{", "a training configuration (pipeline.config)", FREEZE),
    (r"(saved_model_schema_version\s*:|meta_graphs\s*{)", "a saved_model.pbtxt", "pass the folder that holds it"),
    (r"meta_info_def\s*:?\s*{", "a MetaGraphDef (.meta), a graph without its values", FREEZE),
    (r"(name|layer|input)\s*:?\s*[{\"]", "a Caffe prototxt", "convert the model to TensorFlow first"),
    (r"7767517\s", "an NCNN model", _COMPILED),
    (r"\[(net|network|convolutional)\]", "a Darknet configuration", _EXPORT),
    (r"/annex/objects/", _ANNEX, "run `git annex get` on it"),
    (
        r"<(!DOCTYPE\s+html|html|head|body)\b|<!--.*?-->\s*<(!DOCTYPE|html)",
        "a web page",
        "the download saved a page instead of the file",
    ),
    (r"(<\?xml[^>]*>\s*)?<(!DOCTYPE\s+html|html)\b", *_PAGE),
    (r"(<\?xml[^>]*>\s*)?<Error>", "an error that a server answered", "download the file again"),
    (r"(<\?xml[^>]*>\s*)?<net\b", "an OpenVINO model (IR)", _COMPILED),
    (r"<\?xml", "an XML file", FREEZE),
    (
        r"{.*\"(modelTopology|weightsManifest)\"",
        "a TensorFlow.js model",
        "convert it back first (tensorflowjs_converter), or " + FREEZE,
    ),
    (
        r"{.*\"format\"\s*:\s*\"(graph|layers)-model\"",
        "a TensorFlow.js model",
        "convert it back first (tensorflowjs_converter), or " + FREEZE,
    ),
    (
        r"{.*\"graphsplit\"\s*:.*\"(schema|sections)\"",
        "the manifest of a split, not a model",
        "pass the model to cut it again; load_parts and `graphsplit view` open a split",
    ),
    (r"{.*\"class_name\"\s*:\s*\"(Sequential|Functional|Model)\"", "a Keras architecture, without weights", _KERAS),
    (r"{.*\"arg_nodes\"", "an MXNet model", _EXPORT),
    (r"[{\[]", "a JSON file", "a crop file is passed as crop_file=…"),
]


def foreign_text(path: Path, text: str) -> tuple[str, str]:
    """What a text file seems to be.

    Args:
        path: The file.
        text: How it begins, without comments and blanks.
    """
    for pattern, what, then in _TEXTS:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            return what, then
    lines = [line.strip() for line in text.splitlines()]
    if path.suffix.lower() in (".txt", ".names", ".labels", ".csv") and all(len(line) < 80 for line in lines):
        return "a list of lines (names of classes?)", "the model comes first; names of classes are passed as labels=…"
    return "a text file, but not a GraphDef in text form (it would start with 'node {')", FREEZE


def foreign_binary(path: Path, data: FileView) -> tuple[str, str] | None:
    """What a file with a mark of its own is."""
    head = data[:4096]
    if head.startswith(b"\x1f\x8b"):
        return _gzip(path, data)
    if head.startswith(b"\x89HDF"):
        return _hdf5(data)
    for offset, magic, what, then in _MAGIC:
        if head.startswith(magic, offset):
            return what, then
    return None


def named(path: Path) -> tuple[str, str] | None:
    """What the name of an unknown file says."""
    return _NAMED.get(path.suffix.lower())


def _gzip(path: Path, data: FileView) -> tuple[str, str]:
    """A tar archive, or one file that was compressed."""
    try:
        inner = zlib.decompressobj(31).decompress(data[:65536], 4096)
    except zlib.error:
        inner = b""
    if inner[257:262] == b"ustar":
        return "a gzip archive", _UNPACK
    what = " TFLite" if inner[4:8] == b"TFL3" else ""
    return f"a{what} file compressed by gzip", f"unpack it (gunzip -k {shlex.quote(str(path))}) and pass the file inside"


def _hdf5(data: FileView) -> tuple[str, str]:
    if b"model_config" in data[: 2**20]:
        return "an HDF5 file, a Keras model of the legacy format", _KERAS
    return (
        "an HDF5 file (the weights of a Keras model, without the model?)",
        "build the model in Keras, load the weights and save it as .keras or as a SavedModel",
    )


# archives


def archived(path: Path) -> tuple[str, str] | None:
    """What a zip archive holds; None for a ``.keras`` file. Raises FormatError for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise FormatError(f"a damaged zip archive: {error}", path=path) from error
    if {"config.json", "model.weights.h5"} <= set(names):
        return None
    if any(n.endswith("/data.pkl") for n in names):
        return "a PyTorch archive", "export the model to TensorFlow first"
    if "dlc.metadata" in names:
        return "a DLC, compiled for a Qualcomm processor", _COMPILED
    if names and all(n.endswith(".npy") for n in names):
        return "a file of NumPy arrays (.npz)", "the model comes first"
    inside = _model_in(names)
    return "a zip archive", f"unpack it and pass {f'the {inside!r} inside' if inside else 'the model inside'}"


def _model_in(names: Iterable[str]) -> str | None:
    """The likeliest model among the files of an archive or a folder; a SavedModel by its folder."""
    files = [n for n in names if not n.startswith("__MACOSX/")]
    for pattern in ("frozen_inference_graph.pb", "saved_model.pb", "*.tflite", "*.keras", "*.pb"):
        fitting = sorted((n for n in files if PurePosixPath(n).match(pattern)), key=len)
        if fitting:
            parent = str(PurePosixPath(fitting[0]).parent)
            return fitting[0] if pattern != "saved_model.pb" or parent == "." else parent
    return None


# folders


def foreign_folder(path: Path) -> tuple[str, str]:
    """What a folder without saved_model.pb seems to be."""
    names = {child.name for child in path.iterdir()}
    if "split.json" in names:
        return (
            "this folder holds a split, not a model",
            "pass the model to cut it again; load_parts and `graphsplit view` open a split",
        )
    models = _models_in(path, names)
    if models:
        more = f", or one of {len(models) - 1} others" if len(models) > 2 else f" or {models[1]}" if len(models) > 1 else ""
        return "a folder with a model in it", f"pass {models[0]}{more}"
    if "checkpoint" in names or any(re.search(r"\.ckpt.*\.index$|^ckpt-\d+\.index$", n) for n in names):
        return "a folder with a checkpoint, which holds values but no graph", FREEZE
    if "variables" in names or "keras_metadata.pb" in names:
        return "a SavedModel folder that has lost its saved_model.pb", "copy or download it again"
    if "model.json" in names:
        return f"a folder with {_TFJS[0]}", _TFJS[1]
    if "Manifest.json" in names and "Data" in names:
        return "a Core ML package", "convert it to TensorFlow first"
    if any(n.endswith((".onnx", ".pt", ".pth", ".safetensors")) for n in names):
        return "a folder with a model of another framework", _EXPORT
    return "a folder without saved_model.pb", "pass a SavedModel folder or a frozen .pb file"


def _models_in(path: Path, names: Iterable[str]) -> list[Path]:
    """The models in a folder, the likeliest first: frozen graph, SavedModel, others."""
    files = sorted(names)
    first = [path / n for n in ("frozen_inference_graph.pb",) if n in files]
    saved = [path / n for n in files if (path / n / "saved_model.pb").is_file() or (n == "saved_model" and (path / n).is_dir())]
    last = [
        path / n for n in files if n.endswith((".tflite", ".keras", ".pb")) and n != "keras_metadata.pb" and (path / n).is_file()
    ]
    return list(dict.fromkeys([*first, *saved, *last]))


def missing(path: Path) -> tuple[str, str]:
    """What a path that leads nowhere may be: the prefix of a checkpoint, the link of a file that git-annex has not fetched."""
    if path.is_symlink() and "annex/objects" in str(path.readlink()):
        return _ANNEX, "run `git annex get` on it"
    if path.with_name(f"{path.name}.index").is_file():
        return "the prefix of a checkpoint, which holds values but no graph", FREEZE
    return "no such file or folder", ""
