"""A model on a device: TensorFlow, LiteRT, workers of a cluster."""
