"""Random graphs for the tests of the planner, grown from lists of short byte strings.

A *recipe* is a list of steps, a step is a few bytes: what to add and what it reads. A recipe that loses a step, or has a
byte lowered, is still a recipe of a legal graph, so hypothesis shrinks a failure to a graph of a few nodes; and drawing
one costs next to nothing.

    plain     image ─▶ Conv2D ─┬─▶ Relu ─┬─▶ Add      skip edges, shared nodes, constants
                               └─────────┘
    ports     x ─▶ TopKV2:0 ─▶ …                       of two or three ports only some are read
                   TopKV2:1 ─▶ …
    state     Random ─ ─▶ NoOp ─ ─▶ Random             ─ ─▶ is a control edge; Assert, constants with control inputs
    handles   VarHandleOp ─┬─▶ ReadVariableOp          resource
                           └─▶ ReadVariableOp
              Reserve ─▶ SetItem ─▶ SetItem ─▶ Stack   variant
    loop      Enter ─▶ Merge ─▶ Switch ─▶ Exit         counted; carries tensors, a TensorList, a TensorArray's flow
                         ▲        └─▶ body ─▶ NextIteration ─┐
                         └───────────────────────────────────┘
    cond      Switch ─┬─▶ branch ─┬─▶ Merge
                      └─▶ branch ─┘

A loop and a cond open a *scope*: the next steps of the recipe go inside, loops and conds among them, until the scope is
full. Op names are TensorFlow's, since find_groups goes by them and the op table says which of them hold state.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphsplit.graph.index import GraphIndex
from tests.interpreter import Program, assemble
from tests.random_scopes import ArrayLoop, Branch, Draft, ListLoop, Loop, Scope, Step

__all__ = ["COSTLY", "EVERYTHING", "ORDER", "PLAIN", "REGIONS", "STATE", "STEP", "RandomGraph", "grow"]

STEP = 6  # bytes: kind, three tensors to read, control edges, a choice of the step's own

COSTLY = ("Conv2D", "Relu", "BiasAdd", "MatMul", "Softmax")
_CHEAP = ("Cast", "Identity", "Sub", "Pack", "StridedSlice", "Reshape")
_DEEPEST = 3  # scopes in each other

# What steps may add, the likelier the more often it stands there.
PLAIN = ("costly", "costly", "cheap", "cheap", "shape", "two", "unpack", "const", "input")
STATE = (*PLAIN, "random", "random", "noop", "assert", "order", "variable", "ordered_const")
ORDER = (
    "costly", "costly", "cheap", "unpack", "const", "input", "input",
    "random", "random", "noop", "assert", "order", "ordered_const", "ordered_const",
)  # fmt: skip
REGIONS = (*PLAIN, *PLAIN, "variable", "list", "array", "loop", "loop", "cond", "cond", "list_loop", "array_loop")
EVERYTHING = (*STATE, *REGIONS)


@dataclass(frozen=True)
class RandomGraph:
    """A graph, ready to be planned and run.

    targets   tensors that a cut may name, in the order they were made: ordinary ones outside of loops and conds
    interior  tensors made inside of a loop or cond, as known from how the graph was built
    handles   tensors outside of those that stand for something else
    """

    program: Program
    targets: tuple[str, ...]
    interior: frozenset[str]
    handles: frozenset[str]

    @property
    def index(self) -> GraphIndex:
        return self.program.index

    def __repr__(self) -> str:
        lines = []
        for n in self.index.nodes:
            reads = ", ".join([*n.inputs, *(f"^{c}" for c in n.control_inputs)])
            notes = [n.kind] * (n.kind != "op") + ["stateful"] * n.stateful + [f"in {n.group}"] * (n.group is not None)
            lines.append(f"  {' '.join(n.outputs) or n.name} = {n.op}({reads})  {' '.join(notes)}".rstrip())
        return "\n".join(["", *lines, f"  outputs {', '.join(self.index.outputs)}"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows a counterexample."""
        printer.text(repr(self))


def grow(recipe: Sequence[bytes], kinds: Sequence[str] = EVERYTHING, *, shuffle: int = 0) -> RandomGraph:
    """The graph of a recipe.

    kinds    what steps may add
    shuffle  0: the file holds the nodes in the order they were made; else in another one, as files of users do
    """
    grower = _Grower(kinds)
    for step in recipe:
        grower.step(Step(step))
    return grower.finish(shuffle)


