"""A graph as a TFLite file, written by TensorFlow's converter from a SavedModel.

TFLite has no TensorArrays, and the Object Detection API resizes images in a loop over them. A loop that
`graphsplit.rewrites.batched_map` recognises is replaced first; the export is compared with the section as it was.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.exports.saved_model import write_saved_model
from graphsplit.exports.sources import Source, Written
from graphsplit.formats.tflite.model import TFLiteModel, load_tflite
from graphsplit.inference.sessions import Session, open_session
from graphsplit.rewrites import rewrite

__all__ = ["convert", "open_tflite"]

_TIMEOUT = 3600.0  # seconds; large networks take minutes
_OPS = (r"'tf\.(\w+)' op is neither", r"(?:TF Select|Custom) ops: ([\w, ]+)", r"failed to legalize operation 'tf\.(\w+)'")


def convert(source: Source, keys: Mapping[str, str], path: Path) -> Written:
    """Write a TFLite file. Its tensors have names chosen by the converter; its signature states the keys as well.

    Args:
        source: The graph.
        keys: Tensor → its key in the signature.
        path: The file.

    Raises:
        FormatError: The converter refuses the graph; the message lists the ops.
    """
    flat = rewrite(source.model, batch_preprocess=True, model_outputs=[p.name for p in source.outputs])
    if flat.rewrites:
        source = replace(source, model=flat)
    folder = path.with_name(f"{path.name}.saved_model")
    write_saved_model(source, keys, folder)
    _run(folder, path, path.with_name(f"{path.name}.json"))
    inputs, outputs = _signature(load_tflite(path))
    for port in (*source.inputs, *source.outputs):
        if keys[port.tensor] not in inputs | outputs:
            raise FormatError(f"TensorFlow's converter dropped {port.tensor!r}; export a section that needs it")
    return Written(
        tuple(inputs[keys[p.tensor]] for p in source.inputs), tuple(outputs[keys[p.tensor]] for p in source.outputs), flat.rewrites
    )


def _signature(model: TFLiteModel) -> tuple[dict[str, str], dict[str, str]]:
    """The inputs and the outputs of the signature: key → name of the tensor."""
    table = model.reader.model.tables("signature_defs")[0]
    names = model.reader.names

    def entries(field: str) -> dict[str, str]:
        return {e.text("name").decode(): names[e.number("tensor_index")] for e in table.tables(field)}

    return entries("inputs"), entries("outputs")


def open_tflite(path: Path, *, timeout: float) -> Session:
    """The file in LiteRT, with its default delegate, as it is deployed."""
    return open_session(load_tflite(path), trust=True, timeout=timeout)  # written from a source that has been checked


def _run(folder: Path, path: Path, answer: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "graphsplit.exports.converter", str(folder), str(path), str(answer)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise FormatError(f"TensorFlow's converter did not finish within {_TIMEOUT:g} seconds") from error
    if not answer.exists():
        raise FormatError(
            f"TensorFlow's converter crashed on this graph ({_ended(done)}); cut elsewhere, so that less is converted"
        )
    failure = json.loads(answer.read_text(encoding="utf-8"))["error"]
    if failure is not None:
        raise FormatError(_refused(failure))


def _ended(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return f"status {done.returncode}{': ' + lines[-1][:200] if lines else ''}"


def _refused(message: str) -> str:
    """The pages of the converter in one sentence: which ops TFLite lacks, and what to do about them."""
    lists = [listed for pattern in _OPS for listed in re.findall(pattern, message)]
    ops = sorted({op.strip() for listed in lists for op in listed.split(",") if op.strip()})
    if not ops:
        line = re.search(r"error: (?:loc\(.*?\): )?(.+)", message)
        reason = " ".join((line.group(1) if line else message).split())[:300]
        return f"TensorFlow's converter refuses the graph: {reason}; cut elsewhere, so that less is converted"
    listed = ", ".join(ops[:12]) + (f" and {len(ops) - 12} more" if len(ops) > 12 else "")
    return (
        f"TFLite has no counterpart for {listed}: cut so that they stay outside, split(model, inputs=…, outputs=…), and "
        'export that main, export(parts, …, section="main")'
    )
