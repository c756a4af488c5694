"""GraphDefs of any size as bytes, made without TensorFlow: a chain with skip edges and constants, then a loop, then more chain.

image ─▶ Relu ─▶ AddV2 ─▶ Mul ─▶ … ─▶ Relu ─▶ [Enter ─▶ Merge ─▶ Switch ─▶ … ─▶ NextIteration] ─▶ Exit ─▶ … ─▶ result
          │        ▲ const  ▲ const     ▲
          └─────────────────────────────┘ one node in eight also reads what was made sixteen steps before it
"""

from __future__ import annotations

from graphsplit.formats.graphdef.messages import dtype_number, message

__all__ = ["chain"]

_SKIP = 16
_LOOP = 10  # one node in ten is inside of the loop


class _Graph:
    """Nodes, one after the other."""

    def __init__(self) -> None:
        self.message = message("GraphDef")()
        self.float32, self.bool, self.int32 = dtype_number("float32"), dtype_number("bool"), dtype_number("int32")

    def __len__(self) -> int:
        return len(self.message.node)

    def add(self, name: str, op: str, *inputs: str, dtype: str = "T", **attributes: object) -> str:
        """Add a node of float32; its name."""
        node = self.message.node.add(name=name, op=op, input=inputs)
        node.attr.add(key=dtype).value.type = self.float32
        for key, value in attributes.items():
            setattr(node.attr.add(key=key).value, "i" if isinstance(value, int) else "s", value)
        return name

    def const(self, name: str, values: int = 4) -> str:
        """Add a constant of some values."""
        self.add(name, "Const", dtype="dtype")
        tensor = self.message.node[-1].attr.add(key="value").value.tensor
        tensor.dtype = self.float32
        tensor.tensor_shape.dim.add(size=values)
        tensor.tensor_content = bytes(4 * values)
        return name

    def link(self, name: str, number: int, recent: list[str]) -> str:
        """The next node of a chain, after the last of `recent`."""
        if number % 8 == 7 and len(recent) >= _SKIP:
            made = self.add(name, "AddV2", recent[-1], recent[-_SKIP])
        elif number % 2:
            made = self.add(name, "Mul", recent[-1], self.const(f"{name}/scale"))
        else:
            made = self.add(name, "Relu", recent[-1])
        recent.append(made)
        return made

    def loop(self, count: int, value: str) -> str:
        """A while frame around a chain; the tensor that leaves it."""
        frame = {"frame_name": b"loop/frame", "parallel_iterations": 10}
        enter = self.add("loop/Enter", "Enter", value, **frame)
        merge = self.add("loop/Merge", "Merge", enter, "loop/NextIteration", N=2)
        limit = self.add("loop/limit/Enter", "Enter", self.const("loop/limit", 1), **frame)
        less = self.add("loop/Less", "Less", merge, limit)
        self.message.node.add(name="loop/LoopCond", op="LoopCond", input=[less])
        switch = self.add("loop/Switch", "Switch", merge, "loop/LoopCond")
        last = self.add("loop/Identity", "Identity", f"{switch}:1")
        for number in range(count):
            last = self.add(f"loop/body_{number}", "Relu", last)
        self.add("loop/NextIteration", "NextIteration", last)
        return self.add("loop/Exit", "Exit", switch)


def chain(nodes: int) -> tuple[bytes, str]:
    """A graph of so many nodes, give or take one, and the name of the tensor in the middle of its chain, before the loop."""
    if nodes < 200:
        raise ValueError(f"{nodes} nodes are too few for a chain with a loop; take at least 200")
    graph = _Graph()
    recent = [graph.add("image", "Placeholder", dtype="dtype")]
    graph.message.node[0].attr.add(key="shape").value.shape.dim.add(size=-1)
    number = 0
    middle = ""
    while len(graph) < nodes * 7 // 10:
        made = graph.link(f"before/block_{number // 100}/op_{number}", number, recent)
        number += 1
        if not middle and len(graph) >= nodes // 2:
            middle = made
    recent = [graph.loop(nodes // _LOOP, recent[-1])]
    number = 0
    while len(graph) < nodes - 1:
        graph.link(f"after/block_{number // 100}/op_{number}", number, recent)
        number += 1
    graph.add("result", "Identity", recent[-1])
    graph.message.versions.producer = 1087
    return bytes(graph.message.SerializeToString(deterministic=True)), f"{middle}:0"
