"""Loops and conds of TensorFlow 1, as scopes of a graph under construction. Part of ``random_graphs``.

    Draft     the nodes so far, and what is known of them because of how they were made
    Scope     where nodes are added, and which tensors can be read there: the graph itself
     ├ Loop      Enter ─▶ Merge ─▶ Switch ─▶ body … ─▶ NextIteration ─▶ (Merge), Switch ─▶ Exit
     │  ├ ListLoop    carries a TensorList
     │  └ ArrayLoop   reads one TensorArray and writes another
     └ Branch    Switch ─▶ … ─▶ Merge, once for each branch of a cond

A tensor from around a scope is *brought in*: by an Enter that is constant, or by a Switch, one scope after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.roles import ROLES
from graphsplit.graph.index import Node

__all__ = ["ArrayLoop", "Branch", "Draft", "ListLoop", "Loop", "Scope", "Step"]

_PASSES_ON = {"Enter", "Merge", "Switch", "NextIteration", "Exit", "Identity"}
_FLOWS = {"TensorArrayV3", "TensorArrayWriteV3", "TensorArrayScatterV3"}
# A control edge from these is not what TensorFlow writes: an Enter runs in one iteration, a Switch in both branches.
_NO_CONTROL = {"Enter", "Switch"}


class Step:
    """The bytes of a step of a recipe, with names."""

    def __init__(self, data: bytes) -> None:
        padded = data.ljust(6, b"\0")
        self.kind, self.reads, self.control, self.choice = padded[0], padded[1:4], padded[4], padded[5]


class Draft:
    """A graph under construction.

    nodes       without groups: these are to be found
    dtypes      tensor → dtype
    frames      Enter node → its frame_name
    invariants  Enter nodes that are is_constant
    values      constant → its value, where it matters
    interior    tensors made inside of a loop or cond
    handles     tensors that stand for something else: resources, variants, flows of TensorArrays
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.dtypes: dict[str, str] = {}
        self.frames: dict[str, str] = {}
        self.invariants: set[str] = set()
        self.values: dict[str, int] = {}
        self.interior: set[str] = set()
        self.handles: set[str] = set()
        self._counts: dict[str, int] = {}

    def unique(self, name: str) -> str:
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        return f"{name}_{number}" if number else name

    def add(self, node: Node, dtypes: Sequence[str], *, inside: bool) -> None:
        self.nodes.append(node)
        self.dtypes.update(zip(node.outputs, dtypes, strict=True))
        if inside:
            self.interior.update(node.outputs)
        if node.op in _FLOWS or (node.op in _PASSES_ON and node.inputs[0] in self.handles):
            self.handles.update(node.outputs[:1] if node.op == "Merge" else node.outputs)
        self.handles.update(t for t, d in zip(node.outputs, dtypes, strict=True) if d in ("resource", "variant"))


