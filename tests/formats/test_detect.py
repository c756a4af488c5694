"""What a file is: every GraphDef is taken for one, everything else is refused with what it seems to be and what to do.

The names of the files never say what they are: most specimens here are called ``model.pb``, as people call them.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphsplit.errors import FormatError
from graphsplit.formats import FORMATS, load
from graphsplit.formats.detect import detect_format
from tests.formats import raw
from tests.formats.raw import field, number
from tests.permissions import ordinary_user
from tests.shared import SHARED, shared_model

FREEZE = r"pass the frozen graph \(frozen_inference_graph\.pb\) or the SavedModel folder$"
NODE = raw.placeholder("x", raw.FLOAT, -1, 2)
GRAPH = raw.graph(NODE, raw.identity("y", "x"))


def written(folder: Path, content: bytes, name: str = "model.pb") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(path: Path, says: str) -> None:
    """It is refused with these words, by `detect_format` and by `load`, and the error has the path."""
    for read in (detect_format, load):
        with pytest.raises(FormatError, match=says) as caught:
            read(path)
        assert caught.value.path == str(path)
        assert str(caught.value).startswith(f"{path}: ")


# what TensorFlow writes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what TensorFlow writes: checkpoints of both versions, a meta graph, SavedModels, a graph in text."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("made")
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        weights = tf.compat.v1.get_variable("weights", shape=[2, 3], use_resource=False)
        y = tf.nn.relu(x @ weights, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        for version, name in ((2, "model.ckpt"), (1, "old.ckpt")):
            saver = tf.compat.v1.train.Saver(write_version=version)
            saver.save(session, str(folder / name), write_meta_graph=version == 2)
        tf.compat.v1.train.export_meta_graph(str(folder / "bare.meta"))
        tf.compat.v1.train.export_meta_graph(str(folder / "text.meta"), as_text=True)
        tf.compat.v1.saved_model.simple_save(session, str(folder / "saved_1"), {"x": x}, {"y": y})
        tf.io.write_graph(graph, str(folder), "graph.pbtxt", as_text=True)
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    module.call = tf.function(lambda v: {"y": v * module.scale}, [tf.TensorSpec([None, 2], tf.float32)])
    tf.saved_model.save(module, str(folder / "saved_2"), signatures=module.call)
    return folder


@pytest.mark.parametrize("name", ["model.ckpt.index", "old.ckpt"])
def test_a_checkpoint_has_no_graph(made: Path, name: str) -> None:
    refused(made / name, rf"this is a checkpoint, which holds values but no graph; {FREEZE}")


def test_the_values_of_a_checkpoint_are_told_by_their_name_alone(made: Path) -> None:
    """Raw numbers have no mark at all; what they are called helps to word the error, and only that."""
    path = made / "model.ckpt.data-00000-of-00001"
    refused(path, rf"this seems to be the values of a checkpoint, without a graph; {FREEZE}")
    assert detect_format(written(path.parent, GRAPH, "odd.data-00000-of-00001")) == "graphdef"


def test_the_list_of_a_checkpoint_folder(made: Path) -> None:
    refused(made / "checkpoint", rf"this is the list of a checkpoint folder; {FREEZE}")


@pytest.mark.parametrize("name", ["model.ckpt.meta", "bare.meta", "text.meta"])
def test_a_meta_graph_has_no_values(made: Path, name: str) -> None:
    refused(made / name, rf"this is a MetaGraphDef \(\.meta\), a graph without its values; {FREEZE}")


@pytest.mark.parametrize("name", ["saved_1", "saved_2"])
def test_the_file_in_a_saved_model_wants_its_folder(made: Path, name: str) -> None:
    folder = made / name
    refused(folder / "saved_model.pb", rf"this is the saved_model\.pb of a SavedModel; pass the folder that holds it \({folder}\)$")
    assert detect_format(folder) == "saved_model"


def test_a_graph_in_text_form(made: Path) -> None:
    assert detect_format(made / "graph.pbtxt") == "pbtxt"
    assert next(iter(load(made / "graph.pbtxt").index.nodes)).name == "x"


@pytest.mark.parametrize("name", ["saved_1", "saved_2"])
def test_the_graph_in_a_saved_model_is_a_graph(made: Path, tmp_path: Path, name: str) -> None:
    """With a library, variables, a saver: whatever TensorFlow puts into graphs."""
    from tensorflow.core.protobuf import saved_model_pb2

    meta = saved_model_pb2.SavedModel.FromString((made / name / "saved_model.pb").read_bytes()).meta_graphs[0]
    assert detect_format(written(tmp_path, meta.graph_def.SerializeToString())) == "graphdef"
    refused(written(tmp_path, meta.SerializeToString()), r"this is a MetaGraphDef \(\.meta\)")


def test_a_checkpoint_folder(made: Path, tmp_path: Path) -> None:
    for name in ("checkpoint", "model.ckpt.index", "model.ckpt.meta"):
        shutil.copy(made / name, tmp_path)
    refused(tmp_path, rf"a folder with a checkpoint, which holds values but no graph; {FREEZE}")


# files of other kinds


def onnx(producer: str = "pytorch", version: int = 8) -> bytes:
    """A ModelProto: ir_version = 1, producer_name = 2, producer_version = 3, graph = 7, opset_import = 8."""
    relu = field(1, "x") + field(2, "y") + field(3, "Relu_0") + field(4, "Relu")
    graph = field(1, relu) + field(2, "main_graph") + field(11, field(1, "x")) + field(12, field(1, "y"))
    return number(1, version) + field(2, producer) + field(3, "2.1.0") + field(7, graph) + field(8, field(1, "") + number(2, 17))


def core_ml() -> bytes:
    """A Model: specificationVersion = 1, description = 2, neuralNetwork = 500."""
    return number(1, 1) + field(2, field(1, field(1, "image"))) + field(500, field(1, b"\x0a\x04conv" * 40))


def caffe() -> bytes:
    """A NetParameter: name = 1, layer = 100."""
    return field(1, "MobileNet-SSD") + field(100, field(1, "conv0") + field(2, "Convolution")) * 5


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return out.getvalue()


def tarred(mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        entry = tarfile.TarInfo("ssd/frozen_inference_graph.pb")
        entry.size = len(GRAPH)
        archive.addfile(entry, io.BytesIO(GRAPH))
    return out.getvalue()


UNPACK = (
    r"unpack it and pass the model inside \(frozen_inference_graph\.pb, the folder with saved_model\.pb, \.tflite or \.keras\)$"
)
PICKLE = r"this is a Python pickle \(PyTorch\?\); export the model to TensorFlow or TFLite first; pickles are never opened here$"
COMPILED = r"pass the model that it was compiled or converted from$"
EXPORT = r"export the model to TensorFlow or TFLite from the framework that it was trained in$"
KERAS = r"load it in Keras and save it as \.keras: keras\.models\.load_model\('model\.h5'\)\.save\('model\.keras'\)$"
TFJS = rf"this is a TensorFlow\.js model; convert it back first \(tensorflowjs_converter\), or {FREEZE}"
PICTURE = r"the model comes first, then pictures and videos$"

FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"the file is empty; was a download interrupted\?$"),
    "tar": (tarred("w:"), rf"this is a tar archive; {UNPACK}"),
    "tar.gz": (tarred("w:gz"), rf"this is a gzip archive; {UNPACK}"),
    "tar.bz2": (tarred("w:bz2"), rf"this is a bzip2 archive; {UNPACK}"),
    "tar.xz": (tarred("w:xz"), rf"this is an xz archive; {UNPACK}"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(40), rf"this is a 7z archive; {UNPACK}"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00" + bytes(40), rf"this is a Zstandard archive; {UNPACK}"),
    "rar": (b"Rar!\x1a\x07\x01\0" + bytes(40), rf"this is a RAR archive; {UNPACK}"),
    "gz": (
        gzip.compress(GRAPH),
        r"this is a file compressed by gzip; unpack it \(gunzip -k \S+/model\.pb\) and pass",
    ),
    "tflite.gz": (gzip.compress(b"\x1c\0\0\0TFL3" + bytes(64)), r"this is a TFLite file compressed by gzip; unpack it \(gunzip -k"),
    "damaged gz": (b"\x1f\x8b" + bytes(40), r"this is a file compressed by gzip; unpack it"),
    "zip": (
        zipped("ssd/pipeline.config", "ssd/frozen_inference_graph.pb"),
        r"this is a zip archive; unpack it and pass the 'ssd/frozen_inference_graph\.pb' inside$",
    ),
    "zip of a saved model": (
        zipped("a/b/saved_model.pb", "a/b/variables/variables.index", "a/other.tflite"),
        r"this is a zip archive; unpack it and pass the 'a/b' inside$",
    ),
    "npz": (zipped("arr_0.npy", "w.npy"), r"this is a file of NumPy arrays \(\.npz\); the model comes first$"),
    "dlc": (zipped("model", "model.params", "dlc.metadata"), rf"this is a DLC, compiled for a Qualcomm processor; {COMPILED}"),
    "empty zip": (zipped(), r"this is a zip archive; unpack it and pass the model inside$"),
    "damaged zip": (zipped("a", "b")[:-30], r"a damaged zip archive: "),
    "torch": (
        zipped("archive/data.pkl", "archive/data/0", "archive/version"),
        r"this is a PyTorch archive; export the model to TensorFlow first$",
    ),
    **{f"pickle {p}": (pickle.dumps({"state_dict": [1.0]}, protocol=p), PICKLE) for p in range(2, 6)},
    "onnx": (onnx(), r"this seems to be an ONNX model; convert it to TensorFlow first$"),
    "onnx of version 1": (onnx("CNTK", 1), r"this seems to be an ONNX model; convert it to TensorFlow first$"),
    "onnx, truncated": (onnx()[:60], r"this seems to be an ONNX model; convert it to TensorFlow first$"),
    "core ml": (core_ml(), r"this seems to be a Core ML model; convert it to TensorFlow first$"),
    "caffe": (caffe(), r"this seems to be a Caffe model; convert it to TensorFlow first$"),
    "hdf5": (
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        r"this is an HDF5 file \(the weights of a Keras model, without the model\?\); build the model in Keras, ",
    ),
    "keras h5": (
        b"\x89HDF\r\n\x1a\n" + bytes(100) + b"model_config" + bytes(30),
        rf"this is an HDF5 file, a Keras model of the legacy format; {KERAS}",
    ),
    "keras json": (
        b'{"class_name": "Functional", "config": {"name": "model"}}',
        rf"this is a Keras architecture, without weights; {KERAS}",
    ),
    "gguf": (b"GGUF\3\0\0\0" + bytes(40), rf"this is a GGUF model \(llama\.cpp\); {EXPORT}"),
    "tensorrt": (b"ftrt\1\0\0\0" + bytes(40), rf"this is a TensorRT engine; {COMPILED}"),
    "older tensorrt": (b"ptrt\1\0\0\0" + bytes(40), rf"this is a TensorRT engine; {COMPILED}"),
    "hef": (b"\x01HEF\0\0\0\x02" + bytes(40), rf"this is a HEF, compiled for a Hailo accelerator; {COMPILED}"),
    "rknn": (b"RKNN\0\0\0\0" + bytes(40), rf"this is an RKNN model, compiled for a Rockchip NPU; {COMPILED}"),
    "ncnn": (b"7767517\n75 83\nInput  data 0 1 data\n", rf"this is an NCNN model; {COMPILED}"),
    "ncnn, binary": (b"\xdd\x85\x76\x00" + bytes(40), rf"this is an NCNN model; {COMPILED}"),
    "ort": (b"\x28\0\0\0ORTM" + bytes(40), r"this is an ONNX Runtime model; convert the \.onnx file"),
    "executorch": (b"\x28\0\0\0ET12" + bytes(40), rf"this is an ExecuTorch program; {EXPORT}"),
    "litertlm": (b"LITERTLM" + bytes(40), rf"this is a LiteRT-LM model; {COMPILED}"),
    "darknet": (b"[net]\nbatch=1\n[convolutional]\n", rf"this is a Darknet configuration; {EXPORT}"),
    "mxnet": (b'{"nodes": [], "arg_nodes": [0], "heads": []}', rf"this is an MXNet model; {EXPORT}"),
    "annex": (
        b"/annex/objects/SHA256E-s27--4d7a.pb\n",
        r"this is a git-annex pointer, not the file itself; run `git annex get` on it$",
    ),
    "older lfs": (
        b"version https://hawser.github.com/spec/v1\noid",
        r"this is a Git LFS pointer, not the file itself; run `git lfs pull`$",
    ),
    "manifest": (
        b'{\n "graphsplit": "0.1.0",\n "schema": 1,\n "sections": []}',
        r"this is the manifest of a split, not a model; pass the model to cut it again; load_parts and ",
    ),
    "page after a comment": (b"<!-- saved from url -->\n<!DOCTYPE html>\n<html>", r"this is a web page; "),
    "page as xml": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">\n<html>', r"this is a web page; "),
    "error of a server": (
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        r"this is an error that a server answered; download the file again$",
    ),
    "other xml": (b'<?xml version="1.0"?>\n<annotation>', rf"this is an XML file; {FREEZE}"),
    "numpy": (b"\x93NUMPY\x01\0v\0{'descr': '<f4'}" + bytes(64), r"this is a NumPy array; the model comes first$"),
    "safetensors": (
        (30).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}         ' + bytes(16),
        rf"this seems to be a safetensors file, which holds values but no graph; {FREEZE}",
    ),
    "tfrecord": (
        (40).to_bytes(8, "little") + b"\x11\x22\x33\x44" + b"\x0a\x26\x0a\x24" + bytes(36) + b"\x55\x66\x77\x88",
        rf"this seems to be a TFRecord or events file; {FREEZE}",
    ),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(30), rf"this is a picture; {PICTURE}"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(30), rf"this is a picture; {PICTURE}"),
    "gif": (b"GIF89a" + bytes(30), rf"this is a picture; {PICTURE}"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(30), rf"this is a picture, a video or a sound; {PICTURE}"),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\2\0" + bytes(30), rf"this is a video; {PICTURE}"),
    "mkv": (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0" + bytes(30), rf"this is a video; {PICTURE}"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 27381\n",
        r"this is a Git LFS pointer, not the file itself; run `git lfs pull`$",
    ),
    "page": (
        b"\n<!DOCTYPE html>\n<html><head><title>404</title>",
        r"this is a web page; the download saved a page instead of the file$",
    ),
    "page without doctype": (b"<html>Not Found</html>", r"this is a web page; the download saved a page instead of the file$"),
    "label map": (b"# COCO\nitem {\n  name: 'person'\n  id: 1\n}\n", r"this is a label map; pass it as labels=…$"),
    "pipeline.config": (
        b"model {\n  ssd {\n    num_classes: 90\n  }\n}\ntrain_config: {}\n",
        rf"this is a training configuration \(pipeline\.config\); {FREEZE}",
    ),
    "saved_model.pbtxt": (
        b"saved_model_schema_version: 1\nmeta_graphs {\n}\n",
        r"this is a saved_model\.pbtxt; pass the folder that holds it$",
    ),
    "prototxt": (
        b'name: "MobileNet-SSD"\ninput: "data"\nlayer {\n}\n',
        r"this is a Caffe prototxt; convert the model to TensorFlow first$",
    ),
    "tfjs": (
        b'{"format": "graph-model", "modelTopology": {"node": []}}',
        TFJS,
    ),
    "json": (b'{"inputs": ["a"], "outputs": ["b"]}', r"this is a JSON file; a crop file is passed as crop_file=…$"),
    "xml": (b'<?xml version="1.0"?>\n<net name="ssd" version="11">', rf"this is an OpenVINO model \(IR\); {COMPILED}"),
    "text": (
        b"person\nbicycle\ncar\n",
        rf"this is a text file, but not a GraphDef in text form \(it would start with 'node {{'\); {FREEZE}",
    ),
    "accented text": (("Schiffsführer, Straßenbahn… " * 300).encode(), r"this is a text file, but not a GraphDef in text form"),
    "zeros": (bytes(5000), r"it begins with nothing but zeros; was a download or a copy interrupted\?$"),
    "noise": (bytes(range(255, 0, -1)), rf"unknown content \(it starts with ff fe fd fc fb fa f9 f8\); {FREEZE}"),
    "one byte": (b"\x0a", r"this is a text file, but not a GraphDef"),
    "a message of something else": (
        field(1, field(1, b"\1\2") + field(2, b"\3\4")),
        rf"not a GraphDef: damaged, truncated, or .*; {FREEZE}",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named(tmp_path: Path, name: str) -> None:
    content, says = FOREIGN[name]
    refused(written(tmp_path, content), says)


NAMED = {
    "net.mnn": rf"this seems to be an MNN model; {COMPILED}",
    "net.pdmodel": rf"this seems to be a PaddlePaddle model; {EXPORT}",
    "net.bin": rf"this seems to be the weights of an OpenVINO, NCNN or PyTorch model; {COMPILED}",
    "net.engine": rf"this seems to be a TensorRT engine; {COMPILED}",
    "yolo.weights": rf"this seems to be the weights of a Darknet model; {EXPORT}",
}


@pytest.mark.parametrize("name", NAMED)
def test_what_has_no_mark_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    refused(written(tmp_path, b"\x18\0\0\0\0\0\x12\0\xff" + bytes(range(200, 256)), name), NAMED[name])
    assert detect_format(written(tmp_path, GRAPH, name)) == "graphdef"


def test_names_of_classes_are_told(tmp_path: Path) -> None:
    says = r"this is a list of lines \(names of classes\?\); the model comes first; names of classes are passed as labels=…$"
    refused(written(tmp_path, b"person\nbicycle\ncar\n", "labels.txt"), says)
    refused(written(tmp_path, b"person\n", "coco.names"), says)


def opencv_text(*, layers: str = "") -> bytes:
    """As OpenCV's scripts write it: weights are left out, layers of its own come last."""
    conv = "".join(
        f'node {{ name: "conv{i}" op: "Conv2D" input: "{"data" if not i else f"bias{i - 1}"}" input: "conv{i}/weights" }}\n'
        f'node {{ name: "bias{i}" op: "BiasAdd" input: "conv{i}" input: "conv{i}/biases:0" }}\n'
        for i in range(3)
    )
    return f'node {{ name: "data" op: "Placeholder" attr {{ key: "dtype" value {{ type: DT_FLOAT }} }} }}\n{conv}{layers}'.encode()


