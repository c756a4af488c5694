"""Ops that reach outside the graph: files, the network, Python, native code nobody here knows.

A graph is a program. Running one of these, or only inferring shapes over it, opens what the file names. The list is by
op name; an op unknown to TensorFlow's registry belongs to a custom-op library and counts as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from graphsplit.formats.graphdef.ops import op_table

__all__ = ["reaches_outside"]

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


def reaches_outside(op: str, attr: Callable[[str], Any], *, library: frozenset[str] | set[str] = frozenset()) -> bool:
    """Whether a node of this op reaches outside the graph.

    attr     gives an AttrValue message of the node by its key, or None
    library  names of the functions that the graph itself defines (legal as op names)
    """
    if op in _FILES or op in _PYTHON or op in _NETWORK or op in _ENDS_THE_PROCESS:
        return True
    if op == "PrintV2":  # prints to a file when told so
        stream = attr("output_stream")
        return stream is not None and stream.s.startswith(b"file:")
    if _PATTERNS.search(op):
        return True
    return op not in library and op not in _KNOWN_CUSTOM and op_table().get(op) is None
