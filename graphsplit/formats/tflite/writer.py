"""Sections as TFLite files: what a section needs is copied table by table and renumbered.

Tables are copied field by field, following the schema: quantisation, sparsity, the options of every op. Only numbers that point
into lists change: of tensors, buffers, operator codes and subgraphs. A buffer is copied once, into its place in the new file;
shared ones are written once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphsplit.errors import FormatError
from graphsplit.formats.tflite.appended import code_of, moved, unexplained
from graphsplit.formats.tflite.belongings import belongings
from graphsplit.formats.tflite.building import ALIGNED, copy_table, write_bytes, write_numbers, write_table, write_vector
from graphsplit.formats.tflite.flatbuffer import Table
from graphsplit.formats.tflite.outside import KNOWN_CUSTOM
from graphsplit.formats.tflite.packed import pack
from graphsplit.formats.tflite.reader import TFLiteReader, names_subgraph
from graphsplit.formats.tflite.schema import IDENTIFIER, fields
from graphsplit.formats.tflite.validation import TENSOR_FIELDS, quantisation_tensors

if TYPE_CHECKING:
    from flatbuffers import Builder

__all__ = ["write_section"]

_LIMIT = 2**31 - 2**20  # a flatbuffer's offsets are signed


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
        self.kept = belongings(reader, self.inputs, self.outputs, tuple(self.subgraphs.new), frozenset(self.buffers.new))
        self.buffers.keep(m.number("buffer") for m in self.kept.metadata)

    def write(self) -> memoryview:
        from flatbuffers import Builder

        contents = [self.kept.contents.get(b) or self.reader.content(b) for b in self.buffers.new]
        size = sum(len(c) + 2 * ALIGNED for c in contents)
        if size > _LIMIT:
            raise FormatError(f"a section of {size:,} bytes: a flatbuffer holds less than 2 GiB; cut into smaller sections")
        builder = Builder(size + 4096 + 64 * len(self.tensors.new) + 256 * len(self.operators))  # grown when that is too little
        model = self._model(builder, contents)
        builder.Finish(model, file_identifier=IDENTIFIER)
        written = memoryview(builder.Bytes)[builder.Head() :]
        if self.codes_behind:
            written = moved(written, self.reader.data, self.codes_behind)
        return pack(written, self.kept.files) if self.kept.files else written

    def _model(self, builder: Builder, contents: Sequence[memoryview]) -> int:
        source = self.reader.model
        graphs = [self._subgraph(builder, g) for g in self.subgraphs.new]
        offsets = {
            "operator_codes": write_vector(
                builder, [copy_table(builder, source.tables("operator_codes")[c]) for c in self.codes.new]
            ),
            "subgraphs": write_vector(builder, graphs),
            "signature_defs": self._signatures(builder),
            "metadata": write_vector(
                builder, [copy_table(builder, m, {"buffer": self.buffers.new[m.number("buffer")]}) for m in self.kept.metadata]
            ),
            "metadata_buffer": write_numbers(builder, [self.buffers.new[m.number("buffer")] for m in self.kept.metadata]),
            "buffers": write_vector(
                builder, [_buffer(builder, c, self._stated(b)) for b, c in zip(self.buffers.new, contents, strict=True)]
            ),
        }
        for name in ("signature_defs", "metadata", "metadata_buffer"):
            if not source.has(name):
                offsets[name] = 0
        return copy_table(builder, source, offsets)

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
                change |= self._shape(builder, old) if old in entering else {}
            return copy_table(builder, table, change)

        def renumbered(old: Sequence[int]) -> int:
            return write_numbers(builder, [tensors.get(t, -1) for t in old])

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
            written.append(copy_table(builder, operator.table, change))
        return copy_table(
            builder,
            graph.table,
            {
                "tensors": write_vector(builder, [tensor(t) for t in tensors]),
                "inputs": renumbered(inputs),
                "outputs": renumbered(outputs),
                "operators": write_vector(builder, written),
            },
        )

    def _shape(self, builder: Builder, tensor: int) -> dict[str, int]:
        """The shape of an input, where the file states one that no run has."""
        shape = self.reader.real_shapes.get(tensor)
        if shape is None:
            return {}
        return {
            "shape": write_numbers(builder, [1 if s is None else s for s in shape]),
            "shape_signature": write_numbers(builder, [-1 if s is None else s for s in shape]),
        }

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
        return {"quantization": copy_table(builder, quantisation, {"details": copy_table(builder, details, numbers)})}

    def _options(self, builder: Builder, options: Table) -> int:
        change = {}
        for known in fields(options.kind).values():
            if names_subgraph(known) and options.has(known.name):
                if known.kind == "[int32]":
                    change[known.name] = write_numbers(builder, [self.subgraphs.new[g] for g in options.numbers(known.name)])
                else:
                    change[known.name] = self.subgraphs.new[options.number(known.name)]
        return copy_table(builder, options, change)

    def _large_options(self, builder: Builder, operator: Table) -> dict[str, int]:
        """Options stored after the flatbuffer move into it."""
        offset, size = operator.number("large_custom_options_offset"), operator.number("large_custom_options_size")
        if offset <= 1:
            return {}
        data = self.reader.data
        inside = write_bytes(builder, data[offset : offset + size])
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
                    maps.append(write_table(builder, "TensorMap", place))
                return write_vector(builder, maps)

            change = {"inputs": entries(self.inputs), "outputs": entries(self.outputs)}
            written.append(copy_table(builder, signature, change))
        return write_vector(builder, written)


def _buffer(builder: Builder, content: memoryview, stated: bool) -> int:
    return write_table(builder, "Buffer", {"data": write_bytes(builder, content, 1, ALIGNED)} if stated or len(content) else {})
