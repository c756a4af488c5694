"""Rewrites that make a graph faster and are proven to change nothing else; `graphsplit.rewrites.registry` lists them."""

from graphsplit.rewrites.rewriting import RewrittenModel, fused, rewrite, rewrite_again

__all__ = ["RewrittenModel", "fused", "rewrite", "rewrite_again"]
