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

from graphsplit.equivalence import run_parts
from graphsplit.errors import FeedError, PlacementError, SectionRunError
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.parts import Part, Parts
from graphsplit.runtimes.tensorflow import session_config

__all__ = ["Placed", "place"]

Array = np.ndarray[Any, Any]

# Ops without a kernel for accelerators, besides all that read or write strings.
_HOST_ONLY = {"Assert", "Print", "PrintV2", "PyFunc", "PyFuncStateless", "EagerPyFunc"}
_STRING = 7  # DataType


@dataclass(frozen=True)
class Placed:
    """Sections in one graph.

    graph    a ``tf.Graph`` with all of them
    names    section → {tensor of the whole: its name in `graph`}, for every tensor the section holds
    devices  section → the device its nodes are pinned to
    absent   those of the devices that this machine lacks, where TensorFlow will choose another
    parts    what was placed
    """

    graph: Any
    names: Mapping[str, Mapping[str, str]]
    devices: Mapping[str, str]
    absent: tuple[str, ...]
    parts: Parts
    config: Any = field(repr=False)

    def session(self) -> Any:
        """A ``tf.compat.v1.Session`` on the graph, with the placement policy that was asked for."""
        import tensorflow as tf

        return tf.compat.v1.Session(graph=self.graph, config=self.config)

    def run(self, feeds: Mapping[str, Any], session: Any = None) -> dict[str, Array]:
        """Run the sections in order; the outputs of the whole by name.

        session  from `session`, so that it is made once for many runs; None: one for this run

        Raises FeedError for an input that is missing, SectionRunError when TensorFlow fails.
        """
        missing = [f"{t!r} is not fed" for t in self.parts.inputs if t not in feeds]
        if missing:
            raise FeedError(missing)
        if session is None:
            with self.session() as own:
                return self.run(feeds, own)
        sections = {p.name: _InGraph(p, self, session) for p in self.parts}
        values = run_parts(self.parts, {k: np.asarray(v) for k, v in feeds.items()}, sections)
        return {t: values[t] for t in self.parts.outputs}


class _InGraph:
    """One section of a placed graph, run like a session of its own."""

    def __init__(self, part: Part, placed: Placed, session: Any) -> None:
        self.part, self.placed, self.session = part, placed, session
        tensor_of = {p.name: p.tensor for p in (*part.inputs, *part.outputs)}
        self.name = {name: placed.names[part.name][tensor] for name, tensor in tensor_of.items()}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        from tensorflow import errors

        try:
            found = self.session.run([self.name[f] for f in fetches], {self.name[n]: v for n, v in feeds.items()})
        except errors.OpError as error:
            device = self.placed.devices[self.part.name]
            first = str(error).splitlines()[0]
            raise SectionRunError(f"section {self.part.name!r} on {device} failed: {first}", section=self.part.name) from error
        return [np.asarray(value) for value in found]


def place(
    parts: Parts,
    devices: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
    keep_devices: bool = False,
    config: Any = None,
) -> Placed:
    """Import all sections into one graph, each pinned to its device.

    devices       section → TensorFlow device; what is not named goes where the manifest says (``main`` /gpu:0, the others
                  /cpu:0)
    strict        PlacementError for a device that is not there; else TensorFlow chooses another and one warning says so
    keep_devices  nodes that came with a device keep it
    config        a ``tf.compat.v1.ConfigProto`` to find devices with and to run with (logical devices, thread pools …)

    Ops without a kernel for accelerators (Assert, string ops) are pinned to the CPU of the same task. No default graph
    is touched.

    Raises PlacementError for a section or device that does not exist.
    """
    import tensorflow as tf

    chosen = _chosen(parts, devices or {})
    if config is None:
        config = session_config()
    own = type(config)()
    own.CopyFrom(config)
    own.allow_soft_placement = not strict

    available = _available(own)
    absent = {name: device for name, device in chosen.items() if not _matches(device, available)}
    if absent and strict:
        name, device = next(iter(absent.items()))
        raise PlacementError(
            f"section {name!r} wants {device}, which is not here; there are {', '.join(available)}", section=name, device=device
        )
    if absent:
        where = ", ".join(f"section {n!r} was pinned to {d}" for n, d in absent.items())
        warnings.warn(
            f"{where}, which this machine lacks: TensorFlow will run it on {available[0]} (strict=True refuses instead)",
            stacklevel=2,
        )

    graph = tf.Graph()
    names: dict[str, Mapping[str, str]] = {}
    with graph.as_default():
        for part in parts:
            names[part.name] = _import(part, chosen[part.name], keep_devices)
    return Placed(graph, names, chosen, tuple(dict.fromkeys(absent.values())), parts, own)


def _chosen(parts: Parts, devices: Mapping[str, str]) -> dict[str, str]:
    import tensorflow as tf

    there = {p.name: p.device for p in parts}
    for name in devices:
        if name not in there:
            raise PlacementError(f"no section {name!r}; there are {', '.join(there)}", section=name, device=devices[name])
    chosen = {**there, **devices}
    for name, device in chosen.items():
        try:
            spec = tf.compat.v1.DeviceSpec.from_string(device)
        except (ValueError, TypeError, AttributeError) as error:
            raise PlacementError(f"{device!r} is no device; write /gpu:0 or /cpu:0", section=name, device=str(device)) from error
        if not spec.to_string():
            raise PlacementError(f"{device!r} is no device; write /gpu:0 or /cpu:0", section=name, device=device)
    return chosen


def _available(config: Any) -> list[str]:
    """Short names of the devices that a session with this configuration has, in TensorFlow's order."""
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph(), config=config) as session:
        return [d.name.replace("/job:localhost/replica:0/task:0/device:", "/").lower() for d in session.list_devices()]


def _matches(device: str, available: list[str]) -> bool:
    import tensorflow as tf

    wanted = tf.compat.v1.DeviceSpec.from_string(device)
    for name in available:
        spec = tf.compat.v1.DeviceSpec.from_string(name)
        same_type = wanted.device_type in (None, (spec.device_type or "").upper())
        if same_type and wanted.device_index in (None, spec.device_index) and wanted.job in (None, "localhost", spec.job):
            return True
    return False


def _import(part: Part, device: str, keep_devices: bool) -> dict[str, str]:
    """Import a section into the current graph; {tensor of the whole: real name} for every tensor of it."""
    import tensorflow as tf

    host = tf.compat.v1.DeviceSpec.from_string(device).replace(device_type="CPU", device_index=0).to_string()
    graph_def = part.graph_def
    for node in graph_def.node:
        if keep_devices and node.device:
            continue
        node.device = host if _host_only(node) else device
        # The pin says where a node goes; a colocation could only contradict it.
        if "_class" in node.attr:
            del node.attr["_class"]
    operations = tf.graph_util.import_graph_def(graph_def, name="", return_elements=[n.name for n in graph_def.node])
    tensor_of = {p.name: p.tensor for p in (*part.inputs, *part.outputs)}
    return {
        tensor_of.get(f"{node.name}:{i}", f"{node.name}:{i}"): tensor.name
        for node, operation in zip(graph_def.node, operations, strict=True)
        for i, tensor in enumerate(operation.outputs)
    }


def _host_only(node: Any) -> bool:
    info = op_table().get(node.op)
    if node.op in _HOST_ONLY or info is None:
        return node.op in _HOST_ONLY
    if any("string" in port for port in (*info.inputs, *info.outputs)):
        return True
    return any(a.type == _STRING for a in node.attr.values())
