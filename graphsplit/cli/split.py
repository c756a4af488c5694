"""graphsplit split: cut a model, prove the sections, write them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from threading import Thread
from typing import Any

from graphsplit.cli.arguments import add_command, add_cut, cut_of, pair
from graphsplit.cli.plan import answer_of, print_parts
from graphsplit.cli.printing import console, print_json, quiet_tensorflow, working
from graphsplit.cli.rewrite import add_fuse_nms
from graphsplit.formats import as_graphdef, load
from graphsplit.parts.folder import MANIFEST, check_free, file_names, save
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import choose, plan_choice, split

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "split",
        run,
        "cut a model into sections, prove that they compute the same, write them with a manifest",
    )
    parser.add_argument("model", metavar="MODEL", help="frozen .pb or .pbtxt, SavedModel folder, .keras file")
    parser.add_argument("-o", "--output-dir", dest="directory", metavar="DIR", required=True, help="folder for the files")
    add_cut(parser)
    parser.add_argument("--no-verify", action="store_true", help="write the files without the proof; nothing is run")
    parser.add_argument("--no-shapes", action="store_true", help="leave shapes that the file does not state open")
    add_fuse_nms(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files of an earlier split; touches nothing else")
    parser.add_argument("--trust", action="store_true", help="run a model that reaches files, the network or Python")
    parser.add_argument(
        "--device",
        action="append",
        type=pair,
        default=[],
        metavar="SECTION=DEVICE",
        help="where a section runs (default: main=/gpu:0, the others /cpu:0); stands in the manifest",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with quiet_tensorflow(args.verbose):  # a SavedModel or .keras file is frozen with it
        model = load(args.model, trust=args.trust)
    # The manifest needs the checksum of the source. Hashing leaves the interpreter free, so it may as well begin now.
    Thread(target=getattr, args=(model, "sha256"), daemon=True).start()
    with quiet_tensorflow(args.verbose), working("choosing the cut"):
        choice = choose(model, **cut_of(args), shapes=not args.no_shapes)
    whole = model
    if args.fuse_nms:
        from graphsplit.rewrites import fused

        model, choice = fused(as_graphdef(model, "--fuse-nms"), choice, args.model_outputs)
    plan = plan_choice(model, choice, model_outputs=args.model_outputs, repair=args.repair)
    directory = Path(args.directory)
    devices = dict(args.device)
    early = split(model, plan, shapes=False, devices=devices)  # costs nothing, and says early what cannot be
    check_free(directory, [*file_names(early).values(), MANIFEST], overwrite=args.overwrite)
    if not args.no_verify:
        model.check_frozen()
        model.check_trust(args.trust)
    parts = early
    if not args.no_shapes:
        with quiet_tensorflow(args.verbose), working("inferring the shapes of border tensors"):
            parts = split(model, plan, devices=devices)
    verified = None
    if not args.no_verify:
        if not _prove(args, whole, model, parts):
            return 3
        verified = True
    with working(f"writing {directory}"):
        save(parts, directory, overwrite=args.overwrite)
    manifest = directory / MANIFEST
    if args.json:
        print_json({**answer_of(choice, parts), "manifest": str(manifest), "verified": verified})
        return 0
    print_parts(args.model, choice, parts)
    _print_files(directory, parts)
    return 0


def _prove(args: argparse.Namespace, whole: Any, model: Any, parts: Parts) -> bool:
    """Prove the sections against the whole as it is in its file; what was rewritten on random tensors, too."""
    with quiet_tensorflow(args.verbose), working("running whole and sections on the same pictures"):
        from graphsplit.verification.equivalence import verify

        report: Any = verify(whole, parts, trust=args.trust)
        if report.equal and model.rewrites:
            from graphsplit.rewrites.proof import RewriteReport, prove_found

            report = RewriteReport(report, prove_found(model))
    if report.equal:
        if not args.json:
            console().print(f"proven: {report.summary()}", soft_wrap=True)
        return True
    print(
        f"graphsplit: verification differs: {report.summary()}; nothing was written (--no-verify writes the files anyway)",
        file=sys.stderr,
    )
    return False


def _print_files(directory: Path, parts: Parts) -> None:
    out = console()
    for part in parts:
        out.print(f"wrote {directory / file_names(parts)[part.name]}", soft_wrap=True)
    out.print(f"wrote {directory / MANIFEST}", soft_wrap=True)
