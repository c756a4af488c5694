"""Sections as TFLite files: what a section needs is copied table by table and renumbered.

Tables are copied field by field, following the schema: quantisation, sparsity, the options of every op. Only numbers that point
into lists change: of tensors, buffers, operator codes and subgraphs. A buffer is copied once, into its place in the new file;
shared ones are written once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphsplit.errors import FormatError
from graphsplit.formats.tflite.appended import code_of, moved, unexplained
from graphsplit.formats.tflite.flatbuffer import SCALARS, Table
from graphsplit.formats.tflite.outside import KNOWN_CUSTOM
from graphsplit.formats.tflite.reader import TFLiteReader, names_subgraph
from graphsplit.formats.tflite.schema import IDENTIFIER, fields
from graphsplit.formats.tflite.validation import TENSOR_FIELDS, quantisation_tensors

if TYPE_CHECKING:
    from flatbuffers import Builder

__all__ = ["write_section"]

_ALIGNED = 16  # bytes: weights are aligned in the file, so that kernels may read them in place
_LIMIT = 2**31 - 2**20  # a flatbuffer's offsets are signed
#: Metadata that count tensors or buffers of the whole: a plan of its memory, its compressed tensors.
_COUNTING = {b"OfflineMemoryAllocation", b"COMPRESSION_METADATA"}
_POSITIONAL = b"TFLITE_METADATA"  # describes inputs and outputs of the whole by their places


@dataclass
class _Numbering:
    """Old numbers of what is kept, in old order; new numbers are places in it."""

    new: dict[int, int] = field(default_factory=dict)

    def keep(self, old: Iterable[int]) -> None:
        for number in sorted(old):
            self.new.setdefault(number, len(self.new))


def write_section(reader: TFLiteReader, nodes: Collection[str], inputs: Sequence[str], outputs: Sequence[str]) -> memoryview:
    """The file of a section.

    Args:
        reader: The whole.
        nodes: Names of operators and constants of the first subgraph.
        inputs: Tensors that come from outside, by the names of the index, in order.
        outputs: Tensors to fetch.

    Raises:
        FormatError: The section is too large for a flatbuffer.
    """
    return _Writer(reader, nodes, inputs, outputs).write()


class _Writer:
    def __init__(self, reader: TFLiteReader, nodes: Collection[str], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.reader = reader
        place = {name: i for i, name in enumerate(reader.names)}
        self.inputs, self.outputs = [place[t] for t in inputs], [place[t] for t in outputs]
        first = reader.subgraphs[0]
        self.operators = [i for i, name in enumerate(reader.operator_names) if name in nodes]
        used = {t for i in self.operators for o in (first.operators[i],) for t in (*o.inputs, *o.outputs, *o.intermediates)}
        used |= {place[n] for n in nodes if n in place} | set(self.inputs) | set(self.outputs)
        used.discard(-1)
        used |= {s for t in used for s in quantisation_tensors(first.tensors[t])}
        self.tensors, self.subgraphs, self.codes, self.buffers = _Numbering(), _Numbering(), _Numbering(), _Numbering()
        self.tensors.keep(used)
        called = reader.reachable([c for i in self.operators for c in first.operators[i].calls])
        self.subgraphs.keep([0, *called])
        running = [first.operators[i] for i in self.operators] + [o for g in called for o in reader.subgraphs[g].operators]
        self.codes.keep(o.table.number("opcode_index") for o in running)
        self.metadata = [m for m in reader.model.tables("metadata") if self._holds(m.text("name"))]
        custom = [o for o in running if o.custom and o.op not in KNOWN_CUSTOM]
        options = [(o.op, bytes(o.table.raw("custom_options"))) for o in custom]
        self.codes_behind = [code for op, raw in options if (code := code_of(op, raw, len(reader.data))) is not None]
        explained = [*reader.elsewhere, *((c.offset, c.offset + c.size) for c in self.codes_behind)]
        lost = unexplained(reader.data, reader.end, explained) if len(custom) > len(self.codes_behind) else 0
        if lost:
            op = next(o.op for o in custom if code_of(o.op, bytes(o.table.raw("custom_options")), len(reader.data)) is None)
            raise FormatError(
                f"{lost:,} bytes behind the flatbuffer belong to an op that this version does not know ({op}, perhaps), which a "
                "section of the file could not find any more; cut so that no section holds it, or use the file whole"
            )
        entering = set(self.inputs)
        self.buffers.keep([0])  # by convention the empty one
        self.buffers.keep(first.tensors[t].number("buffer") for t in used - entering)
        self.buffers.keep(t.number("buffer") for g in called for t in reader.subgraphs[g].tensors)
        self.buffers.keep(m.number("buffer") for m in self.metadata)

    def _holds(self, metadata: bytes) -> bool:
        """Whether metadata of this name describe the section as well as they describe the whole."""
        if metadata == _POSITIONAL:
            return self._same_ends()
        return metadata not in _COUNTING

    def _same_ends(self) -> bool:
        first = self.reader.subgraphs[0]
        return tuple(self.inputs) == first.inputs and tuple(self.outputs) == first.outputs

    def write(self) -> memoryview:
        from flatbuffers import Builder

        contents = [self.reader.content(b) for b in self.buffers.new]
        size = sum(len(c) + 2 * _ALIGNED for c in contents)
        if size > _LIMIT:
            raise FormatError(f"a section of {size:,} bytes: a flatbuffer holds less than 2 GiB; cut into smaller sections")
        builder = Builder(size + 4096 + 64 * len(self.tensors.new) + 256 * len(self.operators))  # grown when that is too little
        model = self._model(builder, contents)
        builder.Finish(model, file_identifier=IDENTIFIER)
        written = memoryview(builder.Bytes)[builder.Head() :]
        return moved(written, self.reader.data, self.codes_behind) if self.codes_behind else written

    def _model(self, builder: Builder, contents: Sequence[memoryview]) -> int:
        source = self.reader.model
        graphs = [self._subgraph(builder, g) for g in self.subgraphs.new]
        offsets = {
            "operator_codes": _vector(builder, [_copy(builder, source.tables("operator_codes")[c]) for c in self.codes.new]),
            "subgraphs": _vector(builder, graphs),
            "signature_defs": self._signatures(builder),
            "metadata": _vector(
                builder, [_copy(builder, m, {"buffer": self.buffers.new[m.number("buffer")]}) for m in self.metadata]
            ),
            "metadata_buffer": _numbers(builder, [self.buffers.new[m.number("buffer")] for m in self.metadata]),
            "buffers": _vector(
                builder, [_buffer(builder, c, self._stated(b)) for b, c in zip(self.buffers.new, contents, strict=True)]
            ),
        }
        for name in ("signature_defs", "metadata", "metadata_buffer"):
            if not source.has(name):
                offsets[name] = 0
        return _copy(builder, source, offsets)

    def _stated(self, buffer: int) -> bool:
        """Whether a buffer states its content, even an empty one: that makes a tensor without elements a constant."""
        return buffer != 0 and self.reader.buffers[buffer].has("data")

    def _subgraph(self, builder: Builder, number: int) -> int:
        graph = self.reader.subgraphs[number]
        whole = _Numbering()
        whole.keep(range(len(graph.tensors)))
        tensors = self.tensors.new if number == 0 else whole.new
        operators = [graph.operators[i] for i in self.operators] if number == 0 else graph.operators
        inputs, outputs = (self.inputs, self.outputs) if number == 0 else (graph.inputs, graph.outputs)
        entering = set(self.inputs) if number == 0 else set()

        def tensor(old: int) -> int:
            table = graph.tensors[old]
            # What comes from outside has no value in the file, even if it was a constant before.
            change = {"buffer": 0 if old in entering else self.buffers.new[table.number("buffer")]}
            if number == 0:
                change["name"] = builder.CreateString(self.reader.names[old])
                change |= self._quantisation(builder, table)
            return _copy(builder, table, change)

        def renumbered(old: Sequence[int]) -> int:
            return _numbers(builder, [tensors.get(t, -1) for t in old])

        written = []
        for operator in operators:
            change: dict[str, int] = {"opcode_index": self.codes.new[operator.table.number("opcode_index")]}
            for name, old in (
                ("inputs", operator.inputs),
                ("outputs", operator.outputs),
                ("intermediates", operator.intermediates),
            ):
                if operator.table.has(name):
                    change[name] = renumbered(old)
            for name in ("builtin_options", "builtin_options_2"):
                options = operator.table.table(name)
                if options is not None:
                    change[name] = self._options(builder, options)
            change |= self._large_options(builder, operator.table)
            written.append(_copy(builder, operator.table, change))
        return _copy(
            builder,
            graph.table,
            {
                "tensors": _vector(builder, [tensor(t) for t in tensors]),
                "inputs": renumbered(inputs),
                "outputs": renumbered(outputs),
                "operators": _vector(builder, written),
            },
        )

    def _quantisation(self, builder: Builder, tensor: Table) -> dict[str, int]:
        """Quantisation whose scales are tensors themselves, with their new numbers."""
        quantisation = tensor.table("quantization")
        details = None if quantisation is None else quantisation.table("details")
        if quantisation is None or details is None or not quantisation_tensors(tensor):
            return {}
        held = set(quantisation_tensors(tensor))
        numbers = {
            name: self.tensors.new[number]
            for kind, name in TENSOR_FIELDS
            if kind == details.kind and (number := details.number(name)) in held and (number or name == "scales")
        }
        return {"quantization": _copy(builder, quantisation, {"details": _copy(builder, details, numbers)})}

    def _options(self, builder: Builder, options: Table) -> int:
        change = {}
        for known in fields(options.kind).values():
            if names_subgraph(known) and options.has(known.name):
                if known.kind == "[int32]":
                    change[known.name] = _numbers(builder, [self.subgraphs.new[g] for g in options.numbers(known.name)])
                else:
                    change[known.name] = self.subgraphs.new[options.number(known.name)]
        return _copy(builder, options, change)

    def _large_options(self, builder: Builder, operator: Table) -> dict[str, int]:
        """Options stored after the flatbuffer move into it."""
        offset, size = operator.number("large_custom_options_offset"), operator.number("large_custom_options_size")
        if offset <= 1:
            return {}
        data = self.reader.data
        inside = _bytes(builder, data[offset : offset + size])
        return {"custom_options": inside, "large_custom_options_offset": 0, "large_custom_options_size": 0}

    def _signatures(self, builder: Builder) -> int:
        """For each signature of the first subgraph one of the section: its keys stay, borders have their tensor names for keys."""
        written = []
        for signature in self.reader.model.tables("signature_defs"):
            if signature.number("subgraph_index") != 0:
                continue
            named = {e.number("tensor_index"): e.text("name") for side in ("inputs", "outputs") for e in signature.tables(side)}

            def entries(tensors: Sequence[int], named: Mapping[int, bytes] = named) -> int:
                maps = []
                taken = {named[t] for t in tensors if t in named}
                for tensor in dict.fromkeys(tensors):
                    name = named.get(tensor) or self.reader.names[tensor].encode()
                    while tensor not in named and name in taken:
                        name += b"_"
                    taken.add(name)
                    place = {"name": builder.CreateString(name), "tensor_index": self.tensors.new[tensor]}
                    maps.append(_table(builder, "TensorMap", place))
                return _vector(builder, maps)

            change = {"inputs": entries(self.inputs), "outputs": entries(self.outputs)}
            written.append(_copy(builder, signature, change))
        return _vector(builder, written)


def _copy(builder: Builder, table: Table, change: Mapping[str, int] | None = None) -> int:
    """A copy of a table and everything it refers to; `change`: scalars by value, others by their offset (0: left out)."""
    change = change or {}
    values: dict[str, float] = dict(change)
    for known in fields(table.kind).values():
        if known.name in change or not known.kind or not table.has(known.name):
            continue
        if known.kind in SCALARS:
            values[known.name] = table.scalar(known.name)
        elif known.kind == "string":
            values[known.name] = builder.CreateString(table.text(known.name))
        elif known.kind.startswith("["):
            values[known.name] = _copy_vector(builder, table, known.name, known.kind[1:-1])
        else:
            inner = table.table(known.name)
            values[known.name] = 0 if inner is None else _copy(builder, inner)
    return _table(builder, table.kind, values)


def _copy_vector(builder: Builder, table: Table, name: str, element: str) -> int:
    if element in SCALARS:
        return _bytes(builder, table.raw(name), struct.calcsize(SCALARS[element]))
    return _vector(builder, [_copy(builder, member) for member in table.tables(name)])


def _table(builder: Builder, kind: str, values: Mapping[str, float]) -> int:
    """A table of fields: scalars are written even if they are zero, so that a field of the source is one of the copy."""
    known = fields(kind)
    builder.StartObject(len(known))
    for name, value in values.items():
        scalar = known[name].kind in SCALARS
        if not scalar and not value:
            continue
        if scalar:
            _prepend(builder, known[name].kind)(value)
        else:
            builder.PrependUOffsetTRelative(value)
        builder.Slot(known[name].slot)
    return int(builder.EndObject())


def _prepend(builder: Builder, kind: str) -> Callable[[float], None]:
    found: Callable[[float], None] = getattr(builder, f"Prepend{kind.capitalize()}")
    return found


def _buffer(builder: Builder, content: memoryview, stated: bool) -> int:
    return _table(builder, "Buffer", {"data": _bytes(builder, content, 1, _ALIGNED)} if stated or len(content) else {})


def _bytes(builder: Builder, raw: memoryview, width: int = 1, alignment: int = 0) -> int:
    """A vector of scalars; its bytes are copied this once."""
    builder.StartVector(width, len(raw) // width, alignment or width)
    builder.head = builder.head - len(raw)
    builder.Bytes[builder.head : builder.head + len(raw)] = raw
    return int(builder.EndVector())


def _numbers(builder: Builder, values: Sequence[int]) -> int:
    return _bytes(builder, memoryview(struct.pack(f"<{len(values)}i", *values)), 4)


def _vector(builder: Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
