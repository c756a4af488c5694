"""TensorFlow's server for one task of a cluster, on the address that the cluster states."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from graphsplit.errors import GraphSplitError
from graphsplit.inference.cluster import read_cluster
from graphsplit.inference.devices import available_devices
from graphsplit.inference.endpoints import ClusterLike
from graphsplit.runtimes.arrays import error_text
from graphsplit.runtimes.remote import remote_config
from graphsplit.runtimes.tensorflow import session_config
from graphsplit.worker.listening import Address, listen_only_on

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Worker", "start_worker"]


@dataclass(frozen=True)
class Worker:
    """A server that runs until its process ends.

    Attributes:
        name: Prefix of its devices: ``/job:gpu/task:0``.
        address: ``host:port``, as the cluster states it.
        target: What sessions connect to: ``grpc://host:port``.
        devices: Full names, ``/job:gpu/task:0/gpu:0``.
    """

    name: str
    address: str
    target: str
    devices: tuple[str, ...]
    _server: tf.distribute.Server = field(repr=False)


def start_worker(cluster: ClusterLike, job: str, task: int) -> Worker:
    """Start a ``tf.distribute.Server``, once in a process; it serves in its own threads.

    It answers only on the address that the cluster states for this task, and to everyone who reaches that: TensorFlow's
    protocol has no authentication, and a graph is a program. GPU memory grows as needed.

    Args:
        cluster: {"job": ["host:port", …]}, or the path of such a JSON file.
        job: The job of this worker.
        task: Its number in the job, counted from 0.

    Raises:
        FormatError: The cluster is invalid.
        GraphSplitError: The task is not in the cluster, its address is not of this machine or is in use, or the system cannot
            restrict who may connect.
    """
    workers = read_cluster(cluster)
    try:
        address = workers.address(job, task)
    except LookupError as error:
        raise GraphSplitError(error.args[0]) from None
    host, _, port = address.rpartition(":")
    own = _own_addresses(host, int(port))

    import tensorflow as tf

    jobs = {name: list(tasks) for name, tasks in workers.jobs.items()}
    try:
        server = tf.distribute.Server(jobs, job_name=job, task_index=task, protocol="grpc", config=session_config(), start=False)
        listen_only_on(int(port), own)  # it listens already, but does not answer before it is started
        server.start()
    except tf.errors.OpError as error:
        raise GraphSplitError(
            f"TensorFlow cannot listen on port {port}, which must be free on all addresses of the machine: {error_text(error)}"
        ) from error
    name, target = f"/job:{job}/task:{task}", f"grpc://{address}"
    try:
        devices = available_devices(remote_config(session_config(), [name]), target)
    except tf.errors.OpError as error:
        raise GraphSplitError(f"the server was started but does not answer at {target}: {error_text(error)}") from error
    return Worker(name, address, target, devices, server)


def _own_addresses(host: str, port: int) -> list[Address]:
    """The addresses of this machine that a host of the cluster resolves to and whose port is free. Raises GraphSplitError."""
    try:
        resolved = {(family, where[0]) for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise GraphSplitError(f"cannot resolve the address {host!r}: {error.strerror or error}") from error
    own: list[Address] = []
    why: OSError | None = None
    for family, where in sorted(resolved):
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
    if why is not None and why.errno != errno.EADDRNOTAVAIL:
        reason = why.strerror or why
        raise GraphSplitError(f"cannot listen on {host}:{port}: {reason}; use another port for the task in the cluster") from why
    raise GraphSplitError(f"{host} is not an address of this machine; start this worker on the machine that has it") from why
