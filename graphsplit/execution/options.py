"""How to run sections: the options that `Pipeline`, the runners, `Detector`, `bench` and `run_batch` share."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, TypedDict

from graphsplit.inference.endpoints import ClusterLike

__all__ = ["RunOptions", "SessionOptions"]


class SessionOptions(TypedDict, total=False):
    """`RunOptions` without the devices, for functions that take `devices` separately.

    Attributes:
        cluster: Where the workers are: {"job": ["host:port", …]}, or the path of such a JSON file.
        target: ``grpc://host:port`` of the worker that runs all of them (default: each section asks its own).
        threads: Threads of each section's own pool (default: the cores, shared between the sections that run on the CPU).
        strict: Raise PlacementError for a device that does not exist; otherwise the section runs on the CPU, with one warning.
        trust: Run models that reach files, the network or Python.
        config: A ``tf.compat.v1.ConfigProto`` to start from; its ``operation_timeout_in_ms`` bounds a run on a worker.
        delegates: Section → path of a TFLite delegate, a library that runs it on an accelerator.
    """

    cluster: ClusterLike | None
    target: str | None
    threads: int | None
    strict: bool
    trust: bool
    config: Any
    delegates: Mapping[str, str | PathLike[str]] | None


class RunOptions(SessionOptions, total=False):
    """How to run the sections of a split: the options of `SessionOptions`, and the devices.

    Attributes:
        devices: Section → device, overriding what the parts say; ``/job:NAME/task:N/gpu:0`` is a device of a worker.
    """

    devices: Mapping[str, str] | None
