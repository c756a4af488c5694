"""The workbench without its page: suggestions, targets, plans, completion, verification, files. Everything it answers is JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from numpy.typing import ArrayLike

from graphsplit.errors import GraphSplitError
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan, Repair
from graphsplit.planning.targets import Target
from graphsplit.splitting.surgery import plan, split
from graphsplit.verification.equivalence import verify
from graphsplit.verification.report import Report
from graphsplit.viewer.commands import split_command
from graphsplit.viewer.explorer_files import web_files
from graphsplit.viewer.explorer_graph import graph_of, node_data, node_of, tensors_of_node
from graphsplit.viewer.jobs import Jobs
from graphsplit.viewer.output_folder import OutputFolder
from graphsplit.viewer.plans import Plans, Shown, plan_json
from graphsplit.viewer.requests import CropRequest, FitRequest, PlanRequest, SplitRequest, StudyRequest, VerifyRequest
from graphsplit.viewer.session import ChosenCut, Session, cut_of
from graphsplit.viewer.study import examine, planned_cut_json, share_of
from graphsplit.viewer.targets import Targets, answer_json, target_key
from graphsplit.viewer.tensors import Tensors, tensor_json

__all__ = ["Workbench"]

_LISTED = 5  # nodes that reach outside, by name


class Workbench:
    """One model, its plans, and a folder to write into.

    Args:
        session: The model and the cut to begin with.
        folder: Files are written here and nowhere else.
        trust: Run a model that reaches files, the network or Python, to verify it.
        feeds: What to verify on, as of `graphsplit.verify`.
        shapes: Input → shape that the file does not state.
    """

    def __init__(
        self,
        session: Session,
        folder: Path,
        *,
        trust: bool = False,
        feeds: Mapping[str, ArrayLike] | Sequence[Mapping[str, ArrayLike]] | None = None,
        shapes: Mapping[str, Sequence[int | None]] | None = None,
    ) -> None:
        self.session, self.model, self.trust = session, session.model, trust
        self._feeds, self._shapes = feeds, shapes
        self._folder = OutputFolder(folder)
        self._tensors = Tensors(session.model, shapes or True)
        self._plans = Plans()
        self._jobs = Jobs()
        self._costs: dict[str, int] = {}
        self._targets = Targets(session.model, session.target)
        self._studies: dict[str | None, str] = {}
        self._fitted: dict[tuple[str | None, ChosenCut], Plan] = {}
        if session.fitted is not None:
            self._fitted[self._started_with, session.cut] = session.fitted
        self._lock = Lock()

    def close(self) -> None:
        """Let running work finish."""
        self._jobs.close()

    def state(self) -> dict[str, object]:
        """What the page starts with."""
        model, cut = self.model, self.session.cut
        return {
            "model": "model" if model.path is None else model.path.name,
            "format": model.format,
            "nodes": len(model.index.nodes),
            "inputs": [tensor_json(s) for s in model.inputs],
            "outputs": [tensor_json(s) for s in model.outputs],
            "cut": {"inputs": list(cut.inputs), "ends": [list(e) for e in cut.ends]},
            "model_outputs": None if cut.model_outputs is None else list(cut.model_outputs),
            "repair": cut.repair,
            "origin": self.session.origin,
            "folder": str(self._folder.path),
            "reaches_outside": list(model.reaches_outside)[:_LISTED],
            "trusted": self.trust,
            "explorer": web_files() is not None,
            "targets": self._targets.json(),
            "target": self._started_with,
        }

    @property
    def _started_with(self) -> str | None:
        return None if self.session.target is None else target_key(self.session.target)

    def tensors(self, query: str) -> dict[str, object]:
        """Tensors whose names contain what was typed; see `Tensors.search`."""
        return self._tensors.search(query)

    def selected(self, node_id: str, number: int | None = None) -> dict[str, object]:
        """The tensors of a node that was selected in the explorer, and why the target of a plan refuses it, if it does."""
        tensors = [tensor_json(self._tensors.known(t)) for t in tensors_of_node(self.model, node_id)]
        shown = None if number is None else self._plans[number]
        reason = None if shown is None else shown.refused.get(node_of(node_id))
        return {"tensors": tensors, "refused": None if shown is None or reason is None else f"{shown.target} refuses it: {reason}"}

    # plans

    def plan(self, request: PlanRequest) -> dict[str, object]:
        """Sections, borders and picture of a cut, with the number of its plan and a command that makes it.

        Raises:
            GraphSplitError: The cut is not possible, or the target is not offered.
        """
        cut = self._cut(request)
        target = None if request.target is None else self._targets[request.target]
        fitted = self._fitted.get((request.target, cut))
        plan = fitted or cut.plan(self.model)
        refused = dict(self._targets.refusals(request.target))
        if target is not None and plan.target is not None:  # the compiler's own reasons
            refused |= {self.model.index.producer.get(r.tensor, r.tensor): r.reason for r in plan.target.refused}
        shown = Shown(plan, refused, "" if target is None else target.name)
        specs = self._tensors.infer(dict.fromkeys(t for s in plan.sections for t in (*s.inputs, *s.outputs)))
        command, why = split_command(self.model, cut, fitted=fitted, target=target, trust=self.trust)
        told = {"command": command, "no_command": why}
        return {"plan": self._plans.add(shown), **plan_json(self.model, shown, specs), **told}

    def graph(self, number: int) -> dict[str, object]:
        """The graph of a plan for the explorer. Raises GraphSplitError for an unknown plan."""
        shown = self._plans[number]
        return graph_of(self.model, shown.plan, self._tensors.known, shown.refused, shown.target)

    def node_data(self, number: int) -> dict[str, object]:
        """Estimated cost of the nodes for the explorer, empty until sizes are known. Raises GraphSplitError for an unknown plan."""
        return node_data(self.model.index, self._costs, self._plans[number].refused)

    def _cut(self, request: PlanRequest) -> ChosenCut:
        ends = tuple(end for end in request.cut.ends if end)
        start = self.session.cut
        return ChosenCut(request.cut.inputs, ends, start.model_outputs, request.repair or start.repair)

    # work in the background

    def job(self, number: str) -> dict[str, object]:
        """The state of a job, see `Jobs.state`. Raises GraphSplitError for an unknown number."""
        state = self._jobs.state(number)
        if state is None:
            raise GraphSplitError("this job is unknown or too old; reload the page")
        return state

    def study(self, request: StudyRequest) -> dict[str, object]:
        """Start to search for suggestions, once for each target. Raises GraphSplitError for a target that is not offered."""
        target = None if request.target is None else self._targets[request.target]
        with self._lock:
            known = self._studies.get(request.target)
            if known is None or self._jobs.state(known) is None:
                self._studies[request.target] = self._jobs.start(lambda: self._examined(request.target, target))
            return {"job": self._studies[request.target]}

    def fit(self, request: FitRequest) -> dict[str, object]:
        """Start to cut until a target takes all of main. Raises GraphSplitError for a target that is not offered."""
        target, key = self._targets[request.target], request.target
        repair = request.repair or self.session.cut.repair
        return {"job": self._jobs.start(lambda: self._cut_for(key, target, islands=request.islands, repair=repair))}

    def verify(self, request: VerifyRequest) -> dict[str, object]:
        """Start to verify a plan. Raises GraphSplitError for an unknown plan."""
        plan = self._plans[request.plan].plan
        return {"job": self._jobs.start(lambda: self._verified(plan))}

    def save_crop(self, request: CropRequest) -> dict[str, object]:
        """Write the named borders of a cut as a crop file.

        Raises:
            GraphSplitError: The cut is not possible, or as `OutputFolder.save_crop`.
        """
        cut = self._cut(request)
        cut.plan(self.model)
        return {"written": str(self._folder.save_crop(request.name, cut.inputs, cut.ends))}

    def split(self, request: SplitRequest) -> dict[str, object]:
        """Start to write the sections of a plan into a folder, verified first if asked.

        Raises:
            GraphSplitError: The plan is unknown, or as `OutputFolder.free_folder`.
        """
        plan = self._plans[request.plan].plan
        self._folder.free_folder(request.name, split(self.model, plan, shapes=False))  # an error now, not after the proof
        return {"job": self._jobs.start(lambda: self._written(plan, request.name, request.verify))}

    def _examined(self, key: str | None, target: Target | None) -> dict[str, object]:
        study = examine(self.model, target)
        self._costs = study.costs
        if study.islands is not None:
            self._fitted.setdefault((key, cut_of(study.islands, self.session.cut.model_outputs)), study.islands)
        return study.answer | ({} if key is None else {"table": self._targets.table_json(key)})

    def _cut_for(self, key: str, target: Target, *, islands: bool, repair: Repair) -> dict[str, object]:
        kept = self.session.cut.model_outputs
        planned = plan(self.model, target=target, islands=islands, model_outputs=kept, repair=repair)
        assert planned.target is not None
        cut = cut_of(planned, kept)
        self._fitted[key, cut] = planned
        found = planned_cut_json(
            self.model,
            planned,
            source=planned.target.who,
            name=f"for {target.name}",
            reason=planned.origin,
            share=share_of(self.model, planned),
        )
        return {"cut": found, "answer": answer_json(planned.target)}

    def _compared(self, parts: Parts) -> Report:
        return verify(self.model.original, parts, self._feeds, shapes=self._shapes, trust=self.trust)

    def _verified(self, plan: Plan) -> dict[str, object]:
        report = self._compared(split(self.model, plan, shapes=self._shapes or True))
        outputs = [{"tensor": o.tensor, "equal": o.equal, "note": o.note, "max_abs_error": o.max_abs_error} for o in report.outputs]
        return {"equal": report.equal, "summary": report.summary(), "feeds": list(report.feeds), "outputs": outputs}

    def _written(self, plan: Plan, name: str, verified: bool) -> dict[str, object]:
        parts = split(self.model, plan, shapes=self._shapes or True)
        proof: dict[str, object] = {"verified": None}
        if verified:
            report = self._compared(parts)
            if not report.equal:
                return {"error": f"verification differs: {report.summary()}; nothing was written"}
            proof = {"verified": True, "summary": report.summary()}
        folder, names = self._folder.save_split(name, parts)
        return {**proof, "written": str(folder), "files": names}
