"""What the formats that TensorFlow loads have in common: freeze a function, tidy what came out, keep TensorFlow quiet.

The same model gives the same bytes, whatever the process did before. TensorFlow numbers its functions from a counter
of the process and writes these numbers into a graph; `tidy` takes them out again.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats.graphdef.ops import op_table

__all__ = ["first_line", "freeze_function", "loading", "tidy"]

# Attributes that name functions or gradients of the process that wrote them: of no use to inference.
_OF_THE_PROCESS = ("_gradient_op_type", "forward_function_name", "backward_function_name", "api_implements", "_original_func_name")


@contextmanager
def loading(path: Path, what: str, then: str) -> Iterator[None]:
    """Load with TensorFlow or Keras: eagerly whatever the caller's mode is, without its log lines and warnings.

    what  "TensorFlow cannot load this SavedModel"
    then  what to do about it

    Raises FormatError from whatever goes wrong inside, which for damaged files is nearly anything.
    """
    thread = threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.CRITICAL

    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    try:
        from tensorflow.python.eager.context import eager_mode

        for logger in loggers:
            logger.addFilter(of_others)
        with warnings.catch_warnings(), eager_mode():
            warnings.simplefilter("ignore")
            yield
    except GraphSplitError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise FormatError(f"{what} ({first_line(error)}); {then}", path=path) from error
    finally:
        for logger in loggers:
            logger.removeFilter(of_others)


def first_line(error: BaseException, limit: int = 300) -> str:
    """The beginning of what an error says, on one line, with its kind."""
    text = " ".join((str(error).strip().splitlines() or [""])[0].split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def freeze_function(function: Any) -> tuple[bytes, tuple[str, ...]]:
    """A ConcreteFunction as a frozen GraphDef and the tensors that it gives, in structured order."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2_as_graph

    # Not the graph of the frozen function: TensorFlow builds that by a walk over sets, so that loops come out with
    # another node order each time, and with placeholders ("unused_control_flow_input") that nobody feeds.
    _, graph_def = convert_variables_to_constants_v2_as_graph(function)
    outputs = tuple(dict.fromkeys(t.name for t in function.outputs))
    captured = {id(t) for t in function.graph.internal_captures}
    return tidy(graph_def, outputs, [t.name for t in function.inputs if id(t) not in captured]), outputs


def tidy(graph_def: Any, outputs: Iterable[str], inputs: Iterable[str]) -> bytes:
    """The bytes of a frozen GraphDef: pruned to what its outputs need, without traces of the process that made it.

    inputs  tensors that stay even where no output needs them, since whoever calls the model feeds them
    """
    by_name = {n.name: n for n in graph_def.node}
    kept: set[str] = set()
    stack = [_node(t) for t in (*outputs, *inputs)]
    while stack:
        name = stack.pop()
        if name not in kept and name in by_name:
            kept.add(name)
            stack.extend(_node(t) for t in by_name[name].input)

    made = type(graph_def)()
    made.versions.CopyFrom(graph_def.versions)
    for node in graph_def.node:
        if node.name in kept:
            copy = made.node.add()
            copy.CopyFrom(node)
            _clean(copy)
            _keep_colocation(copy, kept)
    _copy_library(made, graph_def.library)
    return bytes(made.SerializeToString(deterministic=True))


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _clean(node: Any) -> None:
    node.ClearField("experimental_debug_info")  # names of functions, with their numbers
    for key in _OF_THE_PROCESS:
        node.attr.pop(key, None)
    if "config_proto" in node.attr:  # how many devices the machine had
        node.attr["config_proto"].s = b""


def _keep_colocation(node: Any, kept: set[str]) -> None:
    """A colocation with a node that left would keep the graph from being imported."""
    if "_class" in node.attr:
        names = node.attr["_class"].list.s
        stay = [s for s in names if not s.startswith(b"loc:@") or s[5:].decode(errors="replace") in kept]
        if not stay:
            del node.attr["_class"]
        elif len(stay) < len(names):
            del names[:]
            names.extend(stay)


def _copy_library(made: Any, library: Any) -> None:
    """Copy the functions that the nodes use, in the order of their first use, named without numbers of the process."""
    functions = {f.signature.name: f for f in library.function}
    gradients = {g.function_name: g.gradient_func for g in library.gradient}
    names: dict[str, str] = {}
    taken: set[str] = set()

    def use(nodes: Sequence[Any]) -> None:
        for node in nodes:
            _each_function(node, visit)

    def visit(name: str) -> str:
        if name in functions and name not in names:
            names[name] = new = _fresh(name, taken)
            taken.add(new)
            waiting.append(name)
        return names.get(name, name)

    waiting: list[str] = []
    use(made.node)
    for name in waiting:  # grows while it is walked
        copy = made.library.function.add()
        copy.CopyFrom(functions[name])
        copy.signature.name = names[name]
        for key in _OF_THE_PROCESS:
            copy.attr.pop(key, None)
        for node in copy.node_def:
            _clean(node)
        use(copy.node_def)
        if name in gradients:
            gradient = made.library.gradient.add()
            gradient.function_name, gradient.gradient_func = names[name], visit(gradients[name])


def _each_function(node: Any, rename: Callable[[str], str]) -> None:
    """Rename the functions that a node calls, by its op or by its attributes."""
    node.op = rename(node.op)
    for key in sorted(node.attr):
        _rename_in(node.attr[key], rename)


def _rename_in(value: Any, rename: Callable[[str], str]) -> None:
    for called in [value.func] if value.HasField("func") else value.list.func:
        called.name = rename(called.name)
        for key in sorted(called.attr):
            _rename_in(called.attr[key], rename)


def _fresh(name: str, taken: set[str]) -> str:
    """``__inference_while_body_123_frozen_45`` → ``__inference_while_body``, made unique among those taken."""
    stem = re.sub(r"(_frozen)?(_\d+)+$", "", re.sub(r"_frozen_\d+$", "", name)) or name
    new, count = stem, 0
    while new in taken or op_table().get(new) is not None:
        count += 1
        new = f"{stem}_{count}"
    return new
