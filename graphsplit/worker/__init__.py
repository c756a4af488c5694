"""A worker: TensorFlow's server on one machine of a cluster, and nothing else."""

from graphsplit.worker.serving import Worker, start_worker

__all__ = ["Worker", "start_worker"]
