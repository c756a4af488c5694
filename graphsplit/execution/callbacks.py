"""Callbacks around a section: where frames come from and where results go, as accelerators' own runtimes do it.

    in callback ─▶ [pre] ─▶ main ─▶ [post] ─▶ out callback          each section in a thread of its own

    runner = AsyncRunner("out/x_main.pb")
    runner.set_postprocessing_model("out/x_post.pb")
    runner.connect_input(next_image)               # an array, several, an iterator of these; None ends the stream
    runner.connect_output(show)                    # one array for each output
    runner.wait()

Sections are joined by the names of their tensors in the whole. The caller feeds what no section makes: the inputs of
pre, then those inputs of main that pre does not make, then what only post reads. The out callback gets the outputs of
post, then those of main and of pre that no later section reads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from graphsplit.errors import CutError, FeedError, GraphSplitError
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import open_sections
from graphsplit.formats import load
from graphsplit.graph.index import TensorSpec
from graphsplit.parts.folder import MANIFEST, load_parts
from graphsplit.parts.parts import Part, Port, default_device

__all__ = ["AsyncRunner", "MultiStreamRunner"]

Array = np.ndarray[Any, Any]
Section = Part | str | PathLike[str]
InputCallback = Callable[..., Any]
OutputCallback = Callable[..., object]


class _Runner:
    """Sections, their pipeline, and the thread that moves frames from callback to callback."""

    def __init__(self, main: Section, *, threads: int | None = None, depth: int | None = None, trust: bool = False) -> None:
        self._sections: dict[str, Part] = {"main": _part(main)}
        self._options: dict[str, Any] = {"threads": threads, "trust": trust}
        self._depth = depth
        self._thread: threading.Thread | None = None
        self._pipeline: Pipeline | None = None
        self._stopped = threading.Event()
        self._shut = False
        self._error: BaseException | None = None

    def set_preprocessing_model(self, model: Section) -> None:
        """A section that runs before main: a part, or the path of its file. Raises CutError when it feeds main nothing."""
        self._set("pre", model)

    def set_postprocessing_model(self, model: Section) -> None:
        """A section that runs behind main. Raises CutError when it reads nothing of main."""
        self._set("post", model)

    def _set(self, role: str, model: Section) -> None:
        if self._thread is not None:
            raise GraphSplitError(f"the {role} model must be set before both callbacks are connected; the stream runs already")
        part = _part(model)
        earlier, later = (part, self._sections["main"]) if role == "pre" else (self._sections["main"], part)
        if not {p.tensor for p in earlier.outputs} & {p.tensor for p in later.inputs}:
            raise CutError(
                f"{role} and main share no tensor: {earlier.name} gives {_names(earlier.outputs)}, "
                f"{later.name} reads {_names(later.inputs)}"
            )
        self._sections[role] = part

    # what goes in and comes out

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the input callback gives, in order."""
        made = {p.tensor for s in self._ordered() for p in s.outputs}
        wanted: dict[str, Port] = {}
        for section in self._ordered():
            for port in section.inputs:
                if port.tensor not in made:
                    wanted.setdefault(port.tensor, port)
        return tuple(wanted.values())

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the output callback gets, in order."""
        read = {p.tensor for s in self._ordered() for p in s.inputs}
        last_first = [s for role in ("post", "main", "pre") if (s := self._sections.get(role)) is not None]
        given: dict[str, Port] = {}
        for place, section in enumerate(last_first):
            for port in section.outputs:
                if place == 0 or port.tensor not in read:
                    given.setdefault(port.tensor, port)
        return tuple(given.values())

    def _ordered(self) -> list[Part]:
        return [self._sections[role] for role in ("pre", "main", "post") if role in self._sections]

    # life

    def _start(self, frames: Iterator[Mapping[str, Any]], deliver: Callable[[Sequence[Array]], object]) -> None:
        if self._shut:
            raise GraphSplitError("the runner is shut down; make another one")
        names = [p.tensor for p in self.outputs]
        stages = open_sections(self._ordered(), **self._options)
        self._pipeline = Pipeline(stages=stages, inputs=[p.tensor for p in self.inputs], outputs=names, depth=self._depth)
        self._thread = threading.Thread(target=self._move, args=(frames, deliver, names), name="graphsplit-runner", daemon=True)
        self._thread.start()

    def _move(
        self,
        frames: Iterator[Mapping[str, Any]],
        deliver: Callable[[Sequence[Array]], object],
        names: Sequence[str],
    ) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            return
        try:
            for result in pipeline.stream(frames):
                deliver([result[name] for name in names])
        except BaseException as error:
            self._error = error
        finally:
            self._stopped.set()

    def wait(self) -> None:
        """Until the stream has ended and every result was delivered. Raises what a callback or a section raised."""
        if self._thread is None:
            raise GraphSplitError(f"{' and '.join(self._missing())} not connected yet; nothing would ever end")
        while self._thread.is_alive():
            self._thread.join(0.2)  # in pieces, so that Ctrl-C is heard
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _missing(self) -> list[str]:
        raise NotImplementedError

    def stop(self) -> None:
        """End the stream early: no more input is asked for, frames in flight are delivered. May be called twice."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def shutdown(self) -> None:
        """Stop and release sessions and threads. May be called twice."""
        self._shut = True
        self.stop()
        if self._pipeline is not None and self._thread is not threading.current_thread():
            self._pipeline.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def _feed(self, given: Any) -> dict[str, Array]:
        """What a callback gave, as feeds by name. Raises FeedError that tells every mismatch at once."""
        ports = self.inputs
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(values) != len(ports):
            raise FeedError([f"{len(values)} arrays were given for {len(ports)} inputs: {_names(ports)}"])
        wrong: list[str] = []
        feed = {port.tensor: _fit(port, np.asarray(value), wrong) for port, value in zip(ports, values, strict=True)}
        if wrong:
            raise FeedError(wrong)
        return feed


