"""Detection in pictures and streams: sources, labels, the answer of a model as boxes with names, and where it goes."""

from graphsplit.detection.detector import Detector
from graphsplit.detection.frame import Frame
from graphsplit.detection.labels import coco, read_labels
from graphsplit.detection.sources import Picture, Source, open_source

__all__ = ["Detector", "Frame", "Picture", "Source", "coco", "open_source", "read_labels"]
