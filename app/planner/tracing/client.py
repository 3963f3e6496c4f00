"""Run the planner's trace in a child and put its peak into the plan."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import PlanError
from app.files import replace_file
from app.jobs import supervisor
from app.planner.alternatives.solve import plan
from app.planner.estimate import Plan
from app.planner.request import PlanRequest
from app.planner.tracing import store
from app.planner.tracing.request import plan_with_trace, request_as_json, requests_as_json
from app.planner.tracing.store import State

if TYPE_CHECKING:
    import subprocess

_MODULE = "app.planner.tracing.worker"
_SIMULATION = "app.planner.tracing.simulate"
_LOOK_S = 0.2
# Children that trace, by the file of their state, so that nobody starts a second one and ended ones are reaped.
_children: dict[Path, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Progress:
    """How far a trace is: `share` of it, after `seconds`."""

    share: float
    seconds: float


def begin(request: PlanRequest, root: Path, beside: Sequence[PlanRequest] = ()) -> Progress | None:
    """Have a request's step traced in a child where it was not yet, and return how far that is; None when it is there.

    `beside` are requests that are traced after it. Raises PlanError for a model that was found not to train.
    """
    if not needs_trace(request, root):
        return None
    state = store.state_of(root, request)
    if state is not None and state.state == "refused":
        raise PlanError(*state.refused)
    path = store.state_file(root, request)
    child = _children.get(path)
    if child is not None and child.poll() is None and (state is None or state.state == "begun"):
        return Progress(state.share if state else 0.0, state.seconds if state else 0.0)
    if child is None and state is not None and state.runs:
        return Progress(state.share, state.seconds)
    if child is not None and child.poll() is not None and (state is None or state.state != "done"):
        _children.pop(path)
        raise PlanError(
            f"The model {request.model.name} cannot be planned", "its simulation broke off", "Plan it again"
        )
    source = path.with_suffix(".request")
    replace_file(source, requests_as_json([request, *beside]))
    store.write_state(path, State("begun"))
    _children[path] = supervisor.spawn_helper(_SIMULATION, [str(source), str(root)])
    return Progress(0.0, 0.0)


def standing(request: PlanRequest, beside: Sequence[PlanRequest], root: Path) -> str:
    """Return a word that changes when a trace that runs for these requests gets further; empty when none runs."""
    state = store.state_of(root, request)
    child = _children.get(store.state_file(root, request)) if request.model.simulated else None
    if not (child is not None and child.poll() is None) and not (state is not None and state.runs):
        return ""
    done = sum(not needs_trace(one, root) for one in beside)
    return f"{state.share if state else 0:.2f}/{done}"


def needs_trace(request: PlanRequest, root: Path) -> bool:
    """Tell whether a request is planned by a trace that is not there."""
    if not request.model.simulated:
        return False
    return not store.traces_of(root, request.model).traced(request)


def traced(request: PlanRequest, root: Path, report: Callable[[Progress], None] = lambda _: None) -> PlanRequest:
    """Return a request with its model's traces, after the trace that it lacks. Takes some 20 s at the first time.

    Raises PlanError for a model that cannot be trained.
    """
    while (progress := begin(request, root)) is not None:
        report(progress)
        time.sleep(_LOOK_S)
    return store.with_traces(request, root)


def traced_plan(request: PlanRequest) -> Plan:
    """Return the plan with the peak of the real training step under fake tensors. Takes some 10 to 60 s.

    Raises PlanError when the step cannot be traced, with the child's last words.
    """
    if not request.is_training:
        raise PlanError("method: inference is not traced", "the trace runs a training step", "plan without --trace")
    formula = plan(request)
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(request_as_json(request), encoding="utf-8")
        child = supervisor.spawn_helper(_MODULE, [str(asked), str(answered)])
        words, _ = child.communicate()
        if child.returncode or not answered.is_file():
            said = words.decode(errors="replace").strip().splitlines()
            raise PlanError("The trace failed", said[-1] if said else "", "plan without --trace")
        return plan_with_trace(formula, json.loads(answered.read_text(encoding="utf-8")))