class AsyncRunner(_Runner):
    """One stream of frames through main, with pre and post where they are set.

    main     a part, or the path of a section file (its split.json tells order and names)
    threads  threads of each section's own pool
    depth    frames in flight
    trust    run models that reach files, the network or Python
    """

    def __init__(self, main: Section, *, threads: int | None = None, depth: int | None = None, trust: bool = False) -> None:
        super().__init__(main, threads=threads, depth=depth, trust=trust)
        self._in: InputCallback | None = None
        self._out: OutputCallback | None = None

    def connect_input(self, callback: InputCallback) -> None:
        """Where frames come from: a function without arguments that gives an array, a list or tuple of arrays (one for each
        of `inputs`), or an iterator of these. None or StopIteration ends the stream. The stream starts when both callbacks
        are connected.
        """
        self._in = callback
        self._ready()

    def connect_output(self, callback: OutputCallback) -> None:
        """Where results go: called with one array for each of `outputs`, in order, for every frame."""
        self._out = callback
        self._ready()

    def _ready(self) -> None:
        if self._thread is not None:
            raise GraphSplitError("the stream runs already; make another runner for another stream")
        given, taken = self._in, self._out
        if given is not None and taken is not None:
            frames = (self._feed(value) for value in _values(given, self._stopped))
            self._start(frames, lambda arrays: taken(*arrays))

    def _missing(self) -> list[str]:
        return [what for what, callback in (("the input", self._in), ("the output", self._out)) if callback is None]


class MultiStreamRunner(_Runner):
    """Several streams through the same sections, each in its own order, none ahead of its turn.

    Every stream is read in a thread of its own, one frame ahead, so that a slow one does not hold up the others.
    """

    def connect_streams(self, in_callback: InputCallback, out_callback: OutputCallback, stream_count: int) -> None:
        """Streams 0 … stream_count − 1: ``in_callback(stream)`` gives what `AsyncRunner.connect_input` takes,
        ``out_callback(stream, *outputs)`` gets the results. Ends when all streams have ended.
        """
        if stream_count < 1:
            raise ValueError(f"stream_count is at least 1, not {stream_count}")
        if self._thread is not None:
            raise GraphSplitError("the streams run already; make another runner for other streams")
        order: deque[int] = deque()
        turns = _Turns(in_callback, stream_count, self._stopped)

        def frames() -> Iterator[dict[str, Array]]:
            for stream, value in turns:
                feed = self._feed(value)
                order.append(stream)
                yield feed

        self._start(frames(), lambda arrays: out_callback(order.popleft(), *arrays))

    def _missing(self) -> list[str]:
        return ["the streams are"]


