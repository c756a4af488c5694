"""TensorFlow's server for one task of a cluster, on the address that the cluster states."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from os import PathLike
from typing import Any

from graphsplit.errors import GraphSplitError
from graphsplit.inference.cluster import Cluster, read_cluster
from graphsplit.inference.devices import available_devices
from graphsplit.runtimes.arrays import error_text
from graphsplit.runtimes.remote import remote_config
from graphsplit.runtimes.tensorflow import session_config
from graphsplit.worker.listening import Address, listen_only_on

__all__ = ["Worker", "start_worker"]


@dataclass(frozen=True)
class Worker:
    """A server that runs until its process ends.

    name     what its devices begin with: ``/job:gpu/task:0``
    address  ``host:port``, as the cluster states it
    target   what sessions connect to: ``grpc://host:port``
    devices  full names, ``/job:gpu/task:0/gpu:0``
    """

    name: str
    address: str
    target: str
    devices: tuple[str, ...]
    _server: Any = field(repr=False)


def start_worker(cluster: Cluster | Mapping[str, Any] | str | PathLike[str], job: str, task: int) -> Worker:
    """Start a ``tf.distribute.Server``, once in a process; it serves in threads of its own.

    It answers on the address that the cluster states for this task, on no other, and to everybody who reaches that:
    TensorFlow's protocol knows no authentication, and a graph is a program. Memory of GPUs is taken as it is needed.

    Raises FormatError for what is no cluster, GraphSplitError for a task that is not in it, for an address that is not of
    this machine or is in use, and where the system cannot narrow who may connect.
    """
    known = read_cluster(cluster)
    try:
        address = known.address(job, task)
    except LookupError as error:
        raise GraphSplitError(error.args[0]) from None
    host, _, port = address.rpartition(":")
    own = _own_addresses(host, int(port))

    import tensorflow as tf

    jobs = {name: list(tasks) for name, tasks in known.jobs.items()}
    try:
        server = tf.distribute.Server(jobs, job_name=job, task_index=task, protocol="grpc", config=session_config(), start=False)
        listen_only_on(int(port), own)  # it listens already, but nobody is served before it is started
        server.start()
    except tf.errors.OpError as error:
        raise GraphSplitError(
            f"TensorFlow cannot serve on port {port}, which it needs on all addresses of the machine: {error_text(error)}"
        ) from error
    name, target = f"/job:{job}/task:{task}", f"grpc://{address}"
    try:
        devices = available_devices(remote_config(session_config(), [name]), target)
    except tf.errors.OpError as error:
        raise GraphSplitError(f"the server was started but does not answer at {target}: {error_text(error)}") from error
    return Worker(name, address, target, devices, server)


def _own_addresses(host: str, port: int) -> list[Address]:
    """The addresses of this machine that a host of the cluster means, on which the port is free. Raises GraphSplitError."""
    try:
        found = {(family, where[0]) for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise GraphSplitError(f"{host!r} is no address that is known here: {error.strerror or error}") from error
    own: list[Address] = []
    why: OSError | None = None
    for family, where in sorted(found):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((where, port))
            except OSError as error:
                why = error
                continue
        own.append(ip_address(str(where).partition("%")[0]))
    if own:
        return own
    assert why is not None
    if why.errno == errno.EADDRNOTAVAIL:
        raise GraphSplitError(f"{host} is no address of this machine; start this task's worker on the machine that has it") from why
    raise GraphSplitError(f"{host}:{port} cannot be had: {why.strerror or why}; give the task another port in the cluster") from why
