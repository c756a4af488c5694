"""Repair of borders: what crosses without having been named moves, is recomputed, crosses after all, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.text import bytes_text, list_text
from graphsplit.graph.traversal import reachable
from graphsplit.planning.border import Border, crossing_tensors
from graphsplit.planning.cuts import Cut
from graphsplit.planning.plan import Added, Repair
from graphsplit.planning.state import StateOrder

__all__ = ["Reads", "Repairer"]

_LARGE = 1024  # bytes of a named tensor for which it is worth to cut elsewhere than is usual in a family


@dataclass(frozen=True, slots=True)
class Reads:
    """What a section reads from outside.

    Attributes:
        inputs: Tensors that cross: inputs of the whole, named border tensors, and added ones.
        added: Tensors among `inputs` that were not named.
    """

    inputs: dict[str, None]
    added: tuple[Added, ...]


class Repairer:
    """Makes each border as small as it can be, one after the other.

    Nodes that the tensors named at a border need are before it, and nodes that read these tensors are after it. What neither
    holds for may move before it: any stateless node outside of groups, whose control inputs order no state. Nodes never move
    to a later section. A neural op moves to a section ``main`` only: not to ``pre``, and not between sections that somebody
    balanced by their work. Nodes of the last section stay if otherwise none would be left there.

    Shape arithmetic may be computed on both sides; with `repair` "replicate" any stateless node may, a neural op as well.

    Args:
        index: The graph.
        owner: Node → number of the section that owns it; constants, inputs and relays are owned by none. Nodes that move get
            another owner.
        cuts: Where sections end.
        sections: Names of all sections.
        repair: What to do with tensors that were not named.
        state: The order of state.
        nbytes: Bytes of a tensor.
        fixed: Nodes that do not move.
        firm: Whether what was named crosses as it is; False: it may be computed again from what crosses anyway.
    """

    def __init__(
        self,
        index: GraphIndex,
        owner: dict[str, int],
        cuts: Sequence[Cut],
        sections: Sequence[str],
        repair: Repair,
        state: StateOrder,
        nbytes: Callable[[str], int],
        fixed: Set[str],
        firm: bool,
    ) -> None:
        self.index, self.owner, self.cuts, self.sections, self.firm = index, owner, cuts, sections, firm
        self.repair, self.state, self.nbytes, self.fixed = repair, state, nbytes, fixed
        self.nodes = index.name_to_node_map
        self.named = {t for cut in cuts for t in cut.tensors}
        self.copied: list[set[str]] = [set() for _ in sections]  # of each section, the nodes that an earlier one holds as well
        self.notes: list[str] = []
        self._crossing: set[str] = set()
        self._moved: set[str] = set()

    def repair_all(self) -> None:
        """Decide what moves and what is copied. Changes `owner`, `copied` and `notes`."""
        waiting: set[str] = set()  # nodes of earlier sections that later ones compute again
        for number in range(len(self.sections)):
            owned = {n for n, owner in self.owner.items() if owner == number}
            again = self._needed(owned, waiting) - owned
            after = {n for n, owner in self.owner.items() if owner > number} | (waiting - again)
            if number < len(self.cuts) and after and owned and self.repair in ("auto", "replicate"):
                after, moved = self._settle(number, owned | again, after)
                again |= moved & waiting
                self.owner.update(dict.fromkeys(moved - waiting, number))
                self._moved |= moved
            self.copied[number] = again
            self._crossing |= set(crossing_tensors(self.index, after, self.owner))
            waiting = {n for n in after if self.owner[n] <= number}

    def use_own_names(self, kept: Set[str]) -> None:
        """Copy nodes that pass a tensor on under a name that a converter chose to their readers, so that the model's own crosses.

        With `repair` "border" and "error" only where that was named, so that it crosses anyway. Changes `copied`.

        Args:
            kept: Tensors that cross under their names, besides those that were named.
        """
        kept = self.named | kept
        for number, copied in enumerate(self.copied):
            held = {n for n, owner in self.owner.items() if owner == number} | copied
            for tensor in dict.fromkeys(t for n in held for t in self.nodes[n].inputs):
                copies, own = self._passed_on(tensor, kept)
                if held.isdisjoint(copies) and (self.repair in ("auto", "replicate") or own in self.named):
                    copied |= copies

    def _passed_on(self, tensor: str, kept: Set[str]) -> tuple[set[str], str]:
        """The nodes that pass a tensor on under names that a converter chose, and the tensor, of the model's own name."""
        index, copies = self.index, set[str]()
        while tensor not in kept:
            node = self.nodes[index.producer[tensor]]
            source = index.equal_to(tensor) if node.role == "alias" and len(node.outputs) == 1 else None
            if source is None or source in index.captive or node.name not in self.owner or not self._is_loose(node):
                break
            copies.add(node.name)
            tensor = source
        return copies, tensor

    def _needed(self, names: Iterable[str], within: Set[str]) -> set[str]:
        """Those nodes, and of another set those that they read, directly or not."""
        producer = self.index.producer
        return reachable(names, lambda n: (producer[t] for t in self.nodes[n].inputs if producer[t] in within))

    def _settle(self, number: int, before: Set[str], after: set[str]) -> tuple[set[str], Set[str]]:
        """The nodes after the border that ends a section, and those of them that move before it."""
        free = self._free(number, after)
        twice = {n for n in (*before, *free) if self._is_replicable(self.nodes[n])}
        if not free and not twice:
            return after, frozenset()
        choice = Border(self.index, after, self.owner, free, twice, self._crossing).smallest(self.nbytes)
        if choice.moved - choice.kept:
            self.notes.append(self._note(number, choice.moved, after, choice.kept))
        return set(choice.kept), choice.moved

    def _free(self, number: int, after: Set[str]) -> set[str]:
        """Nodes after a border that may move before it."""
        index, nodes = self.index, self.nodes
        late = {r for t in self.cuts[number].tensors for r in index.consumers.get(t, ()) if r in after}
        late |= {n for n in after if not self._may_move(nodes[n], number)}
        late = self._followed(late, after)
        last = {n for n in after if self.owner[n] == len(self.sections) - 1}
        if last and late.isdisjoint(last):
            late = self._followed(late | last, after)
        return set(after) - late

    def _followed(self, names: Iterable[str], within: Set[str]) -> set[str]:
        """Those nodes, and all in a set that depend on them by tensors."""
        consumers = self.index.consumers
        return reachable(names, lambda n: (r for t in self.nodes[n].outputs for r in consumers.get(t, ()) if r in within))

    def _may_move(self, node: Node, number: int) -> bool:
        return (
            self._is_loose(node)
            and self.named.isdisjoint(node.outputs)
            and node.name not in self.fixed
            and (node.role != "neural" or self.sections[number] == "main")
            and not (node.name in self._ordering and node.name in self.state.after_state)
        )

    def _is_replicable(self, node: Node) -> bool:
        cheap = self.repair == "replicate" or node.is_cheap
        named = [t for t in node.outputs if t in self.named]
        return cheap and self._is_loose(node) and (not named or (not self.firm and min(map(self.nbytes, named)) >= _LARGE))

    def _is_loose(self, node: Node) -> bool:
        """Whether a node can be computed elsewhere, or twice: it neither holds state nor waits for it."""
        if node.stateful or node.group is not None or any(t in self.index.defaults for t in node.outputs):
            return False  # a copy of an input that has a default would not see what is fed
        constants = (n for n in (self.nodes[self.index.producer[t]] for t in node.inputs) if n.is_shared_constant)
        return all(self.state.copyable_without_control_inputs(n) for n in (node, *constants))

    @cached_property
    def _ordering(self) -> Set[str]:
        """Nodes that others wait for."""
        return {c for node in self.index.nodes for c in node.control_inputs}

    def _note(self, number: int, moved: Set[str], after: Set[str], kept: Set[str]) -> str:
        """What moved before a border, and what that saves."""
        once, then = (crossing_tensors(self.index, nodes, self.owner) for nodes in (after, kept))
        spared, instead = [t for t in once if t not in then], [t for t in then if t not in once]
        sizes = [sum(self.nbytes(t) for t in tensors) for tensors in (instead, spared)]
        names = sorted(moved - kept, key=self.index.node_seq.__getitem__)
        which = f"{list_text(names)} {'is' if len(names) == 1 else 'are'} computed in {self.sections[number]}"
        cross = f"{bytes_text(sizes[0])} cross instead" if instead else "nothing crosses instead"
        return f"{which}: {cross} of {bytes_text(sizes[1])} ({list_text(spared)})"

    def reads(self, number: int, held: Iterable[Node]) -> Reads:
        """What section `number`, which holds these nodes besides constants, reads. Raises CutError if `repair` is "error"."""
        index = self.index
        held = list(held)
        names = {n.name for n in held}
        inputs: dict[str, None] = {}
        added: list[Added] = []
        for node in held:
            for tensor in node.inputs:
                producer = self.nodes[index.producer[tensor]]
                if tensor in inputs or producer.name in names or producer.is_shared_constant:
                    continue
                if producer.kind != "input" and tensor not in self.named:
                    added.append(self._added(tensor, number, node.name))
                inputs[tensor] = None
        return Reads(inputs, tuple(added))

    def _added(self, tensor: str, number: int, consumer: str) -> Added:
        index, section = self.index, self.sections[number]
        producer = self.nodes[index.producer[tensor]]
        earlier = self.sections[self.owner[producer.name]]
        if self.repair == "error":
            raise CutError(
                f"{tensor!r} crosses from {earlier!r} to {section!r} without having been named: {consumer!r} reads it; "
                'name it as a target, too, or let the split repair the border (repair="auto")',
                cut=(tensor,),
            )
        handles = sorted(self.named & index.handles) if producer.group is not None else []
        named = [t for t in handles if self.nodes[index.producer[t]].group == producer.group]
        if named:
            dtype = index.tensors[named[0]].dtype
            why = f"{named[0]} is a handle ({dtype}) and cannot cross, so what reads it stays in {earlier}"
        elif producer.name in self._moved:
            why = f"{earlier} computes it so that fewer bytes cross"
        elif any(self.owner[n] < number for n in index.consumers[tensor] if n in self.owner):
            why = f"{earlier} and {section} both read it"
        else:
            why = f"{earlier} computes it on the way to its targets, or beside them"
        if producer.stateful and producer.group is None:
            why += f"; {producer.op} holds state and is never copied"
        return Added(tensor, section, consumer, why)
