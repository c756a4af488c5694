"""Why a SavedModel is left to TensorFlow's loader."""

__all__ = ["NotUnderstood"]


class NotUnderstood(Exception):
    """What a SavedModel does in a way that is not read here; TensorFlow may know it."""
