"""TFLite sections: in LiteRT, on the CPU of this process or where a delegate takes them."""

from __future__ import annotations

from graphsplit.errors import FormatError, PlacementError
from graphsplit.formats import Model
from graphsplit.inference.runtime import Location, Request, Session, SessionSettings

__all__ = ["LiteRTRuntime"]


class LiteRTRuntime:
    """LiteRT; see `graphsplit.inference.runtime.Runtime`."""

    name = "TFLite"
    states_shapes = True
    imports_graphs = False

    def read(self, data: memoryview) -> Model:
        """A TFLite section from its bytes."""
        from graphsplit.formats.tflite.model import TFLiteModel

        return TFLiteModel(data)

    def locate(self, request: Request) -> Location:
        """The CPU, or the delegate that was named; a warning for any other device.

        Raises:
            PlacementError: An accelerator without its delegate (strict), a worker, or an invalid device.
        """
        section, device = request.section, request.device
        if not isinstance(device, str) or not device:
            raise PlacementError(
                f"invalid device {device!r} for section {section!r}; use a TensorFlow device name such as /cpu:0",
                section=section,
                device=str(device),
            )
        if request.site is not None:
            raise PlacementError(
                f"section {section!r} is TFLite and runs in this process, not on {device}; workers run TensorFlow",
                section=section,
                device=device,
            )
        if request.delegate is not None:
            return Location(f"delegate {request.delegate}", delegate=request.delegate)
        if "cpu" in device.lower():
            return Location(device)
        if request.strict:
            raise PlacementError(
                f"section {section!r} is TFLite and needs a delegate to run on {device}; pass delegates={{{section!r}: …}}",
                section=section,
                device=device,
            )
        warning = f"section {section!r} is TFLite: without a delegate for {device} it runs on the CPU"
        return Location("/cpu:0", warning=warning)

    def open(self, model: Model, options: SessionSettings) -> Session:
        """An interpreter of a TFLite model.

        Raises:
            FormatError: LiteRT refuses the model or the delegate, or would not survive it.
            MissingExtraError: ai-edge-litert is not installed.
        """
        from graphsplit.formats.tflite.model import TFLiteModel
        from graphsplit.runtimes.litert import LiteRTSession

        if not isinstance(model, TFLiteModel):
            raise FormatError(f"LiteRT runs TFLite models, not {model.section_format}", path=model.path)
        model.check_kernels()
        delegate = None if options.location is None else options.location.delegate
        return LiteRTSession(
            model.serialized(),
            model.reader.names,
            optimize=options.optimize,
            timeout=options.timeout,
            threads=options.threads,
            delegates=() if delegate is None else (delegate,),
        )
