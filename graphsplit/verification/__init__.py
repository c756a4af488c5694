"""Proving that the sections compute what the whole computes."""
