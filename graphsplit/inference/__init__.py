"""Opening models in the runtime of their format: sessions, shapes, feeds, devices, workers."""
