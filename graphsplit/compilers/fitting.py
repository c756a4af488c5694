"""A cut that a compiler takes whole: split, ask, tie what is refused to the host, split again.

The table of the target proposes the first cut. What the compiler then refuses is tied to the host as well, until it takes all
of the accelerator's sections or nothing more can be tied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from graphsplit.compilers.checking import ask_section, sections_of
from graphsplit.errors import CutError
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.graph.text import count_text, list_text
from graphsplit.parts.parts import Part, Parts
from graphsplit.planning.targets import Target
from graphsplit.planning.targets.answer import Answer, Refused, Round, joined

__all__ = ["Make", "find_nodes", "fit"]

_MOST_ADDED = 4  # words that a compiler adds to the name of a tensor: conv_softmax_27_broadcasted

#: Splits a model with some nodes tied to the host, given as name → reason.
Make = Callable[[Mapping[str, str]], Parts]


def fit(
    model: Model,
    target: Target,
    make: Make,
    *,
    rounds: int = 8,
    compile: bool = True,
    specs: Mapping[str, TensorSpec] | None = None,
) -> tuple[Parts, Answer]:
    """Split a model so that a target takes all of the accelerator's sections, as far as this is possible.

    Args:
        model: The whole.
        target: The target.
        make: Splits the model with the named nodes on the host. Called once for each round.
        rounds: How often it is split at most.
        compile: Ask the compiler; False: the table alone, in one round.
        specs: Tensors of which more is known than the file states.

    Returns:
        The parts of the last round, and the answer about them: `Answer.refused` lists all that was tied to the host,
        `Answer.rounds` each question, `Answer.reason` why the search ended.

    Raises:
        FormatError: as of `graphsplit.compilers.asking.ask`.
        CutError: for a model of another dtype than the target computes in, and as `make` raises it.
    """
    target.check_format(model.section_format, path=model.path)
    if unsuited := target.unsuited(model.index, specs or {}):
        raise CutError(unsuited)
    index, tied = model.index, target.refusals(model.index, specs or {})
    asked: list[Round] = []
    while True:
        parts = make(MappingProxyType(dict(tied)))
        sections = sections_of(parts)
        if not sections:
            none = Answer(target.name, None, None, 0, 0, _described(tied, index), "no section is left for the accelerator")
            return parts, replace(none, rounds=tuple(asked))
        answers = [ask_section(part, target, compile=compile) for part in sections]
        answer = joined(answers)
        refused = {} if answer.whole else _refused_nodes(sections, answers, index)
        new = {name: reason for name, reason in refused.items() if name not in tied}
        reason = answer.reason
        if not answer.whole and not reason:
            if not new:
                what = list_text(dict.fromkeys(f"{r.op} ({r.tensor})" for r in answer.refused)) or "an op that it does not name"
                reason = f"{answer.who} still refuses {what}, which the cut leaves in {', '.join(answer.sections)}"
            elif len(asked) + 1 >= rounds:
                reason = f"not all is taken after {count_text(rounds, 'round')}"
        if answer.whole or not new or len(asked) + 1 >= rounds:
            asked.append(Round(answer.taken, answer.asked, ()))
            everything = _described(tied | new, index)
            return parts, replace(answer, refused=everything, reason=reason, rounds=tuple(asked))
        asked.append(Round(answer.taken, answer.asked, _described(new, index)))
        tied |= new


def _described(reasons: Mapping[str, str], index: GraphIndex) -> tuple[Refused, ...]:
    """Nodes of the whole and why they stay on the host, in file order."""
    nodes = (index.name_to_node_map[name] for name in sorted(reasons, key=index.node_seq.__getitem__))
    return tuple(Refused(n.op, n.outputs[0] if n.outputs else n.name, reasons[n.name]) for n in nodes)


def _refused_nodes(sections: Iterable[Part], answers: Iterable[Answer], whole: GraphIndex) -> dict[str, str]:
    """The nodes of the whole that a compiler refused in its sections → reason."""
    found: dict[str, str] = {}
    for part, answer in zip(sections, answers, strict=True):
        tensors = {port.name: port.tensor for port in (*part.inputs, *part.outputs)}
        for node, reason in find_nodes(part.model.index, answer.refused).items():
            output = next((tensors.get(t, t) for t in node.outputs), node.name)
            name = whole.producer.get(output, node.name)
            if name in whole.name_to_node_map:
                found[name] = reason
    return found


def find_nodes(index: GraphIndex, refused: Iterable[Refused]) -> dict[Node, str]:
    """The nodes that a compiler means.

    A tensor's name is looked up as it is, then without what compilers add to the names of tensors of their own. Refusals that
    name no tensor of the model are counted by op: as many of that op are taken, the last ones of the file first, since what
    is cut off there costs least; the next round says whether they were the right ones.

    Args:
        index: The model that the compiler read.
        refused: What it refused.

    Returns:
        Node → reason.
    """
    nodes = [n for n in index.nodes if n.kind == "op"]
    producers = {**{n.name: n for n in nodes}, **{t: n for n in nodes for t in n.outputs}}
    found: dict[Node, str] = {}
    unknown: list[Refused] = []
    for entry in refused:
        name = entry.tensor
        for _ in range(_MOST_ADDED):
            if name in producers:
                break
            name = name.rpartition("_")[0]
        if name in producers:
            found.setdefault(producers[name], entry.reason)
        else:
            unknown.append(entry)
    for entry in unknown:
        node = next((n for n in reversed(nodes) if n not in found and _spelled(n.op) == _spelled(entry.op)), None)
        if node is not None:
            found[node] = entry.reason
    return found


def _spelled(op: str) -> str:
    """An op without what compilers spell differently: ``ARG_MAX``, ``ARGMAX``, ``ArgMax``."""
    return op.replace("_", "").lower()
