"""graphsplit worker: one task of a cluster, for sections that run on another machine."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event

from graphsplit.cli.arguments import Subparsers, add_command
from graphsplit.cli.printing import print_json, say
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "worker",
        run,
        "serve the devices of this machine to pipelines on others, over TensorFlow's own protocol",
        "Start TensorFlow's server for one task of a cluster, and nothing else, until Ctrl-C. It listens only on the address that "
        "FILE names for the task. TensorFlow's protocol has NO AUTHENTICATION and no encryption: whoever reaches the address can "
        "run any program as the user who started the worker. Keep it in a private network.",
    )
    parser.add_argument("--job", metavar="NAME", required=True, help="the job of this worker, as FILE names it")
    parser.add_argument("--task", type=_task, metavar="N", required=True, help="its number in the job, counted from 0")
    parser.add_argument(
        "--cluster",
        metavar="FILE",
        required=True,
        help='JSON {"job": ["host:port", …], …}, the same on every machine: as in {"gpu": ["10.0.0.5:2222"]}',
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from graphsplit.worker import start_worker

    with quiet_tensorflow(args.verbose), working("starting TensorFlow's server"):
        worker = start_worker(Path(args.cluster), args.job, args.task)
    if args.json:
        answer = {"name": worker.name, "address": worker.address, "target": worker.target, "devices": list(worker.devices)}
        print_json(answer)
    else:
        say(f"{worker.name} serves {', '.join(worker.devices)} on {worker.address}, without authentication; Ctrl-C ends it")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        Event().wait()
    return 0


def _task(text: str) -> int:
    """The number of a task."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a task, counted from 0")
    return int(text)
