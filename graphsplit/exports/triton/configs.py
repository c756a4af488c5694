"""Configurations of Triton models: Triton's own messages, written as text and read back.

Sources: docs/user_guide/model_configuration.md of triton-inference-server/server, ensemble_utils.cc of its core, and
tensorflow_utils.cc of its tensorflow_backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

from graphsplit.errors import FormatError, MissingExtraError
from graphsplit.parts.parts import Port

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInput, ModelOutput

__all__ = [
    "CONFIG",
    "ENSEMBLE",
    "SAVED_MODEL",
    "TENSORFLOW",
    "Stated",
    "config_text",
    "fits",
    "messages",
    "read_config",
    "same_dims",
    "stated",
]

CONFIG = "config.pbtxt"
SAVED_MODEL = "model.savedmodel"  # the name that Triton expects in a version
ENSEMBLE, TENSORFLOW = "ensemble", "tensorflow_savedmodel"  # platforms

# The dtypes of Triton's TensorFlow backend.
_DTYPES = {
    "bool": "TYPE_BOOL",
    "string": "TYPE_STRING",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    **{f"{kind}{bits}": f"TYPE_{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


class Stated(TypedDict):
    """What a configuration states of a tensor: the name of its dtype, and its sizes, -1 for an unknown one."""

    data_type: str
    dims: list[int]


def messages() -> ModuleType:
    """The module of Triton's messages. Raises MissingExtraError."""
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingExtraError("Triton's client (tritonclient)", extra="triton") from error
    module: ModuleType = model_config_pb2
    return module


def stated(port: Port) -> Stated:
    """Dtype and dims of a tensor as a configuration states them; Triton takes a scalar as [1].

    Raises:
        FormatError: Triton's TensorFlow backend lacks the dtype, or the rank is unknown.
    """
    if port.dtype not in _DTYPES:
        raise FormatError(
            f"{port.tensor!r} is {port.dtype or 'of unknown dtype'}, which Triton's TensorFlow backend lacks; cut elsewhere"
        )
    if port.shape is None:
        raise FormatError(f"the rank of {port.tensor!r} is unknown, and Triton needs it; cut elsewhere, or split with shapes")
    return {"data_type": _DTYPES[port.dtype], "dims": [-1 if d is None else d for d in port.shape] or [1]}


def config_text(config: ModelConfig) -> str:
    """A configuration as text."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def read_config(path: Path) -> ModelConfig:
    """Read a configuration. Raises FormatError."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), messages().ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise FormatError(f"not a configuration of a Triton model: {error}", path=path) from error


def same_dims(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes agree as far as both are known, as Triton compares the two ends of a border."""
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def fits(entry: ModelInput | ModelOutput, dtype: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of a model is what a configuration states.

    Args:
        entry: Its input or output in the configuration.
        dtype: TensorFlow's name of its dtype.
        shape: Its shape; -1 for an unknown size.
    """
    name: str = messages().DataType.Name(entry.data_type)
    dims = entry.reshape.shape if entry.HasField("reshape") else entry.dims
    return name == _DTYPES.get(dtype) and same_dims(list(dims), list(shape))
