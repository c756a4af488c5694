"""A model of any format, ready to run in the runtime of its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol

import numpy as np

from graphsplit.formats import Model, as_graphdef

__all__ = ["Session", "open_session"]

Array = np.ndarray[Any, Any]


class Session(Protocol):
    """What every runtime gives. Tensors go by the names of the model's index."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors."""
        ...

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A call that takes the values of `feeds` in order and gives those of `fetches`."""
        ...

    def close(self) -> None:
        """Release what the session holds."""
        ...


def open_session(
    model: Model,
    *,
    optimize: bool = True,
    timeout: float | None = None,
    threads: int | None = None,
    delegates: Sequence[str | PathLike[str]] = (),
    config: Any = None,
) -> Session:
    """A session of a model.

    optimize   as deployed (Grappler; XNNPACK); without it every legal cut is bit-equal to the whole
    timeout    seconds one run may take; None: no bound
    threads    of a TFLite interpreter (default: LiteRT's own, one)
    delegates  paths of TFLite delegates
    config     a ``ConfigProto`` for a GraphDef

    Raises FormatError for a model that its runtime refuses, MissingExtraError where that is not installed.
    """
    if model.section_format == "tflite":
        from graphsplit.formats.tflite.model import TFLiteModel
        from graphsplit.runtimes.litert import LiteRTSession

        assert isinstance(model, TFLiteModel)
        names = model.reader.names
        return LiteRTSession(model.serialized(), names, optimize=optimize, timeout=timeout, threads=threads, delegates=delegates)
    from graphsplit.runtimes.tensorflow import TensorFlowSession

    graph_def = as_graphdef(model, "TensorFlow").serialized()
    return TensorFlowSession(graph_def, optimize=optimize, timeout=timeout, config=config)
