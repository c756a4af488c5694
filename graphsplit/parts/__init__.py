"""Sections as models, and a split on disk."""
