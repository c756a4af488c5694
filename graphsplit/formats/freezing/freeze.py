"""A signature of a SavedModel frozen by reading: nothing is run, TensorFlow is not imported, values are copied from the files.

    saved_model.pb ─▶ what the signature needs ─▶ calls inlined, handles replaced ─▶ pruned ─▶ a GraphDef
    variables.*    ─▶ the values of its variables ──────────────────────────────────────────▶ its constants

A SavedModel of TensorFlow 2 is a call of a function, whose captured arguments are variables and constants; its body becomes the
graph. One of TensorFlow 1 is a graph already. Functional loops and branches stay as they are.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import NamedTuple

from graphsplit.errors import FormatError
from graphsplit.formats.freezing.bodies import Body, Emitted, FunctionNames, Ref, called_function, plain, returned
from graphsplit.formats.freezing.bundle import Bundle, Value
from graphsplit.formats.freezing.functions import library_bytes, stem
from graphsplit.formats.freezing.handles import Handle, constant_head, node_bytes
from graphsplit.formats.freezing.reasons import ChangesVariableError, NotUnderstood
from graphsplit.formats.freezing.restoring import VARIABLES, Restored, restored
from graphsplit.formats.graphdef.messages import Message, read_shape
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.wire import (
    BYTES,
    GraphError,
    NodeRange,
    WireError,
    attributes,
    encode_field,
    encode_varint,
    fields,
)
from graphsplit.formats.meta_graph import MetaGraph, signature_keys, signature_tensors
from graphsplit.formats.saved_model_freezing import change_text
from graphsplit.graph.signature import Signature
from graphsplit.graph.traversal import reachable

__all__ = ["freeze_by_reading", "read_frozen"]

_LIMIT = 2**31  # protobuf: no message of 2 GiB or more
_PLACEHOLDERS = {"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}

Frozen = tuple[bytes | mmap.mmap, tuple[str, ...], Signature]


class _Constant(NamedTuple):
    """A variable as a constant: what comes before its content, and the content."""

    head: bytes
    value: Value | bytes
    size: int


class _Graph(NamedTuple):
    nodes: list[Emitted | tuple[str, _Constant]]
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    signature: Signature


def read_frozen(path: Path, meta: MetaGraph, key: str) -> tuple[Frozen | None, str]:
    """What `freeze_by_reading` returns, or None and why TensorFlow has to load the SavedModel.

    Raises FormatError.
    """
    try:
        return freeze_by_reading(path, meta, key), ""
    except NotUnderstood as error:
        return None, str(error)
    except FormatError as error:
        if error.path is not None or isinstance(error, (WireError, GraphError)):
            raise
        raise FormatError(str(error), path=path) from error
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        # Files that nobody has thought of: TensorFlow says what it makes of them.
        return None, f"reading it failed ({type(error).__name__}: {error})"


def freeze_by_reading(path: Path, meta: MetaGraph, key: str) -> Frozen:
    """A signature as a frozen GraphDef, its output tensors, and the keys of the signature.

    Args:
        path: The folder.
        meta: The meta graph.
        key: Of the signature.

    Raises:
        NotUnderstood: TensorFlow has to load it.
        FormatError: It is damaged.
    """
    stated = meta.all_signatures[key]
    if any(not e.value.name for e in (*stated.outputs, *stated.inputs)):
        raise NotUnderstood(f"the signature {key!r} has tensors that are not dense")
    mark = hashlib.sha256(meta.graph_def + key.encode()).hexdigest()[:8]
    names = FunctionNames(mark, stem)
    variables = _Variables(path, meta)
    try:
        graph = _of_objects(meta, stated, names, variables) if meta.has_objects else _of_graph(meta, stated, names, variables)
        return _written(meta, names, variables, graph), graph.outputs, graph.signature
    except ChangesVariableError as error:
        if meta.has_objects:
            raise FormatError(change_text(str(error)), path=path) from error
        raise NotUnderstood(f"{error} changes a variable each time the model runs") from error


class _Variables:
    """The variables of a meta graph and their values."""

    def __init__(self, path: Path, meta: MetaGraph) -> None:
        self._path, self._meta = path, meta
        self._bundle: Bundle | None = None
        self._sources: dict[str, Restored | str] | None = None

    @property
    def bundle(self) -> Bundle:
        """The checkpoint. Raises FormatError."""
        if self._bundle is None:
            self._bundle = Bundle(self._path / "variables" / "variables")
        return self._bundle

    def read(self, node: NodeRange, name: str) -> tuple[Handle, _Constant]:
        """The handle of a variable, and the constant of that name that takes its place."""
        if self._sources is None:
            self._sources = restored(self._meta)
        source = self._sources.get(node.name, "nothing restores it")
        if isinstance(source, str):
            raise NotUnderstood(f"the variable {node.name!r} is not read: {source}")
        stated = self._meta.reader.attribute(node, "dtype")
        dtype = 0 if stated is None else stated.type % 100
        if source.constant is not None:
            shape, kind, content = self._initial(source.constant)
            value: Value | bytes = content
            size = len(content)
        elif not (self._path / "variables" / "variables.index").is_file():
            raise FormatError(
                f"variables/variables.index is missing, which holds the value of {node.name!r}; copy the whole SavedModel folder",
                path=self._path,
            )
        else:
            value = self.bundle.find(source.name, source.part)
            kind, shape = value.dtype, value.shape
            size = 1 + len(encode_varint(value.size)) + value.size if value.size else 0
            if op_table().dtypes[kind] == "string":
                value = self.bundle.content(value)
                size = len(value)
        if kind != dtype:
            raise NotUnderstood(f"the variable {node.name!r} has another dtype than its value in the file")
        declared = self._meta.reader.attribute(node, "shape")
        wanted = None if declared is None else read_shape(declared.shape)
        if wanted and not (len(wanted) == len(shape) and all(w in (None, d) for w, d in zip(wanted, shape, strict=True))):
            raise FormatError(f"the variable {node.name!r} has another shape than its value in the file", path=self._path)
        device = "" if self._meta.has_objects else node.device
        handle = Handle(name, dtype, shape, node.op == "VarHandleOp")
        return handle, _Constant(constant_head(name, dtype, shape, size, device=device), value, size)

    def _initial(self, node: NodeRange) -> tuple[tuple[int, ...], int, bytes]:
        """Shape, dtype and the rest of the value of a constant."""
        data = self._meta.reader.data
        for name, _, _, start, end in attributes(data, node.start, node.end):
            if name == "value":
                for number, wire, _, low, high in fields(data, start, end):
                    if number == 8 and wire == BYTES:
                        head = self._meta.reader.parse("TensorProto", low, high)
                        shape = read_shape(head.tensor_shape)
                        if shape is not None and None not in shape:
                            rest = b"".join(data[begin:b] for n, _, begin, _, b in fields(data, low, high) if n not in (1, 2))
                            return tuple(d or 0 for d in shape), head.dtype, rest
        raise NotUnderstood(f"the constant {node.name!r} has no value")


def _of_graph(meta: MetaGraph, stated: Message, names: FunctionNames, variables: _Variables) -> _Graph:
    """The nodes of a graph of TensorFlow 1 that a signature needs."""
    outputs, inputs = signature_tensors(stated.outputs), signature_tensors(stated.inputs)
    needed = meta.needed((*outputs, *inputs))
    for tensor in (*outputs, *inputs):
        if tensor.partition(":")[0] not in needed:
            raise FormatError(f"its signature names {tensor!r}, which is not there")
    if any(a.tensor.partition(":")[0] in needed for a in meta.assets):
        raise NotUnderstood("it needs the path of an asset")
    reader = meta.reader
    nodes: list[Emitted | tuple[str, _Constant]] = []
    handles: dict[str, Handle] = {}
    for node in reader.nodes:
        if node.op in VARIABLES and node.name in needed:
            handles[node.name], constant = variables.read(node, node.name)
            nodes.append((node.name, constant))
    body = Body(reader, reader.nodes, names, "graph", variables=handles)
    nodes += body.emit(needed)
    keys = Signature(signature_keys(stated.inputs), signature_keys(stated.outputs))
    return _Graph(nodes, outputs, inputs, keys)


def _of_objects(meta: MetaGraph, stated: Message, names: FunctionNames, variables: _Variables) -> _Graph:
    """The body of the function that a signature of TensorFlow 2 calls, as a graph."""
    reader = meta.reader
    outs = signature_keys(stated.outputs)
    callers = {reader.split_input(tensor)[0] for tensor in outs.values()}
    call = reader.by_name.get(next(iter(callers))) if len(callers) == 1 else None
    name = "" if call is None else called_function(reader, call)
    if call is None or not name:
        raise NotUnderstood("its signature is not one call of a function")
    function = reader.library.functions[name]
    arguments = [a.name for a in plain(function.signature.input_arg, name)]
    passed = [raw for raw in call.inputs if not raw.startswith("^")]
    if len(arguments) != len(passed) or len(passed) < len(call.inputs):
        raise NotUnderstood(f"{call.name!r} passes other arguments than {name!r} takes")
    assets = {a.tensor.partition(":")[0] for a in meta.assets}
    nodes: list[Emitted | tuple[str, _Constant]] = []
    args: dict[str, Ref] = {}
    seen: dict[str, Ref] = {}
    fed: dict[str, str] = {}
    for arg, raw in zip(arguments, passed, strict=True):
        node = reader.by_name.get(reader.split_input(raw)[0])
        if node is None:
            raise FormatError(f"{raw!r} is read, which is not there")
        if node.name not in seen:
            if node.op in _PLACEHOLDERS and len(node.inputs) == 0:
                fed[f"{node.name}:0"] = f"{arg}:0"
                nodes.append(Emitted(arg, (), node_bytes(reader, node, arg, ())))
                seen[node.name] = Ref(arg)
            elif node.op == "Const" and node.name not in assets:
                nodes.append(Emitted(arg, (), node_bytes(reader, node, arg, ())))
                seen[node.name] = Ref(arg)
            elif node.op == "VarHandleOp":
                handle, constant = variables.read(node, arg)
                nodes.append((arg, constant))
                seen[node.name] = Ref(arg, handle)
            else:
                what = "the path of an asset" if node.name in assets else f"a {node.op}"
                raise NotUnderstood(f"its signature is called with {what} ({node.name!r})")
        args[arg] = seen[node.name]
    ins = signature_keys(stated.inputs)
    if any(tensor not in fed for tensor in ins.values()):
        raise NotUnderstood("an input of its signature is not passed to its function")
    rets, control = returned(reader, function)
    taken = set(arguments)
    body = Body(reader, function.nodes, names, "inline", args=args, taken=taken, rets=rets, control_rets=control, where=f"{name}/")
    nodes += body.emit()
    results = [_tensor(body.resolve(rets[a.name]).text) for a in function.signature.output_arg]
    keyed = {}
    for key, tensor in outs.items():
        place = int(reader.split_input(tensor)[1])
        if place >= len(results):
            raise FormatError(f"its signature names {tensor!r}, which is not there")
        keyed[key] = results[place]
    keys = Signature({k: fed[t] for k, t in ins.items()}, keyed)
    outputs = tuple(dict.fromkeys(t for t in results if t in keyed.values()))
    order = {f"{a}:0": place for place, a in enumerate(arguments)}
    return _Graph(nodes, outputs, tuple(sorted(set(fed.values()), key=order.__getitem__)), keys)


def _tensor(text: str) -> str:
    return text if ":" in text else f"{text}:0"


def _written(meta: MetaGraph, names: FunctionNames, variables: _Variables, graph: _Graph) -> bytes | mmap.mmap:
    """The GraphDef, pruned to what its outputs and inputs need; values go from the file to their place in it."""
    inputs = {n.name: n.inputs for n in graph.nodes if isinstance(n, Emitted)}
    kept = reachable(map(_node, (*graph.outputs, *graph.inputs)), lambda name: map(_node, inputs.get(name, ())))
    pieces: list[tuple[bytes, Value | bytes]] = []
    functions: dict[str, None] = {}
    total = 0
    for entry in graph.nodes:
        name = entry.name if isinstance(entry, Emitted) else entry[0]
        if name not in kept:
            continue
        if isinstance(entry, Emitted):
            pieces.append((encode_field(1, entry.content), b""))
            functions |= dict.fromkeys(entry.functions)
            total += len(pieces[-1][0])
        else:
            constant = entry[1]
            pieces.append((b"\x0a" + encode_varint(len(constant.head) + constant.size) + constant.head, constant.value))
            total += len(pieces[-1][0]) + constant.size
    versions = [meta.reader.data[begin:end] for number, begin, end in meta.reader.other_fields if number == 4]
    last = library_bytes(meta.reader, names, functions) + b"".join(versions)
    total += len(last)
    if total >= _LIMIT:
        raise FormatError(f"frozen it has {total:,} bytes: a GraphDef of 2 GiB or more cannot be one protobuf message")
    if not total:
        return b""
    out = mmap.mmap(-1, total)
    for head, value in pieces:
        out.write(head)
        out.write(variables.bundle.content(value) if isinstance(value, Value) else value)
    out.write(last)
    return out


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
