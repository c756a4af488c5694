#!/usr/bin/env python3
"""Write a frozen ResNet-152 with random weights, about 242 MB, and find a tensor in its middle.

python benchmarks/resnet152.py FILE         # makes FILE unless it is there, prints the tensor
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

__all__ = ["make", "middle"]


def make(path: Path) -> None:
    """Freeze the Keras application; the file takes its name only when it is whole."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = keras.applications.ResNet152(weights=None)
    call = tf.function(lambda images: model(images, training=False))
    concrete = call.get_concrete_function(tf.TensorSpec([None, 224, 224, 3], tf.float32, name="images"))
    graph = convert_variables_to_constants_v2(concrete).graph.as_graph_def()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_bytes(graph.SerializeToString())
    os.replace(partial, path)


def middle(path: Path) -> str:
    """The tensor that alone divides the graph, with about as many nodes on the way from the input to it as behind it.

    Names differ between versions of Keras, so it is looked for: in file order, wherever a single tensor that depends on
    the input is still to be read, the graph can be cut.
    """
    import graphsplit

    index = graphsplit.load(path).index
    place = index.node_seq
    fed: dict[str, int] = {}  # node that depends on the input → how many came before it
    pending: dict[str, int] = {}  # tensor that depends on the input → where its last reader stands
    borders: list[str] = []
    for here, node in enumerate(index.nodes):
        if node.kind == "input" or any(index.producer[t] in fed for t in node.inputs):
            fed[node.name] = len(fed)
            pending |= {t: max(map(place.__getitem__, r)) for t in node.outputs if (r := index.consumers.get(t))}
            pending = {t: last for t, last in pending.items() if last > here}
            if node.kind == "op" and list(pending) == [node.outputs[0]]:
                borders.append(node.outputs[0])
    if not borders:
        raise SystemExit(f"{path}: no tensor divides this graph")
    return min(borders, key=lambda t: abs(2 * fed[index.producer[t]] - len(fed)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="where the graph is, or is to be written")
    args = parser.parse_args()
    if not args.file.exists():
        make(args.file)
    print(middle(args.file))


if __name__ == "__main__":
    main()
