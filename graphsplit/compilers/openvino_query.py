"""OpenVINO is asked about a file: ``python -m graphsplit.compilers.openvino_query FILE DEVICE``. A program of its own.

First the operators that its front end has no translator for are listed; where there are none, the device is asked. Prints
``refused``, op, tensor and reason, separated by tabs, for each op that stays behind, then the counts ``taken`` and ``left``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from graphsplit.formats import load
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.planning.targets import read_target

__all__ = ["main"]

_UNTRANSLATED = "FrameworkNode"  # the type of what the front end leaves as it is ends with it
_MISSING = re.compile(r"No translator found for (.+) node")


def main(path: str, device: str) -> None:
    """Print what a device of OpenVINO takes of a model."""
    import openvino
    from openvino.frontend import FrontEndManager

    model = load(path)
    index = model.index
    tflite = model.section_format == "tflite"
    front_end = FrontEndManager().load_by_framework("tflite" if tflite else "tf")
    reason = f"no translator in OpenVINO {openvino.__version__.partition('-')[0]}"
    try:
        translated = front_end.convert_partially(front_end.load(path))
    except RuntimeError:  # an untranslated operator between quantised ones, for example
        refused = _missing(index, path)
    else:
        ops: list[Any] = translated.get_ops()
        refused = _nodes(index, (op for op in ops if op.get_type_name().endswith(_UNTRANSLATED)), tflite=tflite)
        if not refused:
            there = openvino.Core().query_model(translated, device)
            left = (op for op in ops if op.get_friendly_name() not in there and op.get_type_name() not in ("Parameter", "Result"))
            refused, reason = _nodes(index, left, tflite=tflite), f"not supported on {device}"
    for node in refused:
        print("refused", node.op, _plain(node.outputs[0] if node.outputs else node.name), reason, sep="\t")
    print(f"taken\t{sum(n.kind == 'op' for n in index.nodes) - len(refused)}\nleft\t{len(refused)}")


def _missing(index: GraphIndex, path: str) -> list[Node]:
    """The nodes without a translator, as far as the error of a whole conversion and the table say. Raises that error if none."""
    import openvino

    try:
        openvino.Core().read_model(path)
    except RuntimeError as error:
        missing = _MISSING.search(str(error))
        refused = read_target("openvino").refusals(index)
        nodes = [n for n in index.nodes if n.name in refused or (missing is not None and n.op == missing[1])]
        if missing is None or not nodes:
            raise
        return nodes
    return []


def _nodes(index: GraphIndex, ops: Iterable[Any], *, tflite: bool) -> list[Node]:
    """The nodes of some ops of OpenVINO: named by their number in a TFLite file, by their own name in a GraphDef."""
    operators = [n for n in index.nodes if n.kind == "op"]
    found: dict[str, Node] = {}
    for op in ops:
        name = op.get_friendly_name()
        number = name.partition(".")[0]
        if not tflite:
            node = index.name_to_node_map.get(name.partition(":")[0])
        else:
            node = operators[int(number)] if number.isascii() and number.isdigit() and int(number) < len(operators) else None
        if node is not None and node.kind == "op":
            found[node.name] = node
    return list(found.values())


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)


if __name__ == "__main__":
    main(*sys.argv[1:])
