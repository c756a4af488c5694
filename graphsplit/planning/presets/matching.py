"""Which preset a graph is, by its structure, and where that cuts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.traversal import reachable
from graphsplit.planning.presets.conditions import Description, Search, alternatives
from graphsplit.planning.presets.preset import Preset, Rule, get, presets

__all__ = ["Match", "Verdict", "explain", "match", "targets_for"]

_NAME = "name the tensors to cut at with outputs=…"


@dataclass(frozen=True, slots=True)
class Match:
    """A preset that matches a graph.

    Attributes:
        preset: The preset.
        targets: Full names of the split targets in this graph; empty for a family without a fixed cut.
        prefix: The prefix that the exporter's names were imported under: "" or ``import/`` …
        reason: Why it matches.
    """

    preset: Preset
    targets: tuple[str, ...]
    prefix: str
    reason: str


class Verdict(NamedTuple):
    """Whether a preset matches a graph, and why, or why not."""

    preset: Preset
    fulfilled: bool
    reason: str


def match(index: GraphIndex, among: Iterable[Preset] | None = None) -> Match | None:
    """The first preset that matches, or None.

    Args:
        index: The graph.
        among: The presets to try; None: those of the package.
    """
    for preset in presets() if among is None else among:
        found = _match(index, preset)
        if isinstance(found, Match):
            return found
    return None


def explain(index: GraphIndex, among: Iterable[Preset] | None = None) -> list[Verdict]:
    """Every preset with the reason why it matches or does not; arguments as for `match`."""
    verdicts = []
    for preset in presets() if among is None else among:
        found = _match(index, preset)
        verdicts.append(Verdict(preset, True, found.reason) if isinstance(found, Match) else Verdict(preset, False, found))
    return verdicts


def targets_for(index: GraphIndex, name: str | None = None, among: Iterable[Preset] | None = None) -> Match:
    """Where the named preset cuts a graph; without a name, where the one that matches does.

    Args:
        index: The graph.
        name: Name of a preset; None: the first that matches.
        among: The presets to try; None: those of the package.

    Raises:
        TensorNotFoundError: There is no preset of that name.
        CutError: The preset does not match the graph (the error states which condition failed, with which value, and which preset
            matches instead), no preset matches, or the family has no fixed cut.
    """
    known = presets() if among is None else tuple(among)
    if name is None:
        found = match(index, known)
        if found is None:
            raise CutError(f"no preset matches this graph; {_NAME}, or let autocrop=True find a cut")
        return _with_targets(found)
    outcome = _match(index, get(name, known))
    if isinstance(outcome, Match):
        return _with_targets(outcome)
    other = match(index, known)
    instead = f'preset="{other.preset.name}" matches' if other else f"no preset matches: {_NAME}"
    if other is not None and not other.targets:
        instead += f", but has no fixed cut: {_NAME}"
    raise CutError(f"preset {name!r} does not match this graph: {outcome}; {instead}")


def _with_targets(found: Match) -> Match:
    if found.targets:
        return found
    raise CutError(
        f"preset {found.preset.name!r} matches, but has no fixed cut: {found.preset.note.rstrip('.')}; "
        f"{_NAME}, or let autocrop=True find a cut"
    )


def _match(index: GraphIndex, preset: Preset) -> Match | str:
    """The match, or why there is none under the prefix where most conditions hold."""
    best = (-1, "")
    for prefix in _prefixes(index, preset):
        search = Search(index, prefix)
        for held, condition in enumerate(preset.conditions):
            if (search.first(condition.described) is None) != condition.absent:
                best = max(best, (held, f"expected that {condition.says}, but {search.why_not(condition)}"), key=lambda b: b[0])
                break
        else:
            targets = _targets(search, preset)
            if isinstance(targets, tuple):
                under = f" (under {prefix!r})" if prefix else ""
                return Match(preset, targets, prefix, "; ".join(c.says for c in preset.conditions) + under)
            best = (len(preset.conditions), targets)
    return best[1]


def _prefixes(index: GraphIndex, preset: Preset) -> Iterator[str]:
    """What names may have been imported under: wherever the first node that the preset names is found."""
    named = next((name for c in preset.conditions if not c.absent for name in _named(c.described)), None)
    anchors = alternatives(named.removesuffix("/*")) if named else ()
    found: dict[str, None] = {}
    for anchor in anchors:
        for node in index.nodes:
            if anchor in node.name and (start := f"/{node.name}/".find(f"/{anchor}/")) >= 0:
                found[node.name[:start]] = None
    yield from found or [""]


def _named(described: Description) -> Iterator[str]:
    if described.node != "*":
        yield described.node
    for other in (described.reads, described.feeds, described.needs):
        if other is not None:
            yield from _named(other)


def _targets(search: Search, preset: Preset) -> tuple[str, ...] | str:
    """Full names of the split targets, or why there are none."""
    if preset.rule is not None:
        found = _entering(search, preset.rule) if preset.rule.kind == "entering" else _last(search, preset.rule)
        return found or f"expected {preset.rule}, but found nothing of the kind"
    names = []
    for target in preset.targets:
        # One of several names: the one that fits what the conditions say of it.
        asked = [c.described for c in preset.conditions if c.described.node == target and not c.absent]
        name = next((n for w in asked if (n := search.first(w))), None)
        name = name or next((n for a in alternatives(target) if (n := search.prefix + a) in search.index.name_to_node_map), None)
        if name is None:
            return f"expected a node {search.prefix}{target}, but there is none"
        names.append(name)
    return tuple(dict.fromkeys(map(search.index.tensor, names)))


def _entering(search: Search, rule: Rule) -> tuple[str, ...]:
    index = search.index
    inside = set(search.all(rule.nodes))
    read = dict.fromkeys(t for name in inside for t in index.name_to_node_map[name].inputs)
    makers = {t: index.name_to_node_map[index.producer[t]] for t in read}
    found = [t for t, m in makers.items() if m.name not in inside and m.kind == "op" and t not in index.captive]
    return tuple(sorted((t for t in found if _computed(index, makers[t].name)), key=lambda t: (index.node_seq[makers[t].name], t)))


def _computed(index: GraphIndex, name: str) -> bool:
    """Whether it depends on what is fed; a value that does not can be recomputed anywhere."""
    return any(index.name_to_node_map[n].kind == "input" for n in index.ancestors([name]))


def _last(search: Search, rule: Rule) -> tuple[str, ...]:
    index = search.index
    described = set(search.all(rule.nodes))

    def above(name: str) -> Iterable[str]:
        node = index.name_to_node_map[name]
        return () if name in described or node.role == "shape" else (index.producer[t] for t in node.inputs)

    reached = reachable((index.producer[t] for t in index.outputs), above)
    last = (index.name_to_node_map[name] for name in sorted(described & reached, key=index.node_seq.__getitem__))
    return tuple(t for node in last for t in node.outputs[:1] if t not in index.captive)
