"""Everything at once on the shipped detector."""
