"""Sections and whole models in the formats of deployment targets, each compared with its source.

A target is a line in `graphsplit.exports.targets` and two functions: one writes the export, one opens it.
"""

from __future__ import annotations

from graphsplit.exports.exporting import Exported, ExportedPort, export

__all__ = ["Exported", "ExportedPort", "export"]
