"""What a GraphDef states of its tensors: dtypes from attributes and the op table, shapes where an attribute has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.messages import Message, read_shape
from graphsplit.formats.graphdef.ops import op_table, port_dtypes
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import BYTES, GraphError, NodeRange, WireError, attributes, fields
from graphsplit.graph.index import Node, Shape, TensorSpec

__all__ = ["PLACEHOLDERS", "WITH_DEFAULT", "LazySpecs", "output_dtypes"]

#: Ops of the inputs of a graph.
PLACEHOLDERS = {"Placeholder", "PlaceholderV2", "_Arg"}
#: The op of an input that has a default.
WITH_DEFAULT = "PlaceholderWithDefault"
_SCALAR_MEANS_UNKNOWN = 22  # below this producer version a Placeholder of shape [] has an unknown shape


class LazySpecs(Mapping[str, TensorSpec]):
    """Specs of all tensors, each computed when it is asked for. Raises FormatError for a damaged attribute.

    Args:
        reader: The graph.
        nodes: Its nodes.
        dtypes: The dtypes of the outputs of some nodes, where they are known already.
    """

    def __init__(self, reader: GraphDefReader, nodes: Sequence[Node], dtypes: Mapping[str, list[str | None]]) -> None:
        self._reader, self._nodes = reader, nodes
        self.producer = {t: n.name for n in nodes for t in n.outputs}
        self._known: dict[str, TensorSpec] = {}
        self._dtypes = dict(dtypes)  # node → the dtypes of its outputs

    def __getitem__(self, name: str) -> TensorSpec:
        spec = self._known.get(name)
        if spec is None:
            dtype, port = self.dtype(name), int(name.rpartition(":")[2])
            node = self._reader.by_name[self.producer[name]]
            try:
                spec = self._known[name] = TensorSpec(name, dtype, _shape(self._reader, node, port))
            except (WireError, GraphError) as error:
                raise self._damaged(node.name, error) from error
        return spec

    def dtype(self, name: str) -> str | None:
        """The dtype of a tensor, without its shape."""
        node, port = self.producer[name], int(name.rpartition(":")[2])
        if node not in self._dtypes:
            try:
                self._dtypes[node] = output_dtypes(self._reader, self._reader.by_name[node])
            except (WireError, GraphError) as error:
                raise self._damaged(node, error) from error
        dtypes = self._dtypes[node]
        stated = dtypes[port] if port < len(dtypes) else None
        return self._as_read(name) if stated is None else stated

    def _as_read(self, name: str) -> str | None:
        """The dtype that the first reader of a tensor expects, where its producer, a custom op, does not state one."""
        for node, place in self._readers.get(name, ()):
            info = op_table().get(node.op)
            if info is None:
                continue
            try:
                expected = port_dtypes(info.inputs, partial(self._reader.attribute, self._reader.by_name[node.name]), info.defaults)
            except (ValueError, WireError, GraphError) as error:
                raise self._damaged(node.name, error) from error
            if place < len(expected) and expected[place] is not None:
                return expected[place]
        return None

    @cached_property
    def _readers(self) -> Mapping[str, list[tuple[Node, int]]]:
        readers: dict[str, list[tuple[Node, int]]] = {}
        for node in self._nodes:
            for place, tensor in enumerate(node.inputs):
                readers.setdefault(tensor, []).append((node, place))
        return readers

    def _damaged(self, node: str, error: Exception) -> FormatError:
        return FormatError(f"node {node!r} is damaged: {error}", path=self._reader.path)

    def __contains__(self, name: object) -> bool:
        return name in self.producer

    def __iter__(self) -> Iterator[str]:
        return iter(self.producer)

    def __len__(self) -> int:
        return len(self.producer)


def output_dtypes(reader: GraphDefReader, node: NodeRange) -> list[str | None]:
    """The dtype of each output of a node, as far as the file and the op table tell. Raises GraphError."""
    info, functions = op_table().get(node.op), reader.library.functions
    attribute = partial(reader.attribute, node)
    try:
        if info is not None:
            return port_dtypes(info.outputs, attribute, info.defaults)
        if node.op in functions:
            return port_dtypes([_notation(arg) for arg in functions[node.op].signature.output_arg], attribute, {})
        return port_dtypes(["@_output_types[]"], attribute, {})
    except ValueError as error:
        raise GraphError(f"node {node.name!r}: {error}") from error


def _notation(arg: Message) -> str:
    """An ArgDef of a function in the notation of the op table; empty for one that is damaged."""
    if not all(name.isidentifier() for name in (arg.type_list_attr, arg.type_attr, arg.number_attr) if name):
        return ""
    if arg.type_list_attr:
        return f"@{arg.type_list_attr}[]"
    dtype = f"@{arg.type_attr}" if arg.type_attr else op_table().dtypes.get(arg.type % 100, "")
    return f"{arg.number_attr}*{dtype}" if arg.number_attr else dtype


def _shape(reader: GraphDefReader, node: NodeRange, port: int) -> Shape | None:
    if node.op == "Const":
        return _const_shape(reader, node)
    if node.op in PLACEHOLDERS:
        value = reader.attribute(node, "shape")
        if value is None:
            return None
        if not value.shape.dim and reader.producer_version < _SCALAR_MEANS_UNKNOWN:
            return None
        return read_shape(value.shape)
    if node.op == WITH_DEFAULT:
        value = reader.attribute(node, "shape")
        return None if value is None else read_shape(value.shape)
    if node.op == "TensorArrayGatherV3":
        element = reader.attribute(node, "element_shape")
        shape = None if element is None else read_shape(element.shape)
        return None if shape is None else (None, *shape)
    if op_table().get(node.op) is not None:
        return None  # `_output_shapes` is what was inferred before somebody changed the graph, perhaps
    stated = reader.attribute(node, "_output_shapes")
    if stated is not None and port < len(stated.list.shape):
        return read_shape(stated.list.shape[port])
    return None


def _const_shape(reader: GraphDefReader, node: NodeRange) -> Shape | None:
    """The shape of a constant, read from beside its value (TensorProto: tensor_shape = 2)."""
    data = reader.data
    shape: Shape | None = None
    for key, _, _, start, end in attributes(data, node.start, node.end):
        if key == "value":
            for number, wire, _, low, high in fields(data, start, end):
                if number == 8 and wire == BYTES:
                    stated = [(a, b) for inner, kind, _, a, b in fields(data, low, high) if inner == 2 and kind == BYTES]
                    shape = read_shape(reader.parse("TensorShapeProto", *stated[-1])) if stated else ()
    return shape
