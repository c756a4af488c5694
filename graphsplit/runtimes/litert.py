"""TFLite files in LiteRT (ai-edge-litert): one interpreter a session, tensors by the names of the index.

LiteRT is native code that trusts its file. So every file has been validated from end to end before it gets here (see
`graphsplit.formats.tflite.flatbuffer`), and feeds are checked here before they are passed on.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from graphsplit.errors import FormatError, MissingExtraError
from graphsplit.graph.text import shape_text
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Delegate, Interpreter

__all__ = ["LiteRTSession"]


class _Input(TypedDict):
    """The entries of LiteRT's description of an input that are read here."""

    index: int
    dtype: type[np.generic]
    shape: Sequence[int]
    shape_signature: Sequence[int]


class LiteRTSession:
    """A TFLite file that is ready to run.

    Args:
        content: The file.
        names: Name of each tensor of its first subgraph, by index.
        optimize: Use LiteRT's default delegate (XNNPACK), as deployed. Without it the reference kernels run, the same for whole
            and sections, and every legal cut is bit-equal.
        timeout: Seconds one run may take; None: unlimited.
        threads: Threads of the interpreter (default: LiteRT's own, one).
        delegates: Paths of libraries with a TFLite delegate, for an accelerator.

    Raises:
        FormatError: LiteRT refuses the file or a delegate.
        MissingExtraError: ai-edge-litert is not installed.
    """

    def __init__(
        self,
        content: bytes,
        names: Sequence[str],
        *,
        optimize: bool = True,
        timeout: float | None = None,
        threads: int | None = None,
        delegates: Sequence[str | PathLike[str]] = (),
    ) -> None:
        self._content, self._names, self._timeout = content, tuple(names), timeout
        self._number = {name: i for i, name in enumerate(self._names)}
        self._optimize, self._threads, self._delegates = optimize, threads, tuple(map(str, delegates))
        self._interpreter: Interpreter = self._open(keep_all=False)
        self._keeps_all = self._stuck = False
        self._inputs = self._details()
        self._outputs = {self._names[d["index"]] for d in self._interpreter.get_output_details()}

    def _open(self, *, keep_all: bool) -> Interpreter:
        """An interpreter; with `keep_all` its intermediate tensors can be fetched."""
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", extra="tflite") from error
        plain = keep_all or not self._optimize
        resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else litert.OpResolverType.AUTO
        try:
            interpreter = litert.Interpreter(
                model_content=self._content,
                num_threads=self._threads,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep_all,
                experimental_delegates=[_delegate(litert, path) for path in self._delegates] or None,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise FormatError(f"LiteRT refuses the model: {_refusal(error)}") from error
        try:
            interpreter.allocate_tensors()
            self._allocated = True
        except (ValueError, RuntimeError) as error:
            # The file holds 1 for an unknown size, and a model need not run with that: the feeds decide.
            if not any(-1 in d["shape_signature"] for d in interpreter.get_input_details()):
                raise FormatError(f"LiteRT refuses the model: {_refusal(error)}") from error
            self._allocated = False
        return interpreter

    def _details(self) -> dict[str, _Input]:
        """LiteRT's description of each input, by name."""
        return {self._names[d["index"]]: d for d in self._interpreter.get_input_details()}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors, as copies.

        Raises:
            ValueError: Feeds that do not fit.
            RuntimeError: An operator failed, or an earlier run is still running.
            TimeoutError: The run took longer than `timeout`.
        """
        if self._stuck:
            raise RuntimeError("an earlier run did not end in time and is still running; open another session")
        if not self._keeps_all and not self._outputs.issuperset(fetches):
            self._interpreter, self._keeps_all = self._open(keep_all=True), True
            self._inputs = self._details()
        missing = self._inputs.keys() - feeds.keys()
        if missing:
            raise ValueError(f"{sorted(missing)[0]!r} is not fed")
        self._feed({name: _plain(np.asarray(feeds[name])) for name in self._inputs})
        self._invoke()
        return [self._interpreter.get_tensor(self._number[name]) for name in fetches]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Array]], list[Array]]:
        """A call that takes the values of `feeds` in order and returns those of `fetches`."""
        inputs, outputs = tuple(feeds), tuple(fetches)

        def call(values: Sequence[Array]) -> list[Array]:
            return self.run(dict(zip(inputs, values, strict=True)), outputs)

        return call

    def _feed(self, values: Mapping[str, Array]) -> None:
        # Everything is checked before anything is changed: native code gets nothing that does not fit.
        resized = {name: value.shape for name, value in values.items() if self._differs(name, value)}
        try:
            for name, shape in resized.items():
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
            if resized or not self._allocated:
                self._allocated = False
                self._interpreter.allocate_tensors()
                self._allocated = True
        finally:  # after a shape that it refuses, the next run has to set another one
            self._inputs = self._details() if resized else self._inputs
        for name, value in values.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], value)

    def _differs(self, name: str, value: Array) -> bool:
        """Whether an input has to be resized for a value. Raises ValueError for one that it cannot take."""
        detail = self._inputs[name]
        dtype = np.dtype(detail["dtype"])
        if value.dtype != dtype and not (value.dtype.kind in "OSU" and dtype.kind in "OSU"):
            raise ValueError(f"{name!r} must be {dtype.name}, not {value.dtype.name}")
        current = tuple(int(d) for d in detail["shape"])
        if current == value.shape:
            return False
        stated = [int(d) for d in detail["shape_signature"]]
        if stated and (len(stated) != value.ndim or any(s not in (-1, n) for s, n in zip(stated, value.shape, strict=True))):
            shape = shape_text([None if s < 0 else s for s in stated])
            raise ValueError(f"{name!r} must have shape {shape}, not {shape_text(value.shape)}")
        return True

    def _invoke(self) -> None:
        if self._timeout is None:
            self._interpreter.invoke()
            return
        failed: list[BaseException] = []

        def work() -> None:
            try:
                self._interpreter.invoke()
            except BaseException as error:
                failed.append(error)

        # LiteRT has no deadlines, and an endless loop is a legal model: its thread is abandoned.
        thread = threading.Thread(target=work, name="graphsplit-litert", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if thread.is_alive():
            self._stuck = True
            raise TimeoutError(f"the run did not end within {self._timeout:g} seconds")
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None

    def __enter__(self) -> LiteRTSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _delegate(litert: ModuleType, path: str) -> Delegate:
    """A delegate from its library. Raises FormatError if it cannot be loaded."""
    try:
        ctypes.PyDLL(path)  # LiteRT would fail in its own destructor
    except OSError as error:
        raise FormatError(f"cannot load the TFLite delegate: {_first_line(error)}") from error
    return litert.load_delegate(path)


def _plain(value: Array) -> Array:
    """int4 and int2 as int8, which is how LiteRT takes and returns them."""
    return value.astype(np.int8) if value.dtype.name in ("int4", "int2") else value


def _refusal(error: BaseException) -> str:
    """Why LiteRT refuses a model, and the remedy."""
    lacks = "unresolved custom op" in str(error) or "Select TensorFlow op" in str(error)
    unproven = "write the sections unproven (verify=False)"
    remedy = f"pass a delegate that has these ops, or {unproven}" if lacks else f"convert it for this version, or {unproven}"
    return f"{_first_line(error)[: 120 if lacks else 300]}; {remedy}"


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
