"""What a saved_model.pb holds, read from its bytes without TensorFlow: meta graphs, signatures, what loading would run.

    SavedModel:   meta_graphs = 2
    MetaGraphDef: meta_info_def = 1   graph_def = 2   saver_def = 3   collection_def = 4 (entry: key = 1, value = 2)
                  signature_def = 5   asset_file_def = 6   object_graph_def = 7

A SavedModel is a program, and loading one runs parts of it. So this walk comes first; `MetaGraph.outside` names what reaches
files, the network or Python. The nodes that save and restore the variables have to do that, and are excused as long as they do
nothing else:

    excused    SaveV2, RestoreV2 … that no signature and no initialiser needs; what is restored at loading must be
               restored from the file name that the loader passes (the folder's own variables), not from another
    never      ReadFile, WriteFile, PyFunc … anywhere
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from graphsplit.formats.graphdef.calls import Call
from graphsplit.formats.graphdef.messages import Message, message
from graphsplit.formats.graphdef.outside import node_reaches_outside
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import BYTES, Buffer, GraphError, NodeRange, WireError, encode_varint, fields
from graphsplit.graph.traversal import reachable

__all__ = ["Asset", "MetaGraph", "Outside", "read_meta_graphs", "signature_keys", "signature_tensors"]

_INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_RESTORING = {"Restore", "RestoreSlice", "RestoreV2"}
_SAVING = {"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"} | _RESTORING
# Ops allowed between the saver's file name and the op that reads it: none of these can lead to another folder.
_SAME_FILE = {"Identity", "PlaceholderWithDefault", "ShardedFilename", "ShardedFilespec"}

Span = tuple[int, int]


class Asset(NamedTuple):
    """A file whose path is fed to the graph: the tensor to feed, the name within ``assets/``."""

    tensor: str
    filename: str


class Outside(NamedTuple):
    """A node that reaches outside (``function/node`` for one that only a function holds) and its op."""

    name: str
    op: str


class MetaGraph:
    """One meta graph of a SavedModel; its parts are read on demand.

    Args:
        data: The bytes of the SavedModel message.
        start, end: Where the meta graph begins and ends.
        alone: Whether it is the only one; TensorFlow ignores the objects of any other.

    Raises:
        WireError, GraphError, google.protobuf.message.DecodeError: It is damaged.
    """

    def __init__(self, data: Buffer, start: int, end: int, *, alone: bool) -> None:
        self._data, self._alone = data, alone
        self._spans: dict[int, list[Span]] = {}
        for number, wire, _, low, high in fields(data, start, end):
            if wire == BYTES:
                self._spans.setdefault(number, []).append((low, high))

    def _joined(self, number: int) -> bytes:
        # A message that is written in several pieces is the sum of them, for protobuf and so for TensorFlow.
        return b"".join(self._data[low:high] for low, high in self._spans.get(number, ()))

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags that state what the meta graph is for: "serve", "gpu" …"""
        return tuple(message("MetaInfo").FromString(self._joined(1)).tags)

    @cached_property
    def graph_def(self) -> bytes:
        """The bytes of the graph."""
        return self._joined(2)

    @cached_property
    def reader(self) -> GraphDefReader:
        """The walk over the graph."""
        return GraphDefReader(self.graph_def)

    @cached_property
    def saver(self) -> Message:
        """The SaverDef: names of the ops that save and restore, empty where there is nothing to save."""
        return message("SaverDef").FromString(self._joined(3))

    @cached_property
    def all_signatures(self) -> Mapping[str, Message]:
        """Key → SignatureDef, TensorFlow's internal ones included."""
        found = {}
        for low, high in self._spans.get(5, ()):
            entry = message("SignatureEntry").FromString(self._data[low:high])
            found[entry.key] = entry.value
        return found

    @property
    def signatures(self) -> Mapping[str, Message]:
        """Key → SignatureDef of what can be called."""
        return {k: s for k, s in self.all_signatures.items() if not k.startswith("__saved_model") and s.outputs}

    @cached_property
    def init_ops(self) -> tuple[str, ...]:
        """Names of the nodes of the initialiser; loading runs the first."""
        found = [e.value.name for k, s in self.all_signatures.items() if k == _INIT_SIGNATURE for e in s.outputs]
        for key in _INIT_COLLECTIONS:
            for low, high in self._collection(key):
                for number, wire, _, a, b in fields(self._data, low, high):
                    if number == 1 and wire == BYTES:  # CollectionDef.node_list, whose values are field 1
                        found += [_text(self._data, c, d) for n, w, _, c, d in fields(self._data, a, b) if n == 1 and w == BYTES]
        return tuple(dict.fromkeys(name.partition(":")[0] for name in found))

    @cached_property
    def assets(self) -> tuple[Asset, ...]:
        """The files in ``assets/`` that the graph uses."""
        spans = list(self._spans.get(6, ()))
        if not spans:  # old writers: a collection of Any (value = 2) in CollectionDef.any_list = 5
            for low, high in self._collection("saved_model_assets"):
                for any_list in _inner(self._data, low, high, 5):
                    for item in _inner(self._data, *any_list, 1):
                        spans += _inner(self._data, *item, 2)
        return tuple(_asset(self._data, low, high) for low, high in spans)

    @property
    def has_objects(self) -> bool:
        """Whether TensorFlow loads it as objects that hold functions, and not as a graph."""
        return self._alone and 7 in self._spans

    def _held_by_object(self, function: str) -> bool:
        """Whether the objects name a function, which may then be run at loading."""
        name = function.encode()
        return encode_varint(len(name)) + name in self._objects

    @cached_property
    def _objects(self) -> bytes:
        return self._joined(7)

    def _collection(self, key: str) -> Iterator[Span]:
        """The CollectionDef of that key."""
        for low, high in self._spans.get(4, ()):
            if any(_text(self._data, a, b) == key for a, b in _inner(self._data, low, high, 1)):
                yield from _inner(self._data, low, high, 2)

    # what reaches outside

    @cached_property
    def outside(self) -> tuple[Outside, ...]:
        """What reaches files, the network, Python or unknown native code; plain saving and restoring is excused."""
        reader, functions = self.reader, self.reader.library.functions
        calls = {node.name: made for node in reader.nodes if (made := reader.calls.of(node))}
        excused_nodes, excused_functions = self._excused()
        bad: dict[Call, Outside] = {}  # the first node in it that reaches outside
        for call in self._all_calls(call for made in calls.values() for call in made):
            for node in functions[call.function].nodes:
                if node_reaches_outside(reader, node, call) and not (call.function in excused_functions and node.op in _SAVING):
                    bad.setdefault(call, Outside(f"{call.function}/{node.name}", node.op))
        outside: dict[Outside, None] = {}
        named: set[Call] = set()
        for node in reader.nodes:
            if node_reaches_outside(reader, node):
                if node.name not in excused_nodes:
                    outside[Outside(node.name, node.op)] = None
            elif bad and node.name in calls:
                there = reader.calls.reached(calls[node.name]) & bad.keys()
                if there:
                    named |= there
                    outside[Outside(node.name, min(bad[call] for call in there).op)] = None
        return tuple(outside | dict.fromkeys(bad[call] for call in bad if call not in named))

    def _all_calls(self, calls: Iterable[Call]) -> list[Call]:
        """Some calls, all that they lead to, and calls of every function that the objects, or nothing, may call."""
        library, resolved = self.reader.library, self.reader.calls
        reached = resolved.reached(calls)
        reached |= resolved.reached(resolved.unbound(f) for f in library.functions if self._held_by_object(f))
        for _ in range(2):  # first those that no other one calls, then those that only call one another
            left = library.functions.keys() - {call.function for call in reached}
            called = {c for f in left for c in library.calls[f] if c != f}
            reached |= resolved.reached(map(resolved.unbound, left - called or left))
        place = {name: number for number, name in enumerate(library.functions)}
        return sorted(reached, key=lambda call: (place[call.function], call.bound))

    def _excused(self) -> tuple[set[str], frozenset[str]]:
        """Nodes and functions that may save and restore: no signature and no initialiser needs them."""
        reader = self.reader
        signatures = [s for k, s in self.all_signatures.items() if k != _INIT_SIGNATURE]
        served = self.needed([e.value.name for s in signatures for e in (*s.outputs, *s.inputs)] + list(self.init_ops))
        restored = self.needed([self.saver.restore_op_name])
        saver = (self.needed([self.saver.save_tensor_name, self.saver.filename_tensor_name]) | restored) - served
        nodes = {
            n.name
            for n in reader.nodes
            if n.op in _SAVING and n.name not in served and (n.name not in restored or n.op not in _RESTORING or self._own_file(n))
        }
        functions: frozenset[str] = frozenset()
        library = reader.library
        if self.has_objects and library.functions:  # else these functions are run at loading, by the restore op
            ours = library.reached(f for n in reader.nodes if n.name in saver for f in library.called(n))
            others = {f for n in reader.nodes if n.name not in saver for f in library.called(n)} | (library.functions.keys() - ours)
            others |= {f for f in ours if self._held_by_object(f)}
            functions = ours - library.reached(others)
        return nodes, functions

    def needed(self, roots: Iterable[str]) -> set[str]:
        """Names of the nodes of some tensors and of all they depend on."""
        by_name = self.reader.by_name
        names = reachable(map(_node, roots), lambda n: map(_node, by_name[n].inputs) if n in by_name else ())
        return names & by_name.keys()

    def _own_file(self, node: NodeRange) -> bool:
        """Whether a restoring node reads the file whose name the loader passes."""
        passed, by_name = _node(self.saver.filename_tensor_name), self.reader.by_name
        seen: set[str] = set()
        here: NodeRange | None = node
        while here is not None and here.name not in seen and here.inputs:
            seen.add(here.name)
            name = _node(here.inputs[0])
            if name == passed:
                return True
            here = by_name.get(name)
            if here is not None and here.op not in _SAME_FILE:
                return False
        return False


