"""Which runtime runs which sections, one line a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from graphsplit.formats import Model
from graphsplit.inference.litert_adapter import LiteRTRuntime
from graphsplit.inference.runtime import Runtime
from graphsplit.inference.tensorflow_adapter import TensorFlowRuntime

__all__ = ["RUNTIMES", "runtime_of"]

#: Format of a section (`Model.section_format`) → the runtime that runs it.
RUNTIMES: Mapping[str, Runtime] = MappingProxyType({"graphdef": TensorFlowRuntime(), "tflite": LiteRTRuntime()})


def runtime_of(model: Model) -> Runtime:
    """The runtime that runs a model."""
    return RUNTIMES[model.section_format]
