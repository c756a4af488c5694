"""Train the demo detector and write graphsplit/demo/data/shapes_ssd.pb.

    python models/shapes/train.py                     # seed 1, 15,000 steps of 16 images
    python models/shapes/train.py --steps 200 --out /tmp/quick.pb

AdamW; the learning rate warms up over the first 3 % of the steps and decays along a cosine. Scores: focal loss on independent
sigmoids; boxes: Huber loss on the codes; both divided by the number of anchors with an object. Every 1,000 steps the network is
frozen and evaluated on 150 held-out images; the best one is kept.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from anchors import anchors, assign
from data import HELD_OUT_SEED, draw, pictures, resize, turned
from evaluate import mean_average_precision
from export import freeze
from network import COLUMNS, SIZE, run

from graphsplit.demo.data.shapes import Frame

OUT = Path(__file__).parents[2] / "graphsplit" / "demo" / "data" / "shapes_ssd.pb"
POOL = 200  # drawings that batches are sampled from; every step, half a batch of new ones replaces the oldest
MOST = (4, 8, 14)  # shapes per image: many, since a step costs the same; few, which leave room for large ones
MOMENTUM = 0.99  # of the batch normalisation's moving averages
DECAY = 1e-2


class Variables:
    """Trainable weights, created when first used."""

    training = True

    def __init__(self, seed: int, numbers: Mapping[str, np.ndarray]) -> None:
        self.rng = np.random.default_rng(seed)
        self.known = numbers
        self.learning: dict[str, tf.Variable] = {}
        self.moving: dict[str, tf.Variable] = {}

    def __call__(self, name: str, shape: tuple[int, ...], start: str) -> tf.Tensor:
        kept = self.moving if start in ("mean", "variance") else self.learning
        if name not in kept:
            kept[name] = tf.Variable(self.known.get(name, self._start(shape, start)))
        return kept[name]

    def observe(self, scope: str, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for name, value in (("moving_mean", mean), ("moving_variance", variance)):
            kept = self.moving[f"{scope}/{name}"]
            kept.assign_sub((kept - value) * (1 - MOMENTUM))

    def numbers(self) -> dict[str, np.ndarray]:
        """All weights by the names of the Object Detection API."""
        return {name: v.numpy() for name, v in (self.learning | self.moving).items()}

    def _start(self, shape: tuple[int, ...], start: str) -> np.ndarray:
        if start == "logits":  # background almost certain, every class unlikely: the focal loss starts small
            values = np.tile([4.0] + [-4.0] * (COLUMNS - 1), shape[0] // COLUMNS)
        elif start in ("conv", "depthwise", "head"):
            fan_in = shape[0] * shape[1] * (1 if start == "depthwise" else shape[2])
            spread = 0.01 if start == "head" else np.sqrt(2 / fan_in)
            values = self.rng.normal(0, spread, shape)
        else:
            values = np.full(shape, 1.0 if start in ("ones", "variance") else 0.0)
        return np.asarray(values, np.float32)


Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def batches(seed: int, size: int) -> Iterator[Batch]:
    """Yield batches forever; they are drawn in another thread.

    Args:
        seed: Of the drawings.
        size: Images in a batch.

    Yields:
        Images uint8 [size, 160, 160, 3], targets int32 [size, 2152], codes float32 [size, 2152, 4]; see `anchors.assign`.
    """
    waiting: queue.Queue[Batch] = queue.Queue(maxsize=8)
    rng, base = np.random.default_rng(seed), anchors()

    def work() -> None:
        kept: list[Frame] = []
        while True:
            for _ in range(size // 2 if kept else POOL):
                image, boxes, labels = draw(rng, most=int(rng.choice(MOST)))
                kept.append((resize(image, SIZE), boxes, labels))
            kept[:-POOL] = []
            chosen = [kept[i] for i in rng.choice(POOL, size, replace=False)]
            augmented = [(*turned(rng, image, boxes), labels) for image, boxes, labels in chosen]
            assigned = [assign(boxes, labels, base) for _, boxes, labels in augmented]
            waiting.put(
                (np.stack([a[0] for a in augmented]), np.stack([a[0] for a in assigned]), np.stack([a[1] for a in assigned]))
            )

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield waiting.get()


def losses(codes: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor, true_codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The scalar losses of the scores and of the boxes."""
    positive = tf.cast(targets > 0, tf.float32)
    count = tf.maximum(tf.reduce_sum(positive), 1.0)
    truth = tf.one_hot(targets, COLUMNS)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits)
    score = tf.sigmoid(logits)
    miss = truth * (1 - score) + (1 - truth) * score
    alpha = truth * 0.3 + (1 - truth) * 0.7
    focal = alpha * miss * miss * entropy * tf.cast(targets >= 0, tf.float32)[:, :, None]
    away = tf.abs(codes - true_codes)
    huber = tf.where(away < 1, away * away / 2, away - 0.5)
    return tf.reduce_sum(focal) / count, tf.reduce_sum(huber * positive[:, :, None]) / count


