"""OpenVINO is asked about a file: ``python -m graphsplit.compilers.openvino_query FILE DEVICE``. A program of its own.

First the operators that its front end has no translator for are listed; where there are none, the device is asked. Prints
``refused``, op, tensor and reason, separated by tabs, for each op that stays behind, then the counts ``taken`` and ``left``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from graphsplit.formats import load
from graphsplit.graph.index import GraphIndex, Node

__all__ = ["main"]

_UNTRANSLATED = "FrameworkNode"  # a placeholder of the front end ends its type with it


def main(path: str, device: str) -> None:
    """Print what a device of OpenVINO takes of a model."""
    import openvino
    from openvino.frontend import FrontEndManager

    model = load(path)
    tflite = model.section_format == "tflite"
    front_end = FrontEndManager().load_by_framework("tflite" if tflite else "tf")
    translated = front_end.convert_partially(front_end.load(path))
    ops: list[Any] = translated.get_ops()
    left = [op for op in ops if op.get_type_name().endswith(_UNTRANSLATED)]
    reason = f"no translator in OpenVINO {openvino.__version__.partition('-')[0]}"
    if not left:
        there = openvino.Core().query_model(translated, device)
        left = [op for op in ops if op.get_friendly_name() not in there and op.get_type_name() not in ("Parameter", "Result")]
        reason = f"not supported on {device}"
    refused = list(_nodes(model.index, (op.get_friendly_name() for op in left), tflite=tflite))
    for node in refused:
        print("refused", node.op, _plain(node.outputs[0] if node.outputs else node.name), reason, sep="\t")
    print(f"taken\t{sum(n.kind == 'op' for n in model.index.nodes) - len(refused)}\nleft\t{len(refused)}")


def _nodes(index: GraphIndex, names: Iterable[str], *, tflite: bool) -> Iterable[Node]:
    """The nodes of some ops of OpenVINO: named by their number in a TFLite file, by their own name in a GraphDef."""
    operators = [n for n in index.nodes if n.kind == "op"]
    wanted = dict.fromkeys(names)
    for name in wanted:
        number = name.partition(".")[0]
        if tflite and number.isdigit() and int(number) < len(operators):
            yield operators[int(number)]
        elif not tflite and name.partition(":")[0] in index.name_to_node_map:
            yield index.name_to_node_map[name.partition(":")[0]]


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)


if __name__ == "__main__":
    main(*sys.argv[1:])
