"""The workbench without its page: suggestions, plans, completion, verification, files. Everything it answers is JSON."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from graphsplit.errors import GraphSplitError
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify
from graphsplit.verification.report import Report
from graphsplit.viewer.explorer_files import web_files
from graphsplit.viewer.explorer_graph import graph_of, node_data, tensors_of_node
from graphsplit.viewer.jobs import Jobs
from graphsplit.viewer.output_folder import OutputFolder
from graphsplit.viewer.plans import Plans, plan_json
from graphsplit.viewer.requests import CropRequest, PlanRequest, SplitRequest, VerifyRequest
from graphsplit.viewer.session import ChosenCut, Session
from graphsplit.viewer.study import examine
from graphsplit.viewer.tensors import Tensors, tensor_json

__all__ = ["Workbench"]

_LISTED = 5  # nodes that reach outside, by name


class Workbench:
    """One model, its plans, and a folder to write into.

    Args:
        session: The model and the cut to begin with.
        folder: Files are written here and nowhere else.
        trust: Run a model that reaches files, the network or Python, to verify it.
    """

    def __init__(self, session: Session, folder: Path, *, trust: bool = False) -> None:
        self.session, self.model, self.trust = session, session.model, trust
        self._folder = OutputFolder(folder)
        self._tensors = Tensors(session.model)
        self._plans = Plans()
        self._jobs = Jobs()
        self._costs: dict[str, int] = {}
        self._study: str | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Let running work finish."""
        self._jobs.close()

    def state(self) -> dict[str, object]:
        """What the page starts with; ``study`` is the job that searches for suggestions."""
        model, cut = self.model, self.session.cut
        with self._lock:
            if self._study is None:
                self._study = self._jobs.start(self._examined)
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
            "study": self._study,
        }

    def tensors(self, query: str) -> dict[str, object]:
        """Tensors whose names contain what was typed; see `Tensors.search`."""
        return self._tensors.search(query)

    def selected(self, node_id: str) -> dict[str, object]:
        """The tensors of a node that was selected in the explorer."""
        return {"tensors": [tensor_json(self._tensors.known(t)) for t in tensors_of_node(self.model, node_id)]}

    # plans

    def plan(self, request: PlanRequest) -> dict[str, object]:
        """Sections, borders and picture of a cut, with the number of its plan.

        Raises:
            GraphSplitError: The cut is not possible.
        """
        plan = self._cut(request).plan(self.model)
        specs = self._tensors.infer(dict.fromkeys(t for s in plan.sections for t in (*s.inputs, *s.outputs)))
        return {"plan": self._plans.add(plan), **plan_json(self.model, plan, specs)}

    def graph(self, number: int) -> dict[str, object]:
        """The graph of a plan for the explorer. Raises GraphSplitError for an unknown plan."""
        return graph_of(self.model, self._plans[number], self._tensors.known)

    def node_data(self, number: int) -> dict[str, object]:
        """Estimated cost of the nodes for the explorer, empty until sizes are known. Raises GraphSplitError for an unknown plan."""
        _ = self._plans[number]  # costs are the same for every plan, but only for those who know one
        return node_data(self.model.index, self._costs)

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

    def verify(self, request: VerifyRequest) -> dict[str, object]:
        """Start to verify a plan. Raises GraphSplitError for an unknown plan."""
        plan = self._plans[request.plan]
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
        plan = self._plans[request.plan]
        self._folder.free_folder(request.name, split(self.model, plan, shapes=False))  # an error now, not after the proof
        return {"job": self._jobs.start(lambda: self._written(plan, request.name, request.verify))}

    def _examined(self) -> dict[str, object]:
        study = examine(self.model)
        self._costs = study.costs
        return study.answer

    def _compared(self, parts: Parts) -> Report:
        return verify(self.model.original, parts, trust=self.trust)

    def _verified(self, plan: Plan) -> dict[str, object]:
        report = self._compared(split(self.model, plan))
        outputs = [{"tensor": o.tensor, "equal": o.equal, "note": o.note, "max_abs_error": o.max_abs_error} for o in report.outputs]
        return {"equal": report.equal, "summary": report.summary(), "feeds": list(report.feeds), "outputs": outputs}

    def _written(self, plan: Plan, name: str, verified: bool) -> dict[str, object]:
        parts = split(self.model, plan)
        proof: dict[str, object] = {"verified": None}
        if verified:
            report = self._compared(parts)
            if not report.equal:
                return {"error": f"verification differs: {report.summary()}; nothing was written"}
            proof = {"verified": True, "summary": report.summary()}
        folder, names = self._folder.save_split(name, parts)
        return {**proof, "written": str(folder), "files": names}
