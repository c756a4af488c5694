"""Large GraphDefs of awkward shapes, as bytes, built without TensorFlow: whatever the shape, planning takes time in proportion.

switches    x ─▶ Switch ─▶ Switch ─▶ …                 conds inside conds, never joined
conds       x ─▶ Switch ─▶ … ─▶ Switch ─▶ Merge ─▶ … ─▶ Merge
enters      x ─▶ Enter ─▶ Enter ─▶ …                   while frames inside while frames
comb        a_1 ─▶ a_2 ─▶ a_3 ─▶ …                     each tooth is read after the cut
             │      │      │
            b_1 ─▶ b_2 ─▶ b_3 ─▶ …
butterfly   layers of nodes, of which each reads two of the layer before it
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from graphsplit.formats.graphdef.messages import dtype_number, message
from graphsplit.formats.graphdef.wire import encode_field

__all__ = ["SHAPES", "Shape"]


@dataclass(frozen=True)
class Shape:
    """A graph and how it is cut.

    Attributes:
        data: The bytes of the GraphDef.
        targets: Where to cut.
        repair: What to do with tensors that cross unnamed.
    """

    data: bytes
    targets: tuple[str, ...]
    repair: str = "auto"


class _Writer:
    """NodeDefs, one after the other, and functions."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.functions: list[bytes] = []
        self._attributes = {
            name: encode_field(5, message("AttrEntry")(key=name, value=value).SerializeToString())
            for name, value in {
                "T": message("AttrValue")(type=dtype_number("float32")),
                "dtype": message("AttrValue")(type=dtype_number("float32")),
            }.items()
        }

    def __len__(self) -> int:
        return len(self.nodes)

    def node(self, name: str, op: str, *inputs: str, attributes: Iterable[tuple[str, object]] = (), dtype: str = "T") -> str:
        """Add a node of float32; its name."""
        self.nodes.append(encode_field(1, self.body(name, op, inputs, attributes, dtype)))
        return name

    def body(
        self, name: str, op: str, inputs: Iterable[str], attributes: Iterable[tuple[str, object]] = (), dtype: str = "T"
    ) -> bytes:
        """The content of a NodeDef."""
        pieces = [encode_field(1, name.encode()), encode_field(2, op.encode()), *(encode_field(3, i.encode()) for i in inputs)]
        pieces.append(self._attributes[dtype])
        for key, value in attributes:
            stated = message("AttrValue")()
            if isinstance(value, bytes):
                stated.s = value
            elif isinstance(value, int):
                stated.i = value
            else:
                stated.CopyFrom(value)
            pieces.append(encode_field(5, message("AttrEntry")(key=key, value=stated).SerializeToString()))
        return b"".join(pieces)

    def input(self, name: str = "x") -> str:
        """Add an input."""
        return self.node(name, "Placeholder", dtype="dtype")

    def chain(self, count: int, last: str, stem: str = "n", op: str = "Relu") -> list[str]:
        """Add a chain; the names of its nodes."""
        names = []
        for number in range(count):
            last = self.node(f"{stem}{number}", op, last)
            names.append(last)
        return names

    def function(self, name: str, *bodies: bytes) -> None:
        """Add a library function that holds some nodes."""
        signature = message("OpDef")(name=name)
        self.functions.append(
            encode_field(1, encode_field(1, signature.SerializeToString()) + b"".join(encode_field(3, b) for b in bodies))
        )

    def data(self, *, reverse: bool = False) -> bytes:
        """The GraphDef."""
        library = encode_field(2, b"".join(self.functions)) if self.functions else b""
        nodes = reversed(self.nodes) if reverse else self.nodes
        return b"".join([*nodes, library, encode_field(4, message("VersionDef")(producer=1087).SerializeToString())])


def _function(name: str) -> object:
    return message("AttrValue")(func=message("NameAttrList")(name=name))


