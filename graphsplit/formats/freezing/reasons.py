"""Why a SavedModel is left to TensorFlow's loader, or refused."""

__all__ = ["ChangesVariableError", "NotUnderstood"]


class NotUnderstood(Exception):  # no error: TensorFlow is asked instead
    """What a SavedModel does in a way that is not read here; TensorFlow may know it."""


class ChangesVariableError(Exception):
    """A node that changes a variable each time the model runs, with the function it is in."""
