"""A model that is fed at the tensors of its signature, computed ones included.

tf_example ─▶ ParseExample ─▶ x ║─▶ Mul ─▶ y          signature x → y: x is fed, tf_example is not
"""

from __future__ import annotations

from collections.abc import Mapping

from graphsplit.formats.graphdef.messages import Message, read_shape
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.signature import Signature
from graphsplit.graph.traversal import reachable

__all__ = ["fed_at", "stated_specs"]


def stated_specs(entries: Mapping[str, Message]) -> dict[str, TensorSpec]:
    """Dtype and shape as a signature states them: tensor → spec, from tensor → TensorInfo."""
    return {t: TensorSpec(t, op_table().dtypes.get(info.dtype % 100), read_shape(info.tensor_shape)) for t, info in entries.items()}


def fed_at(model: GraphDefModel, inputs: Mapping[str, TensorSpec]) -> GraphDefModel:
    """The model with a placeholder for each input that it would compute; the model itself if there is none.

    Args:
        model: The model.
        inputs: The inputs of its signature.
    """
    index, signature = model.index, model.signature
    fed = [spec for t, spec in inputs.items() if t in index.tensors and t not in index.inputs]
    computed = {spec.name for spec in fed}
    if not fed:
        return model
    nodes, producer = index.name_to_node_map, index.producer
    ends = [t for t in (*index.outputs, *inputs) if t not in computed and t in producer]
    needed = reachable(
        (producer[t] for t in ends),
        lambda n: (*(producer[t] for t in nodes[n].inputs if t not in computed), *nodes[n].control_inputs),
    )
    section, names = model.section([n.name for n in index.nodes if n.name in needed], fed, index.outputs)

    def renamed(keys: Mapping[str, str]) -> dict[str, str]:
        return {key: names.get(tensor, tensor) for key, tensor in keys.items()}

    return GraphDefModel(
        [section.serialized()],
        path=model.path,
        source=model.origin,
        format=model.format,
        output_names=tuple(names.get(t, t) for t in index.outputs),
        signature=Signature(renamed(signature.inputs), renamed(signature.outputs)),
    )