def test_a_text_graph_of_opencvs_is_told(tmp_path: Path) -> None:
    own = 'node { name: "out" op: "DetectionOutput" input: "bias2" }'
    says = "a text graph of OpenCV's, not of TensorFlow's: it has no weights; split the .pb that it was made for$"
    for content in (opencv_text(), opencv_text(layers=own)):
        with pytest.raises(FormatError, match=says):
            load(written(tmp_path, content, "graph.pbtxt"))
    damaged = b'node { name: "a" op: "Placeholder" } node { name: "b" op: "Relu" input: "lost" }'
    with pytest.raises(FormatError, match="reads 'lost', which is not in the graph"):
        load(written(tmp_path, damaged, "graph.pbtxt")).index  # noqa: B018


def test_tflite_is_recognised_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = written(tmp_path, b"\x1c\0\0\0TFL3" + bytes(64))
    assert detect_format(path) == "tflite"
    with pytest.raises(FormatError, match=r"a damaged TFLite file: no Model at byte 28; copy or convert it again$"):
        load(path)


def test_a_keras_file_is_told_from_other_zips(tmp_path: Path) -> None:
    assert detect_format(written(tmp_path, zipped("metadata.json", "config.json", "model.weights.h5"))) == "keras"


def test_hdf5_as_h5py_writes_it(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["weights"] = [1.0, 2.0]
    refused(tmp_path / "weights.h5", "this is an HDF5 file")


def test_the_word_of_the_user_beats_the_recogniser(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"not a whole GraphDef: .*at byte 0$"):
        load(written(tmp_path, b"\xff\xff"), format="graphdef")
    with pytest.raises(FormatError, match=r"unknown format 'onnx'; there are graphdef, pbtxt, saved_model, keras, tflite$"):
        load(written(tmp_path, b"\xff\xff"), format="onnx")


# folders, and what is neither file nor folder


def test_folders_say_what_is_in_them(tmp_path: Path) -> None:
    def folder(name: str, *files: str) -> Path:
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(GRAPH)
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    zoo = folder("zoo", "frozen_inference_graph.pb", "checkpoint", "saved_model/saved_model.pb")
    refused(zoo, rf"a folder with a model in it; pass {zoo}/frozen_inference_graph\.pb or {zoo}/saved_model$")
    export = folder("export", "checkpoint/ckpt-0.index", "saved_model/saved_model.pb", "pipeline.config")
    refused(export, rf"a folder with a model in it; pass {export}/saved_model$")
    refused(
        folder("split", "split.json", "x_main.pb"),
        r"this folder holds a split, not a model; pass the model to cut it again; load_parts and `graphsplit view` open a split$",
    )
    centernet = folder("centernet", "saved_model/saved_model.pb", "model.tflite", "extra.pb")
    refused(centernet, rf"a folder with a model in it; pass {centernet}/saved_model, or one of 2 others$")
    only = folder("only", "detect.tflite", "labels.txt")
    refused(only, rf"a folder with a model in it; pass {only}/detect\.tflite$")
    refused(folder("lost", "variables/variables.index"), r"a SavedModel folder that has lost its saved_model\.pb; copy or download")
    refused(folder("js", "model.json", "group1-shard1of1.bin"), r"a folder with a TensorFlow\.js model; convert it back first")
    refused(folder("apple", "Manifest.json", "Data/model.mlmodel"), r"a Core ML package; convert it to TensorFlow first$")
    refused(folder("torch", "model.safetensors", "config.json"), rf"a folder with a model of another framework; {EXPORT}")
    prefix = folder("prefix", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001") / "model.ckpt-7"
    refused(prefix, rf"the prefix of a checkpoint, which holds values but no graph; {FREEZE}")
    (tmp_path / "annexed.pb").symlink_to(".git/annex/objects/X1/q4/SHA256E-s27--4d7a.pb/SHA256E-s27--4d7a.pb")
    refused(tmp_path / "annexed.pb", r"a git-annex pointer, not the file itself; run `git annex get` on it$")
    refused(folder("weights", "model.ckpt-7.index"), rf"a folder with a checkpoint, which holds values but no graph; {FREEZE}")
    refused(folder("bare"), r"a folder without saved_model\.pb; pass a SavedModel folder or a frozen \.pb file$")
    assert detect_format(folder("text", "saved_model.pbtxt")) == "saved_model"
    assert detect_format(folder("both", "saved_model.pb", "frozen_inference_graph.pb")) == "saved_model"


@pytest.mark.parametrize("name", ["missing.pb", "missing/model.pb", "model.pb/inside", "link"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    written(tmp_path, GRAPH)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / name, r"no such file or folder$")


@pytest.mark.parametrize("name", ["a" * 300, "nul\0byte", "loop"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / name, r"(cannot be read: |no such file or folder$)")


def test_a_file_without_permission(tmp_path: Path) -> None:
    load(written(tmp_path, GRAPH))  # all that is imported for it is imported by a user who may read it
    with ordinary_user() as folder:
        path = written(folder, GRAPH)
        path.chmod(0)
        refused(path, "cannot be read: Permission denied")


def without_hanging(code: str, *args: object) -> str:
    """What a program prints; that it ends at all is the point."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], timeout=60, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    """Nobody writes into it, so opening it would wait for ever."""
    pipe = tmp_path / "pipe.pb"
    os.mkfifo(pipe)
    code = """
import sys
from graphsplit.formats import load
for format in (None, "graphdef", "pbtxt"):
    try:
        load(sys.argv[1], format)
    except ValueError as error:
        print(error)
"""
    said = without_hanging(code, pipe).splitlines()
    assert said == [f"{pipe}: neither a file nor a folder (a pipe or a device is never opened)"] * 3


def test_a_device_is_never_opened() -> None:
    if not stat.S_ISCHR(os.stat("/dev/zero").st_mode):
        pytest.skip("no /dev/zero here")
    refused(Path("/dev/zero"), r"neither a file nor a folder \(a pipe or a device is never opened\)$")


# GraphDefs, however odd

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")


def with_ustar_at_257() -> bytes:
    head = field(1, raw.const("c", b""))[:0]
    for size in range(180, 257):
        head = field(1, raw.const("c", bytes(size), size))
        if len(head) + 4 == 257:
            break
    whole = head + field(1, raw.node("ustar/x", "NoOp"))
    assert whole[257:262] == b"ustar"
    return whole


ODD_GRAPHS: dict[str, bytes] = {
    "plain": GRAPH,
    "library first": field(2, raw.library(raw.function("f", [raw.identity("i", "x")]))) + field(1, NODE),
    "large library first": field(2, raw.library(*(raw.function(f"f{i}", [NODE] * 9) for i in range(300)))) + field(1, NODE),
    "versions first": raw.versions() + field(1, NODE),
    "the old version field first": number(3, 21) + field(1, NODE),
    "debug info first": field(5, field(1, "file.py")) + field(1, NODE),
    "an unknown field first": field(77, "new") + number(78, 5) + field(1, NODE),
    "op first": raw.graph(raw.node("x", "Placeholder", attrs={"dtype": raw.kind(1)}, order="onida")),
    "attributes first": raw.graph(raw.node("x", "Placeholder", attrs={"dtype": raw.kind(1)}, order="adion")),
    "inputs first": raw.graph(raw.node("x", "AddN", *("y" for _ in range(500)), order="inoda"), NODE),
    "a large constant first": raw.graph(raw.const("weights", bytes(200_000), 50_000), NODE),
    "unknown fields in the node": raw.graph(field(99, "new") + number(98, 1) + NODE),
    "a node called TFL3/x": raw.graph(raw.node("TFL3/x", "NoOp")),
    "a node called ftyp": raw.graph(raw.node("ftyp", "NoOp")),
    "a node called serve": raw.graph(raw.node("serve", "NoOp"), NODE),
    "nodes called a and NoOp": raw.graph(raw.node("a", "Abs", "NoOp"), raw.node("NoOp", "NoOp")),
    "a node called tensorflow_version": raw.graph(raw.node("tensorflow_version", "Identity", "x"), NODE),
    "nearly all printable": field(1, field(1, "ninechars") + field(2, "Transpose" * 4)),
    "a unicode name": raw.graph(raw.node("Größe/層 1", "NoOp")),
    "a name with a line feed": raw.graph(raw.node("a\nb", "NoOp")),
    "a name of 100,000 bytes": raw.graph(raw.node("n" * 100_000, "NoOp")),
    "a name like JSON": raw.graph(raw.node('{"format": 1}', "NoOp")),
    "an op of a library": raw.graph(raw.node("call", "__inference_f_12"), library=raw.library(raw.function("__inference_f_12"))),
    "an op of a namespace": raw.graph(raw.node("x", "Addons>Op/2.1-b")),
    "the end of a checkpoint at its end": field(1, raw.const("c", b"123" + TABLE_MAGIC)),
    "the mark of tar in it": with_ustar_at_257(),
    "a nameless node first": raw.graph(field(2, "NoOp"), NODE),
}


@pytest.mark.parametrize("name", ODD_GRAPHS)
def test_an_odd_graph_is_still_a_graph(tmp_path: Path, name: str) -> None:
    assert detect_format(written(tmp_path, ODD_GRAPHS[name])) == "graphdef"


@pytest.mark.parametrize("content", [raw.versions(), field(2, raw.library(raw.function("f", [NODE]))) + raw.versions()])
def test_a_graph_without_nodes_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match="no node in it; this is not a GraphDef, or an empty one"):
        load(written(tmp_path, content))


def test_a_truncated_graph_is_still_known(tmp_path: Path) -> None:
    """Wherever the download stopped, the answer is never another format; from the first op on it is 'not a whole GraphDef'."""
    pieces = [
        field(1, raw.const("weights", bytes(3000), 750)),
        field(1, raw.placeholder("x", 1, -1)),
        field(1, raw.identity("y", "x")),
        raw.versions(),
    ]
    whole = b"".join(pieces)
    between = {len(b"".join(pieces[:n])) for n in range(len(pieces))}  # what ends there is a graph, if a smaller one
    known = whole.index(b"Const") + 1  # its first letter is enough
    for end in range(1, len(whole)):
        if end in between or (80 < end < len(whole) - 80 and end % 97):
            continue
        says = "not a whole GraphDef: " if end >= known else "not a GraphDef: damaged, truncated|this is a text file"
        path = written(tmp_path, whole[:end])
        with pytest.raises(FormatError, match=says) as caught:
            load(path)
        assert caught.value.path == str(path)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
ops = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(names, ops, st.lists(names, max_size=3), st.permutations("noida").map("".join), st.binary(max_size=30)),
        min_size=1,
        max_size=6,
    ),
    st.permutations([1, 2, 3, 4, 5, 100]),
)
def test_no_graph_is_misjudged(tmp_path_factory: pytest.TempPathFactory, nodes: list[tuple[str, ...]], order: list[int]) -> None:
    """Names of any letters, fields in any order, the parts of the file in any order."""
    content = {
        1: b"".join(
            field(1, raw.node(name, op, *inputs, device="/cpu:0", attrs={"value": raw.text(value)}, order=fields))
            for name, op, inputs, fields, value in nodes
        ),
        2: field(2, raw.library(raw.function("f", [NODE], inputs={"x": 1}, outputs={"y": 1}))),
        3: number(3, 21),
        4: raw.versions(1987),
        5: field(5, field(1, "model.py")),
        100: field(100, b"\xff\x00"),
    }
    path = written(tmp_path_factory.getbasetemp(), b"".join(content[n] for n in order), "any.pb")
    assert detect_format(path) == "graphdef"


@pytest.mark.parametrize("name", sorted(p.name[:-3] for p in (SHARED / "models").glob("*.gz")) or ["any.pb"])
def test_shared_models_are_known(name: str) -> None:
    assert detect_format(shared_model(name)) == ("tflite" if name.endswith(".tflite") else "graphdef")


TEXTS = {
    "node first": 'node {\n  name: "x"\n  op: "NoOp"\n}\n',
    "comments first": '# exported\n\n  # by hand\nnode {\n  name: "x"\n  op: "NoOp"\n}\n',
    "versions first": 'versions {\n  producer: 27\n}\nnode: {\n  name: "x"\n  op: "NoOp"\n}\n',
    "the old version first": 'version: 21\nnode {\n  name: "x"\n  op: "NoOp"\n}\n',
    "library first": 'library {\n}\nnode {\n  name: "x"\n  op: "NoOp"\n}\n',
    "angle brackets": 'node < name: "x" op: "NoOp" >',
    "one line": 'node{name:"x" op:"NoOp"}',
    "carriage returns": 'node {\r\n  name: "x"\r\n  op: "NoOp"\r\n}\r\n',
    "a byte order mark": '\ufeffnode {\n  name: "x"\n  op: "NoOp"\n}\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_graph_in_text_form_is_read(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, TEXTS[name].encode())
    assert detect_format(path) == "pbtxt"
    assert [(n.name, n.op) for n in load(path).index.nodes] == [("x", "NoOp")]


def test_only_what_is_looked_at_is_read(tmp_path: Path) -> None:
    """A sparse file of 100 GB is judged at once."""
    path = tmp_path / "large.pb"
    with path.open("wb") as file:
        file.write(b"\x0a" + raw.varint(10**11) + field(1, "c") + field(2, "Const"))
        file.truncate(10**11)
    assert detect_format(path) == "graphdef"
    with pytest.raises(FormatError, match=r"100,000,000,000 bytes: a GraphDef of 2 GiB or more cannot be one protobuf message"):
        load(path)


@pytest.fixture
def noise() -> Callable[[], Iterator[bytes]]:
    import random

    def some() -> Iterator[bytes]:
        rng = random.Random(28)
        starts = [b"\x0a", b"\x12", b"\x22", b"PK\x03\x04", b"\x08\x01\x12", b"\x1f\x8b", b"node {", b"{", b""]
        for _ in range(400):
            yield rng.choice(starts) + rng.randbytes(rng.choice([1, 20, 300, 5000]))

    return some


def test_noise_is_refused_or_read_but_never_crashes(tmp_path: Path, noise: Callable[[], Iterator[bytes]]) -> None:
    for content in noise():
        path = written(tmp_path, content)
        with suppress(FormatError):
            assert detect_format(path) in FORMATS
