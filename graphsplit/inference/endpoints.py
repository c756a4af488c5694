"""Endpoints: which process runs a section, by the job and the task that its device names.

main  /job:gpu/task:0/gpu:0 ──▶ the worker at 10.0.0.5:2222
post  /cpu:0                ──▶ this process
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

from graphsplit.errors import PlacementError
from graphsplit.inference.cluster import Cluster, read_cluster
from graphsplit.inference.devices import available_devices, check_devices
from graphsplit.runtimes.arrays import error_text
from graphsplit.runtimes.remote import unreachable, watched

__all__ = ["ClusterLike", "Endpoints", "Site", "common_site", "devices_at", "find_endpoints"]

#: A cluster: {"job": ["host:port", …]}, or the path of a JSON file that holds one.
ClusterLike = Cluster | Mapping[str, Sequence[str]] | str | PathLike[str]


@dataclass(frozen=True, slots=True)
class Site:
    """The workers that run a section, or several.

    Attributes:
        target: ``grpc://host:port`` of the one that is asked.
        addresses: ``host:port`` of each that takes part.
        tasks: Their names, ``/job:gpu/task:0``; empty: all that the asked one knows.
    """

    target: str
    addresses: tuple[str, ...]
    tasks: tuple[str, ...]


class Endpoints(NamedTuple):
    """Where sections run.

    Attributes:
        devices: Section → device, with the number of the task filled in.
        sites: Section → its site; the other sections run in this process.
    """

    devices: Mapping[str, str]
    sites: Mapping[str, Site]


def find_endpoints(devices: Mapping[str, str], cluster: ClusterLike | None, target: str | None) -> Endpoints:
    """Where sections run. Connects to every worker once.

    Args:
        devices: Section → device; the task may be omitted for a job of one task.
        cluster: Where the tasks are.
        target: ``grpc://host:port`` of the worker that is asked for all of them; None: each task is asked itself.

    Raises:
        PlacementError: Invalid device or target, a task that is not in the cluster, or one that does not answer.
        FormatError: Invalid cluster.
    """
    check_devices(devices)
    known = None if cluster is None else read_cluster(cluster)
    asked = None if target is None else _address(target, devices)
    full: dict[str, str] = dict(devices)
    sites: dict[str, Site] = {}
    for section, device in devices.items():
        named = _task(device)
        if named is None:
            continue
        if known is None and asked is None:
            raise PlacementError(
                f"section {section!r} is assigned to {device}, a device of a cluster; pass cluster=… or target='grpc://host:port'",
                section=section,
                device=device,
            )
        job, task = named
        if task is None:
            task = _only_task(section, device, job, known)
            full[section] = device.replace(f"/job:{job}", f"/job:{job}/task:{task}")
        address = _find(known, job, task, section, device)
        addresses = tuple(dict.fromkeys(a for a in (asked, address) if a is not None))
        tasks = [f"/job:{job}/task:{task}"]
        if known is not None and asked is not None and (there := known.task_at(asked)) is not None:
            tasks.insert(0, f"/job:{there[0]}/task:{there[1]}")
        sites[section] = Site(f"grpc://{addresses[0]}", addresses, tuple(dict.fromkeys(tasks)) if address is not None else ())
        _check_answers(sites[section], section, device)
    if asked is not None and not sites:
        section, device = next(iter(devices.items()))
        raise PlacementError(
            f"no section is assigned to a worker of {target}; {section!r} is on {device}: write /job:NAME/task:N{device}",
            section=section,
            device=device,
        )
    return Endpoints(full, sites)


def common_site(
    devices: Mapping[str, str], cluster: ClusterLike | None, target: str | None
) -> tuple[Mapping[str, str], Site | None]:
    """The site of sections that run in one session: the workers of all of them.

    The arguments are those of `find_endpoints`.

    Returns:
        Section → device, with the number of the task filled in; and the site, None without a cluster and a target.

    Raises:
        PlacementError: What `find_endpoints` raises, and if some sections name a worker and others do not.
        FormatError: Invalid cluster.
    """
    if cluster is None and target is None:
        return devices, None
    full, sites = find_endpoints(devices, cluster, target)
    if not sites:
        return full, None
    for section, device in full.items():
        if section not in sites:
            raise PlacementError(
                f"section {section!r} is on {device}, which names no worker, but a session on workers runs all sections there: "
                f"write /job:NAME/task:N{device}, or use a Pipeline, which runs it in this process",
                section=section,
                device=device,
            )
    every = list(sites.values())
    addresses = dict.fromkeys(a for site in every for a in site.addresses)
    tasks = () if any(not site.tasks for site in every) else dict.fromkeys(t for site in every for t in site.tasks)
    return full, Site(every[0].target, tuple(addresses), tuple(tasks))


def devices_at(site: Site, config: Any, sections: Mapping[str, str]) -> tuple[str, ...]:
    """The devices of a site, named as `graphsplit.inference.devices.available_devices` names them.

    Args:
        site: The site.
        config: From `graphsplit.runtimes.remote.remote_config`.
        sections: Section → device, of those that are to run there; for the error.

    Raises:
        PlacementError: Its workers do not answer, or a section wants a task that they do not know.
    """
    from tensorflow import errors

    section, device = next(iter(sections.items()))
    try:
        available = watched(lambda: available_devices(config, site.target), site.addresses)
    except (errors.OpError, OSError) as error:
        raise PlacementError(
            f"cannot list the devices of {site.target} for section {section!r} on {device}: {error_text(error)}",
            section=section,
            device=device,
        ) from error
    tasks = {_task(name) for name in available}
    for section, device in sections.items():
        if _task(device) not in tasks:
            raise PlacementError(
                f"section {section!r} is assigned to {device}, which {site.target} does not know; it knows {', '.join(available)}",
                section=section,
                device=device,
            )
    return available


def _address(target: str, devices: Mapping[str, str]) -> str:
    match = re.fullmatch(r"grpc://([^/\s]+:[0-9]{1,5})", target)
    if match is None:
        section, device = next(iter(devices.items()))
        raise PlacementError(f"invalid target {target!r}; write grpc://host:port", section=section, device=device)
    return match[1]


def _task(device: str) -> tuple[str, int | None] | None:
    """The job and the task that a device names; None for a device of this process."""
    import tensorflow as tf

    spec = tf.compat.v1.DeviceSpec.from_string(device)
    return None if spec.job in (None, "localhost") else (spec.job, spec.task)


def _only_task(section: str, device: str, job: str, cluster: Cluster | None) -> int:
    if cluster is not None and len(cluster.jobs.get(job, ())) in (0, 1):
        return 0
    raise PlacementError(
        f"device {device} of section {section!r} names no task; write /job:{job}/task:0/…", section=section, device=device
    )


def _find(cluster: Cluster | None, job: str, task: int, section: str, device: str) -> str | None:
    try:
        return None if cluster is None else cluster.address(job, task)
    except LookupError as error:
        raise PlacementError(f"section {section!r} on {device}: {error.args[0]}", section=section, device=device) from None


def _check_answers(site: Site, section: str, device: str) -> None:
    for address in site.addresses:
        if (why := unreachable(address)) is not None:
            raise PlacementError(
                f"no worker is listening on {address} ({why.strerror or why}) for section {section!r} on {device}; "
                "start one there with `graphsplit worker`",
                section=section,
                device=device,
            )
