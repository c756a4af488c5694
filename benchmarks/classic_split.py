#!/usr/bin/env python3
"""Split a frozen graph at one tensor the classic way: the whole file as a TensorFlow message, nodes copied one by one.

    python benchmarks/classic_split.py MODEL TENSOR DIR

The keep-graph is what `extract_sub_graph` gives; the other half is every node that is not in it, a placeholder for the
tensor, and copies of the constants that both read. It does for this comparison what such scripts do, and no more: no
search for further tensors that cross, no checksums, no manifest.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

__all__ = ["split"]


def split(model: Path, tensor: str, directory: Path) -> None:
    """Write `main.pb` and `post.pb`. Raises SystemExit when something else crosses."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    target = tensor.partition(":")[0]
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(model.read_bytes())
    keep = tf.compat.v1.graph_util.extract_sub_graph(graph, [target])

    kept = {node.name: node for node in keep.node}
    remove = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    border = remove.node.add(name=target, op="Placeholder")
    border.attr["dtype"].type = kept[target].attr["T"].type
    shared: set[str] = set()
    for node in graph.node:
        if node.name in kept:
            continue
        copy = remove.node.add()
        copy.CopyFrom(node)
        stay = [raw for raw in node.input if not raw.startswith("^") or raw[1:] not in kept]
        if len(stay) < len(node.input):  # an order of execution cannot cross
            copy.ClearField("input")
            copy.input.extend(stay)
        for raw in stay:
            name = raw.partition(":")[0]
            if name in kept and name not in shared and name != target:
                if kept[name].op != "Const":
                    raise SystemExit(f"{name} is read on both sides of {target}; name a tensor that divides the graph")
                shared.add(name)
                remove.node.append(kept[name])

    directory.mkdir(parents=True, exist_ok=True)
    for name, half in (("main", keep), ("post", remove)):
        (directory / f"{name}.pb").write_bytes(half.SerializeToString())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="a frozen GraphDef")
    parser.add_argument("tensor", metavar="TENSOR", help="where to cut")
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder for main.pb and post.pb")
    args = parser.parse_args()
    split(args.model, args.tensor, args.directory)


if __name__ == "__main__":
    main()
