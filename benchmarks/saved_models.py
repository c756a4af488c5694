#!/usr/bin/env python3
"""Freezing a SavedModel by reading, against TensorFlow's loader and freezing: whole processes, side by side.

    python benchmarks/saved_models.py [FOLDER …] [--rounds N]

Without folders: a module of 200 MB of variables and 100 nested functions, which is created first. The time of TensorFlow's way is
given with and without its import; peak memory is that of the process, beyond that of one that only imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
if sys.argv[2] == "tensorflow":
    import tensorflow
from graphsplit.formats.saved_model_freezing import freeze_saved_model
from graphsplit.formats.freezing.freeze import freeze_by_reading
from graphsplit.formats.meta_graph import read_meta_graphs
from graphsplit.formats.freeze import tidy
import graphsplit.formats.saved_model, numpy, google.protobuf.message
before, base = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
(meta, *_) = read_meta_graphs((path / "saved_model.pb").read_bytes())
key = "serving_default" if "serving_default" in meta.signatures else next(iter(meta.signatures))
data = (freeze_saved_model if sys.argv[2] == "tensorflow" else freeze_by_reading)(path, meta, key)[0]
end, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([end - before, end - start, (peak - base) * 1024, len(data)]))
"""
MAKE = """
import sys, numpy, tensorflow as tf
m = tf.Module(); m.v = [tf.Variable(numpy.random.default_rng(i).random([500, 1000], numpy.float32)) for i in range(100)]
def layer(i):
    return tf.function(lambda x: tf.nn.relu(x @ m.v[i]) @ tf.transpose(m.v[i]) * 1e-3)
layers = [layer(i) for i in range(100)]
def serve(x):
    for l in layers: x = l(x)
    return {"y": x}
tf.saved_model.save(m, sys.argv[1], signatures=tf.function(serve, input_signature=[tf.TensorSpec([None, 500])]))
"""


def measure(path: Path, way: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), way], capture_output=True, text=True, check=True)
    values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = args.folders
        if not paths:
            paths = [Path(folder) / "created"]
            subprocess.run([sys.executable, "-c", MAKE, str(paths[0])], capture_output=True, check=True)
        for path in paths:
            rounds = [(measure(path, "reading"), measure(path, "tensorflow")) for _ in range(args.rounds)]
            size = sum(f.stat().st_size for f in (path / "variables").iterdir())
            ours, theirs = ([statistics.median(r[side][n] for r in rounds) for n in range(4)] for side in (0, 1))
            ratios = sorted(b[0] / a[0] for a, b in rounds)
            print(
                f"{path.name}: {size / 1e6:.0f} MB of variables; "
                f"reading {ours[0]:.2f} s, TensorFlow {theirs[0]:.2f} s "
                f"({statistics.median(ratios):.1f} ×, {ratios[0]:.1f}-{ratios[-1]:.1f}), "
                f"with imports {ours[1]:.2f} and {theirs[1]:.2f} s; "
                f"peak {ours[2] / size:.2f} and {theirs[2] / size:.2f} × the variables"
            )


if __name__ == "__main__":
    main()
