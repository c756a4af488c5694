"""Placement: all sections in one ``tf.Graph``, each pinned to its device.

    graph ┌ main /gpu:0  image_tensor:0 ─▶ … ─▶ Postprocessor/Slice:0
          └ post /cpu:0  Postprocessor/Slice_1:0 ─▶ … ─▶ detection_boxes:0

Names that both halves use are made unique by TensorFlow; nothing is guessed, the real ones are in `Placed.names`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphsplit.errors import PlacementError, SectionRunError
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.devices import available_devices, check_devices, is_available, pin
from graphsplit.inference.endpoints import GivenCluster, Site, common_site, devices_at
from graphsplit.inference.feeds import check_feeds
from graphsplit.parts.parts import Part, Parts
from graphsplit.runtimes.arrays import as_array, error_text
from graphsplit.runtimes.remote import let_go, remote_config, watched
from graphsplit.runtimes.tensorflow import session_config
from graphsplit.verification.equivalence import run_parts

__all__ = ["Placed", "place"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Placed:
    """Sections in one graph.

    graph    a ``tf.Graph`` with all of them
    names    section → {tensor of the whole: its name in `graph`}, for every tensor the section holds
    devices  section → the device its nodes are pinned to
    absent   those of the devices that are not there, where TensorFlow will choose another
    parts    what was placed
    site     the workers that run it; None: this process
    """

    graph: Any
    names: Mapping[str, Mapping[str, str]]
    devices: Mapping[str, str]
    absent: tuple[str, ...]
    parts: Parts
    config: Any = field(repr=False)
    site: Site | None = None

    def session(self) -> Any:
        """A ``tf.compat.v1.Session`` on the graph, with the placement policy that was asked for, where it was asked for."""
        import tensorflow as tf

        return tf.compat.v1.Session("" if self.site is None else self.site.target, graph=self.graph, config=self.config)

    def run(self, feeds: Mapping[str, Any], session: Any = None) -> dict[str, Array]:
        """Run the sections in order; the outputs of the whole by name.

        session  from `session`, so that it is made once for many runs; None: one for this run

        Raises FeedError for feeds that do not fit, SectionRunError when TensorFlow fails. A session that has lost a worker is
        closed.
        """
        check_feeds(self._wanted(), feeds)
        if session is None:
            with self.session() as own:
                return self.run(feeds, own)
        sections = {p.name: _InGraph(p, self, session) for p in self.parts}
        values = run_parts(self.parts, {k: as_array(v) for k, v in feeds.items()}, sections)
        return {t: values[t] for t in self.parts.outputs}

    def _wanted(self) -> list[TensorSpec]:
        ports = {p.tensor: p for part in self.parts for p in part.inputs}
        return [TensorSpec(t, ports[t].dtype, ports[t].shape) for t in self.parts.inputs]


class _InGraph:
    """One section of a placed graph, run like a session of its own."""

    def __init__(self, part: Part, placed: Placed, session: Any) -> None:
        self.part, self.placed, self.session = part, placed, session
        tensor_of = {p.name: p.tensor for p in (*part.inputs, *part.outputs)}
        self.name = {name: placed.names[part.name][tensor] for name, tensor in tensor_of.items()}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        from tensorflow import errors

        named = [self.name[f] for f in fetches], {self.name[n]: v for n, v in feeds.items()}
        site = self.placed.site
        try:
            found = self.session.run(*named) if site is None else watched(lambda: self.session.run(*named), site.addresses)
        except (errors.OpError, OSError, ValueError, TypeError) as error:
            if isinstance(error, ConnectionError):
                let_go(self.session)
            device = self.placed.devices[self.part.name]
            what = f"section {self.part.name!r} on {device} failed to run: {error_text(error)}"
            raise SectionRunError(what, section=self.part.name) from error
        return [as_array(value) for value in found]


def place(
    parts: Parts,
    devices: Mapping[str, str] | None = None,
    *,
    cluster: GivenCluster | None = None,
    target: str | None = None,
    strict: bool = False,
    keep_devices: bool = False,
    config: Any = None,
) -> Placed:
    """Import all sections into one graph, each pinned to its device.

    devices       section → TensorFlow device; what is not named goes where the manifest says (``main`` /gpu:0, the others
                  /cpu:0)
    cluster       where the workers are whose devices (``/job:NAME/task:N/gpu:0``) all sections name: {"job": ["host:port", …]},
                  or the path of such a JSON file; `graphsplit worker` starts one
    target        ``grpc://host:port`` of the worker that is asked (default: that of the first section)
    strict        PlacementError for a device that is not there; else TensorFlow chooses another and one warning says so
    keep_devices  nodes that came with a device keep it
    config        a ``tf.compat.v1.ConfigProto`` to find devices with and to run with (logical devices, thread pools …);
                  its ``operation_timeout_in_ms`` is how long a run on workers may take (default: a minute)

    Ops without a kernel for accelerators (Assert, string ops) are pinned to the CPU of the same task. No default graph
    is touched.

    Raises PlacementError for a section or device that does not exist, and for a worker that does not answer.
    """
    import tensorflow as tf

    chosen = _chosen(parts, devices or {})
    site = common_site(chosen, cluster, target)
    if config is None:
        config = session_config()
    own = type(config)()
    own.CopyFrom(config)
    own.allow_soft_placement = not strict

    if site is None:
        available = available_devices(own)
    else:
        own = remote_config(own, site.tasks)
        available = devices_at(site, own, chosen)
    absent = _absent(chosen, available, site, strict)
    graph = tf.Graph()
    names: dict[str, Mapping[str, str]] = {}
    with graph.as_default():
        for part in parts:
            names[part.name] = _import(part, chosen[part.name], keep_devices)
    return Placed(graph, names, chosen, absent, parts, own, site)


def _chosen(parts: Parts, devices: Mapping[str, str]) -> dict[str, str]:
    there = {p.name: p.device for p in parts}
    for name, device in devices.items():
        if name not in there:
            raise PlacementError(f"no section {name!r}; there are {', '.join(there)}", section=name, device=device)
    chosen = {**there, **devices}
    check_devices(chosen)
    return chosen


def _absent(chosen: Mapping[str, str], available: Sequence[str], site: Site | None, strict: bool) -> tuple[str, ...]:
    """The devices that are not there; one warning says so, or with `strict` a PlacementError."""
    absent = {name: device for name, device in chosen.items() if not is_available(device, tuple(available))}
    if not absent:
        return ()
    if strict:
        name, device = next(iter(absent.items()))
        raise PlacementError(
            f"section {name!r} wants {device}, which is not here; there are {', '.join(available)}", section=name, device=device
        )
    where = ", ".join(f"section {n!r} was pinned to {d}" for n, d in absent.items())
    if site is not None:
        then = "which its worker lacks: TensorFlow will run it on another device there"
    elif any("/job:" in device for device in absent.values()):
        then = "a device of a cluster: it runs in a session on that cluster only (cluster=… or target=… makes one)"
    else:  # on an accelerator, if there is one, as far as it has kernels
        then = f"which this machine lacks: TensorFlow will run it on {next((d for d in available if 'cpu' not in d), available[0])}"
    warnings.warn(f"{where}, {then} (strict=True refuses instead)", stacklevel=3)
    return tuple(dict.fromkeys(absent.values()))


def _import(part: Part, device: str, keep_devices: bool) -> dict[str, str]:
    """Import a section into the current graph; {tensor of the whole: real name} for every tensor of it."""
    import tensorflow as tf

    graph_def = part.graph_def
    pin(graph_def, device, keep_devices=keep_devices)
    operations = tf.graph_util.import_graph_def(graph_def, name="", return_elements=[n.name for n in graph_def.node])
    tensor_of = {p.name: p.tensor for p in (*part.inputs, *part.outputs)}
    return {
        tensor_of.get(f"{node.name}:{i}", f"{node.name}:{i}"): tensor.name
        for node, operation in zip(graph_def.node, operations, strict=True)
        for i, tensor in enumerate(operation.outputs)
    }
