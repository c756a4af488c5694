"""Running sections: as a pipeline, in one placed graph, between callbacks."""
