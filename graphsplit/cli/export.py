"""graphsplit export: a section or a whole as a SavedModel, a TFLite file or a Triton repository, compared with its source."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from graphsplit.cli.arguments import add_command, tolerance
from graphsplit.cli.printing import console, print_json, quiet_tensorflow, shape_text, table, working

__all__ = ["add"]

_TARGETS = ("saved_model", "triton", "tflite")


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export",
        run,
        "write a section or a whole as a SavedModel, a TFLite file or a Triton repository, compared with its source",
        "Write a section or a whole where people deploy it: a SavedModel folder with a signature, a TFLite file as far as "
        "TensorFlow's converter can, or a Triton model repository with a model for each section and an ensemble that hands "
        "the borders on. The export is run on the same feeds as its source, and the largest differences are told. "
        "Without --section everything is exported: a model whole, the sections of a split joined again.",
    )
    parser.add_argument(
        "model", metavar="MODEL|DIR", help="a frozen model, SavedModel folder, .keras file; or the folder of a split"
    )
    parser.add_argument(
        "--to", choices=_TARGETS, required=True, help="what to write: a folder (saved_model, triton) or a file (tflite)"
    )
    parser.add_argument("-o", "--output", dest="path", metavar="OUT", required=True, help="the folder or file to write")
    parser.add_argument(
        "--section",
        metavar="NAME",
        help="pre, main, post, part_0 …; of a MODEL that of the split that `graphsplit split` makes where no cut is named",
    )
    parser.add_argument(
        "--folder", metavar="NEWDIR", help="with --to tflite --section: write the split once more, with the export for that section"
    )
    parser.add_argument("--no-verify", action="store_true", help="write without comparing")
    parser.add_argument("--rtol", type=tolerance, metavar="R", help="relative tolerance (default: 0, tflite 0.001)")
    parser.add_argument("--atol", type=tolerance, metavar="A", help="absolute tolerance (default: 0, tflite 0.001)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT and the files of NEWDIR; touches nothing else")
    parser.add_argument("--trust", action="store_true", help="run a model that reaches files, the network or Python")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from graphsplit.errors import CutError, EquivalenceError
    from graphsplit.exports import export

    if args.folder and (args.section is None or args.to != "tflite"):
        raise CutError("--folder goes with --to tflite and --section: a split takes no other export for one of its sections")
    if args.folder:
        _check_folder(args)
    try:
        with quiet_tensorflow(args.verbose), working(f"writing {args.path}"):
            made = export(
                args.model,
                args.path,
                to=args.to,
                section=args.section,
                overwrite=args.overwrite,
                verify=not args.no_verify,
                rtol=args.rtol,
                atol=args.atol,
                trust=args.trust,
            )
    except EquivalenceError as error:
        print(f"graphsplit: verification differs: {error}", file=sys.stderr)
        return 3
    if args.folder:
        from graphsplit.parts.folder import save

        save(made.parts, args.folder, overwrite=args.overwrite)
    if args.json:
        print_json(_answer(made, args.folder))
    else:
        _print(made, args.folder)
    return 0


def _check_folder(args: argparse.Namespace) -> None:
    """Say before anything is written that the new folder cannot be. Raises OverwriteError."""
    from graphsplit.errors import OverwriteError
    from graphsplit.parts.folder import check_free

    folder = Path(args.folder)
    check_free(folder, [], overwrite=args.overwrite)
    if not folder.exists():
        return
    source = Path(args.model)
    if source.exists() and any(place.samefile(folder) for place in (source, source.parent) if place.exists()):
        raise OverwriteError(f"{folder} is where the model itself lies; name another folder", paths=[folder])
    if any(folder.iterdir()) and not args.overwrite:
        raise OverwriteError(f"{folder} is not empty; --overwrite replaces the files of a split in it", paths=[folder])


def _answer(made: Any, folder: str | None) -> dict[str, Any]:
    def port(p: Any) -> dict[str, Any]:
        shape = None if p.shape is None else list(p.shape)
        return {"tensor": p.tensor, "key": p.key, "name": p.name, "dtype": p.dtype, "shape": shape}

    report = made.report
    found = {} if report is None else {o.tensor: o for o in report.outputs}
    outputs = []
    for p in made.outputs:
        entry = port(p)
        if p.tensor in found:
            o = found[p.tensor]
            entry |= {"equal": o.equal, "max_abs_error": o.max_abs_error, "max_rel_error": o.max_rel_error}
        outputs.append(entry)
    return {
        "file": str(made.path),
        "to": made.to,
        "section": made.section,
        "signature": made.signature,
        "equal": None if report is None else report.equal,
        "max_abs_error": None if report is None else report.max_abs_error,
        "runs": None if report is None else report.runs,
        "inputs": [port(p) for p in made.inputs],
        "outputs": outputs,
        "feeds": [] if report is None else list(report.feeds),
        "refused": list(made.refused),
        "rewrites": [dict(r) for r in made.rewrites],
        "models": [dict(m) for m in made.models],
        "folder": folder,
    }


def _print(made: Any, folder: str | None) -> None:
    found = {} if made.report is None else {o.tensor: o for o in made.report.outputs}

    def difference(tensor: str) -> str:
        if tensor not in found:
            return "not compared"
        error, relative = found[tensor].max_abs_error, found[tensor].max_rel_error
        return "equal" if not error else f"up to {error:.2g}" + ("" if relative is None else f" ({relative:.2g} relative)")

    columns = ["tensor", "key", "name to feed or fetch", "dtype", "shape"]
    table("Inputs", columns, [(p.tensor, p.key, p.name, p.dtype, shape_text(p.shape)) for p in made.inputs])
    rows = [(p.tensor, p.key, p.name, p.dtype, shape_text(p.shape), difference(p.tensor)) for p in made.outputs]
    table("Outputs", [*columns, "difference"], rows)
    if made.models:
        models = [(m["name"], m["section"] or "all", m["platform"], m["kind"] or "—") for m in made.models]
        table("Models", ["model", "section", "platform", "instances"], models)
    out = console()
    for entry in made.rewrites:
        out.print(f"replaced first ({entry['name']}): {entry['where']}", soft_wrap=True, markup=False)
    if made.report is not None:
        out.print(f"compared with {'the whole' if made.section is None else made.section}: {made.report.summary()}", soft_wrap=True)
    for refused in made.refused:
        out.print(f"the source takes this, the export does not: {refused}", soft_wrap=True, markup=False)
    if made.models:
        out.print(f"serve with: tritonserver --model-repository={made.path.resolve()}", soft_wrap=True, markup=False)
        out.print("no Triton was run: TensorFlow ran the models as their configurations join them", soft_wrap=True)
    out.print(f"wrote {made.path}", soft_wrap=True)
    if folder:
        out.print(f"wrote {Path(folder) / 'split.json'} and its sections", soft_wrap=True)