def read_meta_graphs(data: Buffer) -> list[MetaGraph]:
    """The meta graphs in the bytes of a SavedModel. Raises WireError."""
    spans = [(low, high) for number, wire, _, low, high in fields(data, 0, len(data)) if number == 2 and wire == BYTES]
    return [MetaGraph(data, low, high, alone=len(spans) == 1) for low, high in spans]


def signature_tensors(entries: Iterable[Message]) -> tuple[str, ...]:
    """The tensors of one side of a signature, in the order of their keys; a sparse one has no name and is left out."""
    return tuple(dict.fromkeys(signature_keys(entries).values()))


def signature_keys(entries: Iterable[Message]) -> dict[str, str]:
    """The same, by key."""
    names = {str(e.key): str(e.value.name) for e in sorted(entries, key=lambda e: str(e.key)) if e.value.name}
    return {key: name if ":" in name else f"{name}:0" for key, name in names.items()}


def _node(tensor: str) -> str:
    """The node of an input or a tensor name: ``^a``, ``a``, ``a:1`` → ``a``."""
    return tensor.removeprefix("^").partition(":")[0]


def _inner(data: Buffer, start: int, end: int, number: int) -> list[Span]:
    """The places of the sub-messages or strings of that field number."""
    return [(low, high) for n, wire, _, low, high in fields(data, start, end) if n == number and wire == BYTES]


def _text(data: Buffer, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise WireError("a name that is not UTF-8", start) from None


def _asset(data: Buffer, start: int, end: int) -> Asset:
    """An AssetFileDef: tensor_info = 1, filename = 2."""
    info = b"".join(data[a:b] for a, b in _inner(data, start, end, 1))
    names = _inner(data, start, end, 2)
    if not names:
        raise GraphError("an asset without a file name")
    return Asset(message("TensorInfo").FromString(info).name, _text(data, *names[-1]))
