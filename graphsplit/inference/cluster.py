"""Clusters: which worker listens where, as TensorFlow's distributed runtime numbers them.

{"gpu": ["10.0.0.5:2222"], "cpu": ["10.0.0.6:2222", "10.0.0.7:2222"]}        job → the address of each of its tasks

``/job:cpu/task:1/cpu:0`` is then the first CPU of the machine at 10.0.0.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType

from graphsplit.errors import FormatError
from graphsplit.graph.json_input import as_type, entry_error, read_json

__all__ = ["Cluster", "read_cluster"]

_LIMIT = 2**20  # bytes; ten thousand workers take less than half of it
_WHAT = 'a cluster such as {"job": ["host:port"]}'


@dataclass(frozen=True)
class Cluster:
    """The workers there are.

    Attributes:
        jobs: Name of a job → ``host:port`` of its tasks, counted from 0.
    """

    jobs: Mapping[str, tuple[str, ...]]

    def address(self, job: str, task: int) -> str:
        """``host:port`` of a task. Raises LookupError that lists the jobs or counts the tasks."""
        if job not in self.jobs:
            raise LookupError(f"the cluster has no job {job!r}; there are {', '.join(self.jobs)}")
        tasks = self.jobs[job]
        if not 0 <= task < len(tasks):
            raise LookupError(f"job {job!r} has no task {task}; it has {len(tasks)}, counted from 0")
        return tasks[task]

    def task_at(self, address: str) -> tuple[str, int] | None:
        """The job and the number of the task at an address; None: there is none."""
        return next(((job, i) for job, tasks in self.jobs.items() for i, a in enumerate(tasks) if a == address), None)


def read_cluster(cluster: Cluster | Mapping[str, object] | str | PathLike[str]) -> Cluster:
    """Read a cluster.

    Args:
        cluster: Itself, a mapping (job → addresses), or the path of a JSON file of such a mapping.

    Raises:
        FormatError: The file cannot be read, TensorFlow does not accept the name of a job, or an address is not ``host:port``
            or repeats.
    """
    if isinstance(cluster, Cluster):
        return cluster
    path = None if isinstance(cluster, Mapping) else cluster
    content = cluster if isinstance(cluster, Mapping) else read_json(cluster, dict[str, object], what=_WHAT, limit=_LIMIT)
    if not content:
        raise FormatError(f"no job in it; write {_WHAT}", path=path)
    jobs: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for job, listed in content.items():
        at = f"$.{job}"[:80]
        if not isinstance(job, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", job):
            raise entry_error(at, "not the name of a job: letters, digits and _, beginning with a letter", path=path)
        if job == "localhost":
            raise entry_error(at, "'localhost' is TensorFlow's name for the process itself; name the job otherwise", path=path)
        addresses = as_type(listed, tuple[str, ...], what="a list of addresses", path=path, at=at)
        if not addresses:
            raise entry_error(at, f"job {job!r} has no address; write {_WHAT}", path=path)
        for number, address in enumerate(addresses):
            if (wrong := _fault(address)) is not None:
                raise entry_error(f"{at}[{number}]", f"{address[:60]!r}: {wrong}", path=path)
            task = f"task {number} of job {job!r}"
            if address in owner:
                raise entry_error(f"{at}[{number}]", f"{task} and {owner[address]} are both at {address}", path=path)
            owner[address] = task
        jobs[job] = addresses
    return Cluster(MappingProxyType(jobs))


def _fault(address: str) -> str | None:
    """What is wrong with an address; None: nothing."""
    host, colon, port = address.rpartition(":")
    if ":" in host or "[" in host:
        return "TensorFlow's workers take no IPv6 address; use a name or an IPv4 address, host:port"
    if not colon or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", host):
        return "write host:port, as in 10.0.0.5:2222"
    if re.fullmatch(r"[0.]+", host):
        return "it means every address of a machine; use the one that others connect to"
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        return "a port is a number from 1 to 65535"
    return None
