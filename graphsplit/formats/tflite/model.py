"""A TFLite file as a model: its index, its sections, its bytes."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from graphsplit.errors import FormatError, MissingExtraError, TrustError
from graphsplit.formats.base import Stored
from graphsplit.formats.source import SourceFile, read_source
from graphsplit.formats.tflite.belongings import label_lines, left_out
from graphsplit.formats.tflite.flatbuffer import FlatError, NewerError
from graphsplit.formats.tflite.indexing import index_model
from graphsplit.formats.tflite.kernels import overrun
from graphsplit.formats.tflite.outside import outside_operators, unfrozen_operator
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.signatures import first_signature, signature_names, with_first
from graphsplit.formats.tflite.specs import constant_value, operator_options, quantisation, signature_of
from graphsplit.formats.tflite.validation import TFLiteError
from graphsplit.formats.tflite.writer import write_section
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.graph.signature import Choice, Signature, chosen

if TYPE_CHECKING:
    from graphsplit.runtimes.arrays import Array

__all__ = ["TFLiteModel", "load_tflite"]

_T = TypeVar("_T")
_Asked: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # nodes, inputs, outputs


def load_tflite(path: Path, *, signature: str | None = None) -> TFLiteModel:
    """A .tflite file, or one signature of it.

    Raises:
        FormatError: It is damaged.
        OptionError: It has no such signature.
    """
    data, source = read_source(path)
    model = TFLiteModel(data, path=path, source=source)
    reader = model.reader  # examines everything once, so that damage is reported here
    names = signature_names(reader)
    name = first_signature(reader) if signature is None else chosen(signature, names)
    if signature is not None and name is not None and name != first_signature(reader):
        first = name
        source = source.summed(data)
        model = _Chosen(model._guard(lambda: with_first(reader, first)), path=path, source=source)
        model.reader  # noqa: B018
    model.choice = Choice(name, None, names)
    return model


class TFLiteModel(Stored):
    """A TFLite file, or a section of one; see `graphsplit.formats.model.Model`.

    Args:
        data: The bytes of the file.
        path: The file it was read from; None for a model in memory.
        source: The same, as it was then.
    """

    suffix = "tflite"
    section_format = "tflite"
    rewrites: tuple[Mapping[str, object], ...] = ()

    def __init__(self, data: bytes | memoryview | mmap.mmap, *, path: Path | None = None, source: SourceFile | None = None) -> None:
        super().__init__([data], path=path, source=source, format="tflite")
        # The same request, while a section is still in use, returns the same model: its weights are copied once.
        self._sections: WeakValueDictionary[_Asked, TFLiteModel] = WeakValueDictionary()

    # what it is

    def _guard(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except NewerError as error:
            raise FormatError(
                f"damaged, or written for a later version of TFLite: {error}; a newer graphsplit may read it", path=self.path
            ) from error
        except FlatError as error:
            raise FormatError(f"a damaged TFLite file: {error}; copy or convert it again", path=self.path) from error
        except TFLiteError as error:
            raise FormatError(f"not a legal TFLite model: {error}", path=self.path) from error

    @cached_property
    def reader(self) -> TFLiteReader:
        """The file, examined once from end to end. Raises FormatError."""
        return self._guard(lambda: TFLiteReader(next(self.chunks)))

    @cached_property
    def index(self) -> GraphIndex:
        """The index of the first subgraph. Raises FormatError."""
        return self._guard(lambda: index_model(self.reader))

    @cached_property
    def signature(self) -> Signature:
        """The keys of the first subgraph's signature, if it has one."""
        return self._guard(lambda: signature_of(self.reader))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The lines of the label file that is packed behind the file for one of its outputs."""
        return self._guard(lambda: label_lines(self.reader))

    @cached_property
    def reaches_outside(self) -> tuple[str, ...]:
        """Names of the operators that are custom ops other than the runtime's own: unknown code."""
        return outside_operators(self.reader)

    def check_trust(self, trust: bool, outputs: Sequence[str] | None = None) -> None:
        """Refuse to run unknown custom ops that outputs (default: all) need. Raises TrustError that names them."""
        if trust or not self.reaches_outside:
            return
        needed = self.needed(outputs)
        nodes = [n for n in self.reaches_outside if needed is None or n in needed]
        if not nodes:
            return
        shown = ", ".join(f"{n} ({self.index.node(n).op})" for n in nodes[:5]) + (" …" if len(nodes) > 5 else "")
        raise TrustError(
            f"the model runs custom ops ({shown}), code from outside of this file; split() runs nothing; trust=True runs it if the "
            "runtime has such ops",
            nodes=nodes,
        )

    def check_frozen(self, outputs: Sequence[str] | None = None, *, runs: bool = True) -> None:
        """Refuse values that outlive a run and that outputs (default: all) need. Raises FormatError that names the first."""
        found = unfrozen_operator(self.reader, self.needed(outputs))
        if found is not None:
            name, op = found
            raise FormatError(
                f"not frozen: {name!r} is a {op}, whose value lives in the interpreter from one run to the next, which no cut "
                "preserves; convert the model without variables and tables",
                path=self.path,
            )

    def check_kernels(self) -> None:
        """Refuse operators at which LiteRT would leave a tensor's memory, a crash or wrong values. Raises FormatError."""
        reader = self.reader
        for number in (0, *reader.reachable(c for o in reader.subgraphs[0].operators for c in o.calls)):
            if found := overrun(reader.subgraphs[number]):
                name = reader.operator_names[found[0]] if number == 0 else reader.function_name(number)
                raise FormatError(
                    f"LiteRT cannot run {name!r}: {found[1]}; write the sections unproven (verify=False)", path=self.path
                )

    def check_ends(self, outputs: Sequence[str] | None = None) -> None:
        """Nothing: no TFLite operator waits for another."""

    def fed_with(self, tensors: Iterable[str]) -> TFLiteModel:
        """The model itself: LiteRT feeds no constants."""
        return self

    def pruned(self, outputs: Sequence[str]) -> TFLiteModel:
        """The model that computes some of its tensors and nothing else; the model itself if nothing is left out."""
        index, needed = self.index, self.needed(outputs) or set()
        # The file itself, where all its outputs are asked for and what none of them needs does no harm.
        if tuple(outputs) == index.outputs and needed.issuperset(self.reaches_outside):
            return self
        inputs = [index.tensors[t] for t in index.inputs if index.producer[t] in needed]
        return self.section([n.name for n in index.nodes if n.name in needed], inputs, outputs)[0]

    def attributes(self, node: str) -> Mapping[str, str]:
        """The options of an operator as text; empty for other nodes."""
        return self._guard(lambda: operator_options(self.reader, node))

    def device(self, node: str) -> str:
        """Empty: a TFLite file pins no node to a device."""
        return ""

    def quantisation(self, tensor: str) -> tuple[float, int] | None:
        """Scale and zero point of a tensor that has one of each: real = scale · (q − zero point). None for any other."""
        return quantisation(self.reader, tensor)

    @property
    def original(self) -> TFLiteModel:
        """The model itself: TFLite files are not rewritten."""
        return self

    def constant(self, node: str, *, limit: int = 2**16) -> Array | None:
        """The value of a small constant, see `graphsplit.formats.model.Model.constant`."""
        return self._guard(lambda: constant_value(self.reader, node, limit))

    # surgery

    def left_out(self, sections: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[str, ...]:
        """Metadata and packed files that no section keeps, see `graphsplit.formats.tflite.belongings`."""
        if [(tuple(i), tuple(o)) for i, o in sections] == [(self.index.inputs, self.index.outputs)]:
            return ()
        return self._guard(lambda: left_out(self.reader, sections))

    def _is_whole(self, asked: _Asked) -> bool:
        """Whether a section is the file itself, under names that the file has."""
        nodes, inputs, outputs = asked
        index, reader = self.index, self.reader
        ends = inputs == index.inputs and outputs == index.outputs
        same = reader.names == reader.raw_names and len(reader.model.tables("signature_defs")) <= 1
        return ends and same and {n.name for n in index.nodes if n.kind != "input"} <= {*nodes, *index.inputs}

    def section(
        self, nodes: Sequence[str], inputs: Sequence[TensorSpec], outputs: Sequence[str]
    ) -> tuple[TFLiteModel, Mapping[str, str]]:
        """A model of some of the nodes, see `graphsplit.formats.model.Model.section`. Tensors keep the names of the index."""
        entering = tuple(spec.name for spec in inputs)
        asked = tuple(nodes), entering, tuple(outputs)
        section = self._sections.get(asked)
        if section is None and self._is_whole(asked):
            section = TFLiteModel(next(self.chunks))  # with all that lies behind the flatbuffer
            self._sections[asked] = section
        if section is None:
            try:
                section = TFLiteModel(self._guard(lambda: write_section(self.reader, set(nodes), entering, outputs)))
            except ImportError as error:
                raise MissingExtraError("flatbuffers", extra="tflite") from error
            self._sections[asked] = section
        return section, {t: t for t in (*entering, *outputs)}


class _Chosen(TFLiteModel):
    """A signature that is not the first of its file."""

    @property
    def converted(self) -> bool:
        """Always: the file begins with another subgraph."""
        return True
