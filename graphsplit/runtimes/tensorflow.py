"""GraphDefs in TensorFlow: sessions of their own, and the inference of shapes.

Every session has its own graph. No default graph is touched, no global switch flipped, nothing seeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphsplit.errors import FormatError
from graphsplit.graph import Shape

__all__ = ["TensorFlowSession", "infer_shapes", "session_config"]

Array = np.ndarray[Any, Any]


def session_config(*, optimize: bool = True) -> Any:
    """A ``ConfigProto``: soft placement, GPU memory that grows.

    optimize  whether Grappler may rewrite the graph; without it every legal cut is bit-equal to the whole, with it a cut
              between a convolution and its batch normalisation stops a fusion and differs by rounding
    """
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimize
    return config


class TensorFlowSession:
    """A GraphDef, ready to run.

    graph_def  serialised GraphDef
    optimize   see `session_config`
    timeout    seconds one run may take, so that no graph can hang its user; None: no bound

    Raises FormatError for a graph that TensorFlow refuses.
    """

    def __init__(self, graph_def: bytes, *, optimize: bool = True, timeout: float | None = None) -> None:
        import tensorflow as tf

        self._graph = tf.Graph()
        with self._graph.as_default():
            import_graph(graph_def)
        self._session = tf.compat.v1.Session(graph=self._graph, config=session_config(optimize=optimize))
        self._options = None
        if timeout is not None:
            self._options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors. Raises TensorFlow's own errors."""
        found = self._session.run(list(fetches), dict(feeds), options=self._options)
        return [np.asarray(value) for value in found]

    def close(self) -> None:
        """Release what the session holds. It cannot run any more."""
        self._session.close()

    def __enter__(self) -> TensorFlowSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def import_graph(graph_def: bytes) -> None:
    """Import a serialised GraphDef into the current graph. Raises FormatError."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(graph_def), name="")
    except (ValueError, TypeError, KeyError, DecodeError, tf.errors.OpError) as error:
        raise FormatError(f"TensorFlow refuses the graph: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def infer_shapes(graph_def: bytes, tensors: Sequence[str]) -> dict[str, tuple[str, Shape | None]]:
    """Dtype and shape of some tensors, inferred by TensorFlow while it imports the graph; nothing is run.

    Raises FormatError for a graph that TensorFlow refuses.
    """
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        import_graph(graph_def)
    found = {}
    for name in tensors:
        tensor = graph.get_tensor_by_name(name)
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        found[name] = (tensor.dtype.base_dtype.name, shape)
    return found
