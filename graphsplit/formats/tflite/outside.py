"""What a TFLite model needs that is outside of the file: unknown code, files, and values that outlive a run."""

from __future__ import annotations

from collections.abc import Collection

from graphsplit.formats.graphdef.ops import OpInfo, op_table
from graphsplit.formats.graphdef.outside import reaches_outside
from graphsplit.formats.tflite.flex import flex_node
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.schema import op_effect
from graphsplit.formats.tflite.validation import Operator

__all__ = ["KNOWN_CUSTOM", "holds_state", "outside_operators", "unfrozen_operator"]

#: The custom ops that LiteRT itself registers; they compute on tensors alone.
KNOWN_CUSTOM = frozenset({"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess", "aeq.hadamard_rotation"})
_FLEX = "Flex"


def holds_state(operator: Operator) -> bool:
    """Whether an operator may be neither copied nor reordered."""
    if _is_unknown(operator):
        return True
    if operator.custom:
        return (info := _flex_info(operator)) is not None and info.stateful
    return op_effect(operator.op) != ""


def _is_unknown(operator: Operator) -> bool:
    """Whether an operator runs unknown code, or one of TensorFlow's ops that reach outside."""
    if not operator.custom:
        return op_effect(operator.op) == "native"
    if operator.op in KNOWN_CUSTOM:
        return False
    return not operator.op.startswith(_FLEX) or _flex_reaches_outside(operator)


def _flex_info(operator: Operator) -> OpInfo | None:
    """TensorFlow's op of a Flex operator; None for any other."""
    return op_table().get(operator.op.removeprefix(_FLEX)) if operator.custom and operator.op.startswith(_FLEX) else None


def _flex_reaches_outside(operator: Operator) -> bool:
    elsewhere = operator.table.number("large_custom_options_offset") or operator.table.number("large_custom_options_size")
    node = None if elsewhere else flex_node(operator.table.raw("custom_options"))
    if node is None or f"{_FLEX}{node.op}" != operator.op:
        return True
    attributes = {entry.key: entry.value for entry in node.attr}
    if any(value.HasField("func") or value.list.func for value in attributes.values()):
        return True
    return reaches_outside(node.op, attributes.get)


def outside_operators(reader: TFLiteReader) -> tuple[str, ...]:
    """Names of the operators that reach outside, themselves or through a subgraph that they run."""
    unknown = {i for i, graph in enumerate(reader.subgraphs) if any(map(_is_unknown, graph.operators))}
    return tuple(
        name
        for name, o in zip(reader.operator_names, reader.subgraphs[0].operators, strict=True)
        if _is_unknown(o) or not unknown.isdisjoint(reader.reachable(o.calls))
    )


def unfrozen_operator(reader: TFLiteReader, needed: Collection[str] | None = None) -> tuple[str, str] | None:
    """Name and op of the first operator whose values outlive a run, or None.

    Args:
        reader: The file.
        needed: Names of the operators that count, with the subgraphs they run; None: all.
    """
    first = [o for o, n in zip(reader.subgraphs[0].operators, reader.operator_names, strict=True) if needed is None or n in needed]
    for number in (0, *reader.reachable(c for o in first for c in o.calls)):
        for place, operator in enumerate(reader.subgraphs[number].operators):
            if number == 0 and needed is not None and reader.operator_names[place] not in needed:
                continue
            flex = _flex_info(operator)
            if flex is not None and "state" in flex.effects:
                return (reader.operator_names[place] if number == 0 else reader.function_name(number)), operator.op
    return None
