"""Compilers of accelerators are asked what they take of a model, and a cut is fitted to their answer.

table ──▶ split ──▶ ask about the bytes of main ──▶ what is refused is tied to the host ──▶ split again …
"""

from __future__ import annotations

from graphsplit.compilers.asking import ask
from graphsplit.compilers.checking import check
from graphsplit.compilers.fitting import Make, fit
from graphsplit.planning.targets.answer import Answer, Refused, Round

__all__ = ["Answer", "Make", "Refused", "Round", "ask", "check", "fit"]
