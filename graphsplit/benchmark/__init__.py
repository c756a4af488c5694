"""Measuring: whole against sections against pipeline, each in a process of its own; the chart of it."""
