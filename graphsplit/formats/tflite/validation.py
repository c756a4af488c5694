"""What makes a flatbuffer of the schema a legal model: everything that native code takes for granted is checked here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from graphsplit.formats.tflite.flatbuffer import Table
from graphsplit.formats.tflite.schema import fields, tensor_dtype
from graphsplit.formats.tflite.sparsity import fault
from graphsplit.graph.index import itemsize, whole_bytes

__all__ = [
    "ELSEWHERE",
    "TENSOR_FIELDS",
    "Operator",
    "Subgraph",
    "TFLiteError",
    "check_blocks",
    "check_calls",
    "check_options",
    "check_order",
    "check_size",
    "in_range",
    "quantisation_tensors",
]

#: Fields that hold the number of a tensor, beside those of operators, subgraphs and signatures.
TENSOR_FIELDS = {
    ("BlockwiseQuantization", "scales"), ("BlockwiseQuantization", "zero_points"), ("MultiAxisQuantization", "scales"),
    ("MultiAxisQuantization", "zero_points"),
}  # fmt: skip
ELSEWHERE = 1  #: an offset above it states where in the file, after the flatbuffer, the bytes are
_DEEPEST = 64  # subgraphs that call one another; native code recurses
#: Ops that run subgraphs, and the options that state which; without these, native code assumes number 0.
_CALLERS = {"WHILE": "WhileOptions", "IF": "IfOptions", "CALL_ONCE": "CallOnceOptions"}
_UNSIZED = {"string", "resource", "variant"}


class TFLiteError(ValueError):
    """A flatbuffer of the schema that is not a legal model."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator. Tensors are numbers in its subgraph; -1 is an optional input that is left out.

    Attributes:
        op: Its name.
        custom: Whether the schema does not define it.
        inputs, outputs, intermediates: Tensors.
        calls: Numbers of the subgraphs that it runs.
        table: The table in the file.
    """

    op: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    calls: tuple[int, ...]
    table: Table


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A subgraph with its tensors and operators, every number in it checked."""

    tensors: tuple[Table, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]
    table: Table


def in_range(number: int, count: int, what: str) -> int:
    """The number, if it is one of so many. Raises TFLiteError."""
    if not 0 <= number < count:
        raise TFLiteError(f"{what} {number}; there are {count}")
    return number


def check_size(tensor: Table, held: int, where: str) -> None:
    """Refuse a constant with fewer bytes than its shape says, since native code reads that many.

    Args:
        tensor: The tensor.
        held: Bytes of its buffer.
        where: Its place, for errors.

    Raises:
        TFLiteError: The constant is too short, or has a negative dimension.
    """
    dtype = tensor_dtype(tensor.number("type"))
    size = itemsize(dtype)
    sparsity = tensor.table("sparsity")
    shape = tensor.numbers("shape")
    if sparsity is not None:
        wrong = "it has no size" if size is None else fault(sparsity, shape, size, held)
        if wrong:
            raise TFLiteError(f"{where} is sparse: {wrong}")
        return
    if not held or size is None or dtype in _UNSIZED:
        return
    if any(s < 0 for s in shape):
        raise TFLiteError(f"{where} is a constant of shape {list(shape)}")
    needed = whole_bytes(prod(shape), size)
    if needed > held:
        raise TFLiteError(f"{where} is a constant of {needed:,} bytes, its buffer has {held:,}")


def quantisation_tensors(tensor: Table) -> tuple[int, ...]:
    """Numbers of the tensors that hold the scales and zero points of another one."""
    quantisation = tensor.table("quantization")
    details = None if quantisation is None else quantisation.table("details")
    if details is None:
        return ()
    names = [f.name for f in fields(details.kind).values() if (details.kind, f.name) in TENSOR_FIELDS]
    # Zero points that are left out are stated as −1, or as tensor 0 by older writers.
    return tuple(n for name in names if (n := details.number(name)) >= 0 and (n or name == "scales"))


def check_blocks(tensor: Table, tensors: Sequence[Table], where: str) -> None:
    """Refuse block sizes that native code divides by unchecked, and scales that are too few. Raises TFLiteError."""
    quantisation = tensor.table("quantization")
    details = None if quantisation is None else quantisation.table("details")
    if details is None or "block_size" not in fields(details.kind):
        return
    size, count = details.number("block_size"), prod(tensor.numbers("shape"))
    if size <= 0 and not ("block_shape" in fields(details.kind) and details.numbers("block_shape")):
        raise TFLiteError(f"{where} is quantised in blocks of {size}")
    for scales in quantisation_tensors(tensor)[:1] if size > 0 else ():
        held = prod(tensors[scales].numbers("shape"))
        if held < count // size:
            raise TFLiteError(f"{where} has {count // size:,} blocks and {held:,} scales")


def check_calls(subgraphs: Sequence[Subgraph]) -> None:
    """Refuse subgraphs that run themselves, directly or through others: native code would never return. Raises TFLiteError."""
    height: dict[int, int] = {}

    def climb(number: int, above: tuple[int, ...]) -> int:
        if number in above or len(above) > _DEEPEST:
            raise TFLiteError(f"subgraph {number} runs itself, or subgraphs run one another more than {_DEEPEST} deep")
        if number not in height:
            called = {c for o in subgraphs[number].operators for c in o.calls}
            height[number] = 1 + max((climb(c, (*above, number)) for c in called), default=0)
        if len(above) + height[number] > _DEEPEST:
            raise TFLiteError(f"subgraphs run one another more than {_DEEPEST} deep")
        return height[number]

    for number in range(len(subgraphs)):
        climb(number, ())


def check_options(operator: Table, op: str, where: str, size: int) -> None:
    """Refuse an operator without the options that native code reads unchecked. Raises TFLiteError."""
    if op in _CALLERS:
        options = operator.table("builtin_options")
        if (
            options is None
            or options.kind != _CALLERS[op]
            or not all(options.number(f.name) for f in fields(options.kind).values())
        ):
            raise TFLiteError(f"{where}: a {op} does not state what it runs")
    start, length = operator.number("large_custom_options_offset"), operator.number("large_custom_options_size")
    if start > ELSEWHERE and start + length > size:
        raise TFLiteError(f"{where}: the options of a {op} end at byte {start + length:,}, the file has {size:,}")


def check_order(tensors: Sequence[Table], operators: Sequence[Operator], where: str) -> None:
    """Refuse operators that read what a later one outputs, since they run in the order of the file. Raises TFLiteError."""
    later = {t for o in operators for t in o.outputs if t != -1 and not tensors[t].number("is_variable")}
    for place, operator in enumerate(operators):
        for tensor in operator.inputs:
            if tensor in later:
                raise TFLiteError(f"{where}: operator {place}, a {operator.op}, reads tensor {tensor} before it is computed")
        later.difference_update(operator.outputs)
