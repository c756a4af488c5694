"""Which value of the checkpoint each variable gets, read from the nodes that restore it.

    restore op ─▶ (a function) ─▶ AssignVariableOp(handle, Identity(RestoreV2:k))    names[k], slices[k]: constants
                                  Assign(variable, RestoreV2:k)

What the initialiser assigns afterwards wins, and is understood where it is a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from graphsplit.formats.freezing.reasons import NotUnderstood
from graphsplit.formats.graphdef.messages import Message
from graphsplit.formats.graphdef.wire import NodeRange
from graphsplit.formats.meta_graph import MetaGraph

__all__ = ["Restored", "restored"]

_ASSIGNS = {"Assign": "ref", "AssignVariableOp": "resource"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_SAME = {"Identity", "PlaceholderWithDefault"}
_SAME_FILE = _SAME | {"ShardedFilename", "ShardedFilespec"}
VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
_DEEPEST = 20


class Restored(NamedTuple):
    """Where the value of a variable comes from.

    Attributes:
        name: In the checkpoint; empty: from a constant.
        part: The part of it, as RestoreV2 writes it.
        constant: The node of the constant.
    """

    name: str = ""
    part: str = ""
    constant: NodeRange | None = None


class _Tensor(NamedTuple):
    scope: _Scope
    node: NodeRange
    place: str  # "" for the first output, else digits


class _Scope:
    """The nodes of the graph or of one call of a function."""

    def __init__(self, meta: MetaGraph, nodes: Iterable[NodeRange], args: dict[str, _Tensor | None], depth: int) -> None:
        self.meta, self.args, self.depth = meta, args, depth
        self.by_name = {n.name: n for n in nodes}

    def tensor(self, raw: str) -> _Tensor | None:
        """The tensor that an input names, through Identity and from the caller; None for one that is not known."""
        for _ in range(1000):
            if raw in self.args:
                return self.args[raw]
            name, *port = raw.split(":")
            node = self.by_name.get(name)
            if node is None:
                return None
            if node.op not in _SAME or not node.inputs or raw.startswith("^"):
                return _Tensor(self, node, port[-1] if port else "0")
            raw = node.inputs[0]
        return None


def restored(meta: MetaGraph) -> dict[str, Restored | str]:
    """Variable of the graph → where its value comes from, or why that is not understood.

    Raises NotUnderstood.
    """
    found: dict[str, Restored | str] = {}
    scope = _Scope(meta, meta.reader.nodes, {}, 0)
    if meta.saver.restore_op_name:
        _collect(scope, meta.needed([meta.saver.restore_op_name]), found)
    if meta.init_ops:
        _collect(scope, meta.needed(meta.init_ops[:1]), found)
    return found


def _collect(scope: _Scope, names: Iterable[str], found: dict[str, Restored | str]) -> None:
    reader = scope.meta.reader
    for name in sorted(names):
        node = scope.by_name[name]
        if node.op in _ASSIGNS and len(node.inputs) >= 2:
            target = scope.tensor(node.inputs[0])
            if target is None or target.node.op not in VARIABLES or target.scope.depth:
                raise NotUnderstood(f"{node.name!r} assigns to what is no variable of the graph")
            found[target.node.name] = _source(scope.tensor(node.inputs[1]))
        elif node.op in _CALLS or node.op in reader.library.functions:
            if scope.depth > _DEEPEST:
                raise NotUnderstood("restoring calls functions more than 20 deep")
            called = _called(scope.meta, node)
            function = reader.library.functions[called]
            args = [a.name for a in function.signature.input_arg]
            passed = [scope.tensor(raw) for raw in node.inputs if not raw.startswith("^")]
            inner = _Scope(scope.meta, function.nodes, dict(zip(args, passed, strict=False)), scope.depth + 1)
            _collect(inner, inner.by_name, found)
        elif any(i.startswith("Resource") for i in (node.op,)) or node.op in ("AssignAddVariableOp", "AssignSubVariableOp"):
            raise NotUnderstood(f"{node.name!r} ({node.op}) changes variables while they are restored")


def _called(meta: MetaGraph, node: NodeRange) -> str:
    """The function that a node calls."""
    if node.op in meta.reader.library.functions:
        return node.op
    value = meta.reader.attribute(node, "f")
    name = "" if value is None else value.func.name
    if name not in meta.reader.library.functions:
        raise NotUnderstood(f"{node.name!r} calls no function of the graph")
    return str(name)


def _source(tensor: _Tensor | None) -> Restored | str:
    if tensor is None:
        return "its value is not traced"
    reader, node = tensor.scope.meta.reader, tensor.node
    if node.op == "Const":
        return Restored(constant=node)
    if node.op != "RestoreV2" or len(node.inputs) < 3:
        return f"its value is computed by {node.name!r} ({node.op})"
    if not _own_file(tensor):
        return f"{node.name!r} restores it from another file than the SavedModel's"
    listed = []
    for raw in node.inputs[1:3]:
        constant = tensor.scope.tensor(raw)
        value: Message = None
        if constant is not None and constant.node.op == "Const":
            value = reader.attribute(constant.node, "value")
        if value is None or (value.tensor.tensor_content and not value.tensor.string_val):
            return f"the names that {node.name!r} restores are no constant"
        listed.append([text.decode(errors="replace") for text in value.tensor.string_val])
    place = int(tensor.place)
    try:
        return Restored(*(texts[min(place, len(texts) - 1)] for texts in listed))
    except IndexError:
        return f"{node.name!r} restores fewer values than are read"


def _own_file(tensor: _Tensor) -> bool:
    """Whether a RestoreV2 reads the file whose name the loader passes."""
    saver = tensor.scope.meta.saver.filename_tensor_name.partition(":")[0]
    scope, node = tensor.scope, tensor.node
    for _ in range(_DEEPEST):
        raw = node.inputs[0] if node.inputs else ""
        if not scope.depth and raw.partition(":")[0] == saver:
            return True
        passed = scope.tensor(raw)
        if passed is None:
            return False
        scope, node = passed.scope, passed.node
        if not scope.depth and node.name == saver:
            return True
        if node.op not in _SAME_FILE:
            return False
    return False