def chain(nodes: int) -> Shape:
    w = _Writer()
    names = w.chain(nodes - 2, w.input())
    w.node("out", "Identity", names[-1])
    return Shape(w.data(), (names[nodes // 2],))


def reversed_chain(nodes: int) -> Shape:
    """Every reader before what it reads."""
    w = _Writer()
    names = w.chain(nodes - 2, w.input())
    w.node("out", "Identity", names[-1])
    return Shape(w.data(reverse=True), (names[nodes // 2],))


def switches(nodes: int) -> Shape:
    w = _Writer()
    first = last = w.node("first", "Relu", w.input())
    for number in range((nodes - 3) // 2):
        w.input(f"p{number}")
        last = w.node(f"s{number}", "Switch", last if number == 0 else f"{last}:1", f"p{number}")
    w.node("out", "Identity", f"{last}:1")
    w.node("beside", "Identity", "first")
    return Shape(w.data(), (first,))


def conds(nodes: int, *, reverse: bool = False) -> Shape:
    """Conds inside conds, each joined by its Merge."""
    w = _Writer()
    first = last = w.node("first", "Relu", w.input())
    depth = (nodes - 4) // 4
    for number in range(depth):
        w.node(f"p{number}", "Placeholder", dtype="dtype")
        w.node(f"s{number}", "Switch", last if number == 0 else f"{last}:1", f"p{number}")
        w.node(f"e{number}", "Relu", f"s{number}")
        last = f"s{number}"
    last = f"{last}:1"
    for number in reversed(range(depth)):
        last = w.node(f"m{number}", "Merge", f"e{number}", last, attributes=[("N", 2)])
    w.node("then", "Relu", last)
    w.node("out", "Identity", "then")
    return Shape(w.data(reverse=reverse), (first,))


def conds_reversed(nodes: int) -> Shape:
    return conds(nodes, reverse=True)


def conds_in_turn(nodes: int) -> Shape:
    """Conds one after the other."""
    w = _Writer()
    first = last = w.node("first", "Relu", w.input())
    for number in range((nodes - 3) // 5):
        w.input(f"p{number}")
        w.node(f"s{number}", "Switch", last, f"p{number}")
        w.node(f"a{number}", "Relu", f"s{number}")
        w.node(f"b{number}", "Relu", f"s{number}:1")
        last = w.node(f"m{number}", "Merge", f"a{number}", f"b{number}", attributes=[("N", 2)])
    w.node("out", "Identity", last)
    return Shape(w.data(), (first,))


def enters(nodes: int) -> Shape:
    w = _Writer()
    first = last = w.node("first", "Relu", w.input())
    for number in range(nodes - 3):
        last = w.node(f"e{number}", "Enter", last, attributes=[("frame_name", f"f{number}".encode())])
    w.node("out", "Identity", last)
    w.node("beside", "Identity", "first")
    return Shape(w.data(), (first,))


def loops(nodes: int) -> Shape:
    """While frames inside while frames, left again."""
    w = _Writer()
    first = last = w.node("first", "Relu", w.input())
    depth = (nodes - 3) // 2
    for number in range(depth):
        last = w.node(f"e{number}", "Enter", last, attributes=[("frame_name", f"f{number}".encode())])
    for number in range(depth):
        last = w.node(f"x{number}", "Exit", last)
    w.node("out", "Identity", last)
    return Shape(w.data(), (first,))


def _comb(nodes: int, repair: str, *, first: str, backwards: bool = False) -> Shape:
    w = _Writer()
    teeth = (nodes - 3) // 2
    w.node("first", first, w.input())
    back = w.chain(teeth, "first", "a", "Tanh")
    w.node("main", "Relu", back[-1])
    last = "main"
    for number in reversed(range(teeth)) if backwards else range(teeth):
        last = w.node(f"b{number}", "AddV2", last, back[number])
    return Shape(w.data(), ("main",), repair)


def comb(nodes: int) -> Shape:
    return _comb(nodes, "auto", first="Relu")


def comb_replicate(nodes: int) -> Shape:
    return _comb(nodes, "replicate", first="Relu")


def comb_replicate_backwards(nodes: int) -> Shape:
    return _comb(nodes, "replicate", first="Relu", backwards=True)


def comb_random_backwards(nodes: int) -> Shape:
    """A comb of which nothing can be recomputed, since it begins at random numbers."""
    return _comb(nodes, "replicate", first="Multinomial", backwards=True)


def many_readers(nodes: int) -> Shape:
    w = _Writer()
    hub = w.node("hub", "Relu", w.input())
    for number in range(nodes - 2):
        w.node(f"r{number}", "Relu", hub)
    return Shape(w.data(), ("r0",))


def many_inputs(nodes: int) -> Shape:
    w = _Writer()
    x = w.input()
    names = [w.node(f"n{number}", "Relu", x) for number in range(nodes - 3)]
    w.node("hub", "AddN", *names, attributes=[("N", len(names))])
    w.node("out", "Relu", "hub")
    return Shape(w.data(), ("hub",))


def many_constants(nodes: int) -> Shape:
    """Constants that wait for one another."""
    w = _Writer()
    x, last = w.input(), ""
    for number in range(nodes - 4):
        last = w.node(f"c{number}", "Const", *([f"^{last}"] if last else []), dtype="dtype")
    w.node("a", "AddV2", x, last)
    w.node("b", "AddV2", "a", last)
    w.node("out", "Tanh", "b", f"^{last}")
    return Shape(w.data(), ("a",), "replicate")


def functions(nodes: int) -> Shape:
    """Functions that call one another, a tenth as many as nodes, and nodes that each call one of them."""
    w = _Writer()
    count = nodes // 10
    for number in range(count):
        called = [w.body("n", "PartitionedCall", [], [("f", _function(f"f{number + 1}"))])] if number + 1 < count else []
        w.function(f"f{number}", *called, w.body("m", f"Custom{number}", []), w.body("r", "RandomUniform", []))
    last = w.input()
    names = []
    for number in range(nodes - count - 2):
        last = w.node(
            f"n{number}", "PartitionedCall", last, attributes=[("f", _function(f"f{number % count}")), ("Tout", _floats())]
        )
        names.append(last)
    w.node("out", "Identity", last)
    return Shape(w.data(), (names[len(names) // 2],))


def _floats() -> object:
    value = message("AttrValue")()
    value.list.type.append(dtype_number("float32"))
    return value


def queues_in_functions(nodes: int) -> Shape:
    """As `functions`, where each function takes from a queue of its own that nothing fills, and the first fills all."""
    w = _Writer()
    count = nodes // 10
    shared = lambda n: [("shared_name", f"q{n}".encode())]  # noqa: E731
    for number in range(count):
        called = [w.body("n", "StatefulPartitionedCall", [], [("f", _function(f"f{number + 1}"))])] if number + 1 < count else []
        w.function(f"f{number}", *called, w.body("m", "Unstage", [], shared(number)), w.body("s", "Stage", [], shared(number)))
    last = w.node("first", "Relu", w.input())
    for number in range(nodes - count - 3):
        attributes = [("f", _function(f"f{number % count}")), ("Tout", _floats())]
        last = w.node(f"n{number}", "StatefulPartitionedCall", last, attributes=attributes)
    w.node("out", "Identity", last)
    return Shape(w.data(), ("first",))


def shared_names(nodes: int) -> Shape:
    """Pairs of nodes that share state by name alone."""
    w = _Writer()
    first = w.node("first", "Relu", w.input())
    for number in range((nodes - 3) // 2):
        w.node(f"s{number}", "Stage", first, attributes=[("shared_name", f"q{number}".encode()), ("dtypes", _floats())])
        w.node(f"u{number}", "Unstage", attributes=[("shared_name", f"q{number}".encode()), ("dtypes", _floats())])
    w.node("out", "Identity", first)
    return Shape(w.data(), ("first",))


def takers(nodes: int) -> Shape:
    """Nodes of one queue that take from it, one after the other, and as many that fill it afterwards."""
    w = _Writer()
    last = w.node("first", "Relu", w.input())
    half = (nodes - 3) // 2
    same = [("shared_name", b"q"), ("dtypes", _floats())]
    for number in range(half):
        last = w.node(f"u{number}", "Unstage", f"^{last}", attributes=same)
    for number in range(half):
        w.node(f"s{number}", "Stage", last, attributes=same)
    w.node("out", "Identity", "first", f"^{last}")
    return Shape(w.data(), ("first",))


def random_ops(nodes: int) -> Shape:
    """State after state, ordered by control inputs across the cut that reach nothing."""
    w = _Writer()
    last = w.node("first", "Relu", w.input())
    third = (nodes - 3) // 3
    for number in range(third):
        last = w.node(
            f"s{number}", "Multinomial", last, attributes=[("output_dtype", message("AttrValue")(type=dtype_number("float32")))]
        )
    orders = [w.node(f"o{number}", "NoOp", f"^s{number}") for number in range(third)]
    w.node("main", "Relu", last, *(f"^{name}" for name in orders))
    for number in range(third):
        w.node(f"p{number}", "Relu", "main", f"^o{number}")
    return Shape(w.data(), ("main",))


def many_outputs(nodes: int) -> Shape:
    w = _Writer()
    last = w.input()
    names = []
    for number in range(nodes // 2):
        last = w.node(f"n{number}", "Relu", last)
        names.append(w.node(f"o{number}", "Identity", last))
    return Shape(w.data(), tuple(names[: len(names) // 2]))


def scopes(nodes: int) -> Shape:
    """Names of many scopes inside one another; the longest name has 60,000 of them."""
    w = _Writer()
    deep = "/".join(["a"] * 60_001)
    last = w.node(deep, "Relu", w.input())
    names = [last := w.node(f"{'s/' * (number % 500)}n{number}", "Relu", last) for number in range(nodes - 3)]
    w.node("out", "Identity", last)
    return Shape(w.data(), (names[len(names) // 2],))


def ladder(nodes: int) -> Shape:
    """Two ways at every step, so that the paths are 2 ** (nodes / 2)."""
    w = _Writer()
    a = b = w.input()
    names = []
    for number in range((nodes - 2) // 2):
        a, b = w.node(f"a{number}", "AddV2", a, b), w.node(f"b{number}", "Mul", a, b)
        names.append(a)
    w.node("out", "AddV2", a, b)
    return Shape(w.data(), (names[len(names) // 2],))


def butterfly(nodes: int) -> Shape:
    w = _Writer()
    wide = 1 << max(2, (nodes // 16).bit_length() - 1)
    layer = [w.input(f"x{number}") for number in range(wide)]
    step = 1
    while len(w) + wide < nodes:
        layer = [w.node(f"l{len(w)}", "AddV2", layer[n], layer[n ^ step]) for n in range(wide)]
        step = step * 2 % wide or 1
    return Shape(w.data(), (layer[0],))


def switch_mesh(nodes: int) -> Shape:
    """Conds of many predicates whose branches are mixed at random."""
    w, rng = _Writer(), random.Random(0)
    first = w.node("first", "Relu", w.input())
    wide = max(8, nodes // 30)
    layer = []
    for number in range(wide):
        w.input(f"p{number}")
        layer.append(w.node(f"s{number}", "Switch", first, f"p{number}"))
    while len(w) + wide < nodes:
        layer = [w.node(f"l{len(w)}", "AddV2", a, b) for a, b in zip(layer, rng.sample(layer, wide), strict=True)]
    w.node("beside", "Identity", "first")
    return Shape(w.data(), ("first",))


def networks(nodes: int) -> Shape:
    """Neural ops and host ops between which there are many ways, as many as there are nodes."""
    w = _Writer()
    x = w.input()
    conv = w.node("conv", "Conv2D", x, x)
    for number in range((nodes - 2) // 4):
        a = w.node(f"a{number}", "Tanh", conv)
        b = w.node(f"b{number}", "Relu", a)
        c = w.node(f"c{number}", "Sigmoid", b)
        w.node(f"t{number}", "NonMaxSuppressionV3", c)
    return Shape(w.data(), (conv,))


def network_chain(nodes: int) -> Shape:
    """Host work before and after a network, and long ways between them."""
    w = _Writer()
    third = nodes // 3
    a = w.chain(third, w.node("decode", "DecodeJpeg", w.input()), "a")
    b = w.chain(third, w.node("conv", "Conv2D", a[-1], a[-1]), "b", "Tanh")
    c = w.node("nms", "NonMaxSuppressionV3", b[-1])
    w.chain(third, c, "c")
    return Shape(w.data(), (b[-1],))


def network_ladder(nodes: int) -> Shape:
    """As `ladder`, between a network and the host."""
    w = _Writer()
    a = b = conv = w.node("conv", "Conv2D", w.input(), "x")
    for number in range((nodes - 4) // 2):
        a, b = w.node(f"a{number}", "AddV2", a, b), w.node(f"b{number}", "Mul", a, b)
    w.node("nms", "NonMaxSuppressionV3", a, b)
    return Shape(w.data(), (conv,))


def network_butterfly(nodes: int) -> Shape:
    """As `butterfly`, between networks and the host."""
    w = _Writer()
    wide = 1 << max(2, (nodes // 16).bit_length() - 1)
    x = w.input()
    layer = [w.node(f"conv{number}", "Conv2D", x, x) for number in range(wide)]
    first, step = layer[0], 1
    while len(w) + 2 * wide < nodes:
        layer = [w.node(f"l{len(w)}", "AddV2", layer[n], layer[n ^ step]) for n in range(wide)]
        step = step * 2 % wide or 1
    for number, name in enumerate(layer):
        w.node(f"nms{number}", "NonMaxSuppressionV3", name)
    return Shape(w.data(), (first,))


#: Each shape by name; called with the number of nodes.
SHAPES: dict[str, Callable[[int], Shape]] = {
    f.__name__: f
    for f in (
        chain, reversed_chain, switches, conds, conds_reversed, conds_in_turn, switch_mesh, enters, loops, comb, comb_replicate,
        comb_replicate_backwards, comb_random_backwards, many_readers, many_inputs, many_constants, functions,
        queues_in_functions, shared_names, takers, random_ops, many_outputs, scopes, ladder, butterfly, networks, network_chain,
        network_ladder, network_butterfly,
    )
}  # fmt: skip
