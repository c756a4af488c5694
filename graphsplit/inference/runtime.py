"""What a runtime offers, so that nothing above it has to know which one runs a section.

model ──▶ runtime_of(model) ─┬─▶ locate(request)   which device it can have, and a warning if it is another one
                             └─▶ open(model, …)    a session, there
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # what only plans must not import NumPy
    from graphsplit.formats import Model
    from graphsplit.inference.endpoints import Site
    from graphsplit.runtimes.arrays import Array

__all__ = ["Location", "Request", "Runnable", "Runtime", "Session", "SessionSettings"]


class Runnable(Protocol):
    """Something that computes tensors, by the names of a model's index."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors. Raises whatever its runtime raises, and TimeoutError."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class Session(Runnable, Protocol):
    """A model that is ready to run."""

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Array]], list[Array]]:
        """A call that takes the values of `feeds` in order and returns those of `fetches`."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """Where a section is asked to run.

    Attributes:
        section: Its name, for errors.
        device: TensorFlow device name.
        site: The workers that its device belongs to; None: this process.
        delegate: Path of a TFLite delegate.
        strict: Raise PlacementError if the device does not exist.
        threads: Threads of the section's own pool.
        config: A ``ConfigProto`` to start from; None: the default.
    """

    section: str
    device: str
    site: Site | None = None
    delegate: str | None = None
    strict: bool = False
    threads: int | None = None
    config: Any = None


@dataclass(frozen=True, slots=True)
class Location:
    """Where a section runs.

    Attributes:
        device: Its device; of a delegate, ``delegate PATH``.
        site: The workers that run it; None: this process.
        delegate: Path of the TFLite delegate that runs it.
        warning: Why this is not what was asked for; empty if it is.
    """

    device: str
    site: Site | None = None
    delegate: str | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How to open a session.

    Attributes:
        optimize: As deployed (Grappler; XNNPACK). Without it every legal cut is bit-equal to the whole.
        timeout: Seconds one run may take; None: unlimited.
        threads: Threads of the session's own pool; None: the runtime's default.
        config: A ``ConfigProto`` to start from; None: the default.
        location: Where it runs; None: wherever the runtime puts it.
    """

    optimize: bool = True
    timeout: float | None = None
    threads: int | None = None
    config: Any = None
    location: Location | None = None


class Runtime(Protocol):
    """A kind of runtime.

    Attributes:
        name: What messages call its models: "TensorFlow", "TFLite".
        states_shapes: Whether its files state every shape that can be known without running them.
        imports_graphs: Whether sections can be put into one ``tf.Graph``: placed, joined and exported.
    """

    name: str
    states_shapes: bool
    imports_graphs: bool

    def read(self, data: memoryview) -> Model:
        """A section from its bytes."""
        ...

    def locate(self, request: Request) -> Location:
        """Where a section can run.

        Raises:
            PlacementError: The device does not exist (strict), or this runtime cannot use it.
        """
        ...

    def open(self, model: Model, options: SessionSettings) -> Session:
        """A session of a model. Trust is checked by `graphsplit.inference.sessions`, the only caller.

        Raises:
            FormatError: The runtime refuses the model.
            MissingExtraError: The runtime is not installed.
        """
        ...
