"""A graph as a SavedModel with one signature, written and read back by TensorFlow, in a graph and a session of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphsplit.exports.sources import Source, Written
from graphsplit.formats.freeze import loading
from graphsplit.parts.parts import Port
from graphsplit.runtimes.arrays import Array, as_array
from graphsplit.runtimes.tensorflow import import_graph, session_config

__all__ = ["SIGNATURE", "SavedModelSession", "write_saved_model"]


#: The key under which TensorFlow Serving and the converters look.
SIGNATURE = "serving_default"
_METHOD = "tensorflow/serving/predict"


def write_saved_model(source: Source, keys: Mapping[str, str], path: Path) -> Written:
    """Write a SavedModel folder, whose tensors go by their keys.

    keys  tensor → its key in the signature

    Raises FormatError.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    with loading(path, "TensorFlow cannot write the SavedModel", "nothing was written"), tf.Graph().as_default() as graph:
        import_graph(source.model.serialized())
        signature = meta_graph_pb2.SignatureDef(method_name=_METHOD)
        fed = {p.name for p in source.inputs}
        for into, ports in ((signature.inputs, source.inputs), (signature.outputs, source.outputs)):
            for port in ports:
                tensor = graph.get_tensor_by_name(port.name)
                if into is signature.outputs and port.name in fed:  # TensorFlow's C++ side refuses to fetch what is fed
                    tensor = tf.identity(tensor)
                into[keys[port.tensor]].CopyFrom(_info(tensor, port))
        with tf.compat.v1.Session(graph=graph, config=session_config()) as session:
            builder = tf.compat.v1.saved_model.Builder(str(path))
            builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], {SIGNATURE: signature})
            builder.save()
    return Written(tuple(keys[p.tensor] for p in source.inputs), tuple(keys[p.tensor] for p in source.outputs))


def _info(tensor: Any, port: Port) -> Any:
    """A tensor of the graph as a signature states it, with the sizes that were inferred (an import alone loses some)."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    shape = tensor.shape if port.shape is None else tf.TensorShape(port.shape)
    return meta_graph_pb2.TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=shape.as_proto())


def _sizes(shape: Any) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(d.size for d in shape.dim)


class SavedModelSession:
    """A SavedModel, loaded as TensorFlow Serving loads it; tensors go by the keys of its signature.

    timeout  seconds one run may take

    Without Grappler, as the source runs when both are compared. Raises FormatError for one that TensorFlow refuses.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        import tensorflow as tf

        with loading(path, "TensorFlow cannot load the SavedModel it wrote", "nothing was written"):
            self._session = tf.compat.v1.Session(graph=tf.Graph(), config=session_config(optimize=False))
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        signature = loaded.signature_def[SIGNATURE]
        infos = {key: info for part in (signature.inputs, signature.outputs) for key, info in part.items()}
        self._names = {key: info.name for key, info in infos.items()}
        #: key → (dtype, sizes with -1 for what is not known; None: not even how many) as the signature states it
        self.stated = {key: (tf.as_dtype(info.dtype).name, _sizes(info.tensor_shape)) for key, info in infos.items()}
        self._options = tf.compat.v1.RunOptions(timeout_in_ms=int(timeout * 1000))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some keys. Raises TensorFlow's own errors."""
        found = self._session.run(
            [self._names[key] for key in fetches], {self._names[k]: v for k, v in feeds.items()}, options=self._options
        )
        return [as_array(value) for value in found]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A call that takes the values of `feeds` in order and gives those of `fetches`."""
        return lambda values: self.run(dict(zip(feeds, values, strict=True)), fetches)

    def close(self) -> None:
        """Release what the session holds."""
        self._session.close()
