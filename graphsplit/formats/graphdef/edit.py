"""A GraphDef with nodes removed, nodes added and readers rewired, by copying the original byte ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.messages import Message, dtype_number, message
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import NodeRange, encode_field
from graphsplit.formats.graphdef.writer import write_section

__all__ = ["NodeWriter", "edited"]


class NodeWriter:
    """Builds NodeDefs with unused names, and collects them.

        w = NodeWriter("fused", model.reader.by_name)
        total = w("AddV2", w.const(1), other)               # the name of its first output

    Args:
        scope: What their names begin with.
        taken: Names that are in use.
        after: Nodes that every constant waits for: inside of a while loop a constant belongs to the loop only through one.
        device: The device all of them are pinned to; empty: none.

    Attributes:
        nodes: The nodes so far, each as a field of a GraphDef.
        names: Their names.
    """

    def __init__(self, scope: str, taken: Iterable[str], *, after: Sequence[str] = (), device: str = "") -> None:
        self.scope, self.after, self.device = scope, tuple(after), device
        self._taken = set(taken)
        self.nodes: list[bytes] = []
        self.names: set[str] = set()

    def __call__(self, op: str, *inputs: str, after: Sequence[str] = (), **attributes: str | bool | float | list[int]) -> str:
        """Add a node; returns the name of its first output. A string attribute is the name of a dtype."""
        node = message("NodeDef")(name=self._free(op), op=op, device=self.device)
        node.input.extend([i.removesuffix(":0") for i in inputs] + [f"^{a}" for a in after])
        for key, value in attributes.items():
            entry = node.attr.add(key=key).value
            if isinstance(value, str):
                entry.type = dtype_number(value)
            elif isinstance(value, bool):
                entry.b = value
            elif isinstance(value, int):
                entry.i = value
            elif isinstance(value, list):
                entry.list.SetInParent()
                entry.list.i.extend(value)
            else:
                entry.f = value
        return self._add(node)

    def const(self, value: object, dtype: str = "int32") -> str:
        """Add a constant, from numbers and nested lists of them, or from bytes for a string; returns the name of its output."""
        node = message("NodeDef")(name=self._free("Const"), op="Const", device=self.device)
        node.input.extend(f"^{a}" for a in self.after)
        node.attr.add(key="dtype").value.type = dtype_number(dtype)
        tensor = node.attr.add(key="value").value.tensor
        tensor.dtype = dtype_number(dtype)
        tensor.tensor_shape.SetInParent()
        if dtype == "string":
            tensor.string_val.append(value)
            return self._add(node)
        array = np.asarray(value, dtype=dtype)
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        return self._add(node)

    def must(self, condition: str, text: bytes) -> str:
        """Add an Assert that stops a run with a text if the condition does not hold; returns its name, to wait for."""
        node = message("NodeDef")(name=self._free("Assert"), op="Assert", device=self.device)
        node.input.extend([condition.removesuffix(":0"), self.const(text, "string").removesuffix(":0")])
        node.attr.add(key="T").value.list.type.append(dtype_number("string"))
        self._add(node)
        return str(node.name)

    def copy(self, node: NodeRange, reader: GraphDefReader, inputs: Sequence[str]) -> str:
        """Add a copy of a node with other inputs, without control inputs and colocation; returns its name."""
        copy = message("NodeDef").FromString(bytes(reader.part(node.start, node.end)))
        copy.name, copy.device = self._free(node.op), self.device or copy.device
        del copy.input[:]
        copy.input.extend(i.removesuffix(":0") for i in inputs)
        for place in reversed(range(len(copy.attr))):
            if copy.attr[place].key == "_class":
                del copy.attr[place]
        self._add(copy)
        return str(copy.name)

    def _free(self, op: str) -> str:
        stem = name = f"{self.scope}/{op}"
        count = 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def _add(self, node: Message) -> str:
        self.names.add(node.name)
        self.nodes.append(encode_field(1, node.SerializeToString(deterministic=True)))
        return f"{node.name}:0"


def edited(
    model: GraphDefModel,
    *,
    added: Sequence[bytes] = (),
    rewired: Mapping[str, str] | None = None,
    outputs: Iterable[str] | None = None,
) -> GraphDefModel:
    """A model with nodes added and readers rewired, pruned to what its outputs need. Inputs stay, needed or not.

    Args:
        model: The original, whose path and format the result keeps.
        added: NodeDefs as `NodeWriter` builds them.
        rewired: Tensor → the tensor that its readers among the original nodes read instead.
        outputs: Tensors to keep; None: those of the model.

    Raises:
        FormatError: The nodes do not form a legal graph, or an output would be rewired.
    """
    kept = tuple(model.index.outputs if outputs is None else outputs)
    moved = dict(rewired or {})
    lost = [t for t in kept if t in moved]
    if lost:
        raise FormatError(f"{lost[0]!r} is an output of the model, so its readers cannot be rewired", path=model.path)
    whole = GraphDefModel([b"".join([*added, *_rewired(model, moved)])], path=model.path, format="graphdef", output_names=kept)
    index = whole.index
    needed = index.ancestors([index.producer[t] for t in kept]) | {index.producer[t] for t in index.inputs}
    nodes = [n.name for n in index.nodes if n.name in needed]
    pruned = write_section(whole.reader, nodes, (), kept)
    origin = model.origin if model.converted else None  # else its own bytes are no longer those of the file
    return GraphDefModel(
        pruned.chunks, path=model.path, source=origin, format=model.format, output_names=kept, signature=model.signature
    )


def _rewired(model: GraphDefModel, moved: Mapping[str, str]) -> Iterable[bytes]:
    """The bytes of a model with readers rewired; other fields are copied."""
    reader = model.reader
    for node in reader.nodes:
        inputs = [i if i.startswith("^") else moved.get(":".join(reader.split_input(i)), i) for i in node.inputs]
        if tuple(inputs) == node.inputs:
            yield bytes(reader.part(node.begin, node.end))
            continue
        content = message("NodeDef").FromString(bytes(reader.part(node.start, node.end)))
        del content.input[:]
        content.input.extend(i.removesuffix(":0") for i in inputs)
        yield encode_field(1, content.SerializeToString(deterministic=True))
    for start, end in reader.library_spans:
        yield encode_field(2, bytes(reader.part(start, end)))
    for _, begin, end in reader.other_fields:
        yield bytes(reader.part(begin, end))
