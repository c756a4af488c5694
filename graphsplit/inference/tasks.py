"""What the child process does for inference: each function is a task, see `graphsplit.isolation.child`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from graphsplit.inference.adapters import RUNTIMES
from graphsplit.inference.pictures import decode_here, encode_here
from graphsplit.inference.runtime import Session, SessionSettings
from graphsplit.isolation.messages import Answer, Array

__all__ = ["close_session", "decode_picture", "encode_picture", "infer", "open_session", "run_session"]

_sessions: dict[int, Session] = {}
_numbers = count(1)


def infer(value: Any, arrays: Sequence[Array]) -> Answer:
    """Dtypes and shapes of the tensors of a graph."""
    from graphsplit.runtimes.tensorflow import infer_shapes

    return infer_shapes(arrays[0].tobytes(), value), ()


def open_session(value: Any, arrays: Sequence[Array]) -> Answer:
    """A session of a model; its number."""
    runtime = RUNTIMES[value["format"]]
    settings = SessionSettings(optimize=value["optimize"], threads=value["threads"])
    number = next(_numbers)
    _sessions[number] = runtime.open(runtime.read(arrays[0].data), settings)
    return number, ()


def run_session(value: Any, arrays: Sequence[Array]) -> Answer:
    """The values of some tensors in a session."""
    results = _sessions[value["session"]].run(dict(zip(value["feeds"], arrays, strict=True)), value["fetches"])
    return None, [np.asarray(result) for result in results]


def close_session(value: Any, arrays: Sequence[Array]) -> Answer:
    """Release a session."""
    session = _sessions.pop(value, None)
    if session is not None:
        session.close()
    return None, ()


def encode_picture(value: Any, arrays: Sequence[Array]) -> Answer:
    """A picture as the content of a JPEG file."""
    return None, [np.frombuffer(encode_here(arrays[0]), dtype=np.uint8)]


def decode_picture(value: Any, arrays: Sequence[Array]) -> Answer:
    """The content of a picture file, scaled."""
    return None, [decode_here(arrays[0].tobytes(), value)]
