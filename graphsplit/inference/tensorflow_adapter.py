"""GraphDef sections: in TensorFlow, in this process or on a worker."""

from __future__ import annotations

from graphsplit.errors import PlacementError
from graphsplit.formats import GraphDefModel, Model, as_graphdef
from graphsplit.inference.runtime import Location, Request, Session, SessionSettings

__all__ = ["TensorFlowRuntime"]


class TensorFlowRuntime:
    """TensorFlow; see `graphsplit.inference.runtime.Runtime`."""

    name = "TensorFlow"
    states_shapes = False
    imports_graphs = True

    def read(self, data: memoryview) -> Model:
        """A GraphDef from its bytes."""
        return GraphDefModel([data])

    def locate(self, request: Request) -> Location:
        """Its device, if it exists; else the CPU of the same task, with a warning.

        Raises:
            PlacementError: The device is invalid or does not exist (strict), its workers do not answer, or a delegate was named.
        """
        from graphsplit.inference.devices import available_devices, check_devices, host_of, is_available
        from graphsplit.inference.endpoints import devices_at
        from graphsplit.runtimes.remote import remote_config
        from graphsplit.runtimes.tensorflow import pooled_config, session_config

        section, device = request.section, request.device
        if request.delegate is not None:
            raise PlacementError(
                f"section {section!r} runs in TensorFlow; only TFLite sections take a delegate",
                section=section,
                device=request.delegate,
            )
        check_devices({section: device})
        config = session_config() if request.config is None else request.config
        if request.site is None:
            available = available_devices(config if request.threads is None else pooled_config(config, request.threads))
        else:
            available = devices_at(request.site, remote_config(config, request.site.tasks), {section: device})
        if is_available(device, available):
            return Location(device, request.site)
        if request.strict:
            raise PlacementError(
                f"device {device} of section {section!r} is not available; there are {', '.join(available)}",
                section=section,
                device=device,
            )
        host = host_of(device)
        instead = available[0] if request.site is None else next((d for d in available if is_available(host, (d,))), host)
        return Location(instead, request.site, warning=f"{device} is not available: section {section!r} runs on {instead}")

    def open(self, model: Model, options: SessionSettings) -> Session:
        """A session of a GraphDef; with a location all its nodes are pinned to that device.

        Raises:
            FormatError: TensorFlow refuses the graph.
        """
        from graphsplit.inference.devices import pinned
        from graphsplit.runtimes.remote import RemoteSession, remote_config
        from graphsplit.runtimes.tensorflow import TensorFlowSession, pooled_config, session_config

        graph, where = as_graphdef(model, "TensorFlow"), options.location
        content = graph.serialized() if where is None else pinned(graph, where.device).SerializeToString()
        if where is not None and where.site is not None:
            remote = remote_config(session_config() if options.config is None else options.config, where.site.tasks)
            return RemoteSession(content, target=where.site.target, addresses=where.site.addresses, config=remote)
        config = options.config
        if options.threads is not None:
            given = session_config(optimize=options.optimize) if config is None else config
            config = pooled_config(given, options.threads)
        return TensorFlowSession(content, optimize=options.optimize, timeout=options.timeout, config=config)
