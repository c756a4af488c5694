"""Pictures, encoded and decoded by TensorFlow: in this process if it has been imported here, else in the child process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

import numpy as np

from graphsplit.runtimes.arrays import Array

__all__ = ["decode_here", "decode_image", "encode_here", "encode_jpeg"]

_DEADLINE = 120.0  # seconds


def encode_jpeg(image: Array) -> bytes:
    """A picture, uint8 [height, width, 3], as the content of a JPEG file."""
    if "tensorflow" in sys.modules:
        return encode_here(image)
    from graphsplit.inference.tasks import encode_picture
    from graphsplit.isolation.shared import call

    answer, _ = call(encode_picture, None, [image], deadline=_DEADLINE)
    return answer.arrays[0].tobytes()


def decode_image(content: bytes, size: Sequence[int | None]) -> Array:
    """The content of a picture file as uint8 [height, width, 3].

    Args:
        content: Of a PNG, JPEG, GIF or BMP file.
        size: Height and width to scale it to; None: as in the file.

    Raises:
        ValueError: It is not a picture.
    """
    if "tensorflow" in sys.modules:
        return decode_here(content, size)
    from graphsplit.inference.tasks import decode_picture
    from graphsplit.isolation.failures import ChildError
    from graphsplit.isolation.shared import call

    try:
        answer, _ = call(decode_picture, list(size), [[content]], deadline=_DEADLINE)
    except ChildError as error:
        raise ValueError(f"decoding it {error}") from error
    return answer.arrays[0]


def encode_here(image: Array) -> bytes:
    """What `encode_jpeg` returns, in this process."""
    import tensorflow as tf

    from graphsplit.runtimes.tensorflow import session_config

    with tf.Graph().as_default() as graph:
        encoded = tf.io.encode_jpeg(tf.constant(image))
        with tf.compat.v1.Session(graph=graph, config=session_config()) as session:
            return bytes(session.run(encoded))


def decode_here(content: bytes, size: Sequence[int | None]) -> Array:
    """What `decode_image` returns, in this process."""
    import tensorflow as tf

    from graphsplit.runtimes.tensorflow import session_config

    height, width = size
    with tf.Graph().as_default() as graph:
        image = tf.io.decode_image(tf.constant(content), channels=3, expand_animations=False)
        if height is not None or width is not None:
            shape = tf.shape(image)
            target = tf.stack([height or shape[0], width or shape[1]])
            image = tf.cast(tf.round(tf.image.resize(image[None], target)[0]), tf.uint8)
        with tf.compat.v1.Session(graph=graph, config=session_config()) as session:
            try:
                return cast(Array, np.asarray(session.run(image)))
            except tf.errors.OpError as error:
                raise ValueError("not a picture") from error
