"""Run the planner's trace in a child and put its peak into the plan."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from app.errors import PlanError
from app.jobs import supervisor
from app.planner import Plan, PlanRequest, plan
from app.planner.trace_request import plan_with_trace, request_as_json

_MODULE = "app.planner.trace_child"


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
