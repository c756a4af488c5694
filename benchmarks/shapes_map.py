"""How good the demo detector is: mAP@0.5 on 500 pictures that it was not trained on.

    python benchmarks/shapes_map.py

Runs graphsplit/demo/data/shapes_ssd.pb, whole and as it is shipped, on pictures drawn from a seed of their own. Needs
`pip install supervision opencv-python-headless`; takes a minute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "models" / "shapes")]

import tensorflow as tf  # noqa: E402
from data import TEST_SEED, pictures  # noqa: E402
from evaluate import mean_average_precision  # noqa: E402

SHIPPED = ROOT / "graphsplit" / "demo" / "data" / "shapes_ssd.pb"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", nargs="?", type=Path, default=SHIPPED)
    options.add_argument("--pictures", type=int, default=500)
    options.add_argument("--seed", type=int, default=TEST_SEED)
    chosen = options.parse_args()
    graph_def = tf.compat.v1.GraphDef.FromString(chosen.model.read_bytes())
    score = mean_average_precision(graph_def, pictures(chosen.pictures, chosen.seed))
    print(f"mAP@0.5 {score.overall:.3f} on {chosen.pictures} pictures of seed {chosen.seed}")
    for name, precision in score.by_class.items():
        print(f"  {name:10} {precision:.3f}")


if __name__ == "__main__":
    main()
