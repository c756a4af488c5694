"""A graph as a SavedModel with one signature, written and read back by TensorFlow in a separate graph and session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphsplit.exports.sources import Source, Written
from graphsplit.formats.freeze import loading
from graphsplit.parts.parts import Port
from graphsplit.runtimes.arrays import Array, as_array
from graphsplit.runtimes.tensorflow import import_graph, session_config

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_shape_pb2
    from tensorflow.core.protobuf import meta_graph_pb2

__all__ = ["SIGNATURE", "SavedModelSession", "write_saved_model"]

#: The key that TensorFlow Serving and the converters look up.
SIGNATURE = "serving_default"
_METHOD = "tensorflow/serving/predict"


def write_saved_model(source: Source, keys: Mapping[str, str], path: Path) -> Written:
    """Write a SavedModel folder.

    Args:
        source: The graph.
        keys: Tensor → its key in the signature.
        path: The folder.

    Returns:
        The keys of its inputs and outputs.

    Raises:
        FormatError: TensorFlow refuses the graph.
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
                if into is signature.outputs and port.name in fed:  # TensorFlow's C++ API cannot fetch a tensor that is fed
                    tensor = tf.identity(tensor)
                into[keys[port.tensor]].CopyFrom(_info(tensor, port))
                if into is signature.inputs and port.optional and tensor.op.inputs[0].op.type == "Const":
                    signature.defaults[keys[port.tensor]].CopyFrom(tensor.op.inputs[0].op.get_attr("value"))
        with tf.compat.v1.Session(graph=graph, config=session_config()) as session:
            builder = tf.compat.v1.saved_model.Builder(str(path))
            builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], {SIGNATURE: signature})
            builder.save()
    return Written(tuple(keys[p.tensor] for p in source.inputs), tuple(keys[p.tensor] for p in source.outputs))


def _info(tensor: tf.Tensor, port: Port) -> meta_graph_pb2.TensorInfo:
    """A tensor in a signature, with the inferred sizes, of which an import alone loses some."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    shape = tensor.shape if port.shape is None else tf.TensorShape(port.shape)
    return meta_graph_pb2.TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=shape.as_proto())


def _sizes(shape: tensor_shape_pb2.TensorShapeProto) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(d.size for d in shape.dim)


class SavedModelSession:
    """A SavedModel, loaded as TensorFlow Serving loads it; tensors are named by the keys of its signature.

    It runs without Grappler, as the source does when both are compared.

    Args:
        path: The folder.
        timeout: Seconds that one run may take.

    Attributes:
        stated: Key → dtype and sizes as the signature states them: -1 for an unknown size, None for an unknown rank.

    Raises:
        FormatError: TensorFlow refuses it.
    """

    def __init__(self, path: Path, *, timeout: float) -> None:
        import tensorflow as tf

        with loading(path, "TensorFlow cannot load the SavedModel it wrote", "nothing was written"):
            self._session = tf.compat.v1.Session(graph=tf.Graph(), config=session_config(optimize=False))
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        signature = loaded.signature_def[SIGNATURE]
        infos = {key: info for part in (signature.inputs, signature.outputs) for key, info in part.items()}
        self._fed = {key: info.name for key, info in signature.inputs.items()}
        self._fetched = {key: info.name for key, info in signature.outputs.items()}  # a key may be that of an input, too
        self.stated = {key: (tf.as_dtype(info.dtype).name, _sizes(info.tensor_shape)) for key, info in infos.items()}
        self._options = tf.compat.v1.RunOptions(timeout_in_ms=int(timeout * 1000))

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some keys. Raises TensorFlow's own errors."""
        values = self._session.run(
            [self._fetched[key] for key in fetches], {self._fed[k]: v for k, v in feeds.items()}, options=self._options
        )
        return [as_array(value) for value in values]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A function from the values of `feeds`, in order, to those of `fetches`."""
        return lambda values: self.run(dict(zip(feeds, values, strict=True)), fetches)

    def close(self) -> None:
        """Release the session."""
        self._session.close()
