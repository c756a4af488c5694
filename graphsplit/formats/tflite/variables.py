"""Variables and tables of an interpreter: which operators of a file share them.

    CALL_ONCE ──runs once──▶ a subgraph that assigns "state"
    VAR_HANDLE "state" ─┬─▶ READ_VARIABLE ─▶ CONCATENATION ─▶ …
                        └─▶ ASSIGN_VARIABLE ◀─ what the next run reads

A variable is known by its container and name, a table by its number, in every subgraph of a file. All operators that name one, in
the first subgraph or in one that they run, belong together with what sets it before and with what it is set to for the next run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.validation import Operator

__all__ = ["Key", "shared_state"]

Key: TypeAlias = tuple[str, bytes, bytes]

_WRITES = {"ASSIGN_VARIABLE", "HASHTABLE_IMPORT", "CALL_ONCE"}


def shared_state(reader: TFLiteReader) -> tuple[dict[Key, list[str]], dict[str, tuple[str, ...]]]:
    """Who shares state, and what has to be kept for it.

    Args:
        reader: The file.

    Returns:
        Variable or table → the operators of the first subgraph that name it, themselves or in what they run; and operator →
        those that set what it reads, which nothing else would keep.
    """
    keys = _keys(reader)
    users: dict[Key, list[str]] = {}
    for name, held in keys.items():
        for key in held:
            users.setdefault(key, []).append(name)
    op_of = dict(zip(reader.operator_names, reader.subgraphs[0].operators, strict=True))
    writers = {key: [n for n in names if op_of[n].op in _WRITES] for key, names in users.items()}
    after = {
        name: tuple(dict.fromkeys(w for key in held for w in writers[key] if w != name))
        for name, held in keys.items()
        if op_of[name].op not in _WRITES
    }
    return users, {name: held for name, held in after.items() if held}


def _keys(reader: TFLiteReader) -> dict[str, tuple[Key, ...]]:
    """Operator of the first subgraph → variables and tables that it handles."""
    inside = {number: _named(graph.operators) for number, graph in enumerate(reader.subgraphs)}
    first = reader.subgraphs[0].operators
    of_tensor: dict[int, Key] = {}
    found: dict[str, tuple[Key, ...]] = {}
    for name, operator in zip(reader.operator_names, first, strict=True):
        held = dict.fromkeys(_named([operator]))
        for key in held:
            of_tensor.update(dict.fromkeys(operator.outputs, key))
        held |= dict.fromkeys(of_tensor[t] for t in operator.inputs if t in of_tensor)
        for number in reader.reachable(operator.calls):
            held |= dict.fromkeys(inside[number])
        if held:
            found[name] = tuple(held)
    return found


def _named(operators: Iterable[Operator]) -> list[Key]:
    """Variables and tables that operators name themselves."""
    keys: list[Key] = []
    for operator in operators:
        options = operator.table.table("builtin_options")
        if operator.op == "VAR_HANDLE" and options is not None and options.kind == "VarHandleOptions":
            keys.append(("variable", options.text("container"), options.text("shared_name")))
        elif operator.op == "HASHTABLE" and options is not None and options.kind == "HashtableOptions":
            keys.append(("table", str(options.number("table_id")).encode(), b""))
        elif operator.op == "VAR_HANDLE":
            keys.append(("variable", b"", b""))
        elif operator.op == "HASHTABLE":
            keys.append(("table", b"0", b""))
    return keys
