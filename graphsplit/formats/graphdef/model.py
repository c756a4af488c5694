"""A GraphDef as a model: its index, its sections, its bytes."""

from __future__ import annotations

import gc
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from graphsplit.errors import FormatError, TrustError
from graphsplit.formats.base import Stored
from graphsplit.formats.graphdef.constants import tensor_value
from graphsplit.formats.graphdef.indexing import index_graph
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.outside import KNOWN_CUSTOM
from graphsplit.formats.graphdef.payloads import check_size
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.skeleton import make_skeleton
from graphsplit.formats.graphdef.unfrozen import kept_instead, unfed_iterator, unfrozen_node, unfrozen_text
from graphsplit.formats.graphdef.waiting import waiting_node
from graphsplit.formats.graphdef.wire import Buffer, GraphError, WireError
from graphsplit.formats.graphdef.writer import Chunk, write_section
from graphsplit.formats.source import FileRange, SourceFile
from graphsplit.graph.index import GraphIndex, Shape, TensorSpec
from graphsplit.graph.signature import Signature

if TYPE_CHECKING:
    from tensorflow.compat.v1 import GraphDef

    from graphsplit.runtimes.arrays import Array

__all__ = ["GraphDefModel"]

_T = TypeVar("_T")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Millions of objects are created that all stay: collecting garbage meanwhile would visit them again and again in vain."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class GraphDefModel(Stored):
    """A frozen graph; see `graphsplit.formats.model.Model`.

    Args:
        chunks: The bytes of the GraphDef, in pieces.
        path: The file (for a SavedModel the folder) it was read from; None for a model in memory.
        source: The file whose checksum identifies the model; None for a model in memory.
        format: "graphdef", or what it was frozen from: "pbtxt", "saved_model", "keras".
        output_names: The tensors it outputs; None: those that no node reads.
        signature: The keys of its inputs and outputs, where the file states some.
        fed: Names of constants that are fed, so that they are inputs.

    Raises:
        FormatError: The graph is larger than protobuf allows (2 GiB).
    """

    suffix = "pb"
    section_format = "graphdef"
    rewrites: tuple[Mapping[str, object], ...] = ()

    def __init__(
        self,
        chunks: Iterable[Chunk | mmap.mmap],
        *,
        path: Path | None = None,
        source: SourceFile | None = None,
        format: str = "graphdef",
        output_names: Sequence[str] | None = None,
        signature: Signature | None = None,
        fed: Iterable[str] = (),
    ) -> None:
        super().__init__(chunks, path=path, source=source, format=format)
        self._output_names = None if output_names is None else tuple(output_names)
        self._fed = frozenset(fed)
        self.signature = Signature() if signature is None else signature
        check_size(self.nbytes, path)

    # bytes

    @property
    def converted(self) -> bool:
        """Whether the bytes differ from those of the file: a SavedModel is frozen."""
        return self.format != "graphdef"

    @property
    def graph_def(self) -> GraphDef:
        """The model as a ``tf.compat.v1.GraphDef`` (imports TensorFlow)."""
        from tensorflow.core.framework import graph_pb2

        return graph_pb2.GraphDef.FromString(self.serialized())

    # what it is

    @property
    def original(self) -> GraphDefModel:
        """The model that rewrites were applied to; the model itself if there were none."""
        return self

    def _guard(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except (WireError, GraphError) as error:
            kind = "not a whole GraphDef" if isinstance(error, WireError) else "not a legal graph"
            raise FormatError(f"{kind}: {error}", path=self.path) from error

    @cached_property
    def reader(self) -> GraphDefReader:
        """The walk over the bytes. Raises FormatError."""
        first = self._chunks[0] if len(self._chunks) == 1 else None
        file = first.file if isinstance(first, FileRange) else None
        data: Buffer = file.data if file else first if isinstance(first, (bytes, mmap.mmap)) else self.serialized()
        return self._guard(lambda: GraphDefReader(data, self.path, file))

    @cached_property
    def index(self) -> GraphIndex:
        """The index of the graph. Raises FormatError for a graph that is not one."""
        with _no_collection():
            return self._guard(lambda: index_graph(self.reader, self._output_names, self._fed))

    @cached_property
    def reaches_outside(self) -> tuple[str, ...]:
        """Names of the nodes that reach files, the network, Python or unknown code."""
        return self._guard(lambda: self.reader.outside)

    def check_trust(self, trust: bool, outputs: Sequence[str] | None = None) -> None:
        """Refuse to run a model that reaches outside itself.

        Args:
            trust: Accept it.
            outputs: What is computed (default: all); nodes that none of them needs do not count.

        Raises:
            TrustError: Names the nodes.
            FormatError: The model calls a function that it does not hold. TensorFlow crashes on it, so trust does not help.
        """
        self._guard(self.reader.library.check_calls)
        if trust or not self.reaches_outside:
            return
        needed = self.needed(outputs)
        nodes = [n for n in self.reaches_outside if needed is None or n in needed]
        if not nodes:
            return
        shown = ", ".join(f"{n} ({self.reader.by_name[n].op})" for n in nodes[:5]) + (" …" if len(nodes) > 5 else "")
        asked = self.index.outputs if outputs is None else outputs
        custom = [n for n in nodes if op_table().get(self.reader.by_name[n].op) is None]
        instead = kept_instead(self.index, asked, nodes) if custom else ""
        then = f"; keep the outputs that do not need it ({instead}), or" if instead else ";"
        if all(op_table().get(self.reader.by_name[n].op) is None and n not in self.index.calls for n in nodes):
            raise TrustError(
                f"the model has custom ops ({shown}), code from outside of this file; split() runs nothing; "
                + (f"keep the outputs that do not need it ({instead}), or " if instead else "")
                + "trust=True runs them "
                "where their library is loaded (tf.load_op_library)",
                nodes=nodes,
            )
        raise TrustError(
            f"the model reaches outside itself ({shown}): running it may read or write files, open connections or call "
            f"unknown code; trust=True runs it all the same{then} split() runs nothing",
            nodes=nodes,
        )

    def check_frozen(self, outputs: Sequence[str] | None = None, *, runs: bool = True) -> None:
        """Refuse a graph whose values are not in the file.

        Args:
            outputs: What is computed (default: all); nodes that none of them needs do not count.
            runs: Whether the graph is to run; surgery alone accepts tables, which a program may fill.

        Raises:
            FormatError: Names the first such node.
        """
        needed = self.needed(outputs)
        bad = self._guard(lambda: unfrozen_node(self.reader, needed, tables=runs))
        if bad is None:
            return
        asked = self.index.outputs if outputs is None else outputs
        folder = self.format in ("saved_model", "keras")
        raise FormatError(self._guard(lambda: unfrozen_text(self.reader, self.index, asked, bad, folder=folder)), path=self.path)

    def check_ends(self, outputs: Sequence[str] | None = None) -> None:
        """Refuse to compute outputs (default: all) that wait for ever. Raises FormatError that names the first such node."""
        asked = self.index.outputs if outputs is None else outputs
        needed = self.needed(asked) or set()
        missing = [n for n in self.index.nodes if n.op in KNOWN_CUSTOM and n.name in needed]
        if missing:
            instead = kept_instead(self.index, asked, [n.name for n in missing])
            raise FormatError(
                f"{missing[0].name!r} is a {missing[0].op}, which TensorFlow does not have, so it cannot run; "
                + (f"keep the outputs that do not need it ({instead}), or " if instead else "")
                + "write the sections unproven (verify=False)",
                path=self.path,
            )
        waiting = self._guard(lambda: waiting_node(self.reader, self.index, asked))
        name = unfed_iterator(self.index, asked) if waiting is None else waiting.name
        if name is None:
            return
        node = self.index.name_to_node_map[name]
        read = [t.removesuffix(":0") for t in node.outputs if t in self.index.consumers and t not in self.index.captive]
        border = f'inputs="{",".join(read)}"' if read and all("," not in t for t in read) else "inputs=…"
        why = (
            "takes elements from an iterator that nothing in the graph fills, so it cannot run"
            if waiting is None
            else "waits for a value that nothing in the graph supplies, so a run never ends"
        )
        raise FormatError(
            f"{name!r} ({node.op}) {why}; the program that supplied it is not part of the model: cut after this node "
            f"({border}) and write the sections unproven (verify=False)",
            path=self.path,
        )

    def pruned(self, outputs: Sequence[str]) -> GraphDefModel:
        """The model that computes some of its tensors and nothing else; the model itself if nothing is left out."""
        needed = self.needed(outputs) or set()
        if len(needed) == len(self.index.nodes) and tuple(outputs) == self.index.outputs:
            return self
        section, _ = self.section([n.name for n in self.index.nodes if n.name in needed], (), outputs)
        kept = GraphDefModel(
            section.chunks, path=self.path, source=self.origin, format=self.format, output_names=outputs,
            signature=self.signature.kept([t for t in self.index.inputs if self.index.producer[t] in needed], outputs),
            fed=self._fed,
        )  # fmt: skip
        kept.choice = self.choice
        return kept

    def fed_with(self, tensors: Iterable[str]) -> GraphDefModel:
        """The model with constants as inputs, those of some tensors that are constants; the model itself if none is."""
        nodes, producer = self.index.name_to_node_map, self.index.producer
        fed = {producer[t] for t in tensors if t in producer and nodes[producer[t]].is_shared_constant}
        if not fed:
            return self
        model = GraphDefModel(
            self._chunks, path=self.path, source=self.origin, format=self.format, output_names=self._output_names,
            signature=self.signature, fed=self._fed | fed,
        )  # fmt: skip
        model.choice = self.choice
        return model

    def attributes(self, node: str) -> Mapping[str, str]:
        """The attributes of a node as text, except the value of a constant."""
        found = self._guard(lambda: self.reader.attributes(self.reader.by_name[node]))
        return {key: " ".join(str(value).split()) for key, value in found.items()}

    def device(self, node: str) -> str:
        """The device that the file pins a node to; empty if it does not."""
        return self.reader.by_name[node].device

    def quantisation(self, tensor: str) -> tuple[float, int] | None:
        """None: a GraphDef does not state the scale of a tensor."""
        return None

    def constant(self, node: str, *, limit: int = 2**16) -> Array | None:
        """The value of a small constant, see `graphsplit.formats.model.Model.constant`."""
        place = self.reader.by_name.get(node)
        if place is None or place.op != "Const" or place.end - place.start > limit:
            return None
        value = self._guard(lambda: self.reader.attribute(place, "value"))
        return None if value is None else tensor_value(value.tensor)

    # surgery

    def section(
        self,
        nodes: Sequence[str],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[str],
    ) -> tuple[GraphDefModel, Mapping[str, str]]:
        """A model of some of the nodes, see `graphsplit.formats.model.Model.section`."""
        section = self._guard(lambda: write_section(self.reader, nodes, inputs, outputs, types=self._unstated(outputs)))
        return GraphDefModel(section.chunks, output_names=[section.names[t] for t in outputs]), section.names

    def _unstated(self, outputs: Sequence[str]) -> dict[str, list[str | None]]:
        """Node → dtypes of its outputs, of custom ops that state none and of which another output than the first is fetched."""
        index, reader = self.index, self.reader
        nodes = (index.name_to_node_map[index.producer[t]] for t in outputs if not t.endswith(":0") and t in index.producer)
        custom = [n for n in nodes if op_table().get(n.op) is None and n.op not in reader.library.functions]
        unstated = [n for n in custom if reader.attribute(reader.by_name[n.name], "_output_types") is None]
        return {n.name: [index.tensors[t].dtype for t in n.outputs] for n in unstated}

    def skeleton(
        self, tensors: Iterable[str], batch: int | None = None, stated: Mapping[str, Shape] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """A small, harmless GraphDef for the inference of shapes.

        Args:
            tensors: The tensors whose shapes are asked for.
            batch: A size for every unknown leading dimension of an input.
            stated: Input → shape that somebody stated.

        Returns:
            The bytes of the GraphDef, and the names in it of those tensors that it holds.
        """
        skeleton, held = self._guard(lambda: make_skeleton(self.reader, self.index, tensors, batch, stated or {}))
        return GraphDefModel(skeleton.chunks).serialized(), {t: skeleton.names[t] for t in held}
