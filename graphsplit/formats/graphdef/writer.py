"""Section → bytes of a GraphDef, by copying the original byte ranges.

Nodes keep their bytes and their order unless one of three things must change: a reader of a border tensor that got a new name, a
control input whose node is not in the section, a colocation with such a node. Border tensors become placeholders at the place of
the node that produces them:

    X:0  → a placeholder named X, so that its readers stay as they are
    X:1  → a placeholder of a new, unique name; its readers are rewired
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphsplit.errors import CutError
from graphsplit.formats.graphdef.messages import dtype_number, message
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import BYTES, NodeRange, attributes, encode_field, encode_varint, fields
from graphsplit.formats.source import FileRange
from graphsplit.graph.index import Shape, TensorSpec

__all__ = ["Chunk", "SectionBytes", "placeholder", "write_section"]

Chunk = memoryview | bytes | FileRange


_SHAPES = b"_output_shapes"


@dataclass(frozen=True, slots=True)
class SectionBytes:
    """A section, ready to be written.

    Attributes:
        chunks: The file, in order; most are ranges of the source.
        names: Tensor of the whole → its name in this file, for the section's inputs and outputs.
    """

    chunks: tuple[Chunk, ...]
    names: Mapping[str, str]


def write_section(
    reader: GraphDefReader,
    nodes: Sequence[str],
    inputs: Sequence[TensorSpec],
    outputs: Iterable[str] = (),
    *,
    own_placeholders: bool = True,
    types: Mapping[str, Sequence[str | None]] | None = None,
) -> SectionBytes:
    """The GraphDef of some nodes of a graph, with placeholders for the tensors they do not produce.

    Args:
        reader: The graph.
        nodes: Names of the nodes to keep.
        inputs: Tensors that come from outside, with dtype and (if known) shape. One that is optional keeps its node, with the
            constant that is its default unless `nodes` hold what computes it.
        outputs: Tensors that will be fetched (they only have to be named).
        own_placeholders: Whether an input of the whole keeps its placeholder, or gets a new one like any border tensor.
        types: Node of a custom op → dtypes of its outputs, which the section states since nothing in it reads them.

    Raises:
        CutError: The dtype of an input is not known.
    """
    kept = set(nodes)
    entering: dict[str, list[TensorSpec]] = {}
    for spec in inputs:
        name = spec.name.rpartition(":")[0]
        entering.setdefault(name, []).append(spec)
        if spec.optional and name not in kept:
            kept |= {name, reader.split_input(reader.by_name[name].inputs[0])[0]}
    names = _names(reader, kept, entering)
    renamed = {t: n for t, n in names.items() if t != n}
    there = kept | {n.removesuffix(":0") for n in names.values()}

    chunks: list[Chunk] = []
    run: tuple[int, int] | None = None  # a stretch of unchanged nodes, copied in one piece

    def flush() -> None:
        nonlocal run
        if run is not None:
            chunks.append(reader.part(*run))
            run = None

    for node in reader.nodes:
        pieces: list[Chunk] | None = None
        own = own_placeholders and node.name in entering and node.op in ("Placeholder", "PlaceholderV2")
        if node.name in kept or own:
            pieces = _changed(reader, node, renamed, there, kept, (types or {}).get(node.name))
            if pieces is None:
                if run is not None and run[1] == node.begin:
                    run = (run[0], node.end)
                else:
                    flush()
                    run = (node.begin, node.end)
                continue
        elif node.name in entering:
            pieces = [placeholder(names[s.name].removesuffix(":0"), s.dtype, s.shape) for s in entering[node.name]]
        if pieces:
            flush()
            chunks += pieces
    flush()
    chunks += _library(reader, kept)
    chunks += [reader.part(begin, end) for number, begin, end in reader.other_fields if number in (3, 4)]
    return SectionBytes(tuple(chunks), {**{t: t for t in outputs}, **names})


def _names(reader: GraphDefReader, kept: set[str], entering: Mapping[str, list[TensorSpec]]) -> dict[str, str]:
    names: dict[str, str] = {}
    taken = set(reader.by_name)
    for node, specs in entering.items():
        for spec in specs:
            port = int(spec.name.rpartition(":")[2])
            if spec.optional or (port == 0 and node not in kept):
                names[spec.name] = spec.name
                continue
            stem = name = f"{node}_port_{port}"
            count = 0
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            taken.add(name)
            names[spec.name] = f"{name}:0"
    return names


def _changed(
    reader: GraphDefReader,
    node: NodeRange,
    renamed: Mapping[str, str],
    there: set[str],
    kept: set[str],
    types: Sequence[str | None] | None,
) -> list[Chunk] | None:
    """The pieces of a node that cannot be copied as it is; None for one that can."""
    inputs = [
        renamed.get(":".join(reader.split_input(raw)), raw) if renamed and not raw.startswith("^") else raw
        for raw in node.inputs
        if not raw.startswith("^") or raw[1:] in there
    ]
    changed = {**_colocation(reader, node, kept), **_hints(reader, node)}
    if tuple(inputs) == node.inputs and not changed and types is None:
        return None
    content: list[Chunk] = []
    written = False
    for number, wire, begin, _, end in fields(reader.data, node.start, node.end):
        if number == 3 and wire == BYTES:
            if not written:
                content += [encode_field(3, raw.encode()) for raw in inputs]
                written = True
        elif begin in changed:
            content.append(changed[begin])
        else:
            content.append(reader.part(begin, end))
    if types is not None:
        entry = message("AttrEntry")(key="_output_types")
        entry.value.list.type.extend(0 if dtype is None else dtype_number(dtype) for dtype in types)
        content.append(encode_field(5, entry.SerializeToString()))
    return _node(content)


def _hints(reader: GraphDefReader, node: NodeRange) -> dict[int, bytes]:
    """Attribute ``_output_shapes`` of an op that TensorFlow knows, which may not be true any more: {where it begins: nothing}."""
    known = op_table().get(node.op) is not None and node.op != "Const"
    if not known or _SHAPES not in bytes(reader.data[node.start : node.end]):
        return {}
    entries = attributes(reader.data, node.start, node.end)
    return {begin: b"" for key, begin, _, _, _ in entries if key == _SHAPES.decode()}


def _colocation(reader: GraphDefReader, node: NodeRange, kept: set[str]) -> dict[int, bytes]:
    """Attribute ``_class`` without the nodes that left: {where the entry begins: its new bytes}."""
    if not node.colocated:
        return {}
    changed: dict[int, bytes] = {}
    for key, begin, _, start, end in attributes(reader.data, node.start, node.end):
        if key == "_class":
            value = reader.parse("AttrValue", start, end)
            stay = [s for s in value.list.s if not s.startswith(b"loc:@") or s[5:].decode(errors="replace") in kept]
            if len(stay) < len(value.list.s):
                del value.list.s[:]
                value.list.s.extend(stay)
                entry = encode_field(1, b"_class") + encode_field(2, value.SerializeToString())
                changed[begin] = encode_field(5, entry) if stay else b""
    return changed


def _node(content: list[Chunk]) -> list[Chunk]:
    content = [c for c in content if len(c)]
    return [b"\x0a" + encode_varint(sum(map(len, content))), *content]


def _library(reader: GraphDefReader, kept: set[str]) -> Iterator[Chunk]:
    """The function library, pruned to what the kept nodes call, directly or through other functions and gradients."""
    library = reader.library
    if not library.functions:
        return
    used = library.reached(c for node in reader.nodes if node.name in kept for c in library.called(node))
    pieces: list[Chunk] = [reader.part(f.begin, f.end) for name, f in library.functions.items() if name in used]
    for name, gradient in library.gradients.items():
        if name in used:
            pieces.append(encode_field(2, encode_field(1, name.encode()) + encode_field(2, gradient.encode())))
    if pieces:
        yield b"\x12" + encode_varint(sum(map(len, pieces)))
        yield from pieces


def placeholder(name: str, dtype: str | None, shape: Shape | None) -> bytes:
    """The bytes of a Placeholder node, as one field of a GraphDef. Raises CutError when the dtype is not known."""
    if dtype is None:
        raise CutError(
            f"the dtype of {name!r} is not known, since its op is not one of TensorFlow's; cut before it or further on",
            cut=(name,),
        )
    node = message("NodeDef")(name=name, op="Placeholder")
    node.attr.add(key="dtype").value.type = dtype_number(dtype)
    stated = node.attr.add(key="shape").value.shape
    stated.SetInParent()  # shape [] is stated by a message that is there and empty
    if shape is None:
        stated.unknown_rank = True
    else:
        for size in shape:
            stated.dim.add(size=-1 if size is None else size)
    return encode_field(1, node.SerializeToString())
