"""Changes that most readers' first check lets through: a legal file is decoded, a few of its fields changed, and encoded again."""

from __future__ import annotations

import json
import random
import re
import struct
from collections import defaultdict
from collections.abc import Callable, MutableSequence
from typing import Any

from tests.formats import raw

__all__ = ["mutated_bytes", "mutated_flatbuffer", "mutated_json", "mutated_message", "mutated_text"]

INTEGERS = (
    0, 1, 2, 3, 5, 7, 9, 10, 19, 20, 21, 22, 23, 32, 64, 101, 120, 127, 128, 255, 1000, 65_535, 10**6, 10**9, 2**31 - 1,
    2**31, 2**32 - 1,
    2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1,
)  # fmt: skip
TEXTS = (
    b"", b"x", b"a", b"y", b"^x", b"^", b":", b"x:1", b"x:-1", b"x:99999999999999999999", b"x:0:0", b"x:", b" ", b",",
    b"a,b", b"\xff\xfe",
    b"\x1b[2J", b"\x00", b"a\nb", b"../../x", b"/etc/passwd", b"[red]", b"[/]", b"{}", b"%s%n", b"\xe2\x80\xae",
    b"x" * 70_000, b"T", b"loc:@x",
    b"Const", b"Placeholder", b"Switch", b"Merge", b"Enter", b"Exit", b"NextIteration", b"LoopCond", b"PartitionedCall",
    b"While", b"If",
    b"_Arg", b"_Retval", b"VarHandleOp", b"PlaceholderWithDefault", b"IdentityN", b"Split", b"Unpack", b"Reshape", b"Fill",
    b"Range", b"NoOp",
    b"TensorArrayV3", b"TensorListReserve", b"ReadFile", b"PyFunc", b"NoSuchOp", b"Assert", b"QueueDequeueV2", b"Stage",
    b"Tile", b"Pad",
)  # fmt: skip


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Bits turned, bytes replaced, pieces removed, doubled or moved, an end cut off."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not data:
            break
        at = rng.randrange(len(data))
        length = rng.choice([1, 2, 4, 8, 64, 1024])
        match rng.randrange(7):
            case 0 | 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at] = rng.choice([0, 1, 127, 128, 255])
            case 3:
                data[at : at + 4] = struct.pack("<I", rng.choice([0, 1, len(data), 2**31 - 1, 2**31, 2**32 - 1]))
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case _:
                if rng.random() < 0.4:
                    del data[at:]
    return bytes(data)


# Messages of protobuf, without their definitions

_LARGEST = 2**22  # bytes of a mutant that holds a field many times

Tree = list[list[Any]]  # [number, wire type, bytes or Tree]


