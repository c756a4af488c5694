"""The search for a cut in a model, with sizes, and what it has to say in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from graphsplit.formats import Model
from graphsplit.graph.text import list_text
from graphsplit.inference.shapes import Sizes
from graphsplit.parts.parts import default_device
from graphsplit.planning.affinity import Affinity
from graphsplit.planning.cost import multiplications
from graphsplit.planning.cuts import Cut
from graphsplit.planning.search import Crop, Search
from graphsplit.planning.units import Units

__all__ = ["Finder", "Found", "chain_cuts"]


@dataclass(frozen=True)
class Found:
    """A search in a model.

    Attributes:
        search: The search.
        nbytes: Bytes of its tensors for one frame.
    """

    search: Search
    nbytes: Sizes

    def why(self, crop: Crop) -> str:
        """Why main starts and ends where it does."""
        where = "where the fewest bytes cross" if self.search.affinity.complete else "right after the last layer of each head"
        end = f"main ends {where}, before {crop.reason}" if crop.back else crop.reason
        return f"{crop.before}; {end}" if crop.before else end

    def share(self, nodes: Iterable[str]) -> float | None:
        """Part of the multiplications of all layers that some nodes hold; None if there are no layers."""
        units = {self.search.units.of.get(n) for n in nodes}
        total = sum(self.search.work.values())
        return sum(work for unit, work in self.search.work.items() if unit in units) / total if total else None

    @cached_property
    def between(self) -> tuple[str, ...]:
        """Sentences on host ops between layers, with what each choice leaves in main; empty if there are none."""
        stuck = self.search.stuck
        if not stuck:
            return ()
        first = stuck[0]
        why = f": {first.reason}" if first.reason else ""
        more = f", like {list_text(dict.fromkeys(f'{s.op} ({s.place})' for s in stuck[1:]), most=3)}" if len(stuck) > 1 else ""
        before, after = self.search.starting_before().share, self.search.starting_after().share
        islands = self.search.islands
        accelerated = sum(island.accelerated for island in islands)
        sentence = (
            f"{first.op} ({first.place}) must stay on the host{why}, and lies between layers ({first.layer} is after it){more}. "
            f"Of the multiplications main holds {before:.0%} if it ends before it, {after:.0%} if it starts after it; "
            f"cut as islands, {len(islands)} sections in turn, {accelerated} on the accelerator, "
            f"hold {self.islands_share:.0%} there."
        )
        return (sentence,)

    @property
    def islands_share(self) -> float | None:
        """Part of the multiplications that islands hold on the accelerator; None if no host op lies between layers."""
        if not self.search.between:
            return None
        work = self.search.work
        return sum(some for unit, some in work.items() if unit in self.search.layers) / (sum(work.values()) or 1)

    def cuts(self) -> tuple[tuple[Cut, ...], str]:
        """The cuts of the best chain, and the name of its last section."""
        best = self.search.best()
        return chain_cuts(best.front, best.back)

    def islands(self) -> tuple[tuple[Cut, ...], str, dict[str, str]]:
        """The cuts of a split that alternates, the name of its last section, and section → device."""
        islands = self.search.islands
        devices = {f"part_{i}": default_device("main" if island.accelerated else "post") for i, island in enumerate(islands)}
        cuts = tuple(Cut(f"part_{i}", island.ends) for i, island in enumerate(islands[:-1]))
        return cuts, f"part_{len(islands) - 1}", devices


def chain_cuts(front: tuple[str, ...], back: tuple[str, ...]) -> tuple[tuple[Cut, ...], str]:
    """The cuts of a chain pre → main → post, and the name of its last section.

    Args:
        front: Tensors at which main starts; empty: there is no pre.
        back: Tensors at which main ends; empty: there is no post.
    """
    ends = [("pre", front), ("main", back)]
    return tuple(Cut(section, tensors) for section, tensors in ends if tensors), "post" if back else "main"


class Finder:
    """Searches of one model, for several accelerators.

    Args:
        model: The model.
        sizes: Bytes of its tensors.
        outputs: Outputs of the whole to keep (default: all).
    """

    def __init__(self, model: Model, sizes: Sizes, *, outputs: Sequence[str] | None = None) -> None:
        self._model, self._sizes, self._outputs = model, sizes, outputs

    @cached_property
    def _units(self) -> Units:
        index = self._model.index
        return Units(index, index.outputs if self._outputs is None else self._outputs)

    def search(self, affinity: Affinity) -> Found:
        """The search for one accelerator. Raises FormatError if TensorFlow does not survive the graph."""
        index, sizes = self._model.index, self._sizes
        weight = partial(multiplications, index, sizes=sizes.known)
        return Found(Search(self._units, sizes, weight, affinity), sizes)
