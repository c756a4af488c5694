"""``.keras`` files → frozen models.

A ``.keras`` file is a zip archive: config.json lists the layers, model.weights.h5 holds their weights. The configuration names
classes, and older versions of Keras import any class it names. So it is read first, and a model that needs code or files from
elsewhere is refused before Keras sees it, in addition to Keras' own safe mode.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphsplit.errors import FormatError
from graphsplit.formats.freeze import freeze_function, loading, on_one_line
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.isolated import Frozen, answer, freeze_apart
from graphsplit.formats.source import sum_source
from graphsplit.graph.json_input import parse_json
from graphsplit.graph.signature import Signature

if TYPE_CHECKING:
    from keras import KerasTensor, Model
    from tensorflow import TensorSpec

    from graphsplit.isolation.messages import Answer, Array

__all__ = ["freeze_keras", "freeze_task", "load_keras"]

_EXPORT = "where its code is at hand, call model.export(FOLDER) and pass that folder"
_CODE = {"Lambda", "__lambda__"}  # Python bytecode in the file
_OTHER_MODELS = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}  # load, or are, programs of other kinds
_SIZES = ("units", "filters", "input_dim", "output_dim")  # each multiplies the weights of its layer
_MOST_CONFIG = 64 * 2**20  # bytes
_FEW = 64 * 2**20  # bytes that may be packed at any ratio
_MOST_RATIO = 200
_FILE_NAMES = ("vocabulary", "idf_weights")  # a list of words, or the path of a file with them


def load_keras(path: Path, *, isolate: bool = True) -> GraphDefModel:
    """A Keras 3 model, called in inference mode and frozen; the batch size is free unless the model fixes it.

    Args:
        path: The file.
        isolate: Load it in the child process; False: in this one.

    Raises:
        FormatError: The file is damaged, the model needs code that is not Keras' (Lambda and custom layers), or Keras runs on
            another backend than TensorFlow.
    """
    source = sum_source(path)
    version = _check_config(path)
    said = {"path": str(path), "version": version}
    data, outputs, signature = freeze_apart(freeze_task, said, path) if isolate else _freeze_here(path, version)
    source.check(source.sha256 or "")
    return GraphDefModel([data], path=path, source=source, format="keras", output_names=outputs, signature=signature)


def freeze_task(said: Any, arrays: Sequence[Array]) -> Answer:
    """A task of the child process: a Keras model, frozen."""
    return answer(*_freeze_here(Path(said["path"]), said["version"]))


def _freeze_here(path: Path, version: str) -> Frozen:
    """Load and freeze a model, which has been checked, in this process."""
    keras = _keras(path)
    then = f"load it in Python with Keras {version}, which saved it, call model.export(FOLDER) and pass that folder"
    with loading(path, "Keras cannot load this model", then):
        return Frozen(*freeze_keras(_load(path, keras), path))


def _keras(path: Path) -> ModuleType:
    """Keras, on TensorFlow. Raises FormatError if it runs on something else."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend == "tensorflow" or "keras" in sys.modules:  # else not even imported: it would import the other one
        try:
            import keras

            backend = keras.backend.backend()  # also set in ~/.keras/keras.json
        except ImportError as error:
            raise FormatError(
                f"Keras cannot be imported ({on_one_line(error)}); set KERAS_BACKEND=tensorflow", path=path
            ) from error
    if backend != "tensorflow":
        raise FormatError(
            f"Keras runs on the backend {backend!r} here, which has no TensorFlow graph; set KERAS_BACKEND=tensorflow",
            path=path,
        )
    module: ModuleType = keras
    return module


def _load(path: Path, keras: ModuleType) -> Model:
    """The model. Keras requires the suffix ``.keras``, which a file need not have here."""
    options = {"compile": False, "safe_mode": True}
    if path.suffix == ".keras":
        return keras.models.load_model(path, **options)
    with TemporaryDirectory() as folder:
        link = Path(folder) / "model.keras"
        link.symlink_to(path.resolve())
        return keras.models.load_model(link, **options)


def freeze_keras(model: Model, path: Path | None = None) -> tuple[bytes, tuple[str, ...], Signature]:
    """A Keras model, called in inference mode, as a frozen GraphDef, the tensors that it returns, and the names of both.

    Args:
        model: A ``keras.Model`` that knows its inputs.
        path: Where it came from, for errors.

    Raises:
        FormatError: for inputs that are not dense tensors.
    """
    import keras
    import tensorflow as tf

    def spec(tensor: KerasTensor) -> TensorSpec:
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise FormatError(f"the input {tensor.name!r} is not a dense tensor; export a model with dense inputs", path=path)
        return tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name)

    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input  # the latter as it was built: a dict, say
    signature = tf.nest.map_structure(spec, inputs)
    function = tf.function(lambda fed: model(fed, training=False), input_signature=[signature])
    concrete = function.get_concrete_function()
    names = [model.layers[-1].name] if isinstance(model, keras.Sequential) else getattr(model, "output_names", None)
    frozen, outputs, keys = freeze_function(concrete, list(names or ()))
    if keys.inputs:
        return frozen, outputs, keys
    specs, tensors = tf.nest.flatten(signature), [t.name for t in concrete.inputs if t.op.type == "Placeholder"]
    # Those of variables come last.
    inputs = {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=False) if isinstance(spec.name, str)}
    return frozen, outputs, Signature(inputs, keys.outputs)


