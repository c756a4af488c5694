"""What a caller binds decides what a function does: attributes of PrintV2 that a function leaves open, bound in every legal way.

call, stream="file:///x" ─▶ … ─▶ prints: PrintV2, output_stream=$stream
"""

from __future__ import annotations

import time

import pytest

from graphsplit.formats.graphdef.model import GraphDefModel
from tests.formats import raw
from tests.formats.raw import attr, bound, field, func, text

FILE, FINE = text("file:///tmp/x"), text("stderr")
X = raw.placeholder("x", raw.FLOAT, -1)
PRINTS = raw.function("prints", [raw.node("p", "PrintV2", "x", attrs={"output_stream": bound("stream")})])


def outside(call: bytes, *functions: bytes, gradients: dict[str, str] | None = None) -> tuple[str, ...]:
    library = raw.library(PRINTS, *functions, gradients=gradients or {})
    return GraphDefModel([raw.graph(X, call, library=library)]).reaches_outside


def partitioned(name: str, f: bytes) -> bytes:
    return raw.node(name, "PartitionedCall", "x", attrs={"f": f})


def passing(name: str, *nodes: bytes, **more: dict[str, bytes]) -> bytes:
    return raw.function(name, nodes, **more)


WAYS = {
    "an op that is the function": lambda s: (raw.node("c", "prints", "x", attrs={"stream": s}),),
    "an attribute of a call": lambda s: (partitioned("c", func("prints", {"stream": s})),),
    "a list of functions": lambda s: (
        raw.node("c", "Case", "x", attrs={"branches": raw.listed(field(9, func("prints", {"stream": s})[2:]))}),
    ),
    "two calls": lambda s: (
        partitioned("c", func("outer", {"a": s})),
        passing("outer", partitioned("i", func("prints", {"stream": bound("a")}))),
    ),
    "an op, then a call, then an op": lambda s: (
        raw.node("c", "first", "x", attrs={"a": s}),
        passing("first", partitioned("i", func("second", {"b": bound("a")}))),
        passing("second", raw.node("i", "prints", "x", attrs={"stream": bound("b")})),
    ),
    "a constant within a function": lambda s: (
        partitioned("c", func("outer")),
        passing("outer", raw.node("i", "prints", "x", attrs={"stream": s})),
    ),
    "a function that is passed on": lambda s: (
        partitioned("c", func("outer", {"g": func("prints", {"stream": s})})),
        passing("outer", partitioned("i", bound("g"))),
    ),
    "a function that is passed on with what another binds": lambda s: (
        partitioned("c", func("outer", {"a": s})),
        passing("outer", partitioned("i", func("inner", {"g": func("prints", {"stream": bound("a")})}))),
        passing("inner", partitioned("i", bound("g"))),
    ),
    "a default of the signature": lambda s: (
        partitioned("c", func("outer")),
        passing("outer", raw.node("i", "prints", "x", attrs={"stream": bound("a")}), defaults={"a": s}),
    ),
    "a function as a default": lambda s: (
        partitioned("c", func("outer")),
        passing("outer", partitioned("i", bound("g")), defaults={"g": func("prints", {"stream": s})}),
    ),
    "an implementation that Grappler may choose": lambda s: (
        partitioned("c", func("gpu", {"a": s})),
        passing("gpu", attrs={"api_implements": text("same"), "api_preferred_device": text("GPU")}),
        passing(
            "cpu",
            raw.node("i", "prints", "x", attrs={"stream": bound("a")}),
            attrs={"api_implements": text("same"), "api_preferred_device": text("CPU")},
        ),
    ),
    "written twice, the last counts": lambda s: (
        raw.node("c", "PartitionedCall", "x", more=b"".join(attr("f", func("prints", {"stream": v})) for v in (FINE, s))),
    ),
    "bound twice, the last counts": lambda s: (
        partitioned("c", func("prints", {"stream": FINE}) + field(10, field(2, field(1, "stream") + field(2, s)))),
    ),
    "through a function that calls itself": lambda s: (
        partitioned("c", func("loops", {"a": s})),
        passing("loops", *(partitioned(f, func(f, {"a": bound("a"), "stream": bound("a")})) for f in ("loops", "prints"))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_a_caller_binds_is_seen(way: str) -> None:
    assert outside(*WAYS[way](FILE)) == ("c",)
    assert outside(*WAYS[way](FINE)) == ()


def test_what_a_gradient_is_called_with_is_seen() -> None:
    call = raw.node("c", "SymbolicGradient", "x", attrs={"f": func("smooth", {"stream": FILE})})
    assert outside(call, passing("smooth"), gradients={"smooth": "prints"}) == ("c",)


@pytest.mark.parametrize("value", [None, bound("nobody"), raw.integer(1), raw.listed(field(2, "stderr")), b""])
def test_what_nobody_binds_to_a_string_may_be_anything(value: bytes | None) -> None:
    attrs = {} if value is None else {"stream": value}
    assert outside(raw.node("c", "prints", "x", attrs=attrs)) == ("c",)
    assert outside(partitioned("c", func("prints", attrs))) == ("c",)
    if value is not None:
        assert outside(raw.node("c", "PrintV2", "x", attrs={"output_stream": value})) == ("c",)


def test_a_default_counts_only_where_the_caller_binds_nothing() -> None:
    for default, bind, reaches in ((FILE, FINE, ()), (FINE, FILE, ("c",)), (FILE, None, ("c",)), (FINE, None, ())):
        inner = raw.function("inner", [raw.node("p", "PrintV2", "x", attrs={"output_stream": bound("s")})], defaults={"s": default})
        call = partitioned("c", func("inner", {} if bind is None else {"s": bind}))
        assert outside(call, inner) == reaches


def test_only_the_caller_that_binds_a_file_is_named() -> None:
    outer = passing("outer", raw.node("i", "prints", "x", attrs={"stream": bound("a")}))
    calls = [partitioned(name, func("outer", {"a": s})) for name, s in (("one", FINE), ("two", FILE), ("three", FINE))]
    graph = raw.graph(X, *calls, library=raw.library(PRINTS, outer))
    assert GraphDefModel([graph]).reaches_outside == ("two",)


def test_a_function_that_is_never_called_reaches_nothing() -> None:
    graph = raw.graph(X, raw.identity("y", "x"), library=raw.library(PRINTS, passing("outer", partitioned("i", func("prints")))))
    assert GraphDefModel([graph]).reaches_outside == ()


def test_more_bindings_than_anybody_writes_may_be_anything() -> None:
    """Two strings, swapped and repeated by functions that call each other, have 2**16 combinations: bounded in time and memory."""
    keys = [f"k{i}" for i in range(16)]
    functions = [
        passing(
            f"f{n}",
            partitioned("a", func(f"f{(n + 1) % 40}", {k: bound(keys[(i + 1) % 16]) for i, k in enumerate(keys)})),
            partitioned("b", func(f"f{(n + 1) % 40}", {**{k: bound(k) for k in keys}, "k0": bound("k1")})),
            partitioned("d", func(f"f{(n + 1) % 40}", {**{k: bound(k) for k in keys}, "k3": bound("k7"), "k2": text("log(info)")})),
            raw.node("p", "PrintV2", "x", attrs={"output_stream": bound("k5")}),
        )
        for n in range(40)
    ]
    call = partitioned("c", func("f0", {k: FINE if i % 2 else text("stdout") for i, k in enumerate(keys)}))
    start = time.monotonic()
    assert outside(call, *functions) == ("c",)
    assert time.monotonic() - start < 20
