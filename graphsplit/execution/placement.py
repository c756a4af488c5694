"""Placement: all sections in one ``tf.Graph``, each pinned to its device.

    graph ┌ main /gpu:0  image_tensor:0 ─▶ … ─▶ Postprocessor/Slice:0
          └ post /cpu:0  Postprocessor/Slice_1:0 ─▶ … ─▶ detection_boxes:0

Names that both halves use are made unique by TensorFlow; nothing is guessed, the real ones are in `Placed.names`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphsplit.errors import PlacementError
from graphsplit.formats import ModelLike, as_graphdef
from graphsplit.graph.options import hinted
from graphsplit.graph.text import shortened
from graphsplit.inference.devices import available_devices, check_devices, check_sections, is_available, pinned
from graphsplit.inference.endpoints import ClusterLike, Site, common_site, devices_at
from graphsplit.inference.feeds import check_feeds
from graphsplit.inference.sessions import NamedSession, check_runnable
from graphsplit.parts.parts import Part, Parts
from graphsplit.rewrites.opening import open_parts
from graphsplit.runtimes.arrays import Array, as_array
from graphsplit.runtimes.remote import abandon, remote_config, watched
from graphsplit.runtimes.tensorflow import check_not_forked, session_config
from graphsplit.verification.equivalence import run_parts

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Placed", "place"]


@dataclass(frozen=True, repr=False)
class Placed:
    """Sections in one graph.

    Attributes:
        graph: A ``tf.Graph`` with all of them.
        names: Section → {tensor of the whole: its name in `graph`}, for every tensor of the section.
        devices: Section → the device its nodes are pinned to.
        absent: Those of the devices that do not exist; TensorFlow chooses others.
        parts: The sections.
        config: The ``ConfigProto`` that it runs with.
        site: The workers that run it; None: this process.
    """

    graph: tf.Graph
    names: Mapping[str, Mapping[str, str]]
    devices: Mapping[str, str]
    absent: tuple[str, ...]
    parts: Parts
    config: tf.compat.v1.ConfigProto
    site: Site | None = None

    def __repr__(self) -> str:
        return f"Placed({shortened(' → '.join(f'{name} {device}' for name, device in self.devices.items()), 200)})"

    def session(self) -> tf.compat.v1.Session:
        """A ``tf.compat.v1.Session`` on the graph, with the placement policy and the workers of `place`."""
        import tensorflow as tf

        check_not_forked()
        return tf.compat.v1.Session("" if self.site is None else self.site.target, graph=self.graph, config=self.config)

    def run(self, feeds: Mapping[str, object], session: tf.compat.v1.Session | None = None) -> dict[str, Array]:
        """Run the sections in order.

        Args:
            feeds: Tensor → array; ``name`` means ``name:0``.
            session: From `session`, so that it is opened once for many runs; None: one for this run. One that has lost a worker
                is closed.

        Returns:
            Tensor → array, of the outputs of the whole.

        Raises:
            FeedError: Feeds that do not fit.
            SectionRunError: TensorFlow fails.
        """
        fed = check_feeds([p.spec for p in self.parts.input_ports], feeds)
        if session is None:
            with self.session() as own:
                return self.run(fed, own)
        sections = {
            p.name: NamedSession(_InGraph(p, self, session), f"section {p.name!r} on {self.devices[p.name]}", p.name)
            for p in self.parts
        }
        values = run_parts(self.parts, fed, sections)
        return {t: values[t] for t in self.parts.outputs}


class _InGraph:
    """One section of a placed graph, run like a session of its own."""

    def __init__(self, part: Part, placed: Placed, session: tf.compat.v1.Session) -> None:
        self._site, self._session = placed.site, session
        names = placed.names[part.name]
        self._name = {p.name: names[p.tensor] for p in (*part.inputs, *part.outputs)}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        named = [self._name[f] for f in fetches], {self._name[n]: v for n, v in feeds.items()}
        if self._site is None:
            values = self._session.run(*named)
        else:
            try:
                values = watched(lambda: self._session.run(*named), self._site.addresses)
            except ConnectionError:
                abandon(self._session.close)
                raise
        return [as_array(value) for value in values]

    def close(self) -> None:
        """Nothing: the session belongs to the caller of `Placed.run`."""


@hinted
def place(
    parts: Parts | ModelLike,
    devices: Mapping[str, str] | None = None,
    *,
    cluster: ClusterLike | None = None,
    target: str | None = None,
    strict: bool = False,
    keep_devices: bool = False,
    trust: bool = False,
    config: Any = None,
) -> Placed:
    """Import all sections into one graph, each pinned to its device.

    Ops without a kernel for accelerators (Assert, string ops) are pinned to the CPU of the same task. No default graph is
    touched.

    Args:
        parts: From `graphsplit.split`, the folder of a split, or anything that `graphsplit.load` takes, which is split first.
        devices: Section → TensorFlow device, overriding what the parts say (default: ``main`` /gpu:0, the others /cpu:0).
        cluster: Where the workers are whose devices (``/job:NAME/task:N/gpu:0``) all sections name: {"job": ["host:port", …]}, or
            the path of such a JSON file; `graphsplit worker` starts one.
        target: ``grpc://host:port`` of the worker that is asked (default: that of the first section).
        strict: Raise PlacementError for a device that does not exist; otherwise TensorFlow chooses another, with one warning.
        keep_devices: Nodes that already have a device keep it.
        trust: Place models that reach files, the network or Python.
        config: A ``tf.compat.v1.ConfigProto`` to find devices with and to run with (logical devices, thread pools …); its
            ``operation_timeout_in_ms`` bounds a run on workers (default: a minute).

    Raises:
        SectionNotFoundError: `devices` names a section that does not exist.
        PlacementError: A device is invalid or does not exist (strict), or a worker does not answer.
        TrustError: A section reaches outside itself, and `trust` is not set.
        FormatError: A section is not frozen, or is not a GraphDef.
    """
    import tensorflow as tf

    parts = open_parts(parts, trust=trust)
    for part in parts:
        check_runnable(part.model, trust)
    check_sections("devices", devices, [p.name for p in parts])
    wanted = {p.name: (devices or {}).get(p.name, p.device) for p in parts}
    check_devices(wanted)
    located, site = common_site(wanted, cluster, target)
    own = _config(config, strict)
    if site is None:
        available = available_devices(own)
    else:
        own = remote_config(own, site.tasks)
        available = devices_at(site, own, located)
    absent = {name: device for name, device in located.items() if not is_available(device, available)}
    if absent:
        _report_absent(absent, available, site, strict)
    graph = tf.Graph()
    names: dict[str, Mapping[str, str]] = {}
    with graph.as_default():
        for part in parts:
            names[part.name] = _import(part, located[part.name], keep_devices)
    return Placed(graph, names, located, tuple(dict.fromkeys(absent.values())), parts, own, site)


def _config(config: Any, strict: bool) -> tf.compat.v1.ConfigProto:
    """A copy of a configuration, with the placement policy."""
    given = session_config() if config is None else config
    copy = type(given)()
    copy.CopyFrom(given)
    copy.allow_soft_placement = not strict
    return copy


def _report_absent(absent: Mapping[str, str], available: Sequence[str], site: Site | None, strict: bool) -> None:
    """One warning for all devices that do not exist, or PlacementError if `strict`."""
    if strict:
        name, device = next(iter(absent.items()))
        raise PlacementError(
            f"device {device} of section {name!r} is not available; there are {', '.join(available)}", section=name, device=device
        )
    where = ", ".join(f"section {n!r} was pinned to {d}" for n, d in absent.items())
    if site is not None:
        then = "which its worker lacks: TensorFlow will run it on another device there"
    elif any("/job:" in device for device in absent.values()):
        then = "a device of a cluster: it runs only in a session on that cluster (pass cluster=… or target=…)"
    else:  # on an accelerator, if there is one, as far as it has kernels
        then = f"which this machine lacks: TensorFlow will run it on {next((d for d in available if 'cpu' not in d), available[0])}"
    warnings.warn(f"{where}, {then} (strict=True raises an error instead)", stacklevel=4)


def _import(part: Part, device: str, keep_devices: bool) -> dict[str, str]:
    """Import a section into the current graph; {tensor of the whole: real name} for every tensor of it."""
    import tensorflow as tf

    graph_def = pinned(as_graphdef(part.model, f"placing section {part.name!r}"), device, keep_devices=keep_devices)
    operations = tf.graph_util.import_graph_def(graph_def, name="", return_elements=[n.name for n in graph_def.node])
    tensor_of = {p.name: p.tensor for p in (*part.inputs, *part.outputs)}
    return {
        tensor_of.get(f"{node.name}:{i}", f"{node.name}:{i}"): tensor.name
        for node, operation in zip(graph_def.node, operations, strict=True)
        for i, tensor in enumerate(operation.outputs)
    }
