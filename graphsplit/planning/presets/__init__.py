"""Families of models, known by their structure: which node feeds which, never by names alone.

The presets are data (`families.json`); what can be asked of a graph is said in `graphsplit.planning.presets.conditions`.
"""

from graphsplit.planning.presets.matching import Match, Verdict, explain, match, targets_for
from graphsplit.planning.presets.preset import Preset, get, presets, read_presets

__all__ = ["Match", "Preset", "Verdict", "explain", "get", "match", "presets", "read_presets", "targets_for"]
