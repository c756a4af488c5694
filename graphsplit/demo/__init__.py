"""Everything at once on the detector that comes with the package."""
