"""A worker: TensorFlow's server for one task of a cluster, and nothing else."""

from graphsplit.worker.serving import Worker, start_worker

__all__ = ["Worker", "start_worker"]
