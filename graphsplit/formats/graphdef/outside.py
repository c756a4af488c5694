"""What a graph needs that is outside of it: files, the network, Python, unknown native code, values that it does not hold.

A graph is a program. Running an op that reaches outside, or only inferring shapes over it, opens what the file names. The list
is by op name; an op unknown to TensorFlow's registry belongs to a custom-op library and counts as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from graphsplit.formats.graphdef.messages import Message
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.wire import NodeRange

if TYPE_CHECKING:
    from graphsplit.formats.graphdef.reader import GraphDefReader

__all__ = ["outside_nodes", "reaches_outside", "unfrozen_node"]

_FILES = {
    "ReadFile", "WriteFile", "MatchingFiles", "Save", "SaveV2", "SaveSlices", "Restore", "RestoreSlice", "RestoreV2",
    "MergeV2Checkpoints", "ImmutableConst", "LoadAndRemapMatrix", "GenerateVocabRemapping",
    "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "FileSystemSetConfiguration", "DebugIdentity",
    "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary", "DebugNumericSummaryV2",
    "DecodeProtoV2", "EncodeProto", "WriteRawProtoSummary", "ImportEvent", "FlushSummaryWriter", "CloseSummaryWriter",
    "SummaryWriter", "Skipgram", "DTensorRestoreV2", "CalibrationStatisticsSaver", "XlaCustomCall", "XlaCustomCallV2",
    "XlaCallModule", "XlaHostCompute", "_XlaHostComputeMlir", "MlirPassthroughOp", "RecordInput", "DumpTensor",
    "FixedUnigramCandidateSampler", "StoreMinibatchStatisticsInFdo", "InitializeTRTResource", "SerializeTRTResource",
}  # fmt: skip
_ENDS_THE_PROCESS = {"Abort"}
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_NETWORK = {"Send", "Recv", "_Send", "_Recv", "_HostSend", "_HostRecv", "RemoteCall", "DistributedSave"}
_PATTERNS = re.compile(
    r"Dataset|Iterator|Reader|Summary(File|Db)Writer|^Write\w*Summary|BigQuery|Bigtable|Kafka|Rpc|Collective"
    r"|^_?Nccl|^Gcs|^Coordination|TPUEmbedding|DistributedTPU|GlobalTPU|TPUSystem|WorkerHeartbeat|^TRTEngine"
    r"|^_?Xla(Launch|Send|Recv|Compile|Run)|^_?TPUCompile"
)
# Well-known ops that TensorFlow's registry lacks and that compute on tensors alone.
_KNOWN_CUSTOM = {"TFLite_Detection_PostProcess"}


_KEEPS_A_VALUE = {
    "Variable", "VariableV2", "VarHandleOp", "ReadVariableOp", "AutoReloadVariable", "TemporaryVariable",
    "HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2", "AnonymousHashTable",
    "MutableDenseHashTable", "MutableDenseHashTableV2", "Assign", "AssignVariableOp",
}  # fmt: skip


def reaches_outside(op: str, attribute: Callable[[str], Message], *, library: Set[str] = frozenset()) -> bool:
    """Whether a node reaches outside the graph.

    Args:
        op: Its op.
        attribute: Returns the AttrValue message of one of its attributes, or None.
        library: Names of the functions that the graph itself defines (legal as op names).
    """
    if op in _FILES or op in _PYTHON or op in _NETWORK or op in _ENDS_THE_PROCESS:
        return True
    if op == "PrintV2":  # may print to a file
        stream = attribute("output_stream")
        return stream is not None and stream.s.startswith(b"file:")
    if _PATTERNS.search(op):
        return True
    return op not in library and op not in _KNOWN_CUSTOM and op_table().get(op) is None


def outside_nodes(reader: GraphDefReader) -> tuple[str, ...]:
    """Names of the nodes that reach outside, themselves or through the functions they call."""
    library = reader.library

    def reaches(node: NodeRange) -> bool:
        return reaches_outside(node.op, lambda key: reader.attribute(node, key), library=library.functions.keys())

    bad = library.reaching([name for name, f in library.functions.items() if any(reaches(n) for n in f.nodes)])
    safe: set[str] = set()  # ops that are harmless whatever their attributes: nearly all
    found = []
    for node in reader.nodes:
        if node.op not in safe:
            if reaches(node):
                found.append(node.name)
                continue
            if node.op != "PrintV2":
                safe.add(node.op)
        if bad and not bad.isdisjoint(library.called(node)):
            found.append(node.name)
    return tuple(found)


def unfrozen_node(reader: GraphDefReader) -> NodeRange | None:
    """The first node that keeps a value outside of the graph (a variable, a table, a handle to be fed), or None."""
    for node in reader.nodes:
        if node.op in _KEEPS_A_VALUE:
            return node
        if node.op in ("Placeholder", "PlaceholderV2"):
            dtype = reader.attribute(node, "dtype")
            if dtype is not None and op_table().dtypes.get(dtype.type % 100) == "resource":
                return node
    return next((n for f in reader.library.functions.values() for n in f.nodes if n.op in _KEEPS_A_VALUE), None)