class _Turns:
    """Frames of several streams: of those that have one ready, the stream whose turn it is goes first."""

    def __init__(self, callback: InputCallback, count: int, stopped: threading.Event) -> None:
        self._change = threading.Condition()
        self._stopped = stopped
        self._slots: list[list[Any]] = [[] for _ in range(count)]
        self._live = count
        self._errors: list[BaseException] = []
        for stream in range(count):
            reader = threading.Thread(target=self._read, args=(callback, stream), name=f"graphsplit-stream-{stream}", daemon=True)
            reader.start()

    def _read(self, callback: InputCallback, stream: int) -> None:
        try:
            for value in _values(lambda: callback(stream), self._stopped):
                with self._change:
                    self._slots[stream].append(value)
                    self._change.notify_all()
                    while self._slots[stream] and not self._stopped.is_set():
                        self._change.wait(0.1)
        except BaseException as error:
            self._errors.append(error)
        finally:
            with self._change:
                self._live -= 1
                self._change.notify_all()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        turn = 0
        count = len(self._slots)
        while True:
            with self._change:
                while not any(self._slots) and self._live and not self._errors and not self._stopped.is_set():
                    self._change.wait(0.1)
                if self._errors:
                    self._stopped.set()
                    raise self._errors[0]
                if self._stopped.is_set() or not any(self._slots):
                    return
                stream = next(s for s in ((turn + i) % count for i in range(count)) if self._slots[s])
                value = self._slots[stream].pop()
                self._change.notify_all()
            turn = (stream + 1) % count
            yield stream, value


def _values(callback: Callable[[], Any], stopped: threading.Event) -> Iterator[Any]:
    """What a callback gives, one frame after the other, until it gives None, raises StopIteration, or is stopped."""
    while not stopped.is_set():
        try:
            value = callback()
        except StopIteration:
            return
        if value is None:
            return
        if isinstance(value, Iterator):
            for item in value:
                if item is None or stopped.is_set():
                    return
                yield item
            return
        yield value


def _fit(port: Port, value: Array, wrong: list[str]) -> Array:
    """A value for an input: dtype exact, shape exact but for a leading batch of 1 that may be left out."""
    if port.dtype is not None and value.dtype.name != port.dtype and not (port.dtype == "string" and value.dtype.kind in "OSU"):
        wrong.append(f"{port.tensor!r} wants {port.dtype}, not {value.dtype.name}")
    if port.shape is not None:
        if value.ndim == len(port.shape) - 1 and port.shape[0] in (1, None):
            value = value[None]
        if value.ndim != len(port.shape) or any(d not in (None, n) for d, n in zip(port.shape, value.shape, strict=True)):
            wanted = ["?" if d is None else d for d in port.shape]
            wrong.append(f"{port.tensor!r} wants shape {wanted}, not {list(value.shape)}")
    return value


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(p.tensor for p in ports) or "nothing"


def _part(model: Section) -> Part:
    """A part; for a path the section that the manifest beside it describes, or a whole model where there is none."""
    if isinstance(model, Part):
        return model
    path = Path(model)
    if (path.parent / MANIFEST).is_file():
        for part in load_parts(path.parent):
            if part.model.path is not None and part.model.path.name == path.name:
                return part
    found = load(path)

    def ports(specs: Sequence[TensorSpec]) -> tuple[Port, ...]:
        return tuple(Port(s.name, s.name, s.dtype, s.shape) for s in specs)

    return Part("main", found, ports(found.inputs), ports(found.outputs), default_device("main"))
