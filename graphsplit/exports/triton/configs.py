"""Configurations of Triton's models: its own messages, written as text and read back.

Sources: triton-inference-server/server docs/user_guide/model_configuration.md, and what core's ensemble_utils.cc and
tensorflow_backend's tensorflow_utils.cc accept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphsplit.errors import FormatError, MissingExtraError
from graphsplit.parts.parts import Port

__all__ = [
    "CONFIG",
    "ENSEMBLE",
    "SAVED_MODEL",
    "TENSORFLOW",
    "config_text",
    "fits",
    "messages",
    "read_config",
    "same_dims",
    "stated",
]

CONFIG = "config.pbtxt"
SAVED_MODEL = "model.savedmodel"  # the name that Triton looks for in a version
ENSEMBLE, TENSORFLOW = "ensemble", "tensorflow_savedmodel"  # platforms

# What Triton's TensorFlow backend takes.
_DTYPES = {
    "bool": "TYPE_BOOL",
    "string": "TYPE_STRING",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    **{f"{kind}{bits}": f"TYPE_{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


def messages() -> Any:
    """The module of Triton's own messages. Raises MissingExtraError."""
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingExtraError("Triton's client (tritonclient)", extra="triton") from error
    return model_config_pb2


def stated(port: Port) -> dict[str, Any]:
    """Dtype and dims of a tensor as a configuration states them; a tensor without dimensions is [1] to Triton.

    Raises FormatError for a dtype that Triton's TensorFlow backend lacks, and where the number of dimensions is not known.
    """
    if port.dtype not in _DTYPES:
        raise FormatError(
            f"{port.tensor!r} is {port.dtype or 'of unknown dtype'}, which Triton's TensorFlow backend does not take; cut elsewhere"
        )
    if port.shape is None:
        raise FormatError(
            f"the number of dimensions of {port.tensor!r} is not known, and Triton wants it; cut elsewhere, or split with shapes"
        )
    return {"data_type": _DTYPES[port.dtype], "dims": [-1 if d is None else d for d in port.shape] or [1]}


def config_text(config: Any) -> str:
    """A configuration as its file has it."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def read_config(path: Path) -> Any:
    """A configuration, read back. Raises FormatError."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), messages().ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise FormatError(f"no configuration of a Triton model: {error}", path=path) from error


def same_dims(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes are the same, as far as both state it; as Triton compares the two ends of a border."""
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def fits(entry: Any, dtype: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is what an entry of a configuration states of it, as its model sees it.

    entry  a ModelInput or ModelOutput
    dtype  by TensorFlow's name
    shape  of the tensor, -1 where a size is not known
    """
    name: str = messages().DataType.Name(entry.data_type)
    dims = entry.reshape.shape if entry.HasField("reshape") else entry.dims
    return name == _DTYPES.get(dtype) and same_dims(list(dims), list(shape))
