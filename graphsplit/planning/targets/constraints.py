"""What a compiler requires of an op beyond its type: dtypes, ranks, static shapes, scale factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from graphsplit.graph.index import GraphIndex, Node, Shape, TensorSpec
from graphsplit.graph.text import shape_text, shortened

__all__ = ["Constraint", "Operands"]

_LONGEST = 60  # characters of a tensor's name in a reason


@dataclass(frozen=True, slots=True)
class Operands:
    """The tensors of a node, as far as they are known.

    Attributes:
        inputs: Tensors that are computed or fed.
        outputs: What it produces.
        weights: Its second input, where that is a constant.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: TensorSpec | None

    @classmethod
    def of(cls, node: Node, index: GraphIndex, specs: Mapping[str, TensorSpec]) -> Operands:
        """The operands of a node."""

        def spec(tensor: str) -> TensorSpec:
            return specs[tensor] if tensor in specs else index.tensors[tensor]

        def constant(tensor: str) -> bool:
            return index.name_to_node_map[index.producer[tensor]].kind == "const"

        second = node.inputs[1] if len(node.inputs) > 1 and constant(node.inputs[1]) else None
        return cls(
            tuple(spec(t) for t in node.inputs if not constant(t)),
            tuple(spec(t) for t in node.outputs),
            None if second is None else spec(second),
        )


@dataclass(frozen=True, slots=True)
class Constraint:
    """A requirement. Every field that is set has to hold; what is unknown of a tensor passes.

    Attributes:
        reason: The requirement in words, preferably the compiler's own.
        ops: Ops that it applies to; empty: all.
        unless: Ops that it does not apply to.
        inputs: Dtypes that inputs may have, except constants.
        outputs: Dtypes that outputs may have.
        weights: Dtypes that the second input may have where it is a constant.
        ranks: Least and largest number of dimensions of inputs and outputs.
        static: Whether all dimensions must be known, except the first.
        upscale: Factors by which height and width may grow; pictures are [batch, height, width, channels].
    """

    reason: str
    ops: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    ranks: tuple[int, int] | None = None
    static: bool = False
    upscale: tuple[int, ...] = ()

    def violation(self, op: str, operands: Operands) -> str:
        """Why a node does not fulfil it; empty if it does."""
        if (self.ops and op not in self.ops) or op in self.unless:
            return ""
        weights = () if operands.weights is None else (operands.weights,)
        for tensors, dtypes in ((operands.inputs, self.inputs), (operands.outputs, self.outputs), (weights, self.weights)):
            wrong = next((t for t in tensors if dtypes and t.dtype is not None and t.dtype not in dtypes), None)
            if wrong is not None:
                return self._because(f"{_name(wrong)} is {wrong.dtype}")
        shaped = (*operands.inputs, *operands.outputs)
        if self.ranks is not None and (odd := _first(shaped, lambda s: not _within(self.ranks, len(s)))):
            return self._because(f"{_name(odd)} has {len(odd.shape or ())} dimensions")
        if self.static and (odd := _first(shaped, lambda s: None in s[1:])):
            return self._because(f"{_name(odd)} is {shape_text(odd.shape)}")
        if self.upscale and operands.inputs and operands.outputs:
            before, after = operands.inputs[0].shape, operands.outputs[0].shape
            if not _scaled(before, after, self.upscale):
                return self._because(f"{shape_text(before)} becomes {shape_text(after)}")
        return ""

    def _because(self, fact: str) -> str:
        return f"{self.reason.rstrip('.')} ({fact})"


def _name(spec: TensorSpec) -> str:
    return shortened(spec.name, _LONGEST)


def _first(specs: Iterable[TensorSpec], wrong: Callable[[Shape], bool]) -> TensorSpec | None:
    return next((s for s in specs if s.shape is not None and wrong(s.shape)), None)


def _within(limits: tuple[int, int] | None, rank: int) -> bool:
    return limits is None or limits[0] <= rank <= limits[1]


def _scaled(before: Shape | None, after: Shape | None, factors: tuple[int, ...]) -> bool:
    """Whether pictures grow by one of some factors: of sizes, or with aligned corners of sizes less one."""
    if before is None or after is None or len(before) != 4 or len(after) != 4 or before[1:3] in (after[1:3], (1, 1)):
        return True
    for old, new in zip(before[1:3], after[1:3], strict=True):
        if old is None or new is None or new == 1:
            continue
        if not any(new == old * f or (old > 1 and new - 1 == (old - 1) * f) for f in factors):
            return False
    return True