class Scope:
    """Where nodes are added: the graph itself, the body of a loop, a branch of a cond.

    pool    ordinary tensors that can be read here
    names   nodes that a control edge can come from
    pivot   what a node must run after that reads nothing of the scope, or it would run outside, or without end
    budget  steps until the scope closes
    depth   scopes around it
    """

    prefix = ""

    def __init__(self, draft: Draft, parent: Scope | None = None, budget: int = 0) -> None:
        self.draft, self.parent, self.budget = draft, parent, budget
        self.pool: list[str] = []
        self.names: list[str] = []
        self.pivot: tuple[str, ...] = ()
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._brought: dict[str, str] = {}

    @property
    def around(self) -> Scope:
        assert self.parent is not None
        return self.parent

    def add(
        self,
        op: str,
        inputs: Sequence[str] = (),
        dtypes: Sequence[str] = ("float32",),
        *,
        after: Sequence[str] = (),
        kind: str = "op",
        name: str | None = None,
        home: Scope | None = None,
    ) -> tuple[str, ...]:
        """Add a node; the names of its tensors.

        home  the scope that these live in where that is another one: for Exit, and for the Merge of a cond
        """
        name, home = name or self.draft.unique(self.prefix + op), home or self
        info = op_table().get(op)
        assert info is not None, op
        if not after and set(inputs) <= set(self._brought.values()):
            after = self.pivot
        outputs = tuple([f"{name}:{port}" for port in range(len(dtypes))])
        node = Node(name, op, tuple(inputs), outputs, tuple(after), info.stateful, kind, role=ROLES.get(op, ""))
        self.draft.add(node, dtypes, inside=home.parent is not None)
        if op not in _NO_CONTROL and self.draft.handles.isdisjoint(outputs):
            home.names.append(name)
        return outputs

    def const(self, value: int | None = None, after: Sequence[str] = ()) -> str:
        (made,) = self.add("Const", after=after, kind="const")
        if value is not None:
            self.draft.values[_node(made)] = value
        return made

    def same(self, op: str, tensor: str, *more: str, ports: int = 1, **options: Any) -> tuple[str, ...]:
        """Add a node whose outputs have the dtype of its first input."""
        return self.add(op, [tensor, *more], [self.draft.dtypes[tensor]] * ports, **options)

    def pick(self, byte: int) -> str:
        """A tensor to read here: mostly a recent one, sometimes any, sometimes one from around the scope."""
        scope: Scope = self
        while scope.parent is not None and (not scope.pool or byte % 4 == 3):
            scope, byte = scope.parent, byte // 4
        recent = scope.pool[-4:] if byte < 160 else scope.pool
        return self.bring(recent[-1 - byte % len(recent)], scope)

    def result(self, byte: int) -> str:
        """A tensor that was made here, not just brought in."""
        return self.pool[-1 - byte % min(3, len(self.pool))]

    def bring(self, tensor: str, origin: Scope) -> str:
        """The name under which a tensor of a scope around this one can be read here."""
        if origin is self:
            return tensor
        if tensor not in self._brought:
            self._brought[tensor] = self.enter(self.around.bring(tensor, origin))
        return self._brought[tensor]

    def enter(self, tensor: str) -> str:
        """Bring in a tensor of the scope around this one."""
        raise NotImplementedError

    def close(self) -> Scope | None:
        """End the scope. What follows it, when that is another scope beside it."""
        raise NotImplementedError


