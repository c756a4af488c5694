"""Draw sample.png: eight test images with the detections of the shipped detector, of scores from 0.5.

python models/shapes/sample.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from data import TEST_SEED, pictures
from evaluate import detections
from PIL import Image
from train import OUT

from graphsplit.demo.data.shapes import CLASSES

TILE = 220  # pixels


def main() -> None:
    graph_def = tf.compat.v1.GraphDef.FromString(OUT.read_bytes())
    chosen = list(pictures(8, TEST_SEED))
    tiles = []
    for (image, _, _), (found, _) in zip(chosen, detections(graph_def, chosen), strict=True):
        scale = TILE / max(image.shape[:2])
        tile = np.full((TILE, TILE, 3), 255, np.uint8)
        height, width = (round(side * scale) for side in image.shape[:2])
        tile[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        for box, score, label in zip(found.xyxy * scale, found.confidence, found.class_id, strict=True):
            if score >= 0.5:
                left, top, right, bottom = (round(float(v)) for v in box)
                cv2.rectangle(tile, (left, top), (right, bottom), (255, 255, 255), 1)
                text = f"{CLASSES[label - 1]} {score:.2f}"
                cv2.rectangle(tile, (left, top), (left + 6 * len(text), top + 11), (255, 255, 255), -1)
                cv2.putText(tile, text, (left + 2, top + 9), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in (tiles[:4], tiles[4:])])
    Image.fromarray(sheet).quantize(96).save(Path(__file__).with_name("sample.png"), optimize=True)


if __name__ == "__main__":
    main()
