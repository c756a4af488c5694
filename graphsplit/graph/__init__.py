"""The index of a graph, and what every layer above needs of it. Knows no file format and no framework."""
