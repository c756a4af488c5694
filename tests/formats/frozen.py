"""Run a loaded model with TensorFlow alone, to compare it with what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphsplit.formats.graphdef.model import GraphDefModel


def run(model: GraphDefModel, feeds: Mapping[str, Any]) -> list[np.ndarray]:
    """The model's outputs, in its own order, computed from its GraphDef in a session of its own."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(model.graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return list(session.run([o.name for o in model.outputs], dict(feeds)))
