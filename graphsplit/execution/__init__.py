"""Running sections: one after the other, as a pipeline, in one placed graph, between callbacks."""
