"""The nodes of a graph or function as they are in the frozen graph: calls inlined, handles of variables replaced.

graph      nodes keep their names, calls stay, their functions get values for handles
inline     the body of a function in place of its call: node ``c/n`` for node ``n`` of the function that ``c`` calls
function   a function that stays, whose arguments may be values now; references are ``node:output:place``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from json import loads
from pathlib import Path
from typing import NamedTuple

from graphsplit.errors import FormatError
from graphsplit.formats.freezing.handles import (
    CHANGES,
    PASSES,
    READS,
    Handle,
    attribute_bytes,
    node_bytes,
    read_instead,
    type_attribute,
)
from graphsplit.formats.freezing.reasons import ChangesVariableError, NotUnderstood
from graphsplit.formats.graphdef.library import CALLERS, FunctionRange
from graphsplit.formats.graphdef.messages import Message, message
from graphsplit.formats.graphdef.ops import op_table, port_dtypes
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import GraphError, NodeRange, attributes, fields, walk_node

__all__ = ["Body", "Emitted", "FunctionNames", "HandleTypes", "Ref", "called_function", "function_fields", "plain", "returned"]

_INLINED = {"PartitionedCall", "StatefulPartitionedCall"}
_STAYS = ("_XlaMustCompile", "_XlaCompile", "_noinline")
_BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase"}
_LOOPS = {"While", "StatelessWhile"}
_REFS = {"RefEnter", "RefExit", "RefIdentity", "RefMerge", "RefNextIteration", "RefSwitch"}
_VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
_DEEPEST = 100
_MOST = 300_000  # nodes; functions that call functions twice each may grow without end

HandleTypes = tuple[tuple[int, int, tuple[int, ...]], ...]  #: of a function's arguments: place, dtype, shape


class Ref(NamedTuple):
    """A tensor as the result refers to it, and the variable whose handle it was."""

    text: str
    handle: Handle | None = None


class Emitted(NamedTuple):
    """A node of the result.

    Attributes:
        name: Its name.
        inputs: Its inputs.
        content: Of its NodeDef.
        functions: The functions it calls, by their new names.
    """

    name: str
    inputs: tuple[str, ...]
    content: bytes
    functions: tuple[str, ...] = ()


class FunctionNames:
    """New names of functions, one for each set of arguments that are values now.

    Args:
        mark: What the names end with.
        stem: Returns a name without the numbers of the process.
    """

    def __init__(self, mark: str, stem: Callable[[str, set[str]], str]) -> None:
        self._mark, self._stem = mark, stem
        self._names: dict[tuple[str, HandleTypes], str] = {}
        self._taken: set[str] = set()
        self.origin: dict[str, tuple[str, HandleTypes]] = {}

    def __call__(self, name: str, handles: HandleTypes = ()) -> str:
        """The new name of a function."""
        key = (name, handles)
        if key not in self._names:
            stem = self._stem(name, self._taken)
            self._taken.add(stem)
            self._names[key] = f"{stem}_{self._mark}"
            self.origin[self._names[key]] = key
        return self._names[key]


class Body:
    """Nodes of a graph or of a function.

    Args:
        reader: The graph that holds them.
        nodes: The nodes.
        names: New names of functions.
        kind: "graph", "inline" or "function".
        args: Argument → what it is in the result.
        variables: Variable → its handle; in a graph only.
        taken: Names that are in use in the result.
        prefix: What new names begin with.
        waits: Control inputs of the call, for what changes something.
        depth: How many calls are around it.
        rets: Output of the function → what its body returns as it.
        control_rets: What must have run when the function returns.
        where: Its name, for messages, with a slash.

    Raises:
        NotUnderstood: TensorFlow has to be asked.
        FormatError: The graph is damaged, or has too many nodes.
    """

    def __init__(
        self,
        reader: GraphDefReader,
        nodes: Iterable[NodeRange],
        names: FunctionNames,
        kind: str,
        *,
        args: Mapping[str, Ref] | None = None,
        variables: Mapping[str, Handle] | None = None,
        taken: set[str] | None = None,
        prefix: str = "",
        waits: tuple[str, ...] = (),
        depth: int = 0,
        rets: Mapping[str, str] | None = None,
        control_rets: Iterable[str] = (),
        where: str = "",
    ) -> None:
        self._reader, self._names, self._kind = reader, names, kind
        self._args, self._variables = dict(args or {}), dict(variables or {})
        self._taken = set() if taken is None else taken
        self._prefix, self._waits, self._depth, self._where = prefix, waits, depth, where
        self._rets, self._control_rets = dict(rets or {}), tuple(control_rets)
        self._by_name = {n.name: n for n in nodes}
        self._final: dict[str, str] = {}
        if depth > _DEEPEST:
            reader.library.check_recursion()
            raise NotUnderstood(f"calls are nested more than {_DEEPEST} deep")
        for name in self._by_name:
            self._final[name] = self._fresh(prefix + name) if kind == "inline" else name
        self._find_handles()
        self._children: dict[str, Body] = {}
        if kind == "inline":
            for node in self._by_name.values():
                if function := _inlined(reader, node):
                    self._children[node.name] = self._child(node, function)

    def _fresh(self, name: str) -> str:
        if len(self._taken) > _MOST:
            raise FormatError(f"more than {_MOST:,} nodes once its functions are in place of their calls")
        new, count = name, 0
        while new in self._taken:
            count += 1
            new = f"{name}_{count}"
        self._taken.add(new)
        return new

    def _child(self, node: NodeRange, name: str) -> Body:
        function = self._reader.library.functions[name]
        args = [a.name for a in plain(function.signature.input_arg, name)]
        passed = [self.resolve(raw) for raw in node.inputs if not raw.startswith("^")]
        if len(args) != len(passed):
            raise FormatError(f"{node.name!r} passes {len(passed)} values to {name!r}, which takes {len(args)}")
        waits = tuple(f"^{c}" for raw in node.inputs if raw.startswith("^") for c in self._control(raw[1:]))
        rets, control_rets = returned(self._reader, function)
        return Body(
            self._reader,
            function.nodes,
            self._names,
            "inline",
            args=dict(zip(args, passed, strict=True)),
            taken=self._taken,
            prefix=f"{self._final[node.name]}/",
            waits=(*self._waits, *waits),
            depth=self._depth + 1,
            rets={a.name: rets[a.name] for a in function.signature.output_arg},
            control_rets=control_rets,
            where=f"{name}/",
        )

    # tensors

    def _parsed(self, raw: str) -> tuple[str, int]:
        """Node and port of an input."""
        if self._kind == "graph":
            name, port = self._reader.split_input(raw)
            return name, int(port)
        name, _, rest = raw.partition(":")
        if not rest:
            return name, 0
        output, _, place = rest.rpartition(":")
        node = self._by_name.get(name)
        if node is None or not place.isascii() or not place.isdigit():
            raise FormatError(f"a function reads {raw!r}, which is not there")
        return name, int(place) + self._offset(node, output)

    def _offset(self, node: NodeRange, output: str) -> int:
        """The port at which the output of that name begins."""
        functions = self._reader.library.functions
        if node.op in functions:
            return [a.name for a in plain(functions[node.op].signature.output_arg, node.op)].index(output)
        info, names = op_table().get(node.op), _output_names().get(node.op)
        if names is None:
            if info is None:
                raise NotUnderstood(f"{node.name!r} is a {node.op}, whose outputs are not known")
            return 0
        if info is None or output not in names:
            raise FormatError(f"{node.name!r} ({node.op}) has no output {output!r}")
        before = info.outputs[: names.index(output)]
        try:
            return len(port_dtypes(before, lambda key: self._reader.attribute(node, key), info.defaults))
        except ValueError as error:
            raise FormatError(f"node {node.name!r}: {error}") from error

    def resolve(self, raw: str) -> Ref:
        """What an input is in the result."""
        if raw in self._args:
            return self._args[raw]
        name, port = self._parsed(raw)
        if name not in self._by_name:
            raise FormatError(f"{raw!r} is read, which is not there")
        if name in self._children:
            return self._children[name].result(port)
        handle = self._variables.get(name) or self._handles.get((name, port))
        if self._kind == "function":
            node = self._by_name[name]
            return Ref(f"{name}:output:0" if node.op == "ReadVariableOp" else raw, handle)
        return Ref(self._final[name] + (f":{port}" if port else ""), handle)

    def result(self, port: int) -> Ref:
        """What an output of the function is in the result."""
        rets = list(self._rets.values())
        if port >= len(rets):
            raise FormatError(f"output {port} of a function is read, which has {len(rets)}")
        return self.resolve(rets[port])

    def _control(self, name: str) -> tuple[str, ...]:
        """The nodes to wait for in place of one."""
        if name in self._children:
            return (self._final[name],) if self._children[name]._control_rets else ()
        return (self._final[name],) if name in self._final else ()

    def _find_handles(self) -> None:
        """Which outputs of the nodes are handles: those of the ops that only pass them on."""
        self._handles: dict[tuple[str, int], Handle] = {}
        readers: dict[str, list[NodeRange]] = {}
        for node in self._by_name.values():
            if node.op in PASSES or node.op in _LOOPS:
                for raw in node.inputs:
                    if not raw.startswith("^"):
                        readers.setdefault(raw if raw in self._args else self._parsed(raw)[0], []).append(node)
        found = {*(n for n, ref in self._args.items() if ref.handle), *(n for n, h in self._variables.items() if h.resource)}
        while found:  # names of what has become a handle
            nodes = {node.name: node for name in sorted(found) for node in readers.get(name, ())}
            found = {node.name for node in nodes.values() if self._passes_on(node)}

    def _passes_on(self, node: NodeRange) -> bool:
        """Note which outputs of a node are handles since its inputs are; whether there are new ones."""
        before = len(self._handles)
        for place, raw in enumerate(r for r in node.inputs if not r.startswith("^")):
            handle = self._handle(raw)
            if handle is None:
                continue
            if node.op in _LOOPS:
                self._handles.setdefault((node.name, place), handle)
            elif place == 0 or node.op == "Merge":
                for port in (0, 1) if node.op.endswith("Switch") else (0,):
                    self._handles.setdefault((node.name, port), handle)
        return len(self._handles) > before

    def _handle(self, raw: str) -> Handle | None:
        if raw in self._args:
            return self._args[raw].handle
        name, port = self._parsed(raw)
        return self._variables.get(name) or self._handles.get((name, port))

    # nodes

    def emit(self, only: Iterable[str] | None = None) -> Iterator[Emitted]:
        """The nodes of the result, in the order of the file; `only` these of them."""
        kept = None if only is None else set(only)
        for node in self._by_name.values():
            if node.name in self._variables or (kept is not None and node.name not in kept):
                continue
            if node.name in self._children:
                child = self._children[node.name]
                yield from child.emit()
                waits = tuple(dict.fromkeys(f"^{c}" for name in child._control_rets for c in child._control(name)))
                if waits:
                    name = self._final[node.name]
                    yield Emitted(name, waits, _no_op(name, waits))
            else:
                yield from self._emit(node)

    def _emit(self, node: NodeRange) -> Iterator[Emitted]:
        name = self._final[node.name]
        data = [self.resolve(raw) for raw in node.inputs if not raw.startswith("^")]
        waits = [f"^{c}" for raw in node.inputs if raw.startswith("^") for c in self._control(raw[1:])]
        if self._waits and _changes_something(node.op):
            waits += self._waits
        inputs = tuple(dict.fromkeys(waits))
        inputs = (*(ref.text for ref in data), *inputs)
        handles = [(place, ref.handle) for place, ref in enumerate(data) if ref.handle]
        if node.op in _VARIABLES:
            raise NotUnderstood(f"the variable {node.name!r} is inside a function, or has no value")
        if handles and node.op.startswith(CHANGES):
            raise ChangesVariableError(f"{self._where}{node.name} ({node.op})")
        if node.op in READS and not handles:
            raise NotUnderstood(f"{node.name!r} ({node.op}) reads what is no variable of the graph")
        functions: list[str] = []
        changed: dict[str, bytes] = {}
        op = node.op.removeprefix("Ref") if node.op in _REFS else node.op
        resources = [(place, h) for place, h in handles if h.resource]
        if resources:
            if node.op in READS:
                axis = f"{name}/axis" + (":output:0" if self._kind == "function" else "")
                for content in read_instead(self._reader, node, name, inputs, resources[0][1], axis, waits=self._frames):
                    yield _walked(content)
                return
            if node.op in PASSES:
                changed["T"] = type_attribute("T", resources[0][1].dtype)
            elif node.op in CALLERS or node.op in self._reader.library.functions:
                changed |= self._retyped(node, resources)
            else:
                raise NotUnderstood(f"{node.name!r} ({node.op}) takes the handle of a variable")
        types = tuple((place, h.dtype, h.shape) for place, h in resources)
        if node.op in self._reader.library.functions:
            op = self._names(node.op, types)
            functions.append(op)
        if _may_name(self._reader, node):
            first = 1 if node.op in _BRANCHES else 0
            shifted = tuple((place - first, dtype, shape) for place, dtype, shape in types)
            changed |= self._renamed(node, shifted, functions)
        yield Emitted(
            name,
            inputs,
            node_bytes(self._reader, node, name, inputs, op=op, changed=changed),
            tuple(functions),
        )

    @cached_property
    def _frames(self) -> bool:
        """Whether constants must wait for something, to be inside of a loop."""
        return self._kind == "graph" and any(n.op == "Enter" for n in self._by_name.values())

    def _retyped(self, node: NodeRange, handles: list[tuple[int, Handle]]) -> dict[str, bytes]:
        """The attributes that state the dtypes of the arguments of a call."""
        if node.op in self._reader.library.functions:
            return {}
        key, first = ("T" if node.op in _LOOPS else "Tin"), (1 if node.op in _BRANCHES else 0)
        value = self._reader.attribute(node, key)
        shapes = self._reader.attribute(node, "output_shapes") if node.op in _LOOPS else None
        for place, handle in handles:
            if value is None or not 0 <= place - first < len(value.list.type):
                raise FormatError(f"{node.name!r} states other arguments than it has")
            value.list.type[place - first] = handle.dtype
            if shapes is not None and place < len(shapes.list.shape):
                shape = shapes.list.shape[place]
                shape.Clear()
                for size in handle.shape:
                    shape.dim.add(size=size)
        return {key: attribute_bytes(key, value)} | (
            {} if shapes is None else {"output_shapes": attribute_bytes("output_shapes", shapes)}
        )

    def _renamed(self, node: NodeRange, types: HandleTypes, functions: list[str]) -> dict[str, bytes]:
        """The attributes that name functions."""
        data, changed = self._reader.data, {}
        for key, _, _, start, end in attributes(data, node.start, node.end):
            if not any(number in (1, 9, 10) for number, *_ in fields(data, start, end)):
                continue
            value = self._reader.parse("AttrValue", start, end)
            if value.HasField("placeholder") and self._kind == "inline":
                raise NotUnderstood(f"{node.name!r} leaves an attribute to its caller")
            called = [value.func] if value.HasField("func") else value.list.func
            for function in called:
                self._rename(node, function, types if node.op in CALLERS else (), functions)
            if called:
                changed[key] = attribute_bytes(key, value)
        return changed

    def _rename(self, node: NodeRange, function: Message, types: HandleTypes, functions: list[str]) -> None:
        if function.name:
            if function.name not in self._reader.library.functions:
                raise GraphError(f"node {node.name!r} calls the function {function.name!r}, which is not there")
            function.name = self._names(function.name, types)
            functions.append(function.name)
        for entry in function.attr:
            inner = [entry.value.func] if entry.value.HasField("func") else entry.value.list.func
            for other in inner:
                self._rename(node, other, (), functions)


def plain(args: Iterable[Message], function: str) -> list[Message]:
    """The arguments of a function, each of which is one tensor."""
    found = list(args)
    if any(a.type_attr or a.number_attr or a.type_list_attr for a in found):
        raise NotUnderstood(f"the function {function!r} has arguments whose dtypes its callers state")
    return found


def called_function(reader: GraphDefReader, node: NodeRange) -> str:
    """The function that a call calls; empty: none that is there."""
    if node.op in reader.library.functions:
        return node.op
    value = reader.attribute(node, "f") if node.op in _INLINED else None
    return str(value.func.name) if value is not None and value.func.name in reader.library.functions else ""


def _inlined(reader: GraphDefReader, node: NodeRange) -> str:
    """The function whose body takes the place of a call; empty where the call stays."""
    name = called_function(reader, node)
    if not name:
        return ""
    entries = _own_attributes(reader, reader.library.functions[name])
    for key in _STAYS:
        value = reader.attribute(node, key) or entries.get(key)
        if value is not None and value.b:
            return ""
    return name


def _own_attributes(reader: GraphDefReader, function: FunctionRange) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for number, low, high in function_fields(reader, function):
        if number == 5:
            entry = reader.parse("AttrEntry", low, high)
            found[entry.key] = entry.value
    return found


def function_fields(reader: GraphDefReader, function: FunctionRange) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a FunctionDef."""
    _, _, _, start, end = next(fields(reader.data, function.begin, function.end))
    for number, _, _, low, high in fields(reader.data, start, end):
        yield number, low, high


