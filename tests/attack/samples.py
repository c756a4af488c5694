"""The legal files that campaigns change: `python -m tests.attack.samples FOLDER` writes a folder for each kind.

A file of its own process writes them, so that the workers which read them need not import TensorFlow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]

_AFFINITY = {"Conv2D": "accelerator", "Relu": "either", "Where": "host", "TopKV2": "host"}
_CLUSTER = {"worker": ["127.0.0.1:2222", "localhost:2223"], "ps": ["[::1]:2224", "host.example:65535"]}
_LABELS = {
    "map.pbtxt": "".join(f'item {{\n  id: {i}\n  name: "/m/{i}"\n  display_name: "thing {i}"\n}}\n' for i in range(1, 5)),
    "numbers.txt": "1 person\n2 bicycle\n13 stop sign\n",
    "names.txt": "person\nbicycle\ncar\n",
}
_PRESET = {
    "schema": 1,
    "presets": [
        {
            "name": "own",
            "family": "own",
            "title": "A family of ours",
            "targets": ["cut*"],
            "conditions": [
                {
                    "says": "the cut is read",
                    "node": "cut*",
                    "op": "{Tanh,Neg}",
                    "reads": "x",
                    "feeds": "*",
                    "needs": {"kind": "input"},
                }
            ],
            "models": ["one"],
        }
    ],
}
_CROP = {"0": {"inputs": ["x:0"], "outputs": ["cut:0"]}, "1": {"output": "y"}}


def main() -> None:
    """The command line."""
    folder = Path(sys.argv[1])
    for kind in ("graphdef", "pbtxt", "tflite", "saved_model", "keras", "split", "json", "labels"):
        (folder / kind).mkdir(parents=True)
    _write_graphs(folder)
    _write_tflite(folder / "tflite")
    _write_loaded(folder)
    documents = {"affinity": _AFFINITY, "cluster": _CLUSTER, "preset": _PRESET, "crop": _CROP, "crops": [_CROP["0"], _CROP["1"]]}
    for name, content in documents.items():
        (folder / "json" / f"{name}.json").write_text(json.dumps(content))
    for name, text in _LABELS.items():
        (folder / "labels" / name).write_text(text)


def _write_graphs(folder: Path) -> None:
    import tensorflow as tf
    from google.protobuf import text_format

    import graphsplit as gs
    from tests.graphs import Func, const, function, model, node, placeholder
    from tests.test_surgery_tensorflow import example

    graphs: dict[str, Any] = {}
    for seed in (0, 3, 7, 11, 23, 42, 56, 71):
        graphs[f"random{seed}"] = example(seed).model
    small = model(
        placeholder("x", [None, 4]), node("cut", "Tanh", "x"), const("c", [[1.0, 2.0, 3.0, 4.0]]), node("y", "Add", "cut", "c")
    )
    graphs["small"] = small
    inner = function("inner", {"a": tf.float32}, {"b": tf.float32}, [node("n", "Neg", "a")], {"b": "n:y:0"})

    graphs["called"] = model(
        placeholder("x", [None, 4]),
        node("cut", "PartitionedCall", "x", Tin=[tf.float32], Tout=[tf.float32], f=Func(name="inner")),
        node("y", "Exp", "cut"),
        functions=[inner],
    )
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
        kernel = tf.constant(0.1, shape=[3, 3, 3, 4])
        conv = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(image, kernel, 2, "SAME"), tf.zeros(4)), name="conv")
        scores = tf.nn.softmax(tf.reshape(conv, [-1, 64]), name="scores")
        tf.math.top_k(scores, 3, name="top")
    graphs["network"] = gs.formats.GraphDefModel([graph.as_graph_def().SerializeToString(deterministic=True)])
    for name, whole in graphs.items():
        data = whole.serialized()
        (folder / "graphdef" / f"{name}.pb").write_bytes(data)
        message = tf.compat.v1.GraphDef.FromString(data)
        (folder / "pbtxt" / f"{name}.pbtxt").write_text(text_format.MessageToString(message))
    for name, cut in {"small": "cut", "called": "cut", "network": "conv"}.items():
        gs.save(gs.split(graphs[name], outputs=cut), folder / "split" / name)


def _write_tflite(folder: Path) -> None:
    from tests.formats.tflite.builder import chain, everything, looped, sparse

    built = {"everything": everything(), "looped": looped(nested=True), "sparse": sparse(), "chain": chain(4)}
    for name, model in built.items():
        (folder / f"{name}.tflite").write_bytes(model.bytes())
    (folder / "behind.tflite").write_bytes(everything().bytes(behind=True))


def _write_loaded(folder: Path) -> None:
    import keras
    import tensorflow as tf

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, strides=2)(image)))
    whole = keras.Model(image, keras.layers.Dense(5, name="scores")(keras.layers.GlobalAveragePooling2D()(x)))
    whole.save(folder / "keras" / "small.keras")
    whole.save(folder / "keras" / "small.h5")

    class Twice(tf.Module):
        def __init__(self) -> None:
            self.weight = tf.Variable(tf.ones([4, 3]))
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1, 2], [3, 4]), 0)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def __call__(self, x: Any) -> Any:
            return {"y": tf.nn.relu(x @ self.weight), "z": tf.reduce_sum(x)}

    tf.saved_model.save(Twice(), str(folder / "saved_model" / "objects"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        weight = tf.compat.v1.get_variable("w", initializer=tf.ones([4, 3]), use_resource=True)
        y = tf.nn.relu(x @ weight, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(folder / "saved_model" / "graph"), {"x": x}, {"y": y})


if __name__ == "__main__":
    main()
