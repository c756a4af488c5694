"""Clusters: which worker answers where, as TensorFlow's distributed runtime numbers them.

{"gpu": ["10.0.0.5:2222"], "cpu": ["10.0.0.6:2222", "10.0.0.7:2222"]}        job → the address of each of its tasks

``/job:cpu/task:1/cpu:0`` is then the first CPU of the machine at 10.0.0.7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Any

from graphsplit.errors import FormatError
from graphsplit.graph.json_input import read_json

__all__ = ["Cluster", "read_cluster"]

_LIMIT = 2**20  # bytes; ten thousand workers take less than half of it
_SHAPE = 'a cluster is {"job": ["host:port", …], …}'


@dataclass(frozen=True)
class Cluster:
    """The workers there are.

    jobs  name of a job → ``host:port`` of its tasks, counted from 0
    """

    jobs: Mapping[str, tuple[str, ...]]

    def address(self, job: str, task: int) -> str:
        """``host:port`` of a task. Raises LookupError that lists what there is."""
        if job not in self.jobs:
            raise LookupError(f"the cluster has no job {job!r}; there are {', '.join(self.jobs)}")
        tasks = self.jobs[job]
        if not 0 <= task < len(tasks):
            raise LookupError(f"job {job!r} has no task {task}; it has {len(tasks)}, counted from 0")
        return tasks[task]

    def task_at(self, address: str) -> tuple[str, int] | None:
        """The job and the number of the task at an address; None: there is none."""
        return next(((job, i) for job, tasks in self.jobs.items() for i, a in enumerate(tasks) if a == address), None)


def read_cluster(given: Cluster | Mapping[str, Any] | str | PathLike[str]) -> Cluster:
    """A cluster: itself, a mapping, or a JSON file.

    Raises FormatError for a file that cannot be read, for job names that TensorFlow does not take, and for addresses that
    are not ``host:port`` or stand twice.
    """
    if isinstance(given, Cluster):
        return given
    path = None if isinstance(given, Mapping) else given
    content: Any = given if path is None else read_json(path, what="a cluster file", limit=_LIMIT)
    if not isinstance(content, Mapping) or not content:
        raise FormatError(f"{_SHAPE}, not {_shown(content)}", path=path)
    jobs: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for job, addresses in content.items():
        if not isinstance(job, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", job):
            raise FormatError(f"{_shown(job)} is no name of a job; letters, digits and _, a letter first", path=path)
        if job == "localhost":
            raise FormatError("'localhost' is TensorFlow's name for the process itself; give the job another one", path=path)
        if not isinstance(addresses, (list, tuple)) or not addresses:
            raise FormatError(f"job {job!r} has a list of addresses, not {_shown(addresses)}; {_SHAPE}", path=path)
        for number, address in enumerate(addresses):
            task = f"task {number} of job {job!r}"
            if (wrong := _wrong(address)) is not None:
                raise FormatError(f"{task} is at {_shown(address)}: {wrong}", path=path)
            if address in owner:
                raise FormatError(f"{task} and {owner[address]} are both at {address}", path=path)
            owner[address] = task
        jobs[job] = tuple(addresses)
    return Cluster(MappingProxyType(jobs))


def _wrong(address: Any) -> str | None:
    """What is wrong with an address; None: nothing."""
    if not isinstance(address, str):
        return "an address is a string, host:port"
    host, colon, port = address.rpartition(":")
    if ":" in host or "[" in host:
        return "TensorFlow's workers take no IPv6 address; give a name or an IPv4 address, host:port"
    if not colon or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", host):
        return "write host:port, as in 10.0.0.5:2222"
    if re.fullmatch(r"[0.]+", host):
        return "it means every address of a machine; give the one that others connect to"
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        return "a port is a number from 1 to 65535"
    return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}…"