# what the file asks for


def _check_config(path: Path) -> str:
    """The version of Keras that saved a model which needs no code and no file from elsewhere.

    Raises FormatError that names the layer, for a model that does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = _json(archive, "config.json", path)
            metadata = _json(archive, "metadata.json", path) if "metadata.json" in archive.namelist() else {}
            weights = _bytes_of_weights(archive, path)
    except FormatError:  # a ValueError, too
        raise
    except (zipfile.BadZipFile, OSError, NotImplementedError, KeyError, ValueError, RecursionError) as error:
        raise FormatError(f"a damaged .keras file: {on_one_line(error)}; save or download it again", path=path) from error
    if not isinstance(config, dict):
        raise FormatError("a damaged .keras file: its config.json is not a model; save or download it again", path=path)
    config.pop("compile_config", None)  # losses and metrics, which are not loaded
    _check_sizes(config, weights, path)
    for item in _objects(config):
        kind, module = str(item.get("class_name")), item.get("module")
        inner = item.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        which = f"the layer {name!r} ({kind})" if isinstance(name, str) else f"{kind!r}"
        if kind in _CODE:
            raise FormatError(f"{which} holds Python code, which is never run from a file; {_EXPORT}", path=path)
        if kind in _OTHER_MODELS:
            raise FormatError(f"{which} holds a model of another kind; {_EXPORT}", path=path)
        if not _of_keras(module, kind) or (item.get("registered_name") or kind) != kind:
            raise FormatError(f"{which} is not one of Keras' own (module {module!r}): it needs custom code; {_EXPORT}", path=path)
        for key in _FILE_NAMES:
            if isinstance(inner, dict) and isinstance(inner.get(key), str):
                raise FormatError(f"{which} reads the file {inner[key]!r}; {_EXPORT}", path=path)
    return str(metadata.get("keras_version", "3")) if isinstance(metadata, dict) else "3"


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> object:
    """The JSON in a member. Raises FormatError for one that is too large, whatever size the archive states."""
    with archive.open(name) as opened:
        data = opened.read(_MOST_CONFIG + 1)
    if len(data) > _MOST_CONFIG:
        raise FormatError(f"{name} in the file is too large (more than {_MOST_CONFIG:,} bytes)", path=path)
    return parse_json(data)


def _bytes_of_weights(archive: zipfile.ZipFile, path: Path) -> int:
    """How many bytes the members that hold weights have. Raises FormatError where they are mostly compression."""
    total = 0
    for info in archive.infolist():
        if info.filename.endswith(".json"):
            continue
        if info.file_size > max(_FEW, _MOST_RATIO * info.compress_size):
            raise FormatError(
                f"{info.filename[:100]!r} in the file has {info.file_size:,} bytes, packed into {info.compress_size:,}: "
                "weights do not shrink like that",
                path=path,
            )
        total += info.file_size
    return total


def _check_sizes(config: object, weights: int, path: Path) -> None:
    """Refuse layers that need more weights than the file holds, before Keras creates them.

    What is counted is the least that such layers have: a dense layer of n units, for m values as its configuration states
    them, n times m; an embedding its table.
    """
    total = 0
    for item in _objects(config):
        inner, built = item.get("config"), item.get("build_config")
        if not isinstance(inner, dict):
            continue
        sizes = [size for key in _SIZES if isinstance(size := inner.get(key), int) and size > 0]
        shape = built.get("input_shape") if isinstance(built, dict) else None
        if "units" in inner and isinstance(shape, list) and shape and isinstance(shape[-1], int):
            sizes.append(max(1, shape[-1]))
        least = prod(sizes) if sizes else 0
        total += least
        if total > 2 * weights:  # int4: two in a byte
            which = f"the layer {str(inner.get('name'))[:60]!r} ({str(item.get('class_name'))[:60]})"
            raise FormatError(
                f"a damaged .keras file: {which} needs at least {least:,} weights, the file holds {weights:,} bytes of them; "
                "save or download it again",
                path=path,
            )


def _of_keras(module: object, kind: str) -> bool:
    """Whether Keras finds the class among its own, without importing what the file names."""
    if kind == "function":  # a function by its name, among Keras' activations and the like
        return module in (None, "builtins")
    return module is None or module in ("builtins", "keras") or (isinstance(module, str) and module.startswith("keras."))


def _objects(config: object) -> Iterator[dict[str, object]]:
    """All serialised objects in a configuration, outermost first."""
    stack: list[object] = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))
