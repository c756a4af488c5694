"""The workbench without its page: suggestions, plans, completion, proof, files. Everything it answers is JSON."""

from __future__ import annotations

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from graphsplit.diagram.colours import legend
from graphsplit.diagram.picture import draw
from graphsplit.errors import CutError, FormatError, GraphSplitError, OverwriteError
from graphsplit.formats.atomic import check_free, whole_file
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import bytes_text, shape_text
from graphsplit.inference.shapes import frame_bytes, infer
from graphsplit.parts.folder import check_save, save
from graphsplit.parts.manifest import MANIFEST, added_json, file_names
from graphsplit.planning.plan import Plan
from graphsplit.splitting.surgery import split
from graphsplit.viewer.cost import estimate
from graphsplit.viewer.explorer import graph_of, node_data, tensor_of, web_files
from graphsplit.viewer.jobs import Jobs
from graphsplit.viewer.session import Opened, Wanted

__all__ = ["Workbench"]

_PLANS = 16  # plans that are kept
_FOUND = 30  # completions
_REPAIRS = ("auto", "replicate", "border", "error")
_ANOTHER = "choose another name"  # than that of a file that exists
_NAME = re.compile(r"[^\W_][\w.+-]{0,99}")


class Workbench:
    """One model, its plans, and a folder to write into.

    Args:
        opened: The model and the cut to begin with.
        folder: Files are written here and nowhere else.
        trust: Whether `verify` may run a model that reaches files, the network or Python.
    """

    def __init__(self, opened: Opened, folder: Path, *, trust: bool = False) -> None:
        self.opened, self.folder, self.trust = opened, folder, trust
        self.model = opened.model
        self._jobs = Jobs()
        self._plans: OrderedDict[int, Plan] = OrderedDict()
        self._specs: dict[str, TensorSpec] = {}
        self._costs: dict[str, int] = {}
        self._lock = Lock()
        self._inferring = Lock()
        self._study: str | None = None

    def close(self) -> None:
        """Let running work end."""
        self._jobs.close()

    def state(self) -> dict[str, Any]:
        """What the page begins with; `study` is the job that looks for suggestions."""
        model, wanted = self.model, self.opened.wanted
        with self._lock:
            if self._study is None:
                self._study = self._jobs.start(self._study_model)
        return {
            "model": "model" if model.path is None else model.path.name,
            "format": model.format,
            "nodes": len(model.index.nodes),
            "inputs": [_tensor(s) for s in model.inputs],
            "outputs": [_tensor(s) for s in model.outputs],
            "cut": {"inputs": list(wanted.inputs), "ends": [list(e) for e in wanted.ends]},
            "model_outputs": None if wanted.model_outputs is None else list(wanted.model_outputs),
            "repair": wanted.repair,
            "source": self.opened.source,
            "folder": str(self.folder),
            "reaches_outside": list(model.reaches_outside)[:5],
            "explorer": web_files() is not None,
            "study": self._study,
        }

    def tensors(self, query: str) -> dict[str, Any]:
        """Tensors whose names contain what was typed, those that begin with it or end on it first; constants are left out."""
        words = query.strip().lower().split()
        index = self.model.index
        found = []
        for node in index.nodes:
            if node.kind != "op":
                continue
            for tensor in node.outputs:
                name = tensor.lower()
                if all(w in name for w in words) and not (tensor in index.captive and tensor not in index.handles):
                    plain = name.removesuffix(":0")
                    first = words[0] if words else ""
                    rank = (plain != first, not plain.endswith(first), not name.startswith(first), len(name))
                    found.append((rank, tensor))
        found.sort(key=lambda f: f[0])
        specs = [self._specs.get(t, index.tensors[t]) for _, t in found[:_FOUND]]
        return {"tensors": [_tensor(s) for s in specs], "more": max(0, len(found) - _FOUND)}

    def selected(self, node_id: str) -> dict[str, Any]:
        """The tensors of a node that was selected in the graph."""
        tensors = tensor_of(self.model, node_id)
        return {"tensors": [_tensor(self._specs.get(t, self.model.index.tensors[t])) for t in tensors]}

    # plans

    def plan(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What becomes of a cut. Raises GraphSplitError for one that cannot be made."""
        plan = _wanted(asked, self.opened.wanted).plan(self.model)
        specs = self._infer(dict.fromkeys(t for s in plan.sections for t in (*s.inputs, *s.outputs)))
        with self._lock:
            # A secret, since the explorer asks for graphs by this number alone; exact in JavaScript.
            number = secrets.randbelow(2**53 - 1) + 1
            self._plans[number] = plan
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        sizes = [specs[t].frame().nbytes for t in plan.borders]
        return {
            "plan": number,
            "sections": [
                {
                    "name": s.name,
                    "nodes": len(s.nodes),
                    "inputs": [_tensor(specs[t]) for t in s.inputs],
                    "outputs": [_tensor(specs[t]) for t in s.outputs],
                }
                for s in plan.sections
            ],
            "borders": [_tensor(specs[t]) for t in plan.borders],
            "bytes": sum(b for b in sizes if b is not None),
            "bytes_text": bytes_text(sum(b for b in sizes if b is not None)) + (" and more" if None in sizes else ""),
            "added": [added_json(a) for a in plan.added],
            "replicated": list(plan.replicated),
            "reasons": list(plan.notes),
            "legend": [{"name": n, "back": t.back, "frame": t.frame} for n, t in legend([s.name for s in plan.sections])],
            "svg": draw(self.model, plan, specs=specs).svg,
        }

    def graph(self, number: int) -> dict[str, Any]:
        """The graph of a plan for the explorer. Raises GraphSplitError for a plan that is not known (any more)."""
        plan = self._plan(number)
        return graph_of(self.model, plan, self._specs)

    def node_data(self, number: int) -> dict[str, Any]:
        """Estimated cost of the nodes, for whoever knows a plan; empty until the sizes are known."""
        self._plan(number)
        return node_data(self.model.index, self._costs)

    def _plan(self, number: int) -> Plan:
        with self._lock:
            for known, plan in self._plans.items():
                if secrets.compare_digest(str(known), str(number)):
                    return plan
        raise GraphSplitError("this plan is not known any more; load the page again")

    def _infer(self, tensors: Iterable[str]) -> dict[str, TensorSpec]:
        """Specs of tensors; shapes that cannot be inferred stay unknown."""
        asked = list(tensors)
        with self._inferring:
            missing = [t for t in asked if t not in self._specs]
            if missing:
                try:
                    self._specs |= infer(self.model, missing)
                except FormatError:
                    self._specs |= {t: self.model.index.tensors[t] for t in missing}
        return {t: self._specs[t] for t in asked}

    # work in the background

    def job(self, number: str) -> dict[str, Any]:
        """The state of a job. Raises GraphSplitError for an unknown number."""
        found = self._jobs.look(number)
        if found is None:
            raise GraphSplitError("no such job; load the page again")
        return found

    def verify(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Start the proof of a plan."""
        plan = self._plan(_number(asked))
        return {"job": self._jobs.start(lambda: self._verified(plan))}

    def save_crop(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Write the named borders of a cut as a crop file, over nothing."""
        cut = _wanted(asked, self.opened.wanted)
        cut.plan(self.model)
        if len(cut.ends) > 1:
            raise CutError("a crop file holds one cut; an N-way split is saved as a folder")
        target = self._target(_text(asked, "name"), ".json")
        check_free([target], then=_ANOTHER)
        content = {"inputs": list(cut.inputs), "outputs": [t for end in cut.ends for t in end]}
        content = {key: value for key, value in content.items() if value}
        if not content:
            raise CutError("nothing is cut, so there is nothing to save")
        with whole_file(target) as file:
            file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        return {"written": str(target)}

    def split(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Start to prove a plan and write its sections into a folder of that name; nothing is written over."""
        plan = self._plan(_number(asked))
        target = self._target(_text(asked, "name"), "")
        if target.is_symlink():
            raise OverwriteError(f"{target.name} is a link; choose another name", paths=[target])
        proven = asked.get("verify", True) is not False
        parts = split(self.model, plan, shapes=False)
        check_save(parts, target, then=_ANOTHER)
        return {"job": self._jobs.start(lambda: self._written(plan, target, proven))}

    def _study_model(self) -> dict[str, Any]:
        from graphsplit.splitting.suggestions import suggest

        found = suggest(self.model)
        self._costs = estimate(self.model.index, frame_bytes(self.model))
        cuts = [
            {
                "source": c.source,
                "name": c.name,
                "inputs": list(c.inputs),
                "outputs": [_tensor(o) for o in c.outputs],
                "added": list(c.added),
                "bytes_text": bytes_text(c.nbytes),
                "nodes": c.nodes,
                "reason": c.reason,
            }
            for c in found
        ]
        return {"cuts": cuts, "reason": found.reason}

    def _verified(self, plan: Plan) -> dict[str, Any]:
        from graphsplit.verification.equivalence import verify

        report = verify(self.model.original, split(self.model, plan), trust=self.trust)
        outputs = [{"tensor": o.tensor, "equal": o.equal, "note": o.note, "max_abs_error": o.max_abs_error} for o in report.outputs]
        return {"equal": report.equal, "summary": report.summary(), "feeds": list(report.feeds), "outputs": outputs}

    def _written(self, plan: Plan, target: Path, proven: bool) -> dict[str, Any]:
        parts = split(self.model, plan)
        answer: dict[str, Any] = {"verified": None}
        if proven:
            from graphsplit.verification.equivalence import verify

            report = verify(self.model.original, parts, trust=self.trust)
            answer = {"verified": report.equal, "summary": report.summary()}
            if not report.equal:
                return {"error": f"verification differs: {report.summary()}; nothing was written"}
        check_save(parts, target, then=_ANOTHER)  # somebody may have been faster
        save(parts, target)
        return {**answer, "written": str(target), "files": sorted([*file_names(parts).values(), MANIFEST])}

    def _target(self, name: str, suffix: str) -> Path:
        """A path right in the folder. Raises GraphSplitError for a name that is more, or less, than a plain file name."""
        plain = name.strip()
        if not _NAME.fullmatch(plain) or plain.endswith("."):
            raise GraphSplitError(
                f"{name[:60]!r} is not a plain file name; letters, digits and . _ + - are, beginning with a letter or a digit"
            )
        return self.folder / (plain if plain.endswith(suffix) else plain + suffix)


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    size = spec.frame().nbytes
    return {
        "tensor": spec.name,
        "dtype": spec.dtype,
        "shape": None if spec.shape is None else list(spec.shape),
        "bytes": size,
        "text": f"{spec.dtype or '?'} {shape_text(spec.shape)}" + ("" if size is None else f" · {bytes_text(size)}"),
    }


def _wanted(asked: Mapping[str, Any], first: Wanted) -> Wanted:
    """A cut from what the page sent. Raises GraphSplitError for anything else."""
    cut = asked.get("cut")
    if not isinstance(cut, dict):
        raise GraphSplitError('a cut is {"inputs": […], "ends": [[…], …]}')
    ends = cut.get("ends", [])
    if not isinstance(ends, list) or len(ends) > 64:
        raise GraphSplitError("'ends' of a cut is a list of lists of tensor names")
    repair = asked.get("repair", first.repair)
    if repair not in _REPAIRS:
        raise GraphSplitError(f"unknown repair {str(repair)[:40]!r}; there are {', '.join(_REPAIRS)}")
    return Wanted(_names(cut.get("inputs", [])), tuple(e for e in map(_names, ends) if e), first.model_outputs, repair)


def _names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(n, str) for n in given) or len(given) > 1000:
        raise GraphSplitError("border tensors are a list of tensor names")
    return tuple(given)


def _number(asked: Mapping[str, Any]) -> int:
    number = asked.get("plan")
    if not isinstance(number, int):
        raise GraphSplitError("'plan' is the number of a plan")
    return number


def _text(asked: Mapping[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str):
        raise GraphSplitError(f"{key!r} is a text")
    return value
