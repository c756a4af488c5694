"""The proof of a rewrite: the model before and after on the same images, and each replacement on random tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from numpy.typing import ArrayLike

from graphsplit.errors import EquivalenceError
from graphsplit.formats import GraphDefModel
from graphsplit.graph.text import shortened
from graphsplit.inference.feeds import made_feeds
from graphsplit.inference.sessions import NamedSession, open_named
from graphsplit.rewrites.matching import NoMatch
from graphsplit.rewrites.registry import REGISTRY
from graphsplit.rewrites.rewriting import RewrittenModel
from graphsplit.rewrites.samples import Samples
from graphsplit.splitting.surgery import plan_whole, split
from graphsplit.verification.compare import compare
from graphsplit.verification.equivalence import verify
from graphsplit.verification.report import Report

__all__ = ["RewriteReport", "SampleReport", "prove_found", "prove_samples", "verify_rewrite"]

_TIMEOUT = 300.0  # seconds one run may take
_SAMPLES = 18  # for each rewrite: twice every kind of boxes


@dataclass(frozen=True, slots=True)
class SampleReport:
    """One replacement, on random tensors.

    Attributes:
        name: Name of the rewrite.
        where: The place that was replaced.
        samples: Number of samples that were run; 0 if it cannot be fed separately, and `note` says why.
        equal: Whether no difference was found.
        note: What differs, at which sample; empty if nothing does.
    """

    name: str
    where: str
    samples: int
    equal: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class RewriteReport:
    """Whether a rewritten model computes what its original computes.

    Attributes:
        whole: Original and rewritten model, output by output; detections of equal scores may come in any order.
        samples: One report per replacement.
    """

    whole: Report
    samples: tuple[SampleReport, ...]

    def __repr__(self) -> str:
        return f"RewriteReport({shortened(self.summary(), 300)})"

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        return self.whole.equal and all(s.equal for s in self.samples)

    def check(self) -> None:
        """Raise EquivalenceError if something differs."""
        if not self.equal:
            raise EquivalenceError(self.summary(), report=self)

    def summary(self) -> str:
        """One line: equal, or what differs."""
        wrong = next((s for s in self.samples if not s.equal), None)
        if wrong is not None and self.whole.equal:
            return f"{wrong.name} differs on random tensors: {wrong.note}"
        count = sum(s.samples for s in self.samples)
        return self.whole.summary() + (f"; what was replaced is equal on {count} random tensors" if self.equal and count else "")


def verify_rewrite(
    model: RewrittenModel,
    feeds: Mapping[str, ArrayLike] | Iterable[Mapping[str, ArrayLike]] | None = None,
    *,
    samples: int = _SAMPLES,
    trust: bool = False,
) -> RewriteReport:
    """Run a rewritten model and its original on the same feeds, and each replacement on random tensors.

    Args:
        model: The rewritten model.
        feeds: Feeds of the whole model, as for `graphsplit.verify`.
        samples: Number of random samples of each replacement.
        trust: Run models that reach files, the network or Python.

    Returns:
        The report; a difference is reported, not raised.

    Raises:
        FeedError, TrustError, FormatError, SectionRunError: As `graphsplit.verify` does.
    """
    parts = split(model, plan_whole(model, outputs=model.index.outputs), shapes=False)
    whole = verify(model.original, parts, feeds, trust=trust)
    return RewriteReport(whole, prove_found(model, samples, trust=trust))


def prove_found(model: RewrittenModel, samples: int = _SAMPLES, *, trust: bool = False) -> tuple[SampleReport, ...]:
    """Compare each replacement with what it replaced, on random tensors.

    Raises:
        SectionRunError: One of them fails to run.
        TrustError: A model reaches outside itself.
    """
    proofs = []
    for name, found in model.found if samples else ():
        try:
            random = REGISTRY[name].samples(model.original, found)
        except NoMatch as why:
            proofs.append(SampleReport(name, found.where, 0, True, str(why)))
            continue
        proofs.append(prove_samples(model, name, found.where, random, samples, trust=trust))
    return tuple(proofs)


def prove_samples(
    model: RewrittenModel, name: str, where: str, random: Samples, count: int, *, trust: bool = False
) -> SampleReport:
    """Compare one replacement with what it replaced, bit by bit, on random tensors.

    Args:
        model: The rewritten model.
        name: Name of the rewrite.
        where: The place that was replaced.
        random: The random tensors, and what to compare.
        count: Number of samples.
        trust: Run models that reach files, the network or Python.

    Raises:
        SectionRunError: One of the two fails to run.
        TrustError: A model reaches outside itself.
    """
    new = [model.replaced.get(t, t) for t in random.fetches]
    pictures = (
        {len(next(iter(f.values()))): f for f in made_feeds(model.original) if f} if _needs_input(model.original, random) else {}
    )

    def opened(model: GraphDefModel) -> closing[NamedSession]:
        what = f"{name} on random tensors"
        return closing(open_named(model, what, name, trust=trust, optimize=False, timeout=_TIMEOUT))

    with opened(model.original.pruned(model.index.outputs)) as before, opened(model) as after:
        for number in range(count):
            feeds = random.feeds(number)
            batch = len(next(iter(feeds.values())))
            extra = {k: v[:1].repeat(batch, axis=0) for k, v in next(iter(pictures.values())).items()} if pictures else {}
            expected = before.run({**extra, **feeds}, random.fetches)
            results = after.run({**extra, **feeds}, new)
            for tensor, one, other in zip(random.fetches, expected, results, strict=True):
                report = compare(tensor, one, other)
                if not report.equal:
                    return SampleReport(name, where, number + 1, False, f"{tensor} {report.note} (sample {number})")
    return SampleReport(name, where, count, True)


def _needs_input(model: GraphDefModel, random: Samples) -> bool:
    """Whether the compared tensors need an input of the model in addition to the random ones."""
    index = model.index
    fed = {index.producer[t] for t in random.feeds(0)}
    needed = index.ancestors([index.producer[t] for t in random.fetches], known=fed)
    return any(index.producer[t] in needed for t in index.inputs)
