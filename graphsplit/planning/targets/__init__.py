"""What accelerators' compilers take: tables of ops and constraints, and how a compiler is asked. Targets are data."""

from graphsplit.planning.targets.constraints import Constraint
from graphsplit.planning.targets.reading import read_target, target_names
from graphsplit.planning.targets.target import Compiler, Target, is_compiled

__all__ = ["Compiler", "Constraint", "Target", "is_compiled", "read_target", "target_names"]
