"""graphsplit export: a section or a whole as a SavedModel, a TFLite file or a Triton repository, compared with its source."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import Subparsers, add_command, add_model, add_overwrite, add_tolerances
from graphsplit.cli.feeds import add_feeds, feeds_of, named_shapes
from graphsplit.cli.printing import print_json, say, shape_text, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.formats import load

if TYPE_CHECKING:
    from graphsplit.exports.exporting import Exported, ExportedPort
    from graphsplit.inference.synthesis import Feeds

__all__ = ["add"]

_TARGETS = ("saved_model", "triton", "tflite")


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export",
        run,
        "write a section or a whole as a SavedModel, a TFLite file or a Triton repository, compared with its source",
        "Write a section or a whole for deployment: a SavedModel folder with a signature, a TFLite file if TensorFlow's "
        "converter can, or a Triton model repository with a model for each section and an ensemble that connects them. The "
        "export is run on the same feeds as its source, and the largest differences are reported. Without --section "
        "everything is exported: a model whole, the sections of a split joined again.",
    )
    add_model(parser, or_split=True)
    parser.add_argument(
        "--to", choices=_TARGETS, required=True, help="what to write: a folder (saved_model, triton) or a file (tflite)"
    )
    parser.add_argument("-o", "--output", dest="path", metavar="OUT", required=True, help="the folder or file to write")
    parser.add_argument(
        "--section",
        metavar="NAME",
        help="pre, main, post, part_0 …; of a MODEL, a section of the split that `graphsplit split` makes if no cut is named",
    )
    parser.add_argument(
        "--folder",
        metavar="NEWDIR",
        help="with --to tflite --section: also write a split with the export in place of that section",
    )
    parser.add_argument("--no-verify", action="store_true", help="write without comparing")
    add_feeds(parser, images=False)
    add_tolerances(parser, default=None, note="0, for tflite 0.001")
    add_overwrite(parser, replaces="OUT and the files of NEWDIR")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from graphsplit.errors import CutError, EquivalenceError
    from graphsplit.exports import export
    from graphsplit.exports.targets import find_target

    if args.folder and (args.section is None or not find_target(args.to).replaces):
        raise CutError("--folder needs --to tflite and --section: no other export can take the place of a section")
    if args.folder:
        _check_folder(args)
    try:
        with quiet_tensorflow(args.verbose), working(f"writing {args.path}"):
            exported = export(
                args.model,
                args.path,
                to=args.to,
                section=args.section,
                overwrite=args.overwrite,
                verify=not args.no_verify,
                feeds=_feeds(args),
                shapes=named_shapes(args) or None,
                rtol=args.rtol,
                atol=args.atol,
                trust=args.trust,
            )
    except EquivalenceError as error:
        complain(f"graphsplit: verification differs: {error}")
        return 3
    if args.folder:
        from graphsplit.parts.folder import save

        save(exported.parts, args.folder, overwrite=args.overwrite)
    if args.json:
        print_json(_answer(exported, args.folder))
    else:
        _print(exported, args.folder)
    return 0


def _feeds(args: argparse.Namespace) -> Feeds | list[Feeds] | None:
    """What --feed names, for a model that is exported whole."""
    if not args.feed:
        return None
    from graphsplit.errors import CutError
    from graphsplit.parts.manifest import find_manifest

    if args.section is not None or find_manifest(args.model) is not None:
        raise CutError("--feed is for a model that is exported whole; a section gets what the sections before it compute")
    return feeds_of(args, load(args.model, trust=args.trust))


def _check_folder(args: argparse.Namespace) -> None:
    """Refuse, before anything is written, a new folder that cannot be. Raises OverwriteError."""
    from graphsplit.errors import OverwriteError
    from graphsplit.formats.atomic import check_folder

    folder = Path(args.folder)
    source = Path(args.model)
    if folder.exists() and source.exists() and any(folder.samefile(place) for place in (source, source.parent)):
        raise OverwriteError(f"{folder} is where the model itself is; name another folder", paths=[folder])
    check_folder(folder, overwrite=args.overwrite, then="--overwrite replaces the files of a split in it")


def _answer(exported: Exported, folder: str | None) -> dict[str, object]:
    def port(p: ExportedPort) -> dict[str, object]:
        shape = None if p.shape is None else list(p.shape)
        return {"tensor": p.tensor, "key": p.key, "name": p.name, "dtype": p.dtype, "shape": shape}

    report = exported.report
    found = {} if report is None else {o.tensor: o for o in report.outputs}
    outputs = []
    for p in exported.outputs:
        entry = port(p)
        if p.tensor in found:
            o = found[p.tensor]
            entry |= {"equal": o.equal, "max_abs_error": o.max_abs_error, "max_rel_error": o.max_rel_error}
        outputs.append(entry)
    return {
        "file": str(exported.path),
        "to": exported.to,
        "section": exported.section,
        "signature": exported.signature,
        "equal": None if report is None else report.equal,
        "max_abs_error": None if report is None else report.max_abs_error,
        "runs": None if report is None else report.runs,
        "inputs": [port(p) for p in exported.inputs],
        "outputs": outputs,
        "feeds": [] if report is None else list(report.feeds),
        "refused": list(exported.refused),
        "rewrites": [dict(r) for r in exported.rewrites],
        "models": [dict(m) for m in exported.models],
        "folder": folder,
    }


def _print(exported: Exported, folder: str | None) -> None:
    found = {} if exported.report is None else {o.tensor: o for o in exported.report.outputs}

    def difference(tensor: str) -> str:
        if tensor not in found:
            return "not compared"
        error, relative = found[tensor].max_abs_error, found[tensor].max_rel_error
        return "equal" if not error else f"up to {error:.2g}" + ("" if relative is None else f" ({relative:.2g} relative)")

    columns = ["tensor", "key", "name to feed or fetch", "dtype", "shape"]
    table("Inputs", columns, [(p.tensor, p.key, p.name, p.dtype, shape_text(p.shape)) for p in exported.inputs])
    rows = [(p.tensor, p.key, p.name, p.dtype, shape_text(p.shape), difference(p.tensor)) for p in exported.outputs]
    table("Outputs", [*columns, "difference"], rows)
    if exported.models:
        models = [(m["name"], m["section"] or "all", m["platform"], m["kind"] or "—") for m in exported.models]
        table("Models", ["model", "section", "platform", "instances"], models)
    for entry in exported.rewrites:
        say(f"replaced first ({entry['name']}): {entry['where']}")
    if exported.report is not None:
        say(f"compared with {'the whole' if exported.section is None else exported.section}: {exported.report.summary()}")
    for refused in exported.refused:
        say(f"accepted by the source, refused by the export: {refused}")
    if exported.models:
        say(f"serve with: tritonserver --model-repository={exported.path.resolve()}")
        say("Triton itself was not run: TensorFlow ran the models, connected as their configurations say")
    say(f"wrote {exported.path}")
    if folder:
        say(f"wrote {Path(folder) / 'split.json'} and its sections")
