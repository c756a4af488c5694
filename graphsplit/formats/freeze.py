"""What the formats that TensorFlow loads have in common: freeze a function, tidy the result, keep TensorFlow quiet.

The same model results in the same bytes, no matter what the process did before. TensorFlow numbers its functions from a counter
of the process and writes these numbers into a graph; `tidy` removes them.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.graph.signature import Signature
from graphsplit.graph.traversal import reachable

if TYPE_CHECKING:
    from tensorflow.compat.v1 import AttrValue, GraphDef, NodeDef
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    from tensorflow.types.experimental import ConcreteFunction

__all__ = ["freeze_function", "loading", "on_one_line", "tidy"]

# Attributes that name functions or gradients of the process that wrote them; inference does not need them.
_OF_THE_PROCESS = ("_gradient_op_type", "forward_function_name", "backward_function_name", "api_implements", "_original_func_name")


@contextmanager
def loading(path: Path | None, what: str, then: str) -> Iterator[None]:
    """Load with TensorFlow or Keras: eagerly in any mode of the caller, without log lines and warnings.

    Args:
        path: The file, for errors.
        what: What is wrong if loading fails: "TensorFlow cannot load this SavedModel".
        then: What to do about it.

    Raises:
        FormatError: Anything went wrong inside; damaged files raise nearly every kind of error.
    """
    from tensorflow.python.eager.context import eager_mode

    thread = threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.CRITICAL

    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    try:
        for logger in loggers:
            logger.addFilter(of_others)
        with warnings.catch_warnings(), eager_mode():  # the first concerns the whole process, which cannot be avoided
            warnings.simplefilter("ignore")
            yield
    except (GraphSplitError, MemoryError):
        raise
    except Exception as error:
        raise FormatError(f"{what} ({on_one_line(error)}); {then}", path=path) from error
    finally:
        for logger in loggers:
            logger.removeFilter(of_others)


def on_one_line(error: BaseException, limit: int = 300) -> str:
    """The kind and the beginning of the message of an error, on one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def freeze_function(function: ConcreteFunction, names: Sequence[str] = ()) -> tuple[bytes, tuple[str, ...], Signature]:
    """A ConcreteFunction as a frozen GraphDef, its output tensors in structured order, and the keys of both.

    Args:
        function: The function.
        names: Names of its outputs, where it returns no mapping.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2_as_graph

    # Not the graph of the frozen function: TensorFlow builds that by iterating over sets, so that loops have another
    # node order each time, and placeholders ("unused_control_flow_input") that nothing feeds.
    _, graph_def = convert_variables_to_constants_v2_as_graph(function)
    outputs = tuple(dict.fromkeys(t.name for t in function.outputs))
    captured = {id(t) for t in function.graph.internal_captures}
    inputs = [t.name for t in function.inputs if id(t) not in captured]
    args, kwargs = function.structured_input_signature
    signature = Signature(
        _keyed(kwargs if not args else args[0] if len(args) == 1 and not kwargs else None, (), inputs),
        _keyed(function.structured_outputs, names, [t.name for t in function.outputs]),
    )
    return tidy(graph_def, outputs, inputs), outputs, signature


def _keyed(structure: object, names: Sequence[str], tensors: Sequence[str]) -> dict[str, str]:
    """Key → tensor, where a structure of tensors is a flat mapping or its members have names of their own; else nothing."""
    if isinstance(structure, Mapping) and all(isinstance(key, str) for key in structure):
        names = sorted(structure)  # the order in which TensorFlow flattens a mapping
    return dict(zip(names, tensors, strict=True)) if len(names) == len(tensors) == len(set(names)) else {}


def tidy(graph_def: GraphDef, outputs: Iterable[str], inputs: Iterable[str]) -> bytes:
    """The bytes of a frozen GraphDef: pruned to what its outputs need, without traces of the process that wrote it.

    Args:
        graph_def: The graph; it is not changed.
        outputs: Tensors to keep.
        inputs: Tensors to keep even if no output needs them, since callers of the model feed them.
    """
    by_name = {n.name: n for n in graph_def.node}
    kept = reachable(map(_node, (*outputs, *inputs)), lambda n: map(_node, by_name[n].input) if n in by_name else ())
    pruned = type(graph_def)()
    pruned.versions.CopyFrom(graph_def.versions)
    for node in graph_def.node:
        if node.name in kept:
            copy = pruned.node.add()
            copy.CopyFrom(node)
            _clean(copy)
            _keep_colocation(copy, kept)
    _copy_library(pruned, graph_def.library)
    return bytes(pruned.SerializeToString(deterministic=True))


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _clean(node: NodeDef) -> None:
    node.ClearField("experimental_debug_info")  # names of functions, with their numbers
    _forget(node.attr)
    if "config_proto" in node.attr:  # how many devices the machine had
        node.attr["config_proto"].s = b""


def _forget(attributes: MutableMapping[str, AttrValue]) -> None:
    for key in _OF_THE_PROCESS:
        if key in attributes:
            del attributes[key]


def _keep_colocation(node: NodeDef, kept: set[str]) -> None:
    """A colocation with a node that left would keep the graph from being imported."""
    if "_class" in node.attr:
        names = node.attr["_class"].list.s
        stay = [s for s in names if not s.startswith(b"loc:@") or s[5:].decode(errors="replace") in kept]
        if not stay:
            del node.attr["_class"]
        elif len(stay) < len(names):
            del names[:]
            names.extend(stay)


def _copy_library(pruned: GraphDef, library: FunctionDefLibrary) -> None:
    """Copy the functions that the nodes use, in the order of their first use, named without numbers of the process.

    ``__inference_while_body_123_frozen_45`` → ``__inference_while_body_0f3a9c21``: one checksum of all functions replaces
    the numbers, so that models with different functions never have the same names in one process.
    """
    functions = {f.signature.name: f for f in library.function}
    gradients = {g.function_name: g.gradient_func for g in library.gradient}
    names: dict[str, str] = {}

    def visit(name: str) -> str:
        if name in functions and name not in names:
            names[name] = _fresh(name, set(names.values()))
            waiting.append(name)
        return names.get(name, name)

    waiting: list[str] = []
    _rename_functions(pruned.node, visit)
    for name in waiting:  # grows during the iteration
        copy = pruned.library.function.add()
        copy.CopyFrom(functions[name])
        copy.signature.name = names[name]
        _forget(copy.attr)
        for node in copy.node_def:
            _clean(node)
        _rename_functions(copy.node_def, visit)
        if name in gradients:
            gradient = pruned.library.gradient.add()
            gradient.function_name, gradient.gradient_func = names[name], visit(gradients[name])

    ours = set(names.values())
    total = hashlib.sha256(pruned.library.SerializeToString(deterministic=True)).hexdigest()[:8]

    def marked(name: str) -> str:
        return f"{name}_{total}" if name in ours else name

    _rename_functions(pruned.node, marked)
    for function in pruned.library.function:
        function.signature.name = marked(function.signature.name)
        _rename_functions(function.node_def, marked)
    for gradient in pruned.library.gradient:
        gradient.function_name, gradient.gradient_func = marked(gradient.function_name), marked(gradient.gradient_func)


def _rename_functions(nodes: Iterable[NodeDef], rename: Callable[[str], str]) -> None:
    """Rename the functions that nodes call, by their op or by their attributes."""
    for node in nodes:
        node.op = rename(node.op)
        if sum([_rename_in(node.attr[key], rename) for key in sorted(node.attr)]) and "_output_shapes" in node.attr:
            # Freezing turns the handles that a While passes on into values, but leaves their stated shapes unchanged;
            # such a graph cannot be imported.
            del node.attr["_output_shapes"]


def _rename_in(value: AttrValue, rename: Callable[[str], str]) -> int:
    """Rename the functions that an attribute names; returns their number."""
    called = [value.func] if value.HasField("func") else value.list.func
    for function in called:
        function.name = rename(function.name)
        for key in sorted(function.attr):
            _rename_in(function.attr[key], rename)
    return len(called)


def _fresh(name: str, taken: set[str]) -> str:
    """The name without the numbers at its end, made unique among those taken."""
    stem = re.sub(r"(_\d+)+$", "", re.sub(r"_frozen_\d+$", "", name)) or name
    new, count = stem, 0
    while new in taken:
        count += 1
        new = f"{stem}_{count}"
    return new
