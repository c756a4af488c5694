"""What every format offers: an index to plan on, sections to cut out, bytes to write and to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.graph.signature import Choice, Signature

if TYPE_CHECKING:
    from graphsplit.runtimes.arrays import Array

__all__ = ["Model"]


class Model(Protocol):
    """A model of any format. `graphsplit.formats.base.Stored` explains format, path, source, choice, nbytes, chunks and sha256.

    Attributes:
        suffix: What the file name of a section ends with.
        section_format: The format of its bytes: "graphdef" or "tflite".
        rewrites: What was replaced in it, as manifests list it.
        signature: The keys of its inputs and outputs, where the file states some.
    """

    suffix: str
    section_format: str
    rewrites: tuple[Mapping[str, object], ...]

    @property
    def signature(self) -> Signature: ...

    format: str
    choice: Choice
    path: Path | None
    source: Path | None

    @property
    def nbytes(self) -> int: ...
    @property
    def chunks(self) -> Iterator[memoryview]: ...
    @property
    def sha256(self) -> str: ...
    def serialized(self) -> bytes:
        """The bytes of the model, in one piece."""
        ...

    def check_unchanged(self) -> None:
        """Refuse a source file whose content is no longer what was read. Raises FormatError."""
        ...

    def save(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Write it to a file, whole or not at all; refuse to replace one if `overwrite` is not set."""
        ...

    @property
    def index(self) -> GraphIndex:
        """Nodes and tensors. Raises FormatError."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What to feed, in the order of the file."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What to fetch, in the order of the file."""
        ...

    @property
    def reaches_outside(self) -> tuple[str, ...]:
        """Names of the nodes that reach files, the network, Python or unknown code."""
        ...

    def check_trust(self, trust: bool, outputs: Sequence[str] | None = None) -> None:
        """Refuse to run a model that reaches outside itself to compute outputs (default: all). Raises TrustError."""
        ...

    def check_frozen(self, outputs: Sequence[str] | None = None, *, runs: bool = True) -> None:
        """Refuse a model if outputs (default: all) need values that are not in the file. Raises FormatError.

        Args:
            outputs: What is computed.
            runs: Whether it is to run; surgery alone accepts tables, which a program may fill.
        """
        ...

    def fed_with(self, tensors: Iterable[str]) -> Model:
        """The model with constants as inputs, those of some tensors that are constants; the model itself if none is."""
        ...

    def pruned(self, outputs: Sequence[str]) -> Model:
        """The model that computes some of its tensors and nothing else; the model itself if nothing is left out."""
        ...

    def left_out(self, sections: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[str, ...]:
        """Sentences on what belongs to the file and no section keeps; each section by its inputs and outputs."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that the model detects, in their order, where the file has them."""
        ...

    def check_ends(self, outputs: Sequence[str] | None = None) -> None:
        """Refuse to compute outputs (default: all) that wait for ever. Raises FormatError."""
        ...

    def constant(self, node: str, *, limit: int = 2**16) -> Array | None:
        """The value of a constant, not to be written to; of a quantised one the numbers as they are in the file.

        Args:
            node: Name of the node.
            limit: Bytes it may have in the file.

        Returns:
            None for any other node, for a larger value, and for a dtype that NumPy lacks.
        """
        ...

    def attributes(self, node: str) -> Mapping[str, str]:
        """The attributes of a node as text, except the value of a constant."""
        ...

    def device(self, node: str) -> str:
        """The device that the file pins a node to; empty if it does not."""
        ...

    def quantisation(self, tensor: str) -> tuple[float, int] | None:
        """Scale and zero point of a tensor that has one of each: real = scale · (q − zero point). None for any other tensor."""
        ...

    @property
    def original(self) -> Model:
        """The model that rewrites were applied to; the model itself if there were none."""
        ...

    def section(
        self, nodes: Sequence[str], inputs: Sequence[TensorSpec], outputs: Sequence[str]
    ) -> tuple[Model, Mapping[str, str]]:
        """A model of some of the nodes.

        Args:
            nodes: Names of the nodes to keep.
            inputs: Tensors that come from outside.
            outputs: Tensors to fetch.

        Returns:
            The model, and for each input and output its name in it.
        """
        ...
