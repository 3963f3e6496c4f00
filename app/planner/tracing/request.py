"""A plan's request as JSON, for the child that traces it, and the traced peak back as a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from app.catalog.reader import spec_from_config
from app.errors import PlanError
from app.planner.estimate import Plan
from app.planner.request import PlanRequest

# The child needs neither the model as we hold it nor what was measured and traced here.
_OTHERS = tuple(field.name for field in fields(PlanRequest) if field.name not in ("model", "corrections", "traces"))


def request_as_json(request: PlanRequest) -> str:
    """Return the request with the model's own configuration; raises PlanError when that is not known."""
    if not request.model.config:
        raise PlanError(f"{request.model.name} cannot be traced", "its config.json is not known", "Name a model folder")
    body = {name: getattr(request, name) for name in _OTHERS}
    model = {"name": request.model.name, "layers": request.model.layers, "config": dict(request.model.config)}
    return json.dumps({**body, "model": model})


def request_from_json(text: str) -> PlanRequest:
    """Return the request that `request_as_json` wrote."""
    body: dict[str, Any] = json.loads(text)
    model = body.pop("model")
    spec = spec_from_config(model["config"], model["name"])
    body["targets"] = tuple(body["targets"])
    body["modules_to_save"] = tuple(body["modules_to_save"])
    return PlanRequest(model=spec, **body)


def requests_as_json(requests: Sequence[PlanRequest]) -> str:
    """Return several requests, for the child that traces them one after another."""
    return json.dumps([request_as_json(request) for request in requests])


def requests_from_json(text: str) -> list[PlanRequest]:
    """Return the requests that `requests_as_json` wrote."""
    return [request_from_json(str(one)) for one in json.loads(text)]


def plan_with_trace(plan: Plan, answer: Mapping[str, Any]) -> Plan:
    """Return the plan with its moving parts scaled to the traced peak; `answer` is what the child wrote.

    Weights, adapters, optimiser and gradients are exact in both; the difference belongs to activations.
    """
    traced = int(answer["allocated_peak"])
    parts = dict(plan.parts)
    parts["activations"] = max(0, parts["activations"] + traced - plan.allocated_peak)
    return replace(plan, parts=parts, basis="traced")
