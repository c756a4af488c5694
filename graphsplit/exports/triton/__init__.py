"""A split as a Triton model repository."""

from graphsplit.exports.triton.ensemble import Ensemble
from graphsplit.exports.triton.repository import repository_files, write_repository

__all__ = ["Ensemble", "repository_files", "write_repository"]
