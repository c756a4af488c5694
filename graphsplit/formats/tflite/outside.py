"""What a TFLite model needs that is outside of the file: unknown code, and values that outlive a run."""

from __future__ import annotations

from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.validation import Operator

__all__ = ["HOLDS_STATE", "holds_state", "outside_operators", "unfrozen_operator"]

#: Ops whose values live in the interpreter, from one run to the next.
HOLDS_STATE = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE", "HASHTABLE_IMPORT"})
_RANDOM = {"RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"}
_KNOWN_CUSTOM = {"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"}  # the runtime's own


def holds_state(operator: Operator) -> bool:
    """Whether an operator may be neither copied nor reordered."""
    return operator.op in HOLDS_STATE or operator.op in _RANDOM or _is_unknown(operator)


def _is_unknown(operator: Operator) -> bool:
    return operator.custom and operator.op not in _KNOWN_CUSTOM


def outside_operators(reader: TFLiteReader) -> tuple[str, ...]:
    """Names of the operators that run unknown code, or a subgraph that does."""
    unknown = {i for i, graph in enumerate(reader.subgraphs) if any(map(_is_unknown, graph.operators))}
    return tuple(
        name
        for name, o in zip(reader.operator_names, reader.subgraphs[0].operators, strict=True)
        if _is_unknown(o) or not unknown.isdisjoint(reader.reachable(o.calls))
    )


def unfrozen_operator(reader: TFLiteReader) -> tuple[str, str] | None:
    """Name and op of the first operator whose values outlive a run, or None."""
    for number in (0, *reader.reachable(c for o in reader.subgraphs[0].operators for c in o.calls)):
        for place, operator in enumerate(reader.subgraphs[number].operators):
            if operator.op in HOLDS_STATE:
                return (reader.operator_names[place] if number == 0 else reader.function_name(number)), operator.op
    return None
