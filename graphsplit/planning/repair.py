"""Repair of a border: what crosses without having been named is recomputed, added to the border, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.traversal import reachable
from graphsplit.planning.plan import Added, Repair
from graphsplit.planning.state import StateOrder

__all__ = ["Border", "Repairer"]

_MOST_INPUTS = 1000  # tensors that the nodes of such a chain read
_CHAIN = 16  # nodes; a longer chain of shape arithmetic crosses the border instead of being recomputed


@dataclass(frozen=True, slots=True)
class Border:
    """What a section reads from outside.

    Attributes:
        inputs: Tensors that cross: inputs of the whole, named border tensors, and added ones.
        copied: Nodes of earlier sections that it computes again.
        added: Tensors among `inputs` that were not named.
    """

    inputs: dict[str, None]
    copied: set[str]
    added: tuple[Added, ...]


class Repairer:
    """Finds what each section reads from earlier ones.

    Args:
        index: The graph.
        owner: Node → number of the section that owns it; constants and inputs are owned by none.
        sections: Names of all sections.
        named: Tensors that the user named.
        repair: What to do with the others.
        state: The order of state.
    """

    def __init__(
        self,
        index: GraphIndex,
        owner: Mapping[str, int],
        sections: list[str],
        named: Set[str],
        repair: Repair,
        state: StateOrder,
    ) -> None:
        self.index, self.owner, self.sections, self.named, self.repair, self.state = index, owner, sections, named, repair, state
        self.nodes = index.name_to_node_map

    def border(self, number: int, owned: Iterable[Node]) -> Border:
        """The border before section `number`, which owns these nodes. Raises CutError if `repair` is "error"."""
        index = self.index
        inputs: dict[str, None] = {}
        unnamed: dict[str, str] = {}  # tensor → first consumer
        for node in owned:
            for tensor in node.inputs:
                producer = self.nodes[index.producer[tensor]]
                if producer.kind == "input" or (tensor in self.named and self._is_earlier(producer, number)):
                    inputs[tensor] = None
                elif self._is_earlier(producer, number):
                    unnamed.setdefault(tensor, node.name)
        copied: set[str] = set()
        added: list[Added] = []
        recomputing = _Recomputing(self, number, unnamed, inputs) if self.repair == "replicate" else None
        for tensor, consumer in unnamed.items():
            chain = self._chain(tensor, number, inputs) if recomputing is None else recomputing.chain(tensor, copied)
            if chain is not None:
                copied |= chain
            else:
                added.append(self._added(tensor, number, consumer))
                inputs[tensor] = None
                if recomputing is not None:
                    recomputing.add(tensor)
        for name in sorted(copied, key=index.node_seq.__getitem__):
            for tensor in self.nodes[name].inputs:
                producer = self.producer(tensor)
                if producer.name not in copied and not producer.is_shared_constant:
                    inputs.setdefault(tensor)
        return Border(inputs, copied, tuple(added))

    def _is_earlier(self, node: Node, number: int) -> bool:
        return node.name in self.owner and self.owner[node.name] < number

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
        elif any(self.owner[n] < number for n in index.consumers[tensor] if n in self.owner):
            why = f"{earlier} and {section} both read it"
        else:
            why = f"{earlier} computes it on the way to its targets, or beside them"
        if producer.stateful and producer.group is None:
            why += f"; {producer.op} holds state and is never copied"
        return Added(tensor, section, consumer, why)

    def _chain(self, tensor: str, number: int, available: Mapping[str, None]) -> set[str] | None:
        """The nodes to recompute so that `tensor` need not cross; None if that is impossible or too expensive."""
        if self.repair != "auto":
            return None
        chain: set[str] = set()
        stack = [tensor]
        steps = 0
        while stack:
            node = self.producer(stack.pop())
            if node.name in chain or self.is_free(node):
                continue
            # What crosses must not be computed as well: that would be two nodes of one name.
            if not self.is_copyable(node, number) or any(t in available for t in node.outputs):
                return None
            chain.add(node.name)
            steps += len(node.inputs)
            if len(chain) > _CHAIN or steps > _MOST_INPUTS or not self._is_cheap(node, available):
                return None
            if node.role != "shape":
                stack.extend(node.inputs)
        return chain

    def producer(self, tensor: str) -> Node:
        """The node that produces a tensor."""
        return self.nodes[self.index.producer[tensor]]

    def is_free(self, node: Node) -> bool:
        """Whether each section has its own copy of a node anyway."""
        return node.is_shared_constant and self.state.copyable_without_control_inputs(node)

    def is_copyable(self, node: Node, number: int) -> bool:
        """Whether section `number` may compute a node of an earlier one again, as far as the node itself goes."""
        kept = node.kind == "input" or node.stateful or node.group is not None or not self._is_earlier(node, number)
        return not kept and self.state.copyable_without_control_inputs(node)

    def _is_cheap(self, node: Node, available: Mapping[str, None]) -> bool:
        if node.role == "shape":
            return all(t in available for t in node.inputs)
        return node.role == "arithmetic"


class _Recomputing:
    """Which tensors a section can compute again, whatever that costs, from inputs of the whole and what crosses already.

    A node is *stuck* if it must not be copied, or reads something that does not cross from a node that is stuck. Each tensor
    that is added to the border may free nodes after it, so every node is visited a fixed number of times, however many
    tensors cross.

    Args:
        repairer: The graph.
        number: The section.
        wanted: Tensors to compute again.
        available: What crosses; tensors may be added.
    """

    def __init__(self, repairer: Repairer, number: int, wanted: Iterable[str], available: Mapping[str, None]) -> None:
        self._repairer, self._available = repairer, available
        index = repairer.index
        nodes = index.name_to_node_map
        around = reachable((index.producer[t] for t in wanted), lambda name: self._needed(nodes[name]))
        self._never = {n for n in around if not self._may_copy(nodes[n], number)}
        self._readers: dict[str, list[str]] = {}  # tensor → nodes that read it, each once
        for name in sorted(around - self._never):
            for tensor in dict.fromkeys(nodes[name].inputs):
                if tensor not in available:
                    self._readers.setdefault(tensor, []).append(name)
        self._stuck: dict[str, int] = {}  # node → how many tensors keep it from being computed again
        waiting = list(self._never)
        while waiting:
            for tensor in nodes[waiting.pop()].outputs:
                for reader in self._readers.get(tensor, ()):
                    if reader not in self._stuck:
                        waiting.append(reader)
                    self._stuck[reader] = self._stuck.get(reader, 0) + 1

    def chain(self, tensor: str, copied: Set[str]) -> set[str] | None:
        """The nodes to compute again for a tensor, without those in `copied`; None if that is impossible."""
        producer = self._repairer.producer(tensor)
        if producer.name in self._never or producer.name in self._stuck:
            return None
        if self._repairer.is_free(producer):
            return set()
        nodes = self._repairer.nodes
        return reachable([producer.name], lambda name: self._needed(nodes[name]), skip=copied)

    def add(self, tensor: str) -> None:
        """Note that a tensor crosses, which frees nodes that waited only for it."""
        nodes = self._repairer.nodes
        # What crosses must not be computed as well: that would be two nodes of one name.
        self._never.add(self._repairer.producer(tensor).name)
        waiting = [tensor]
        while waiting:
            for reader in self._readers.get(waiting.pop(), ()):
                self._stuck[reader] -= 1
                if not self._stuck[reader]:
                    del self._stuck[reader]
                    if reader not in self._never:
                        waiting += [t for t in nodes[reader].outputs if t not in self._available]

    def _may_copy(self, node: Node, number: int) -> bool:
        return self._repairer.is_copyable(node, number) and not any(t in self._available for t in node.outputs)

    def _needed(self, node: Node) -> Iterator[str]:
        """The nodes that are computed for the inputs of a node."""
        for tensor in node.inputs:
            if tensor not in self._available:
                producer = self._repairer.producer(tensor)
                if producer.kind != "input" and not self._repairer.is_free(producer):
                    yield producer.name
