"""TensorFlow's TFLite converter in a separate process, so that a graph on which its native code aborts ends nothing else.

    python -m graphsplit.exports.converter SAVED_MODEL FILE ANSWER

ANSWER gets one JSON object, {"error": text or null}. The converter logs to stderr, which need not be read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Convert the signature of a SavedModel."""
    import tensorflow as tf

    source, target, answer = sys.argv[1:]
    failure = None
    try:
        content = tf.lite.TFLiteConverter.from_saved_model(source, signature_keys=["serving_default"]).convert()
        Path(target).write_bytes(content)
    except Exception as error:  # the converter raises errors of every kind
        failure = str(error) or type(error).__name__
    Path(answer).write_text(json.dumps({"error": failure}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
