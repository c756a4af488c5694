"""Models in memory → frozen models: a GraphDef, a ``tf.Graph``, a function, a Keras model, a loaded SavedModel.

TensorFlow and Keras are not imported for this: whoever holds such an object has imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from graphsplit.errors import FormatError
from graphsplit.formats.freeze import freeze_function, loading
from graphsplit.formats.graphdef.model import GraphDefModel

__all__ = ["load_object"]

_SIGNATURE = "serving_default"
_TAKES = "a path, a GraphDef, a tf.Graph, a tf.function with an input signature, a tf.Module, a Keras model or a loaded SavedModel"


def load_object(model: object) -> GraphDefModel:
    """A model in memory, frozen.

    Args:
        model: A ``GraphDef`` (frozen); a ``tf.Graph`` (frozen); a ``ConcreteFunction``, or a ``tf.function`` with an input
            signature; a Keras model; what ``tf.saved_model.load`` returns, or another ``tf.Module`` with signatures or a
            callable ``tf.function``.

    Raises:
        FormatError: for anything else, and for a model without a signature.
    """
    descriptor = getattr(model, "DESCRIPTOR", None)
    if getattr(descriptor, "full_name", "") == "tensorflow.GraphDef":
        return GraphDefModel([model.SerializeToString()], format="graphdef")  # type: ignore[attr-defined]  # a message
    as_graph_def = getattr(model, "as_graph_def", None)
    if callable(as_graph_def):
        return GraphDefModel([as_graph_def().SerializeToString()], format="graphdef")
    if "tensorflow" not in sys.modules and "keras" not in sys.modules:
        raise FormatError(f"{type(model).__name__} is not a model; pass {_TAKES}")
    with loading(None, "TensorFlow cannot freeze this model", "freeze it yourself and pass the GraphDef"):
        if _is_keras(model):
            from graphsplit.formats.keras import freeze_keras

            data, outputs, signature = freeze_keras(model)
            return GraphDefModel([data], format="keras", output_names=outputs, signature=signature)
        data, outputs, signature = freeze_function(_function(model))
        return GraphDefModel([data], format="saved_model", output_names=outputs, signature=signature)


def _is_keras(model: object) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _function(model: Any) -> Any:
    """The concrete function to freeze. Raises FormatError."""
    signatures = getattr(model, "signatures", None)
    if isinstance(signatures, Mapping) and signatures:
        if _SIGNATURE not in signatures and len(signatures) > 1:
            raise FormatError(f"several signatures ({', '.join(signatures)}) and none is {_SIGNATURE!r}; pass one of them")
        return signatures[_SIGNATURE] if _SIGNATURE in signatures else next(iter(signatures.values()))
    if hasattr(model, "structured_outputs"):  # a ConcreteFunction
        return model
    function: Any = model if hasattr(model, "get_concrete_function") else getattr(model, "__call__", None)  # noqa: B004
    if not hasattr(function, "get_concrete_function"):
        raise FormatError(f"{type(model).__name__} is not a model; pass {_TAKES}")
    if getattr(function, "input_signature", None) is None:
        raise FormatError(
            f"the tf.function of this {type(model).__name__} has no input signature; pass "
            "tf.function(…, input_signature=[tf.TensorSpec(…)]), or the result of its get_concrete_function(…)"
        )
    return function.get_concrete_function()
