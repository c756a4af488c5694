"""A TFLite file: its subgraphs, every number in them checked, and the names that tensors and operators go by.

Operators are named after the first tensor they output, so that a tensor and its producer are asked for by the same name. Tensors
go by the file's names; where one repeats or is empty it gets a number: ``x``, ``x_1``, ``tensor_12``.

Only the first subgraph is divided. The others are the bodies and conditions of loops and branches, and functions that are called:
they are the library of the index, and go where their caller goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from graphsplit.formats.tflite.flatbuffer import FlatError, Table, root, verify
from graphsplit.formats.tflite.kernels import real_shapes
from graphsplit.formats.tflite.packed import packed_files
from graphsplit.formats.tflite.schema import IDENTIFIER, Field, fields, op_name
from graphsplit.formats.tflite.validation import (
    ELSEWHERE,
    Operator,
    Subgraph,
    TFLiteError,
    check_blocks,
    check_calls,
    check_options,
    check_order,
    check_size,
    in_range,
    quantisation_tensors,
)
from graphsplit.graph.index import Shape
from graphsplit.graph.traversal import reachable

__all__ = ["TFLiteReader", "names_subgraph"]


class TFLiteReader:
    """Reads a file once and answers questions about it.

    Raises:
        FlatError: The bytes are not a flatbuffer of the schema.
        TFLiteError: The flatbuffer is not a model.
    """

    def __init__(self, data: memoryview) -> None:
        if bytes(data[4:8]) != IDENTIFIER:
            raise FlatError(f"bytes 4 to 8 are {bytes(data[4:8])!r}, not {IDENTIFIER!r}")
        self.data = data
        self.model = root(data, "Model")
        #: Where the flatbuffer ends; a file may have more behind it.
        self.end = verify(self.model)
        tensors = (t for g in self.model.tables("subgraphs") for t in g.tables("tensors"))
        if len(self.model.tables("external_buffers")) or any(t.number("external_buffer") for t in tensors):
            raise TFLiteError("its weights are in other files, which this version does not read; convert it into one file")
        self.buffers = tuple(self.model.tables("buffers"))
        self.codes = tuple(_code(c) for c in self.model.tables("operator_codes"))
        count = len(self.model.tables("subgraphs"))
        self.subgraphs = tuple(self._subgraph(i, t, count) for i, t in enumerate(self.model.tables("subgraphs")))
        if not self.subgraphs:
            raise TFLiteError("it has no subgraph")
        check_calls(self.subgraphs)
        for metadata in self.model.tables("metadata"):
            in_range(metadata.number("buffer"), len(self.buffers), "metadata names buffer")
        for signature in self.model.tables("signature_defs"):
            graph = self.subgraphs[in_range(signature.number("subgraph_index"), count, "a signature names subgraph")]
            for entry in (*signature.tables("inputs"), *signature.tables("outputs")):
                in_range(entry.number("tensor_index"), len(graph.tensors), "a signature names tensor")

    def _subgraph(self, place: int, table: Table, count: int) -> Subgraph:
        tensors = tuple(table.tables("tensors"))
        where = f"subgraph {place}"
        for number, tensor in enumerate(tensors):
            in_range(tensor.number("buffer"), max(1, len(self.buffers)), f"{where}: a tensor names buffer")
            check_size(tensor, len(self.content(tensor.number("buffer"))), f"{where}: tensor {number}")
            for scales in quantisation_tensors(tensor):
                in_range(scales, len(tensors), f"{where}: the quantisation of tensor {number} names tensor")
                if not self.content(tensors[scales].number("buffer")):
                    raise TFLiteError(
                        f"{where}: the quantisation of tensor {number} is in tensor {scales}, which is not a constant"
                    )
            check_blocks(tensor, tensors, f"{where}: tensor {number}")

        def numbers(of: Table, name: str, *, optional: bool = False) -> tuple[int, ...]:
            found = of.numbers(name)
            for number in found:
                if number != -1 or not optional:
                    in_range(number, len(tensors), f"{where}: {of.kind}.{name} names tensor")
            return found

        operators = []
        for operator in table.tables("operators"):
            code = in_range(operator.number("opcode_index"), len(self.codes), f"{where}: an operator names code")
            calls = tuple(_calls(operator))
            for called in calls:
                in_range(called, count, f"{where}: an operator calls subgraph")
                if called == 0:
                    raise TFLiteError(f"{where}: an operator calls subgraph 0, the model itself")
            check_options(operator, self.codes[code][0], where, len(self.data))
            operators.append(
                Operator(
                    *self.codes[code],
                    inputs=numbers(operator, "inputs", optional=True),
                    outputs=numbers(operator, "outputs", optional=True),
                    intermediates=numbers(operator, "intermediates", optional=True),
                    calls=calls,
                    table=operator,
                )
            )
        check_order(tensors, operators, where)
        return Subgraph(tensors, numbers(table, "inputs"), numbers(table, "outputs"), tuple(operators), table)

    def content(self, buffer: int) -> memoryview:
        """The bytes of a buffer, inside the flatbuffer or after it; empty for buffer 0, by convention."""
        if not self.buffers or not buffer:
            return self.data[:0]
        table = self.buffers[buffer]
        offset, size = table.number("offset"), table.number("size")
        if offset > ELSEWHERE:
            if offset + size > len(self.data):
                raise TFLiteError(f"buffer {buffer} ends at byte {offset + size:,}, the file has {len(self.data):,}")
            return self.data[offset : offset + size]
        return table.raw("data")

    def place(self, buffer: int) -> int:
        """Where in the file the bytes of a buffer begin."""
        table = self.buffers[buffer]
        offset: int = table.number("offset")
        return (
            offset
            if offset > ELSEWHERE
            else table.place("data") + int.from_bytes(self.data[table.place("data") :][:4], "little") + 4
        )

    @cached_property
    def elsewhere(self) -> tuple[tuple[int, int], ...]:
        """Ranges of bytes that buffers and options state to be theirs."""
        found = [(b.number("offset"), b.number("size")) for b in self.buffers]
        for graph in self.subgraphs:
            for o in graph.operators:
                found.append((o.table.number("large_custom_options_offset"), o.table.number("large_custom_options_size")))
        return tuple((start, start + size) for start, size in found if start > ELSEWHERE)

    @cached_property
    def real_shapes(self) -> Mapping[int, Shape]:
        """Tensor of the first subgraph → its shape in a run, where the file states one of another rank."""
        return real_shapes(self.subgraphs[0])

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Files that are packed behind the flatbuffer, by name."""
        return packed_files(self.data, self.end)

    def is_constant(self, tensor: Table) -> bool:
        """Whether the file holds the value of a tensor that no operator outputs."""
        return len(self.content(tensor.number("buffer"))) > 0 or 0 in tensor.numbers("shape")

    @cached_property
    def raw_names(self) -> tuple[str, ...]:
        """The name of each tensor of the first subgraph as it is in the file, where names may repeat or be empty."""
        return tuple(t.text("name").decode("utf-8", "backslashreplace") for t in self.subgraphs[0].tensors)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The unique name of each tensor of the first subgraph."""
        raw = self.raw_names
        taken = set(raw)
        seen: set[str] = set()
        again: Counter[str] = Counter()
        found = []
        for place, name in enumerate(raw):
            unique = name
            if not name or name in seen:
                unique = name or f"tensor_{place}"
                while unique in taken:
                    again[name] += 1
                    unique = f"{name or f'tensor_{place}'}_{again[name]}"
            taken.add(unique)
            seen.add(unique)
            found.append(unique)
        return tuple(found)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each tensor of the first subgraph, by its unique name."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def operator_numbers(self) -> Mapping[str, int]:
        """The number of each operator of the first subgraph, by its name."""
        return {name: number for number, name in enumerate(self.operator_names)}

    @cached_property
    def operator_names(self) -> tuple[str, ...]:
        """The name of each operator of the first subgraph."""
        taken = set(self.names)
        found = []
        for place, operator in enumerate(self.subgraphs[0].operators):
            first = next((t for t in operator.outputs if t != -1), None)
            name = self.names[first] if first is not None else f"{operator.op}_{place}"
            while first is None and name in taken:
                name += "_"
            found.append(name)
        return tuple(found)

    def function_name(self, subgraph: int) -> str:
        """The name of a subgraph in the library: that of the file and its number, since names may repeat."""
        name = self.subgraphs[subgraph].table.text("name").decode("utf-8", "backslashreplace")
        return f"{name or 'subgraph'} ({subgraph})"

    def reachable(self, called: Iterable[int]) -> tuple[int, ...]:
        """The numbers of some subgraphs and of all that these run, in file order."""
        return tuple(sorted(reachable(called, lambda g: (c for o in self.subgraphs[g].operators for c in o.calls))))


def _code(table: Table) -> tuple[str, bool]:
    custom = table.text("custom_code").decode("utf-8", "backslashreplace")
    name = op_name(table.number("deprecated_builtin_code"), table.number("builtin_code"), custom)
    return name, name in (custom, "CUSTOM") and bool(name)


def _calls(operator: Table) -> Iterator[int]:
    """Numbers of the subgraphs that an operator runs: the fields of its options that name one."""
    for name in ("builtin_options", "builtin_options_2"):
        options = operator.table(name)
        if options is None:
            continue
        for field in fields(options.kind).values():
            if names_subgraph(field) and options.has(field.name):
                yield from options.numbers(field.name) if field.kind == "[int32]" else (int(options.number(field.name)),)


def names_subgraph(field: Field) -> bool:
    """Whether a field of an operator's options holds numbers of subgraphs."""
    return "subgraph" in field.name or field.name == "called_computations"
