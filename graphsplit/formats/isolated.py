"""Models that TensorFlow or Keras has to load, loaded and frozen in the child process (see `graphsplit.isolation.shared`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from graphsplit.errors import FormatError
from graphsplit.graph.signature import Signature
from graphsplit.isolation.failures import ChildError, OutOfMemoryError, OutOfTimeError

if TYPE_CHECKING:
    from graphsplit.isolation.messages import Answer, Task

__all__ = ["Frozen", "answer", "freeze_apart"]

_DEADLINE = 300.0  # seconds that loading and freezing may take


class Frozen(NamedTuple):
    """A model as a frozen GraphDef.

    Attributes:
        data: The GraphDef.
        outputs: Its output tensors.
        signature: The keys of its inputs and outputs.
    """

    data: bytes | memoryview
    outputs: tuple[str, ...]
    signature: Signature


def answer(data: bytes | memoryview, outputs: tuple[str, ...], signature: Signature) -> Answer:
    """A frozen model as the answer of a task."""
    import numpy as np

    said = {"outputs": list(outputs), "keys": [dict(signature.inputs), dict(signature.outputs)]}
    return said, [np.frombuffer(data, dtype=np.uint8)]


def freeze_apart(task: Task, said: Mapping[str, object], path: Path, *, patient: bool = False) -> Frozen:
    """Have the child load and freeze a model.

    Args:
        task: Returns what `answer` does.
        said: Its argument, as JSON.
        path: The model, for errors.
        patient: Let it wait for files or the network.

    Raises:
        FormatError: The model cannot be loaded, or the child did not survive it.
        Exception: Whatever the task raises.
    """
    from graphsplit.isolation.shared import call  # imports NumPy, which --help does not need

    try:
        reply, _ = call(task, dict(said), deadline=_DEADLINE, patient=patient)
        return _frozen(reply.value, reply.arrays)
    except ChildError as error:
        raise FormatError(f"loading it {error}; {_way_on(error)}", path=path) from error


def _way_on(error: ChildError) -> str:
    if isinstance(error, (OutOfMemoryError, OutOfTimeError)):
        return "freeze it where there is more of that, and pass the frozen graph"
    return "save it again with the TensorFlow that is installed, or pass its frozen graph"


def _frozen(said: Any, arrays: tuple[Any, ...]) -> Frozen:
    """The model in an answer. Raises ChildError for anything else."""
    try:
        (data,), outputs, (inputs, keys) = arrays, said["outputs"], said["keys"]
        texts = [*outputs, *inputs, *inputs.values(), *keys, *keys.values()]
        if data.dtype == "uint8" and data.ndim == 1 and all(isinstance(text, str) for text in texts):
            return Frozen(data.data, tuple(outputs), Signature(inputs, keys))
    except (TypeError, ValueError, KeyError, AttributeError):
        pass
    raise ChildError("sent what is not an answer")