class _Grower:
    """Obeys a recipe, step by step, in the innermost scope that is open. Each kind of step is a method."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = kinds
        self.draft = Draft()
        self.root = Scope(self.draft)
        self.root.pool += self.root.add("Placeholder", kind="input")
        self.open: list[Scope] = [self.root]

    def step(self, step: Step) -> None:
        opened = getattr(self, "_" + self.kinds[step.kind % len(self.kinds)])(self.open[-1], step)
        if opened is not None:
            self.open.append(opened)
            return
        self.open[-1].budget -= 1
        while len(self.open) > 1 and self.open[-1].budget <= 0:
            self._close()

    def _close(self) -> None:
        follows = self.open.pop().close()
        if follows is not None:
            self.open.append(follows)
        else:
            self.open[-1].budget -= 1

    def finish(self, shuffle: int) -> RandomGraph:
        while len(self.open) > 1:
            self._close()
        draft, nodes = self.draft, list(self.draft.nodes)
        if shuffle:
            random.Random(shuffle).shuffle(nodes)
        program = assemble(nodes, draft.dtypes, draft.frames, frozenset(draft.invariants), draft.values)
        targets = tuple(dict.fromkeys(self.root.pool))
        if not program.index.outputs:  # nothing but constants, inputs and nodes without outputs
            program = replace(program, index=replace(program.index, outputs=targets[-1:]))
        return RandomGraph(program, targets, frozenset(draft.interior), frozenset(draft.handles - draft.interior))

    @staticmethod
    def _after(scope: Scope, step: Step, odds: int = 4) -> tuple[str, ...]:
        """Control edges: none mostly, else one from a node made before."""
        if (step.control + 1) % odds or not scope.names:
            return ()
        return (scope.names[-1 - step.control // odds % len(scope.names)],)

    # plain

    def _costly(self, scope: Scope, step: Step) -> None:
        reads = [scope.pick(b) for b in step.reads[: 1 + step.choice % 3]]
        scope.pool += scope.add(COSTLY[step.choice // 3 % len(COSTLY)], reads, after=self._after(scope, step))

    def _cheap(self, scope: Scope, step: Step) -> None:
        op = _CHEAP[step.choice // 2 % len(_CHEAP)]
        reads = [scope.pick(b) for b in step.reads[: 1 + (step.choice % 2 and op != "Identity")]]
        scope.pool += scope.add(op, reads, after=self._after(scope, step))

    def _shape(self, scope: Scope, step: Step) -> None:
        scope.pool += scope.add("Shape", [scope.pick(step.reads[0])], ["int32"], after=self._after(scope, step))

    def _two(self, scope: Scope, step: Step) -> None:
        reads = [scope.pick(b) for b in step.reads[:2]]
        scope.pool += scope.add("TopKV2", reads, ["float32", "int32"], after=self._after(scope, step))

    def _unpack(self, scope: Scope, step: Step) -> None:
        scope.pool += scope.add("Unpack", [scope.pick(step.reads[0])], ["float32"] * (2 + step.choice % 2))

    def _const(self, scope: Scope, step: Step) -> None:
        scope.pool.append(scope.const())

    def _input(self, scope: Scope, step: Step) -> None:
        self.root.pool += self.root.add("Placeholder", kind="input")

    # state and order

    def _random(self, scope: Scope, step: Step) -> None:
        scope.pool += scope.add("RandomUniform", [scope.pick(step.reads[0])], after=self._after(scope, step, 2))

    def _noop(self, scope: Scope, step: Step) -> None:
        after = [scope.names[-1 - b % len(scope.names)] for b in step.reads[: 1 + step.choice % 2]]
        scope.add("NoOp", dtypes=(), after=tuple(dict.fromkeys(after)))

    def _assert(self, scope: Scope, step: Step) -> None:
        scope.add("Assert", [scope.pick(b) for b in step.reads[:2]], dtypes=(), after=self._after(scope, step))

    def _order(self, scope: Scope, step: Step) -> None:
        """A pure node that must run after the two nodes made last: how an Assert or a NoOp comes to matter."""
        op = COSTLY[step.choice % len(COSTLY)]
        scope.pool += scope.add(op, [scope.pick(step.reads[0])], after=tuple(dict.fromkeys(scope.names[-2:])))

    def _ordered_const(self, scope: Scope, step: Step) -> None:
        """Constant folding leaves constants with control inputs behind."""
        scope.pool.append(scope.const(after=(scope.names[-1 - step.control % len(scope.names)],)))

    # handles

    def _variable(self, scope: Scope, step: Step) -> None:
        (handle,) = self.root.add("VarHandleOp", dtypes=["resource"])
        for _ in range(1 + step.choice % 2):
            scope.pool += scope.add("ReadVariableOp", [scope.bring(handle, self.root)], after=self._after(scope, step, 2))

    def _list(self, scope: Scope, step: Step) -> None:
        """Items that depend on what was read from the list before, too: what lies between must stay with it."""
        (made,) = scope.add("TensorListReserve", [scope.const(), scope.const(3)], ["variant"])
        for byte in step.reads[: 1 + step.choice % 3]:
            (made,) = scope.add("TensorListSetItem", [made, scope.const(0), scope.pick(byte)], ["variant"])
            if byte % 2:
                scope.pool += scope.add("TensorListGetItem", [made, scope.const(0), scope.const()])
        scope.pool += scope.add("TensorListStack", [made, scope.const()])

    def _array(self, scope: Scope, step: Step) -> None:
        handle, flow = scope.add("TensorArrayV3", [scope.const(3)], ["resource", "float32"])
        for byte in step.reads[: 1 + step.choice % 3]:
            (flow,) = scope.add("TensorArrayWriteV3", [handle, scope.const(0), scope.pick(byte), flow])
            if byte % 2:
                scope.pool += scope.add("TensorArrayReadV3", [handle, scope.const(0), flow])
        scope.pool += scope.add("TensorArrayGatherV3", [handle, scope.const(), flow])

    # scopes

    def _loop(self, scope: Scope, step: Step) -> Scope | None:
        return Loop(scope, step) if scope.depth < _DEEPEST else None

    def _list_loop(self, scope: Scope, step: Step) -> Scope | None:
        return ListLoop(scope, step) if scope.depth < _DEEPEST else None

    def _array_loop(self, scope: Scope, step: Step) -> Scope | None:
        return ArrayLoop(scope, step) if scope.depth < _DEEPEST else None

    def _cond(self, scope: Scope, step: Step) -> Scope | None:
        if scope.depth >= _DEEPEST:
            return None
        (predicate,) = scope.add("Identity", [scope.pick(step.reads[0])], ["bool"])
        array = scope.add("TensorArrayV3", [scope.const(3)], ["resource", "float32"]) if step.choice % 4 == 3 else ()
        return Branch(scope, step, predicate, array=array)