def returned(reader: GraphDefReader, function: FunctionRange) -> tuple[dict[str, str], list[str]]:
    """Output → what the body returns as it, and the nodes that must have run."""
    rets: dict[str, str] = {}
    control: list[str] = []
    for number, low, high in function_fields(reader, function):
        if number in (4, 6):
            entry = reader.parse("StringEntry", low, high)
            if number == 4:
                rets[entry.key] = entry.value
            else:
                control.append(entry.value)
    for arg in function.signature.output_arg:
        if arg.name not in rets:
            raise FormatError(f"the function {function.signature.name!r} does not return its output {arg.name!r}")
    return rets, control


def _may_name(reader: GraphDefReader, node: NodeRange) -> bool:
    """Whether an attribute may name a function or leave something open: the tags of placeholder = 9 and func = 9 or 10."""
    return reader.data.find(b"R", node.start, node.end) >= 0 or reader.data.find(b"J", node.start, node.end) >= 0


def _changes_something(op: str) -> bool:
    info = op_table().get(op)
    return info is None or info.stateful or op in CALLERS


def _no_op(name: str, inputs: tuple[str, ...]) -> bytes:
    return bytes(message("NodeDef")(name=name, op="NoOp", input=inputs).SerializeToString(deterministic=True))


def _walked(content: bytes) -> Emitted:
    node = walk_node(content, 0, 0, len(content))
    return Emitted(node.name, node.inputs, content)


@cache
def _output_names() -> dict[str, list[str]]:
    found: dict[str, list[str]] = loads((Path(__file__).parent / "output_names.json").read_text(encoding="utf-8"))
    return found