def mutated_message(rng: random.Random, content: bytes) -> bytes:
    """A message with fields replaced by others of the same place, by odd values, removed, doubled, moved, repeated, nested."""
    tree = _tree(content, 0)
    if tree is None:
        return mutated_bytes(rng, content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        if not _change_message(rng, tree):
            break
    return _joined(tree)


def _tree(data: bytes, depth: int) -> Tree | None:
    fields = raw.parsed(data)
    if fields is None:
        return None
    tree: Tree = []
    for number, wire, content in fields:
        inner = None
        if wire == 2 and content and depth < 12 and not (content.isascii() and content.decode().isprintable()):
            inner = _tree(content, depth + 1)
        tree.append([number, wire, content if inner is None else inner])
    return tree


def _joined(tree: Tree) -> bytes:
    return raw.joined((n, w, _joined(c) if isinstance(c, list) else c) for n, w, c in tree)


def _places(tree: Tree) -> dict[tuple[int, ...], list[tuple[Tree, int]]]:
    """Path of field numbers → where fields of that path are."""
    places: dict[tuple[int, ...], list[tuple[Tree, int]]] = defaultdict(list)
    stack: list[tuple[Tree, tuple[int, ...]]] = [(tree, ())]
    while stack:
        level, path = stack.pop()
        for index, (number, _, content) in enumerate(level):
            places[(*path, number)].append((level, index))
            if isinstance(content, list):
                stack.append((content, (*path, number)))
    return places


def _change_message(rng: random.Random, tree: Tree) -> bool:
    """Change a field; whether another change may follow, which after many repetitions would take long."""
    places = _places(tree)
    if not places:
        return False
    alike = places[rng.choice(list(places))]
    level, index = rng.choice(alike)
    field = level[index]
    match rng.randrange(12):
        case 0 | 1 | 2 | 3:  # of the same kind: an input of another node, another op, dtype, attribute
            other, place = rng.choice(alike)
            field[1:] = _copy(other[place])[1:]
        case 4 | 5 | 6:
            if field[1] == 0:
                field[2] = raw.varint(rng.choice(INTEGERS))
            elif field[1] == 2 and not isinstance(field[2], list):
                field[2] = rng.choice([rng.choice(TEXTS), mutated_bytes(rng, field[2]), field[2] * rng.choice([2, 100])])
            elif field[1] == 2:
                field[2] = []
            else:
                field[2] = bytes(rng.choice([0, 255, 127]) for _ in field[2])
        case 7:
            del level[index]
        case 8:
            level.insert(rng.randrange(len(level) + 1), _copy(field))
        case 9:
            level.insert(rng.randrange(len(level)), level.pop(index))
        case 10:
            size = len(_joined([field])) + 1
            level[index:index] = [field] * min(rng.choice([10, 300, 3000]), max(1, _LARGEST // size // len(alike)))
            return False
        case _:
            if isinstance(field[2], list):  # nested in itself
                content = _joined(field[2])
                for _ in range(rng.choice([3, 60, 120, 1500])):
                    content = raw.field(field[0], content)
                    if len(content) > 2**20:
                        break
                field[2] = content
            else:
                number = field[0]
                field[:] = [
                    rng.choice([number, 1, 2, 5, 15, 2**29 - 1]),
                    rng.choice([0, 1, 2, 5]),
                    raw.varint(rng.choice(INTEGERS)),
                ]
                if field[1] in (1, 5):
                    field[2] = bytes(8 if field[1] == 1 else 4)
    return True


def _copy(field: list[Any]) -> list[Any]:
    return [field[0], field[1], [_copy(f) for f in field[2]] if isinstance(field[2], list) else field[2]]


# Text


def mutated_text(rng: random.Random, text: str) -> str:
    """A text with lines removed, doubled or moved, words and numbers replaced, brackets unbalanced, blocks nested."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice([1, 1, 2, 3])):
        if not lines:
            break
        at = rng.randrange(len(lines))
        match rng.randrange(9):
            case 0 | 1 | 2:
                words = re.findall(r'"[^"]*"|[\w.+-]+', text)
                lines[at] = re.sub(r'(?<=: )("[^"]*"|\S+)', lambda _, words=words: rng.choice(words), lines[at], count=1)
            case 3:
                odd = rng.choice(
                    [*map(str, INTEGERS), "-1", "-9223372036854775808", "1e999", "nan", "DT_FLOAT", '"\\377"', '""', '"\\x"', "'x'"]
                )
                lines[at] = re.sub(r'(?<=: )("[^"]*"|\S+)', lambda _, odd=odd: odd, lines[at], count=1)
            case 4:
                del lines[at]
            case 5:
                lines[at:at] = lines[at : at + rng.choice([1, 5, 20])] * rng.choice([1, 2, 200])
            case 6:
                lines.insert(rng.randrange(len(lines)), lines.pop(at))
            case 7:
                depth = rng.choice([3, 90, 200, 5000])
                lines[at] = "value { list { func { attr { " * depth + lines[at] + "} } } } " * rng.choice([depth, depth - 1])
            case _:
                lines[at] = lines[at].replace(
                    rng.choice('{}:"\n '), rng.choice(["", "{", "}", '"', "<", "#", "\x00", "é", "\ud800"]), 1
                )
    return "".join(lines)


# JSON


def mutated_json(rng: random.Random, text: str) -> bytes:
    """A JSON document with values replaced by odd ones or by others of its own, keys removed, added and doubled; or as bytes."""
    value = json.loads(text)
    if rng.random() < 0.12:
        return rng.choice(_WRONG_JSON)(text)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_json_places(value))
        if not places:
            break
        holder, key = rng.choice(places)
        other, place = rng.choice(places)
        match rng.randrange(7):
            case 0 | 1 | 2:
                holder[key] = rng.choice(_ODD_JSON)
            case 3:
                holder[key] = json.loads(json.dumps(other[place]))
            case 4:
                del holder[key]
            case 5:
                if isinstance(holder, dict):
                    holder[rng.choice(["", "x", key.upper(), key + " ", "a" * 5000, "\x1b[31m", "__proto__"])] = holder[key]
                else:
                    holder[key:key] = [holder[key]] * rng.choice([1, 3, 2000])
            case _:
                for _ in range(rng.choice([1, 3, 50])):
                    holder[key] = rng.choice([[holder[key]], {"x": holder[key]}])
    written = json.dumps(value, allow_nan=True)
    if rng.random() < 0.1:
        written = re.sub(r"\d+", lambda found: rng.choice([found[0], "9" * 400, "1e400", "-0", "0.5"]), written, count=1)
    if rng.random() < 0.1:  # a key twice
        written = re.sub(r'("[^"]*": ("[^"]*"|\d+))', r"\1, \1", written, count=1)
    return mutated_bytes(rng, written.encode()) if rng.random() < 0.08 else written.encode()


_ODD_JSON: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, float("nan"), float("inf"), "", "x",
    "y:0", "x:0", "..", "../x",
    "/etc/passwd", "a/../../b", "x\x00y", "\x1b[2J", "\ud800", "[red]x[/]", "(a+)+$", "(", "*" * 50, "x" * 100_000, "C:\\x",
    "\\\\host\\x", "CON",
    [], {}, [[]], [None], ["x"] * 3, {"x": 1}, {"": ""}, ["x"] * 20_000,
)  # fmt: skip
_WRONG_JSON: tuple[Callable[[str], bytes], ...] = (
    lambda text: text.encode()[: len(text) // 2],
    lambda text: text.encode("utf-16"),
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: b"\xff" + text.encode(),
    lambda text: b"",
    lambda text: b"[" * 100_000,
    lambda text: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    lambda text: b"9" * 100_000,
    lambda text: b"[" + b"0," * 1_000_000 + b"0]",
    lambda text: b'"' + b"x" * 9_000_000 + b'"',
    lambda text: text.encode() * 2,
    lambda text: b"// x\n" + text.encode(),
    lambda text: b"null",
    lambda text: b"[" + text.encode() + b"]",
)


def _json_places(value: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            places.append((holder, key))
            stack.append(holder[key])
    return places


# Flatbuffers, as the objects of the schema


def mutated_flatbuffer(rng: random.Random, content: bytes) -> bytes:
    """A .tflite file some of whose numbers, lists, names and tables are replaced by odd ones or by others of the same kind."""
    from flatbuffers import Builder

    from tests.formats.tflite.builder import decoded

    for _ in range(8):
        model = decoded(content)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            _change_table(rng, model)
        try:
            builder = Builder(len(content))
            builder.Finish(model.Pack(builder), b"TFL3")
            return bytes(builder.Output())
        except Exception:  # not every change can be written
            continue
    return mutated_bytes(rng, content)


def _change_table(rng: random.Random, model: Any) -> None:
    places: dict[tuple[str, str], list[Any]] = defaultdict(list)
    stack, seen = [model], set()
    while stack:
        table = stack.pop()
        if id(table) in seen:
            continue
        seen.add(id(table))
        for key, value in vars(table).items():
            places[type(table).__name__, key].append(table)
            for item in value if isinstance(value, list) else (value,):
                if hasattr(item, "Pack"):
                    stack.append(item)
    _, key = chosen = rng.choice(list(places))
    table, other = rng.choice(places[chosen]), rng.choice(places[chosen])
    value = getattr(table, key)
    if rng.random() < 0.3:
        setattr(table, key, getattr(other, key))
    elif isinstance(value, bool):
        setattr(table, key, not value)
    elif isinstance(value, int):
        setattr(
            table,
            key,
            rng.choice([value + 1, value - 1, -1, 0, 1, 2, 3, 4, 7, 50, 127, 255, 2**16, 2**31 - 1, -(2**31), 2**32 - 1]),
        )
    elif isinstance(value, float):
        setattr(table, key, rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e-40]))
    elif isinstance(value, (bytes, str)):
        setattr(table, key, rng.choice([*TEXTS, None]))
    elif value is None or hasattr(value, "Pack"):
        setattr(table, key, rng.choice([None, getattr(other, key)]))
    else:
        setattr(table, key, _change_list(rng, list(value)))


def _change_list(rng: random.Random, items: MutableSequence[Any]) -> Any:
    if not items:
        return rng.choice([None, [0], [-1], [1, 2, 3]])
    at = rng.randrange(len(items))
    match rng.randrange(7):
        case 0:
            del items[at]
        case 1:
            items.insert(rng.randrange(len(items) + 1), items[at])
        case 2:
            items.insert(rng.randrange(len(items)), items.pop(at))
        case 3:
            items[at] = items[rng.randrange(len(items))]
        case 4:
            items[at:at] = [items[at]] * rng.choice([10, 1000])
        case 5:
            return rng.choice([None, [], items[:1]])
        case _:
            if isinstance(items[at], (int, float)) or hasattr(items[at], "dtype"):
                items[at] = rng.choice(
                    [-1, 0, 1, 2, 100, 127] if len(items) > 200 else [-1, 0, 1, 2, 3, 10, 127, 65536, 2**31 - 1, -(2**31)]
                )
    return items
