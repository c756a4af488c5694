"""Run the notebooks and write them back with their outputs.

    python scripts/run_notebooks.py [NOTEBOOK …] [--check]

Each notebook runs in a kernel of this Python, in an empty folder. What differs from run to run without meaning anything is
left out: execution metadata, TensorFlow's log, plain text beside a richer form. A notebook that prints to stderr, raises, or
grows beyond 1 MB is an error. `--check` writes nothing and compares the structure of what is committed with a new run.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

_LIMIT = 1_000_000  # bytes of a notebook with its outputs
_TIMEOUT = 600  # seconds of a cell
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Lines that TensorFlow, absl and LiteRT log before anything can be said about how much they log.
_LOG = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|[IWEF]\d{4} \d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] "
    r"|INFO:tensorflow:|INFO: (Created|Initialized) TensorFlow Lite|To enable the following instructions"
)
# Variables with which a reader points a notebook at models of theirs; what it then shows is not committed.
_THEIRS = ("GRAPHSPLIT_MODEL", "GRAPHSPLIT_MODELS", "GRAPHSPLIT_IMAGE")


def run(path: Path) -> nbformat.NotebookNode:
    """Run a notebook; the notebook with its new outputs, cleaned. Raises nbclient's CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, kernel_name="python3", timeout=_TIMEOUT, resources={"metadata": {"path": folder}})
        client.execute(env=_environment())
        clean(notebook, folders=(folder, str(ROOT)))
    return notebook


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", *_THEIRS)}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": os.pathsep.join(paths)}


def clean(notebook: nbformat.NotebookNode, folders: Sequence[str]) -> None:
    """Leave out what differs between two runs without meaning anything, and the names of folders of this machine."""
    notebook.metadata = nbformat.from_dict(_METADATA)
    count = 0
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [o for o in map(_clean_output, _joined(cell.outputs)) if o is not None]
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
                if "text" in output:
                    output.text = _without(folders, output.text)
                for form, data in output.get("data", {}).items():
                    output.data[form] = _without(folders, data) if isinstance(data, str) else data


def _without(folders: Sequence[str], text: str) -> str:
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return text


def _joined(outputs: Sequence[Any]) -> list[Any]:
    """Outputs in which text that came in several pieces on one stream is one."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _clean_output(output: Any) -> Any | None:
    if output.output_type == "stream":
        output.text = "".join(line for line in output.text.splitlines(keepends=True) if not _LOG.match(line))
        return output if output.text.strip() else None
    if output.output_type in ("execute_result", "display_data"):
        output.metadata = {}
        if len(output.data) > 1:
            output.data.pop("text/plain", None)
    return output


def structure(notebook: nbformat.NotebookNode) -> list[tuple[str, tuple[str, ...]]]:
    """The kind of each cell and of each of its outputs."""
    return [(cell.cell_type, tuple(map(_kind, cell.get("outputs", ())))) for cell in notebook.cells]


def _kind(output: Any) -> str:
    forms = [output.name] if output.output_type == "stream" else sorted(output.get("data", ()))
    return " ".join([output.output_type, *forms])


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What a reader of the notebook should not see: errors, text on stderr, the name of a figure in place of the figure."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            plain = output.get("data", {}).get("text/plain", "")
            if output.output_type == "error":
                found.append(f"cell {number} raises {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                found.append(f"cell {number} prints to stderr: {output.text[:200]}")
            elif plain.startswith("<Figure") or " object at 0x" in plain:
                found.append(f"cell {number} shows {plain[:80]}")
    size = len(nbformat.writes(notebook).encode())
    return [*found, f"{size:,} bytes, more than {_LIMIT:,}"] if size > _LIMIT else found


def main() -> int:
    """Run the notebooks that are named, or all; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS, metavar="NOTEBOOK")
    parser.add_argument("--check", action="store_true", help="write nothing; compare structures")
    args = parser.parse_args()
    status = 0
    for path in args.notebooks:
        committed = nbformat.read(path, as_version=4)
        notebook = run(path)
        found = problems(notebook)
        if args.check and structure(notebook) != structure(committed):
            found.append("its outputs are not of the kinds that are committed; run this script without --check")
        if not found and not args.check:
            path.write_text(nbformat.writes(notebook, indent=1).rstrip() + "\n", encoding="utf-8")
        print(f"{path.name}: {'; '.join(found) or 'fine'}")
        status |= bool(found)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