class Trainer:
    """A step of Adam with decoupled weight decay."""

    def __init__(self, weights: Variables, steps: int, rate: float) -> None:
        self.weights, self.steps, self.rate = weights, steps, rate
        run(tf.zeros([1, SIZE, SIZE, 3]), weights)  # creates the variables
        self.first = [tf.Variable(tf.zeros_like(v)) for v in weights.learning.values()]
        self.second = [tf.Variable(tf.zeros_like(v)) for v in weights.learning.values()]

    def rate_at(self, step: int) -> float:
        warm = max(1, self.steps * 3 // 100)
        return self.rate * min(1.0, (step + 1) / warm) * 0.5 * (1 + np.cos(np.pi * step / self.steps))

    def __call__(self, step: int, batch: Batch) -> tuple[float, float]:
        values = self._step(*(tf.constant(b) for b in batch), tf.constant(self.rate_at(step), tf.float32), tf.constant(step + 1.0))
        return float(values[0]), float(values[1])

    @tf.function
    def _step(self, images, targets, true_codes, rate, step):
        variables = list(self.weights.learning.values())
        with tf.GradientTape() as tape:
            codes, logits = run(tf.cast(images, tf.float32) * (2 / 255) - 1, self.weights)
            scores, boxes = losses(codes, logits, targets, true_codes)
            loss = scores + 0.6 * boxes
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 10.0)
        for variable, gradient, first, second in zip(variables, gradients, self.first, self.second, strict=True):
            first.assign_add((gradient - first) * 0.1)
            second.assign_add((gradient * gradient - second) * 0.001)
            change = first / (1 - 0.9**step) / (tf.sqrt(second / (1 - 0.999**step)) + 1e-7)
            change += DECAY * variable if len(variable.shape) == 4 else 0.0
            variable.assign_sub(rate * change)
        return scores, boxes


def _constants(path: Path) -> dict[str, np.ndarray]:
    """The constants of a frozen graph, by name."""
    nodes = tf.compat.v1.GraphDef.FromString(path.read_bytes()).node
    return {n.name: tf.make_ndarray(n.attr["value"].tensor) for n in nodes if n.op == "Const"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--steps", type=int, default=15000)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--rate", type=float, default=3e-3)
    options.add_argument("--start", type=Path, help="a frozen detector whose weights to start from")
    options.add_argument("--threads", type=int, default=2, help="of TensorFlow, inside an op")
    options.add_argument("--out", type=Path, default=OUT)
    chosen = options.parse_args()
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(chosen.threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    held_out = list(pictures(150, HELD_OUT_SEED))
    weights = Variables(chosen.seed, _constants(chosen.start) if chosen.start else {})
    trainer = Trainer(weights, chosen.steps, chosen.rate)
    began, best, mean = time.time(), 0.0, np.zeros(2)
    for step, batch in zip(range(chosen.steps), batches(chosen.seed, chosen.batch), strict=False):
        mean += (np.array(trainer(step, batch)) - mean) * max(0.02, 1 / (step + 1))
        if (step + 1) % 200 == 0:
            spent = f"{(time.time() - began) / 60:.1f} min, {time.process_time() / 60:.1f} min of CPU"
            print(f"step {step + 1}: scores {mean[0]:.3f}, boxes {mean[1]:.3f}, {spent}", flush=True)
        if (step + 1) % 1000 == 0 or step + 1 == chosen.steps:
            frozen = freeze(weights.numbers())
            score = mean_average_precision(frozen, held_out)
            print(f"step {step + 1}: mAP@0.5 {score.overall:.4f} on {len(held_out)} held-out images", flush=True)
            if score.overall >= best:
                best = score.overall
                chosen.out.write_bytes(frozen.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
