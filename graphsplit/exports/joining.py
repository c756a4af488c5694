"""The sections of a split, joined in one graph.

    image ─▶ [main] ─▶ scores, boxes ─▶ [post] ─▶ detections        without the placeholders at the border

Nodes that two sections hold are there twice; TensorFlow renames the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graphsplit.errors import FormatError
from graphsplit.formats import GraphDefModel
from graphsplit.parts.parts import Part
from graphsplit.runtimes.arrays import error_text

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["join"]


def join(sections: Sequence[Part], outputs: Sequence[str]) -> tuple[GraphDefModel, Mapping[str, str]]:
    """Join sections.

    Args:
        sections: In the order they run; trusted GraphDefs, since TensorFlow computes constants as it imports them.
        outputs: Outputs of the joined model, as named in the whole.

    Returns:
        The joined model, and the name in it of each input and output of a section.

    Raises:
        FormatError: A section is not a GraphDef, or TensorFlow refuses it.
    """
    import tensorflow as tf

    graph = tf.Graph()
    joined: dict[str, tf.Tensor] = {}  # tensor of the whole → tensor in `graph`
    with graph.as_default():
        for part in sections:
            try:
                _append(part, joined)
            except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
                raise FormatError(f"section {part.name!r} cannot be joined: {error_text(error)}", path=part.model.path) from error
    names = {tensor: there.name for tensor, there in joined.items()}
    content = graph.as_graph_def().SerializeToString(deterministic=True)
    return GraphDefModel([content], output_names=[names[t] for t in outputs]), names


def _append(part: Part, joined: dict[str, tf.Tensor]) -> None:
    """Import a section into the current graph, its inputs wired to the tensors of the sections before."""
    import tensorflow as tf

    graph_def = part.graph_def
    wired = {p.name: joined[p.tensor] for p in part.inputs if p.tensor in joined}
    dropped = {name.rpartition(":")[0] for name in wired}
    nodes = [n for n in graph_def.node if n.name not in dropped]
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    read = set()
    for node in graph_def.node:
        stay = [i for i in node.input if not (i.startswith("^") and i[1:] in dropped)]  # of a placeholder: no effect
        del node.input[:]
        node.input.extend(stay)
        read |= {i if ":" in i else f"{i}:0" for i in stay}
    ports = [p for p in (*part.inputs, *part.outputs) if p.name not in wired]
    tensors = tf.graph_util.import_graph_def(
        graph_def,
        name="",
        input_map={name: tensor for name, tensor in wired.items() if name in read},
        return_elements=[p.name for p in ports],
    )
    joined |= {p.tensor: tensor for p, tensor in zip(ports, tensors, strict=True)}
    joined |= {p.tensor: wired[p.name] for p in part.outputs if p.name in wired}
