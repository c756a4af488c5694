"""Sites: which process runs a section, by the job and the task that its device names.

main  /job:gpu/task:0/gpu:0 ──▶ the worker at 10.0.0.5:2222
post  /cpu:0                ──▶ this process
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from graphsplit.errors import PlacementError
from graphsplit.inference.cluster import Cluster, read_cluster
from graphsplit.inference.devices import available_devices, check_devices
from graphsplit.runtimes.arrays import error_text
from graphsplit.runtimes.remote import unreachable, watched

__all__ = ["GivenCluster", "Site", "common_site", "devices_at", "sites_of"]

GivenCluster = Cluster | Mapping[str, Any] | str | PathLike[str]


@dataclass(frozen=True, slots=True)
class Site:
    """Workers that run a section, or several.

    target     ``grpc://host:port`` of the one that is asked
    addresses  ``host:port`` of each that takes part
    tasks      their names, ``/job:gpu/task:0``; empty: all that the asked one knows
    """

    target: str
    addresses: tuple[str, ...]
    tasks: tuple[str, ...]


def sites_of(devices: dict[str, str], cluster: GivenCluster | None, target: str | None) -> dict[str, Site]:
    """Section → its site, for the sections on workers; the others run in this process.

    devices  section → device; a job of a single task is given its number
    cluster  where the tasks are
    target   ``grpc://host:port`` of the worker that is asked for all of them; None: each task is asked itself

    Connects to every worker once. Raises PlacementError for a task that is not in the cluster or does not answer,
    FormatError for a cluster or target that is none.
    """
    check_devices(devices)
    known = None if cluster is None else read_cluster(cluster)
    asked = None if target is None else _address(target, devices)
    found: dict[str, Site] = {}
    for section, device in devices.items():
        named = _task(device)
        if named is None:
            continue
        if known is None and asked is None:
            raise PlacementError(
                f"section {section!r} wants {device}, a worker of a cluster: say where it is (cluster=… or target='grpc://host:port')",
                section=section,
                device=device,
            )
        job, task = named
        if task is None:
            task = _only(section, device, job, known)
            devices[section] = device.replace(f"/job:{job}", f"/job:{job}/task:{task}")
        address = _find(known, job, task, section, device)
        addresses = tuple(dict.fromkeys(a for a in (asked, address) if a is not None))
        tasks = [f"/job:{job}/task:{task}"]
        if known is not None and asked is not None and (there := known.task_at(asked)) is not None:
            tasks.insert(0, f"/job:{there[0]}/task:{there[1]}")
        found[section] = Site(f"grpc://{addresses[0]}", addresses, tuple(dict.fromkeys(tasks)) if address is not None else ())
        _check_answers(found[section], section, device)
    if asked is not None and not found:
        section, device = next(iter(devices.items()))
        raise PlacementError(
            f"no section names a worker of {target}; {section!r} is on {device}: write /job:NAME/task:N{device}",
            section=section,
            device=device,
        )
    return found


def common_site(devices: dict[str, str], cluster: GivenCluster | None, target: str | None) -> Site | None:
    """The site of sections that run in one session: the workers of all of them; None: no cluster and no target is given.

    The arguments and errors are those of `sites_of`; PlacementError, too, where some sections name a worker and others none.
    """
    if cluster is None and target is None:
        return None
    found = sites_of(devices, cluster, target)
    if not found:
        return None
    for section, device in devices.items():
        if section not in found:
            raise PlacementError(
                f"section {section!r} is on {device}, which names no worker, and a session on workers runs all sections there: "
                f"write /job:NAME/task:N{device}, or use a Pipeline, which runs it in this process",
                section=section,
                device=device,
            )
    sites = list(found.values())
    addresses = dict.fromkeys(a for site in sites for a in site.addresses)
    tasks = () if any(not site.tasks for site in sites) else dict.fromkeys(t for site in sites for t in site.tasks)
    return Site(sites[0].target, tuple(addresses), tuple(tasks))


def devices_at(site: Site, config: Any, sections: Mapping[str, str]) -> tuple[str, ...]:
    """The devices of a site, as `graphsplit.inference.devices.available_devices` names them.

    config    from `graphsplit.runtimes.remote.remote_config`
    sections  section → device, of those that are to run there; for the error

    Raises PlacementError when its workers do not answer, and when a section wants a task that they do not know.
    """
    from tensorflow import errors

    section, device = next(iter(sections.items()))
    try:
        found = watched(lambda: available_devices(config, site.target), site.addresses)
    except (errors.OpError, OSError) as error:
        raise PlacementError(
            f"section {section!r} wants {device}, but {site.target} does not say which devices there are: {error_text(error)}",
            section=section,
            device=device,
        ) from error
    tasks = {_task(name) for name in found}
    for section, device in sections.items():
        if _task(device) not in tasks:
            raise PlacementError(
                f"section {section!r} wants {device}, which {site.target} does not know; there are {', '.join(found)}",
                section=section,
                device=device,
            )
    return found


def _address(target: str, devices: Mapping[str, str]) -> str:
    match = re.fullmatch(r"grpc://([^/\s]+:[0-9]{1,5})", target)
    if match is None:
        section, device = next(iter(devices.items()))
        raise PlacementError(f"{target!r} is no target; write grpc://host:port", section=section, device=device)
    return match[1]


def _task(device: str) -> tuple[str, int | None] | None:
    """The job and the task that a device names; None: it names none, and is of this process."""
    import tensorflow as tf

    spec = tf.compat.v1.DeviceSpec.from_string(device)
    return None if spec.job in (None, "localhost") else (spec.job, spec.task)


def _only(section: str, device: str, job: str, cluster: Cluster | None) -> int:
    if cluster is not None and len(cluster.jobs.get(job, ())) in (0, 1):
        return 0
    raise PlacementError(
        f"section {section!r} wants {device}, which names no task; write /job:{job}/task:0/…", section=section, device=device
    )


def _find(cluster: Cluster | None, job: str, task: int, section: str, device: str) -> str | None:
    try:
        return None if cluster is None else cluster.address(job, task)
    except LookupError as error:
        raise PlacementError(f"section {section!r} wants {device}: {error.args[0]}", section=section, device=device) from None


def _check_answers(site: Site, section: str, device: str) -> None:
    for address in site.addresses:
        if (why := unreachable(address)) is not None:
            raise PlacementError(
                f"section {section!r} wants {device}, but nobody answers at {address} ({why.strerror or why}); "
                "is `graphsplit worker` running there?",
                section=section,
                device=device,
            )
