"""Library functions as the frozen graph holds them: renamed, with values for the handles of variables among their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable

from graphsplit.formats.freezing.bodies import Body, FunctionNames, HandleTypes, Ref, function_fields, plain, returned
from graphsplit.formats.freezing.handles import Handle
from graphsplit.formats.freezing.reasons import NotUnderstood
from graphsplit.formats.graphdef.messages import message
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import encode_field

__all__ = ["library_bytes", "stem"]

_OF_THE_PROCESS = {"_gradient_op_type", "forward_function_name", "backward_function_name", "api_implements", "_original_func_name"}


def stem(name: str, taken: set[str]) -> str:
    """The name of a function without the numbers at its end, made unique among those taken."""
    short = re.sub(r"(_\d+)+$", "", name) or name
    new, count = short, 0
    while new in taken:
        count += 1
        new = f"{short}_{count}"
    return new


def library_bytes(reader: GraphDefReader, names: FunctionNames, used: Iterable[str]) -> bytes:
    """The functions of these new names and all that they call, as a field of a GraphDef; nothing if there are none."""
    waiting = dict.fromkeys(used)
    pieces: list[bytes] = []
    done: set[str] = set()
    while waiting:
        name = next(iter(waiting))
        del waiting[name]
        if name in done:
            continue
        done.add(name)
        content, called = _function(reader, names, name, *names.origin[name])
        pieces.append(encode_field(1, content))
        waiting |= dict.fromkeys(called)
    return encode_field(2, b"".join(pieces)) if pieces else b""


def _function(
    reader: GraphDefReader, names: FunctionNames, name: str, origin: str, types: HandleTypes
) -> tuple[bytes, dict[str, None]]:
    """A FunctionDef, and the new names of the functions it calls."""
    function = reader.library.functions[origin]
    signature = message("OpDef").FromString(function.signature.SerializeToString())
    signature.name = name
    args = {a.name: Ref(a.name) for a in signature.input_arg}
    if types:
        inputs = plain(signature.input_arg, origin)
        plain(signature.output_arg, origin)
        for place, dtype, shape in types:
            if not 0 <= place < len(inputs):
                raise NotUnderstood(f"the function {origin!r} takes fewer arguments than it gets")
            arg = inputs[place]
            arg.type = dtype
            arg.ClearField("handle_data")
            arg.ClearField("experimental_full_type")
            args[arg.name] = Ref(arg.name, Handle(arg.name, dtype, shape))
    body = Body(reader, function.nodes, names, "function", args=args, where=f"{origin}/")
    rets, _ = returned(reader, function)
    resolved = {key: body.resolve(raw) for key, raw in rets.items()}
    for place, arg in enumerate(signature.output_arg):
        handle = resolved[arg.name].handle
        if handle is not None:
            if (place, handle.dtype, handle.shape) not in types:
                raise NotUnderstood(f"the function {origin!r} returns the handle of a variable")
            arg.type = handle.dtype
            arg.ClearField("handle_data")
            arg.ClearField("experimental_full_type")
    out = [encode_field(1, signature.SerializeToString(deterministic=True))]
    called: dict[str, None] = {}
    for node in body.emit():
        out.append(encode_field(3, node.content))
        called |= dict.fromkeys(node.functions)
    for number, low, high in function_fields(reader, function):
        if number == 5:
            entry = reader.parse("AttrEntry", low, high)
            if entry.key not in _OF_THE_PROCESS:
                out.append(encode_field(5, reader.data[low:high]))
        elif number == 6 or (number == 7 and not types):
            out.append(encode_field(number, reader.data[low:high]))
    for key, ref in resolved.items():
        out.append(encode_field(4, message("StringEntry")(key=key, value=ref.text).SerializeToString(deterministic=True)))
    return b"".join(out), called
