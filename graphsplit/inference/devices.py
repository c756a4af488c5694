"""TensorFlow devices: which ones exist, what a name means, and the pins on the nodes of a graph."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from graphsplit.errors import PlacementError, SectionNotFoundError
from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.graph.options import check_mapping

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["available_devices", "check_devices", "check_sections", "host_of", "is_available", "pinned"]

# Ops without a kernel for accelerators, besides all that read or write strings.
_HOST_ONLY = {"Assert", "Print", "PrintV2", "PyFunc", "PyFuncStateless", "EagerPyFunc"}
_STRING = 7  # DataType
# As TensorFlow's DeviceSpec reads a name; any part may be left out, but not all.
_DEVICE = re.compile(
    r"(?=.)(/?job:[A-Za-z][A-Za-z0-9_.-]*)?(/?replica:\d+)?(/?task:\d+)?"
    r"(/?(device:[A-Za-z][A-Za-z0-9_]*|[CcGgTt][Pp][Uu])(:(\d+|\*))?)?",
    re.ASCII,
)


def check_sections(option: str, named: Mapping[str, object] | None, known: Collection[str]) -> None:
    """Refuse values for sections that do not exist.

    Args:
        option: The argument that names them, "devices" or "delegates".
        named: Section → what is meant for it, such as a device.
        known: The sections there are.

    Raises:
        OptionError: `named` is not a mapping.
        SectionNotFoundError: Names the section and those there are.
    """
    check_mapping(option, named, "{'main': '/cpu:0'}" if option == "devices" else "{'main': 'libdelegate.so'}")
    for section, value in (named or {}).items():
        if section not in known:
            raise SectionNotFoundError(section, known=tuple(known), device=str(value))


def check_devices(devices: Mapping[str, str]) -> None:
    """Refuse invalid device names, without asking TensorFlow.

    Args:
        devices: Section → device.

    Raises:
        PlacementError: Names the section and the device.
    """
    for section, device in devices.items():
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise PlacementError(
                f"invalid device {device!r} for section {section!r}; use a TensorFlow device name such as /gpu:0",
                section=section,
                device=str(device),
            )


def available_devices(config: Any, target: str = "") -> tuple[str, ...]:
    """Short names (``/cpu:0``, ``/job:gpu/task:0/cpu:0``) of the devices of a session, in TensorFlow's order.

    Args:
        config: ``ConfigProto`` of the session.
        target: Master to ask (``grpc://host:port``); empty: this process.
    """
    import tensorflow as tf

    from graphsplit.runtimes.tensorflow import check_not_forked

    check_not_forked()
    with tf.compat.v1.Session(target, graph=tf.Graph(), config=config) as session:
        names = [d.name for d in session.list_devices()]
    return tuple(_short(name) for name in names)


def _short(name: str) -> str:
    place, _, device = name.rpartition("/device:")
    return f"{'' if place.startswith('/job:localhost/') else place.replace('/replica:0', '')}/{device.lower()}"


def is_available(device: str, available: tuple[str, ...]) -> bool:
    """Whether a device name matches one of the available devices."""
    import tensorflow as tf

    wanted = tf.compat.v1.DeviceSpec.from_string(device)
    for name in available:
        spec = tf.compat.v1.DeviceSpec.from_string(name)
        same_type = wanted.device_type in (None, (spec.device_type or "").upper())
        same_task = wanted.job in (None, "localhost", spec.job) and wanted.task in (None, spec.task or 0)
        if same_type and same_task and wanted.device_index in (None, spec.device_index):
            return True
    return False


def host_of(device: str) -> str:
    """The CPU of the task that a device belongs to; of a CPU the device itself."""
    import tensorflow as tf

    spec = tf.compat.v1.DeviceSpec.from_string(device)
    return device if spec.device_type == "CPU" else str(spec.replace(device_type="CPU", device_index=0).to_string())


def pinned(model: GraphDefModel, device: str, *, keep_devices: bool = False) -> tf.compat.v1.GraphDef:
    """The graph of a model with a device on every node; ops that only a CPU can run go to the CPU of its task.

    A pin says where a node goes; a colocation could only contradict it, so colocations are dropped.

    Args:
        model: The model; it is not changed.
        device: The device.
        keep_devices: Nodes that already have a device keep it.
    """
    host = host_of(device)
    graph_def = model.graph_def
    for node in graph_def.node:
        if "_class" in node.attr:
            del node.attr["_class"]
        if not (keep_devices and node.device):
            node.device = host if _host_only(node) else device
    return graph_def


def _host_only(node: tf.compat.v1.NodeDef) -> bool:
    info = op_table().get(node.op)
    if node.op in _HOST_ONLY or info is None:
        return node.op in _HOST_ONLY
    if any("string" in port for port in (*info.inputs, *info.outputs)):
        return True
    return any(a.type == _STRING or _STRING in a.list.type for a in node.attr.values())
