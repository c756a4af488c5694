"""Sections one after another in one graph.

    image ─▶ [main] ─▶ scores, boxes ─▶ [post] ─▶ detections        the placeholders at the border are gone

Nodes that two sections hold are there twice; TensorFlow gives the second one a name of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphsplit.errors import FormatError
from graphsplit.formats import GraphDefModel
from graphsplit.parts.parts import Part
from graphsplit.runtimes.arrays import error_text

__all__ = ["join"]


def join(sections: Sequence[Part], outputs: Sequence[str]) -> tuple[GraphDefModel, Mapping[str, str]]:
    """One model of several sections, and what each tensor that a section is given or gives is called in it.

    sections  in the order they run; GraphDefs that are trusted, since TensorFlow computes constants as it imports them
    outputs   tensors of the whole that the model gives

    Raises FormatError for a section that is no GraphDef or that TensorFlow refuses.
    """
    import tensorflow as tf

    graph = tf.Graph()
    made: dict[str, Any] = {}  # tensor of the whole → tensor in `graph`
    with graph.as_default():
        for part in sections:
            try:
                _append(part, made)
            except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
                raise FormatError(f"section {part.name!r} cannot be joined: {error_text(error)}", path=part.model.path) from error
    names = {tensor: there.name for tensor, there in made.items()}
    content = graph.as_graph_def().SerializeToString(deterministic=True)
    return GraphDefModel([content], output_names=[names[t] for t in outputs]), names


def _append(part: Part, made: dict[str, Any]) -> None:
    """Import a section into the current graph, its inputs wired to what is there."""
    import tensorflow as tf

    graph_def = part.graph_def
    given = {p.name: made[p.tensor] for p in part.inputs if p.tensor in made}
    dropped = {name.rpartition(":")[0] for name in given}
    nodes = [n for n in graph_def.node if n.name not in dropped]
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    read = set()
    for node in graph_def.node:
        stay = [i for i in node.input if not (i.startswith("^") and i[1:] in dropped)]  # a placeholder orders nothing
        del node.input[:]
        node.input.extend(stay)
        read |= {i if ":" in i else f"{i}:0" for i in stay}
    wanted = [p for p in (*part.inputs, *part.outputs) if p.name not in given]
    found = tf.graph_util.import_graph_def(
        graph_def,
        name="",
        input_map={name: tensor for name, tensor in given.items() if name in read},
        return_elements=[p.name for p in wanted],
    )
    made |= {p.tensor: tensor for p, tensor in zip(wanted, found, strict=True)}
    made |= {p.tensor: given[p.name] for p in part.outputs if p.name in given}