class Loop(Scope):
    """while (i < limit): i += 1, and each variable becomes something that was made in the body.

    carried  handles that go round as well; inside of the body, then what they became; after the loop, what came out
    """

    def __init__(self, parent: Scope, step: Step, carried: Sequence[str] = ()) -> None:
        super().__init__(parent.draft, parent, 1 + step.choice % 4)
        self.step, self.frame = step, self.draft.unique("loop")
        # The limit is a constant inside, behind a Merge, or computed before: what a dead loop looks like differs.
        limit = parent.add("FloorMod", [parent.pick(step.reads[0]), parent.const(3)])[0] if step.choice % 2 else None
        first = [parent.const(0), *carried, parent.pick(step.reads[1])]
        if step.choice % 3 == 0:
            first.append(parent.pick(step.reads[2]))
        self.backward = [self.draft.unique("NextIteration") for _ in first]
        merges = [
            self.add("Merge", [self._enter(t), f"{back}:0"], [self.draft.dtypes[t], "int32"])[0]
            for t, back in zip(first, self.backward, strict=True)
        ]
        self.pivot = (_node(merges[0]),)
        limit = self.const(step.choice // 4 % 4) if limit is None else self.enter(limit)
        (less,) = self.add("Less", [merges[0], limit], ["bool"])
        (going_on,) = self.add("LoopCond", [less], ["bool"])
        switches = [self.same("Switch", merge, going_on, ports=2) for merge in merges]
        self.done = [switch[0] for switch in switches]
        self.counter, *inner = [self.same("Identity", switch[1])[0] for switch in switches]
        self.pivot = (_node(self.counter),)
        self.carried, self.pool = inner[: len(carried)], [self.counter, *inner[len(carried) :]]

    def _enter(self, tensor: str, *, constant: bool = False) -> str:
        (made,) = self.same("Enter", tensor)
        self.draft.frames[_node(made)] = self.frame
        if constant:
            self.draft.invariants.add(_node(made))
        return made

    def enter(self, tensor: str) -> str:
        return self._enter(tensor, constant=True)

    def close(self) -> Scope | None:
        became = [*self.add("AddV2", [self.counter, self.const(1)]), *self.carried]
        became += [self.result(byte) for byte in self.step.reads[1 : 1 + len(self.done) - len(became)]]
        for back, tensor in zip(self.backward, became, strict=True):
            self.same("NextIteration", tensor, name=back)
        counter, *left = self.done
        if self.step.control % 3 == 0:  # the counter leaves sometimes
            self.around.pool += self.same("Exit", counter, home=self.around)
        out = [self.same("Exit", tensor, home=self.around)[0] for tensor in left]
        self.carried = out[: len(self.carried)]
        self.around.pool += out[len(self.carried) :]
        return None


class ListLoop(Loop):
    """A loop that fills a TensorList, read after it: a variant goes round and leaves."""

    def __init__(self, parent: Scope, step: Step) -> None:
        super().__init__(parent, step, parent.add("TensorListReserve", [parent.const(), parent.const(3)], ["variant"]))

    def close(self) -> Scope | None:
        item = self.result(self.step.control)
        self.carried = [*self.add("TensorListSetItem", [self.carried[0], self.counter, item], ["variant"])]
        follows = super().close()
        self.around.pool += self.around.add("TensorListStack", [self.carried[0], self.around.const()])
        return follows


class ArrayLoop(Loop):
    """A loop that reads one TensorArray and writes another, as tf.map_fn of TensorFlow 1 does: flows go round and leave."""

    def __init__(self, parent: Scope, step: Step) -> None:
        full, flow = parent.add("TensorArrayV3", [parent.const(3)], ["resource", "float32"])
        self.written, empty = parent.add("TensorArrayV3", [parent.const(3)], ["resource", "float32"])
        (flow,) = parent.add("TensorArrayScatterV3", [full, parent.const(), parent.pick(step.reads[2]), flow])
        super().__init__(parent, step, [empty])
        self.pool += self.add("TensorArrayReadV3", [self.enter(full), self.counter, self.enter(flow)])

    def close(self) -> Scope | None:
        item = self.result(self.step.control)
        self.carried = [*self.add("TensorArrayWriteV3", [self.enter(self.written), self.counter, item, self.carried[0]])]
        follows = super().close()
        around, flow = self.around, self.carried[0]
        (size,) = around.add("TensorArraySizeV3", [self.written, flow], ["int32"])
        (everything,) = around.add("Range", [around.const(0), size, around.const(1)])
        around.pool += [size, *around.add("TensorArrayGatherV3", [self.written, everything, flow])]
        return follows


class Branch(Scope):
    """One branch of a cond. The first is followed by the other one, that by the Merges.

    array  handle and flow of a TensorArray that one branch writes, and that is read after the cond
    """

    prefix = "cond/"

    def __init__(
        self,
        parent: Scope,
        step: Step,
        predicate: str,
        *,
        array: tuple[str, ...] = (),
        before: Branch | None = None,
    ) -> None:
        super().__init__(parent.draft, parent, 1 + step.choice // (4 if before else 1) % 4)
        self.array = array
        self.step, self.predicate, self.before = step, predicate, before
        self.port = 1 if before else 0
        # Both branches read the same Switches, each its own port.
        self.switches: dict[str, tuple[str, ...]] = before.switches if before else {}
        (pivot,) = self.add("Identity", [self.enter(predicate)], ["bool"])
        self.pivot = (_node(pivot),)
        self.pool.append(self.bring(parent.pick(step.reads[1]), parent))

    def enter(self, tensor: str) -> str:
        if tensor not in self.switches:
            self.switches[tensor] = self.same("Switch", tensor, self.predicate, ports=2)
        return self.switches[tensor][self.port]

    def close(self) -> Scope | None:
        if self.before is None:
            return Branch(self.around, self.step, self.predicate, array=self.array, before=self)
        for byte in self.step.reads[1 : 2 + self.step.control % 2]:
            both = [self.before.result(byte), self.result(byte // 16)]
            self.around.pool += self.add("Merge", both, ["float32", "int32"], home=self.around)
        if self.array:
            handle, flow = (self.bring(t, self.around) for t in self.array)
            (flow,) = self.add("TensorArrayWriteV3", [handle, self.const(0), self.result(self.step.control), flow])
            both = [self.before.bring(self.array[1], self.around), flow]
            flow, which = self.add("Merge", both, ["float32", "int32"], home=self.around)
            gathered = self.around.add("TensorArrayGatherV3", [self.array[0], self.around.const(), flow])
            self.around.pool += [which, *gathered]
        return None


def _node(tensor: str) -> str:
    return tensor.rpartition(":")[0]
