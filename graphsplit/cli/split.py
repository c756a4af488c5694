"""graphsplit split: cut a model, prove the sections, write them."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import (
    Subparsers,
    add_command,
    add_cut,
    add_devices,
    add_fuse_nms,
    add_model,
    add_overwrite,
    add_target,
    plan_options_of,
)
from graphsplit.cli.child import prestart
from graphsplit.cli.feeds import add_feeds, feeds_of, named_shapes, shapes_of
from graphsplit.cli.plan import answer_of, print_parts
from graphsplit.cli.printing import print_json, say
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.errors import GraphSplitError
from graphsplit.formats import Model, load
from graphsplit.parts.folder import check_save, save
from graphsplit.parts.manifest import MANIFEST, file_names
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import plan, split

if TYPE_CHECKING:
    from graphsplit.verification.report import Report

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "split",
        run,
        "cut a model into sections, prove that they compute the same, write them with a manifest",
    )
    add_model(parser)
    parser.add_argument("-o", "--output-dir", dest="directory", metavar="DIR", required=True, help="folder for the files")
    add_cut(parser)
    add_target(parser)
    parser.add_argument("--no-verify", action="store_true", help="write the files without the proof; nothing is run")
    parser.add_argument("--no-shapes", action="store_true", help="leave shapes unknown that the file does not state")
    add_feeds(parser)
    add_fuse_nms(parser)
    add_overwrite(parser, replaces="the files of an earlier split")
    add_devices(parser, default="main=/gpu:0, the others /cpu:0; recorded in the manifest")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if not (args.no_shapes and args.no_verify):
        prestart(args, runs=not args.no_verify)
    with quiet_tensorflow(args.verbose):  # a SavedModel or .keras file is frozen with it
        model = load(args.model, trust=args.trust)
    # The manifest needs the checksum of the source. Hashing releases the interpreter, so it may as well begin now.
    Thread(target=_sum, args=(model,), daemon=True).start()
    with (
        quiet_tensorflow(args.verbose),
        working("choosing the cut" if args.target is None else f"asking the compiler of {args.target}"),
    ):
        planned = plan(model, shapes=shapes_of(args), **plan_options_of(args))
    whole = model
    if args.fuse_nms:
        from graphsplit.formats import as_graphdef
        from graphsplit.rewrites import fused

        model, planned = fused(as_graphdef(model, "--fuse-nms"), planned, shapes=not args.no_shapes)
    directory = Path(args.directory)
    devices = dict(args.device)
    parts = split(model, planned, shapes=False, devices=devices)  # costs nothing, and finds early what cannot be done
    check_save(parts, directory, overwrite=args.overwrite)
    if not args.no_verify:
        from graphsplit.inference.sessions import check_runnable

        check_runnable(model, args.trust, planned.outputs)
    if not args.no_shapes:
        with quiet_tensorflow(args.verbose), working("inferring the shapes of border tensors"):
            parts = split(model, planned, shapes=shapes_of(args), devices=devices)
    if not args.no_verify:
        report = _proven(args, whole, model, parts)
        if report is None:
            return 3
        parts = replace(parts, feeds=report.chosen)
    with working(f"writing {directory}"):
        save(parts, directory, overwrite=args.overwrite)
    if args.json:
        verified = None if args.no_verify else True
        print_json({**answer_of(planned, parts), "manifest": str(directory / MANIFEST), "verified": verified})
        return 0
    print_parts(args.model, planned, parts)
    for name in (*file_names(parts).values(), MANIFEST):
        say(f"wrote {directory / name}")
    return 0


def _sum(model: Model) -> None:
    with suppress(GraphSplitError, OSError):  # raised again where the checksum is needed
        model.sha256  # noqa: B018


def _proven(args: argparse.Namespace, whole: Model, model: Model, parts: Parts) -> Report | None:
    """Prove the sections against the whole as it is in its file, and what was rewritten on random tensors; None: they differ."""
    with quiet_tensorflow(args.verbose), working("running whole and sections on the same feeds"):
        from graphsplit.verification.equivalence import verify

        report = verify(whole, parts, feeds_of(args, whole), shapes=named_shapes(args), trust=args.trust)
        equal, summary = report.equal, report.summary()
        if equal and model.rewrites:
            from graphsplit.rewrites.proof import RewriteReport, prove_found
            from graphsplit.rewrites.rewriting import RewrittenModel

            if isinstance(model, RewrittenModel):
                proof = RewriteReport(report, prove_found(model, trust=args.trust))
                equal, summary = proof.equal, proof.summary()
    if equal:
        if not args.json:
            say(f"proven: {summary}")
            if report.chosen:
                say(f"fed: {report.feeds[0]}")
        return report
    complain(f"graphsplit: verification differs: {summary}; nothing was written (--no-verify writes the files anyway)")
    return None
