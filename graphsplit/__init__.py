"""Cut TensorFlow inference graphs into sections, prove them equal to the whole, and place each on its device.

    import graphsplit as gs
    model = gs.load("frozen_inference_graph.pb")
    parts = gs.split(model)                     # the preset that matches, or outputs=["scores", "boxes"]
    gs.verify(model, parts).check()
    gs.save(parts, "out")

Nothing heavy is imported before it is used: neither this line nor `graphsplit --help` imports TensorFlow.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from graphsplit.errors import (
    CutError,
    EquivalenceError,
    FeedError,
    FetchError,
    FormatError,
    GraphSplitError,
    MissingExtraError,
    OptionError,
    OverwriteError,
    PlacementError,
    SectionNotFoundError,
    SectionRunError,
    TensorNotFoundError,
    TrustError,
)
from graphsplit.version import VERSION as __version__

if TYPE_CHECKING:
    from graphsplit.benchmark.measure import bench
    from graphsplit.compilers.checking import check
    from graphsplit.detection import Detector
    from graphsplit.diagram.notebook import Shell
    from graphsplit.diagram.picture import Picture, draw
    from graphsplit.execution.callbacks import AsyncRunner, MultiStreamRunner
    from graphsplit.execution.pipeline import Pipeline
    from graphsplit.execution.placement import Placed, place
    from graphsplit.exports import Exported, export
    from graphsplit.fetching.models import fetch
    from graphsplit.formats import load
    from graphsplit.graph.index import GraphIndex, Node, TensorSpec
    from graphsplit.parts.folder import save
    from graphsplit.parts.manifest import load_parts
    from graphsplit.parts.parts import Part, Parts
    from graphsplit.planning.plan import Plan, Section
    from graphsplit.planning.presets import Preset
    from graphsplit.planning.targets import Target
    from graphsplit.planning.targets.answer import Answer
    from graphsplit.rewrites import rewrite
    from graphsplit.splitting.suggestions import suggest
    from graphsplit.splitting.surgery import plan, split
    from graphsplit.verification.equivalence import verify
    from graphsplit.verification.report import Report
    from graphsplit.viewer import Viewer, view

# Exported name → the module that has it; looked up when the name is first used.
_LAZY = {
    "Answer": "planning.targets.answer",
    "Detector": "detection",
    "AsyncRunner": "execution.callbacks",
    "Exported": "exports",
    "GraphIndex": "graph.index",
    "MultiStreamRunner": "execution.callbacks",
    "Node": "graph.index",
    "Part": "parts.parts",
    "Parts": "parts.parts",
    "Picture": "diagram.picture",
    "Pipeline": "execution.pipeline",
    "Placed": "execution.placement",
    "Plan": "planning.plan",
    "Preset": "planning.presets",
    "Report": "verification.report",
    "Section": "planning.plan",
    "Target": "planning.targets",
    "TensorSpec": "graph.index",
    "Viewer": "viewer",
    "bench": "benchmark.measure",
    "check": "compilers.checking",
    "export": "exports",
    "draw": "diagram.picture",
    "fetch": "fetching.models",
    "load": "formats",
    "load_parts": "parts.manifest",
    "place": "execution.placement",
    "plan": "splitting.surgery",
    "rewrite": "rewrites",
    "save": "parts.folder",
    "split": "splitting.surgery",
    "suggest": "splitting.suggestions",
    "verify": "verification.equivalence",
    "view": "viewer",
}

__all__ = [
    "Answer",
    "AsyncRunner",
    "CutError",
    "Detector",
    "EquivalenceError",
    "Exported",
    "FeedError",
    "FetchError",
    "FormatError",
    "GraphIndex",
    "GraphSplitError",
    "MissingExtraError",
    "MultiStreamRunner",
    "Node",
    "OptionError",
    "OverwriteError",
    "Part",
    "Parts",
    "Picture",
    "Pipeline",
    "Placed",
    "PlacementError",
    "Plan",
    "Preset",
    "Report",
    "Section",
    "SectionNotFoundError",
    "SectionRunError",
    "Target",
    "TensorNotFoundError",
    "TensorSpec",
    "TrustError",
    "Viewer",
    "__version__",
    "bench",
    "check",
    "draw",
    "export",
    "fetch",
    "load",
    "load_parts",
    "place",
    "plan",
    "rewrite",
    "save",
    "split",
    "suggest",
    "verify",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'graphsplit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"graphsplit.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Shell) -> None:
    """Register pictures and tables with an IPython shell: ``%load_ext graphsplit``. Imports no framework."""
    from graphsplit.diagram.notebook import register

    register(shell)


def _register_display() -> None:
    """Do the same without being asked where this is a notebook; nothing is imported anywhere else."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    if shell is not None:
        load_ipython_extension(shell)


_register_display()
