"""GraphDefs in TensorFlow: sessions, shape inference, and the times of a traced run.

Every session has its own graph. No default graph is touched, no global switch flipped, nothing seeded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.graph.index import Shape
from graphsplit.runtimes.arrays import Array, as_array, error_text

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "TensorFlowSession",
    "check_not_forked",
    "import_graph",
    "infer_shapes",
    "pooled_config",
    "session_config",
    "transfer_times",
]

_ran_in: set[int] = set()  # the process in which TensorFlow has started its threads, if it has


def check_not_forked() -> None:
    """Refuse to run TensorFlow in a fork of a process that has run it: its threads are missing, and it waits for them forever.

    Raises:
        GraphSplitError: Says how to start processes instead.
    """
    _ran_in.add(os.getpid())
    if len(_ran_in) > 1:
        _ran_in.discard(os.getpid())
        raise GraphSplitError(
            "TensorFlow has run in the process that this one was forked from, and cannot run in a fork; start processes with "
            'multiprocessing.get_context("spawn"), or before anything is run'
        )


def session_config(*, optimize: bool = True) -> tf.compat.v1.ConfigProto:
    """A ``ConfigProto`` with soft placement and GPU memory that grows.

    Args:
        optimize: Whether Grappler may rewrite the graph. Without it every legal cut is bit-equal to the whole; with it, a cut
            between a convolution and its batch normalisation prevents a fusion and differs by rounding.

    Raises:
        GraphSplitError: As of `check_not_forked`.
    """
    import tensorflow as tf

    check_not_forked()
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimize
    return config


def pooled_config(config: Any, threads: int) -> tf.compat.v1.ConfigProto:
    """A copy of a ``ConfigProto`` for a session with its own thread pools.

    With TensorFlow's shared pools, two sessions on the CPU do not overlap.
    """
    copy = type(config)()
    copy.CopyFrom(config)
    copy.use_per_session_threads = True
    copy.inter_op_parallelism_threads = copy.intra_op_parallelism_threads = threads
    return copy


class TensorFlowSession:
    """A GraphDef that is ready to run.

    Args:
        graph_def: Serialised GraphDef.
        optimize: See `session_config`.
        timeout: Seconds one run may take, so that no graph can hang its caller; None: unlimited.
        config: A ``ConfigProto`` to use instead of `session_config`'s.
        target: Master to connect to (``grpc://host:port``); empty: this process.

    Raises:
        FormatError: TensorFlow refuses the graph.
        GraphSplitError: This process is a fork of one that has run TensorFlow.
    """

    def __init__(
        self, graph_def: bytes, *, optimize: bool = True, timeout: float | None = None, config: Any = None, target: str = ""
    ) -> None:
        import tensorflow as tf

        check_not_forked()
        self._graph = tf.Graph()
        with self._graph.as_default():
            import_graph(graph_def)
        config = session_config(optimize=optimize) if config is None else config
        self._session = tf.compat.v1.Session(target, graph=self._graph, config=config)
        self._options = None
        if timeout is not None:
            self._options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors.

        Raises:
            TimeoutError: The run took longer than `timeout`.
            tf.errors.OpError: Whatever TensorFlow raises.
        """
        from tensorflow import errors

        try:
            values = self._session.run(list(fetches), dict(feeds), options=self._options)
        except errors.DeadlineExceededError as error:
            raise TimeoutError("the run did not end in time") from error
        return [as_array(value) for value in values]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Array]], list[Array]]:
        """A call that takes the values of `feeds` in order and returns those of `fetches`; names are looked up once, here."""
        call = self._session.make_callable(list(fetches), feed_list=list(feeds))

        def run(values: Sequence[Array]) -> list[Array]:
            fetched: list[Array] = call(*values)
            return fetched

        return run

    def close(self) -> None:
        """Release what the session holds. It cannot run afterwards."""
        self._session.close()

    def __enter__(self) -> TensorFlowSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def import_graph(graph_def: bytes) -> None:
    """Import a serialised GraphDef into the current graph.

    Raises:
        FormatError: TensorFlow refuses the graph.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(graph_def), name="")
    except (ValueError, TypeError, KeyError, DecodeError, tf.errors.OpError) as error:
        raise FormatError(f"TensorFlow refuses the graph: {error_text(error)}") from error


def infer_shapes(graph_def: bytes, tensors: Sequence[str]) -> dict[str, tuple[str, Shape | None]]:
    """Dtype and shape of some tensors, as TensorFlow infers them while it imports the graph; nothing is run.

    Returns:
        Tensor → (dtype, shape); a shape of None is an unknown rank.

    Raises:
        FormatError: TensorFlow refuses the graph.
    """
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        import_graph(graph_def)
    specs = {}
    for name in tensors:
        tensor = graph.get_tensor_by_name(name)
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        specs[name] = (tensor.dtype.base_dtype.name, shape)
    return specs


def transfer_times(
    graph_def: tf.compat.v1.GraphDef, device: str, feeds: Mapping[str, Array], fetches: Sequence[str]
) -> dict[str, float] | None:
    """What kernels and copies took in one traced run on an accelerator.

    Args:
        graph_def: The graph; it is run without a check of trust, since its section has been opened before.
        device: Where its nodes are to run.
        feeds: Tensor → array.
        fetches: Tensors to compute.

    Returns:
        ``{"device_ms": …, "copy_ms": …}``; None if TensorFlow does not report them.
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
