"""A compiler is asked about the very bytes of a model; where it is not installed, the table answers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graphsplit.compilers.patterns import Said, read_output
from graphsplit.compilers.process import Ran, environment, found_program, run_command
from graphsplit.errors import FormatError
from graphsplit.formats import Model
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.json_input import entry_error
from graphsplit.planning.targets import Compiler, Target
from graphsplit.planning.targets.answer import Answer, Refused

__all__ = ["ask", "ask_table", "installed"]

_LONGEST = 200  # characters of a line that is quoted
_SPARE = 4  # times the size of the model that a compiler may write, besides what every program may
_PYTHON = "{python}"


def installed(target: Target) -> bool:
    """Whether the compiler of a target can be asked here.

    Raises:
        FormatError: The command of a user's target is not there.
    """
    compiler = target.compiler
    if compiler is None:
        return False
    if compiler.package:
        return _version(compiler) is not None
    if compiler.command[0] != _PYTHON and found_program(compiler.command[0]) is None:
        what = f"there is no program {compiler.command[0]!r:.100}; install it, or give its path"
        raise entry_error("$.compiler.command[0]", what, path=target.path)
    return True


def ask_table(model: Model, target: Target, *, specs: Mapping[str, TensorSpec] | None = None) -> Answer:
    """What the table of a target takes of a model.

    Args:
        model: The model.
        target: The target.
        specs: Tensors of which more is known than the file states.
    """
    index = model.index
    asked = sum(n.kind == "op" for n in index.nodes)
    if unsuited := target.unsuited(index, specs or {}):
        first = next(n for n in index.nodes if n.kind == "op" and n.outputs)
        return Answer(target.name, None, None, 0, asked, (Refused(first.op, first.outputs[0], unsuited),), unsuited)
    nodes = index.name_to_node_map
    refused = tuple(
        Refused(nodes[name].op, nodes[name].outputs[0] if nodes[name].outputs else name, reason)
        for name, reason in target.refusals(index, specs or {}).items()
    )
    compiler, note = target.compiler, "from the table"
    if compiler is not None and compiler.extra and _version(compiler) is None:
        note += f"; install graphsplit[{compiler.extra}] to ask"
    return Answer(target.name, None, None, asked - len(refused), asked, refused, note)


def ask(model: Model, target: Target, *, name: str = "the model") -> Answer:
    """Ask the compiler of a target what it takes of a model.

    A compiler that crashes, hangs, or writes without end has answered, too: it takes nothing, and `Answer.reason` says what
    it did. Where it is not installed, or the target has none, the table answers and `Answer.compiler` is None.

    Args:
        model: The model; its bytes are what the compiler reads.
        target: The target.
        name: What the model is called in the answer: "main".

    Raises:
        FormatError: The compiler does not read models of this format; the command of a user's target is not there, or its
            patterns find nothing in what it printed although it failed.
    """
    target.check_format(model.section_format, path=model.path)
    compiler = target.compiler
    if compiler is None or target.unsuited(model.index) or not installed(target):
        return ask_table(model, target)
    ran = _run(model, compiler)
    said = _each_once(read_output(ran.output, compiler, target.path), model)
    stated = said.version or _version(compiler)
    who = " ".join(filter(None, (compiler.name, stated)))
    nodes = sum(n.kind == "op" for n in model.index.nodes)
    if ran.problem:
        return Answer(target.name, compiler.name, stated, 0, nodes, said.refused, f"{who} {ran.problem} on {name}")
    if ran.status and not said.refused:
        crash = f"{who} crashed on {name}: {_last_line(ran)}"
        if target.path is not None and ran.status > 0:
            what = f"matches nothing in what {compiler.name} printed, though its exit status is {ran.status}: {_last_line(ran)}"
            raise entry_error("$.compiler.refused", what, path=target.path)
        return Answer(target.name, compiler.name, stated, 0, nodes, (), crash)
    return _counted(target, compiler, stated, said, nodes, failed=bool(ran.status))


def _each_once(said: Said, model: Model) -> Said:
    """Refusals that are printed twice, as one; those without a name of the model may be of different ops."""
    known, kept = model.index.producer, dict[object, Refused]()
    for number, entry in enumerate(said.refused):
        kept.setdefault(entry if entry.tensor in known else number, entry)
    return replace(said, refused=tuple(kept.values()))


def _counted(target: Target, compiler: Compiler, stated: str | None, said: Said, nodes: int, *, failed: bool) -> Answer:
    """The answer of a compiler that ended, with its own counts where it states them."""
    if compiler.taken and said.taken is None and not failed:
        what = f"matches nothing in what {compiler.name} printed; is this the version that the pattern is for?"
        raise entry_error("$.compiler.taken", what, path=target.path)
    left = max(said.left or 0, len(said.refused))
    taken = said.taken if said.taken is not None else max(nodes - left, 0)
    if taken + left == 0:  # nothing but what costs nothing, such as reshapes
        taken = nodes
    return Answer(target.name, compiler.name, stated, taken, taken + left, said.refused)


def _run(model: Model, compiler: Compiler) -> Ran:
    with tempfile.TemporaryDirectory(prefix="graphsplit-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        path, out = folder / f"model.{model.suffix}", folder / "out"
        out.mkdir()
        with path.open("wb") as file:
            for chunk in model.chunks:
                file.write(chunk)
        env = environment(folder)
        words = [w.replace("{model}", str(path)).replace("{folder}", str(out)) for w in compiler.command]
        if words[0] == _PYTHON:
            words[0] = sys.executable
            # Modules are found where this process finds them; the folder of the model holds none.
            env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path)
        else:
            words[0] = found_program(words[0]) or words[0]
        try:
            return run_command(words, folder, seconds=compiler.seconds, spare=_SPARE * model.nbytes, env=env)
        except (OSError, ValueError) as error:
            raise FormatError(f"{compiler.name} cannot be started: {error}") from error


def _version(compiler: Compiler) -> str | None:
    if not compiler.package:
        return None
    try:
        return version(compiler.package)
    except PackageNotFoundError:
        return None


def _last_line(ran: Ran) -> str:
    """The last line that was printed, which says most where a program fails, or how it ended."""
    lines = [line.strip() for line in ran.output.splitlines() if line.strip()]
    plain = "".join(c if c.isprintable() else " " for c in lines[-1])[:_LONGEST] if lines else ""
    how = f"signal {-ran.status}" if ran.status is not None and ran.status < 0 else f"exit status {ran.status}"
    return how if not plain or (ran.status or 0) < 0 else plain
