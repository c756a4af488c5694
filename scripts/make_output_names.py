#!/usr/bin/env python3
"""Write graphsplit/formats/freezing/output_names.json from the op registry of the installed TensorFlow.

    python scripts/make_output_names.py

The names of the outputs of each op that has several: a function body refers to ``node:name:place``, a graph to ``node:port``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "graphsplit" / "formats" / "freezing" / "output_names.json"


def names() -> dict[str, list[str]]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    registry = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    found = {op.name: [a.name for a in op.output_arg] for op in registry.op if len(op.output_arg) > 1}
    return dict(sorted(found.items()))


def main() -> None:
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in names().items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
