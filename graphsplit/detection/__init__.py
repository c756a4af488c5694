"""Object detection in images, videos and cameras: sources, class names, decoding of a model's outputs, and sinks."""

from graphsplit.detection.detector import Detector
from graphsplit.detection.frame import Frame
from graphsplit.detection.labels import coco, read_labels
from graphsplit.detection.pictures import Notice, Picture, Source
from graphsplit.detection.sources import open_source, open_sources

__all__ = ["Detector", "Frame", "Notice", "Picture", "Source", "coco", "open_source", "open_sources", "read_labels"]
