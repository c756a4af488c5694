"""The workbench: a model in the browser, its sections, suggested cuts, and the effect of a cut. On this machine only."""

from __future__ import annotations

from graphsplit.viewer.viewer import Viewer, view

__all__ = ["Viewer", "view"]
