"""A target: which ops a compiler takes, under which constraints, and how it is asked.

The table proposes, the compiler disposes: what a table refuses need not be asked, and what it takes may still be refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from graphsplit.errors import FormatError
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.graph.text import list_text
from graphsplit.planning.affinity import Side, read_affinity
from graphsplit.planning.targets.constraints import Constraint, Operands

__all__ = ["Compiler", "Target", "is_compiled"]

_NOTHING: Mapping[str, TensorSpec] = MappingProxyType({})
_COMPILED = re.compile(r"edgetpu-custom-op|ethos-u|DISPATCH_OP|XC_\w+|MTKEXT_\w+")
_BUILTIN = re.compile(r"[A-Z][A-Z0-9_]*")  # how TFLite spells its own ops
_HANDLES = {"string", "resource", "variant"}
_INNER = {"loop", "cond", "TensorArray"}  # groups whose handles belong to one run
_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_INDICES = {None, "bool", "int32", "int64", "uint32", "uint64"}  # shapes and indices, which say nothing of the network


@dataclass(frozen=True, slots=True)
class Compiler:
    """How a compiler is asked.

    Attributes:
        name: What it is called in answers.
        command: Program and arguments, run without a shell. ``{model}`` is the file, ``{folder}`` an empty folder to write to,
            ``{python}`` the interpreter of this process.
        refused: Pattern that matches once for each refused op, with the groups ``op``, ``tensor`` and ``reason``; a group
            ``count`` holds how many ops a match is about.
        taken: Pattern whose first group is the number of ops taken; empty: the ops of the model less the refused ones.
        left: Pattern whose first group is the number of ops left to the host; empty: as many as were refused.
        version: Pattern whose first group is the version, in what it prints; empty: that of the `package`.
        seconds: How long it may take.
        package: The Python distribution that has to be installed; empty: the command has to be there.
        extra: The extra of graphsplit that installs it.
    """

    name: str
    command: tuple[str, ...]
    refused: str
    taken: str = ""
    left: str = ""
    version: str = ""
    seconds: float = 300.0
    package: str = ""
    extra: str = ""


@dataclass(frozen=True)
class Target:
    """An accelerator as its compiler sees it.

    Attributes:
        name: What the user types.
        source: Where the table comes from, with its date.
        formats: Formats of the files that the compiler reads: "tflite", "graphdef".
        dtypes: Dtypes that it computes in; empty: any. Indices, int32 and wider, are left to `constraints`.
        ops: Op → side.
        unknown: Side of ops that the table does not name.
        constraints: What it requires beyond the op.
        compiler: How it is asked; None: there is only the table.
        path: The file it was read from; None: built in.
    """

    name: str
    source: str
    formats: tuple[str, ...]
    dtypes: tuple[str, ...] = ()
    ops: Mapping[str, Side] = field(default_factory=dict)
    unknown: Side = "host"
    constraints: tuple[Constraint, ...] = ()
    compiler: Compiler | None = None
    path: Path | None = None

    def check_format(self, format: str, *, path: Path | None = None) -> None:
        """Refuse a model of a format that the compiler does not read.

        Args:
            format: "graphdef" or "tflite", the format of sections.
            path: The model's file, for the error.

        Raises:
            FormatError: says which formats it reads.
        """
        if format not in self.formats:
            hint = '; export(…, to="tflite") writes one' if self.formats == ("tflite",) else ""
            raise FormatError(f"a {format} model, and {self.name} reads {' and '.join(self.formats)}{hint}", path=path)

    def unsuited(self, index: GraphIndex, specs: Mapping[str, TensorSpec] = _NOTHING) -> str:
        """Why the compiler takes nothing of a model that computes in another dtype throughout, in a sentence; else empty.

        Args:
            index: The model.
            specs: Tensors of which more is known than the index says.
        """
        if not self.dtypes or not _FLOATS.isdisjoint(self.dtypes):
            return ""
        affinity = read_affinity()
        nodes = [n for n in index.nodes if n.kind == "op" and n.outputs]
        neural = [n for n in nodes if affinity.side(n.op) == "accelerator"] or nodes
        dtypes = {(specs[n.outputs[0]] if n.outputs[0] in specs else index.tensors[n.outputs[0]]).dtype for n in neural}
        if not neural or not dtypes <= _FLOATS:
            return ""
        found = list_text(sorted(d for d in dtypes if d))
        return f"the network computes in {found}, and {self.name} takes {', '.join(self.dtypes)}: quantise the model first"

    def refusals(self, index: GraphIndex, specs: Mapping[str, TensorSpec] = _NOTHING) -> dict[str, str]:
        """The nodes that the table refuses.

        Args:
            index: The model.
            specs: Tensors of which more is known than the index says, such as inferred shapes.

        Returns:
            Name of the node → reason, in file order.
        """
        # In a TFLite file nodes are named after their first output.
        tflite = next((n.outputs[0] == n.name for n in index.nodes if n.kind == "op" and n.outputs), False)
        reasons = ((n.name, self._refusal(n, index, specs, tflite=tflite)) for n in index.nodes if n.kind == "op")
        return {name: reason for name, reason in reasons if reason}

    def _refusal(self, node: Node, index: GraphIndex, specs: Mapping[str, TensorSpec], *, tflite: bool) -> str:
        if is_compiled(node.op):
            return ""
        operands = Operands.of(node, index, specs)
        if node.op not in self.ops:
            if tflite and _BUILTIN.fullmatch(node.op) is None:
                kind = "an op of TensorFlow" if node.op.startswith("Flex") else "a custom op"
                return f"{node.op} is {kind}, which stays on the host"
            handle = next((t for t in (*operands.inputs, *operands.outputs) if t.dtype in _HANDLES), None)
            inner = node.group is not None and index.groups[node.group].kind in _INNER  # TensorArrays hold nothing between runs
            if handle is not None and not inner:
                return f"{node.op} works on a {handle.dtype}, which stays on the host"
        for op in dict.fromkeys(index.ops_within(node)):
            if self.ops.get(op, self.unknown) == "host":
                return f"{op} is not supported by {self.name}"
        if (why := next((why for c in self.constraints if (why := c.violation(node.op, operands))), "")) or not self.dtypes:
            return why
        for spec in (*operands.inputs, *operands.outputs):
            if spec.dtype not in _INDICES and spec.dtype not in self.dtypes:
                return f"{self.name} takes {', '.join(self.dtypes)} ({spec.name} is {spec.dtype})"
        return ""


def is_compiled(op: str) -> bool:
    """Whether a compiler wrote the op: it stands for a network that is compiled already, and stays on the accelerator."""
    return _COMPILED.fullmatch(op) is not None
