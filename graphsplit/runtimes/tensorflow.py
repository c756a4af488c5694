"""GraphDefs in TensorFlow: sessions of their own, and the inference of shapes.

Every session has its own graph. No default graph is touched, no global switch flipped, nothing seeded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphsplit.errors import FormatError
from graphsplit.graph.index import Shape

__all__ = ["TensorFlowSession", "as_array", "dtype_name", "error_text", "infer_shapes", "session_config", "transfer_times"]

Array = np.ndarray[Any, Any]

_PREAMBLE = re.compile(r"=+$|Graph execution error:|Detected at node |Node: |\d+ root error\(s\) found|Original stack trace for ")


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


def as_array(value: Any) -> Array:
    """What is fed or was fetched as an array; strings as objects, since NumPy's own strings lose zeros at their end."""
    found = np.asarray(value)
    return np.asarray(value, dtype=object) if found.dtype.kind in "SU" and not isinstance(value, np.ndarray) else found


def dtype_name(array: Array) -> str:
    """The dtype of an array by TensorFlow's name; quantised ones are records of one field to NumPy."""
    name: str = array.dtype.names[0] if array.dtype.names else array.dtype.name
    return "string" if array.dtype.kind in "OSU" else name


class TensorFlowSession:
    """A GraphDef, ready to run.

    graph_def  serialised GraphDef
    optimize   see `session_config`
    timeout    seconds one run may take, so that no graph can hang its user; None: no bound
    config     a ``ConfigProto`` to use instead of one made here
    target     the master to ask (``grpc://host:port``); empty: this process

    Raises FormatError for a graph that TensorFlow refuses.
    """

    def __init__(
        self, graph_def: bytes, *, optimize: bool = True, timeout: float | None = None, config: Any = None, target: str = ""
    ) -> None:
        import tensorflow as tf

        self._graph = tf.Graph()
        with self._graph.as_default():
            import_graph(graph_def)
        config = session_config(optimize=optimize) if config is None else config
        self._session = tf.compat.v1.Session(target, graph=self._graph, config=config)
        self._options = None
        if timeout is not None:
            self._options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors. Raises TensorFlow's own errors, and TimeoutError."""
        from tensorflow import errors

        try:
            found = self._session.run(list(fetches), dict(feeds), options=self._options)
        except errors.DeadlineExceededError as error:
            raise TimeoutError("it did not end in time") from error
        return [as_array(value) for value in found]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A call that takes the values of `feeds` in order and gives those of `fetches`; all look-ups are done once, here."""
        call = self._session.make_callable(list(fetches), feed_list=list(feeds))

        def run(values: Sequence[Any]) -> list[Array]:
            found: list[Array] = call(*values)
            return found

        return run

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
        raise FormatError(f"TensorFlow refuses the graph: {error_text(error)}") from error


def error_text(error: BaseException) -> str:
    """What an error of TensorFlow says, in one line: without what it says of Python code, with the node where it is known."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = next((line for line in lines if line and not _PREAMBLE.match(line)), type(error).__name__)
    told = re.sub(r"^\(0\) [A-Z_]+: ", "", told)  # the first of several
    node = getattr(getattr(error, "node_def", None), "name", "")
    return f"{told} (node {node!r})" if node and repr(node) not in told else told


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


def transfer_times(graph_def: Any, device: str, feeds: Mapping[str, Any], fetches: Sequence[str]) -> dict[str, float] | None:
    """Milliseconds that kernels and copies took in one traced run on an accelerator; None where TensorFlow does not tell.

    graph_def  a ``tf.compat.v1.GraphDef``
    device     where its nodes are to run
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        with tf.device(device):
            tf.graph_util.import_graph_def(graph_def, name="")
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        with tf.compat.v1.Session(graph=graph, config=session_config()) as session:
            session.run(list(fetches), dict(feeds))
            metadata = tf.compat.v1.RunMetadata()
            session.run(list(fetches), dict(feeds), options=options, run_metadata=metadata)
    kernels = copies = 0
    for stats in metadata.step_stats.dev_stats:
        if "/stream:" in stats.device:
            for node in stats.node_stats:
                if "memcpy" in node.timeline_label.lower() or "memcpy" in node.node_name.lower():
                    copies += node.op_end_rel_micros
                else:
                    kernels += node.op_end_rel_micros
    return {"device_ms": kernels / 1000, "copy_ms": copies / 1000} if kernels else None
