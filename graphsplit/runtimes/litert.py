"""TFLite files in LiteRT (ai-edge-litert): interpreters of their own, tensors by the names of the index.

LiteRT is native code that trusts its file, so what reaches it has been looked at from end to end (see
`graphsplit.formats.tflite.flatbuffer`) and feeds are checked here before they are handed over.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from graphsplit.errors import FormatError, MissingExtraError

__all__ = ["LiteRTSession"]

Array = np.ndarray[Any, Any]


class LiteRTSession:
    """A TFLite file, ready to run.

    content    the file
    names      name of each tensor of its first subgraph, by number
    optimize   with LiteRT's default delegate (XNNPACK), as deployed; without it the plain kernels run, the same for whole
               and sections, and every legal cut is bit-equal
    timeout    seconds one run may take; None: no bound
    threads    of the interpreter (default: LiteRT's own, one)
    delegates  paths of libraries with a TFLite delegate, for an accelerator

    Raises FormatError for a file that LiteRT refuses, MissingExtraError where ai-edge-litert is not installed.
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
        self._interpreter = self._open(whole=False)
        self._keeps_all = self._stuck = False
        self._given = self._details()
        self._outputs = {self._names[d["index"]] for d in self._interpreter.get_output_details()}

    def _open(self, *, whole: bool) -> Any:
        """An interpreter; `whole`: one that keeps the tensors in between."""
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", extra="tflite") from error
        plain = whole or not self._optimize
        resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else litert.OpResolverType.AUTO
        try:
            made = litert.Interpreter(
                model_content=self._content,
                num_threads=self._threads,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=whole,
                experimental_delegates=[_delegate(litert, path) for path in self._delegates] or None,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise FormatError(f"LiteRT refuses the model: {_first_line(error)}") from error
        try:
            made.allocate_tensors()
            self._allocated = True
        except (ValueError, RuntimeError) as error:
            # Where a size is unknown the file has 1 for it, with which a model need not run: the feeds will tell.
            if not any(-1 in d["shape_signature"] for d in made.get_input_details()):
                raise FormatError(f"LiteRT refuses the model: {_first_line(error)}") from error
            self._allocated = False
        return made

    def _details(self) -> dict[str, dict[str, Any]]:
        """What LiteRT says of each input, by name."""
        return {self._names[d["index"]]: d for d in self._interpreter.get_input_details()}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors, as copies. Raises ValueError for feeds that do not fit, RuntimeError, TimeoutError."""
        if self._stuck:
            raise RuntimeError("an earlier run did not end in time and is still on; open another session")
        if not self._keeps_all and not self._outputs.issuperset(fetches):
            self._interpreter, self._keeps_all = self._open(whole=True), True
            self._given = self._details()
        missing = self._given.keys() - feeds.keys()
        if missing:
            raise ValueError(f"{sorted(missing)[0]!r} is not fed")
        self._feed({name: _plain(np.asarray(feeds[name])) for name in self._given})
        self._invoke()
        return [self._interpreter.get_tensor(self._number[name]) for name in fetches]

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A call that takes the values of `feeds` in order and gives those of `fetches`."""
        given, wanted = tuple(feeds), tuple(fetches)

        def call(values: Sequence[Any]) -> list[Array]:
            return self.run(dict(zip(given, values, strict=True)), wanted)

        return call

    def _feed(self, values: Mapping[str, Array]) -> None:
        # Everything is looked at before anything is changed: native code is told nothing that does not fit.
        other = {name: value.shape for name, value in values.items() if self._differs(name, value)}
        try:
            for name, shape in other.items():
                self._interpreter.resize_tensor_input(self._given[name]["index"], shape)
            if other or not self._allocated:
                self._allocated = False
                self._interpreter.allocate_tensors()
                self._allocated = True
        finally:  # where it refuses a shape, the next run has to set another one
            self._given = self._details() if other else self._given
        for name, value in values.items():
            self._interpreter.set_tensor(self._given[name]["index"], value)

    def _differs(self, name: str, value: Array) -> bool:
        """Whether an input has to be resized for a value. Raises ValueError where it cannot be."""
        detail = self._given[name]
        wanted = np.dtype(detail["dtype"])
        if value.dtype != wanted and not (value.dtype.kind in "OSU" and wanted.kind in "OSU"):
            raise ValueError(f"{name!r} wants {wanted.name}, not {value.dtype.name}")
        now = tuple(int(d) for d in detail["shape"])
        if now == value.shape:
            return False
        stated = [int(d) for d in detail["shape_signature"]]
        if stated and (len(stated) != value.ndim or any(s not in (-1, n) for s, n in zip(stated, value.shape, strict=True))):
            raise ValueError(f"{name!r} wants shape {['?' if s < 0 else s for s in stated]}, not {list(value.shape)}")
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

        # LiteRT knows no deadline, and a loop that never ends is a legal model: its thread is left behind.
        thread = threading.Thread(target=work, name="graphsplit-litert", daemon=True)
        thread.start()
        thread.join(self._timeout)
        if thread.is_alive():
            self._stuck = True
            raise TimeoutError(f"it did not end within {self._timeout:g} seconds")
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None

    def __enter__(self) -> LiteRTSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _delegate(litert: Any, path: str) -> Any:
    """A delegate from its library. Raises FormatError where there is none."""
    try:
        ctypes.PyDLL(path)  # LiteRT would fail over its own destructor
    except OSError as error:
        raise FormatError(f"no TFLite delegate: {_first_line(error)}") from error
    return litert.load_delegate(path)


def _plain(value: Array) -> Array:
    """int4 and its like as int8, which is how LiteRT takes and gives them."""
    return value.astype(np.int8) if value.dtype.name in ("int4", "int2") else value


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
