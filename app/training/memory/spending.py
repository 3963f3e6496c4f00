"""Settle what a run buys with the memory that is free when it starts."""

from __future__ import annotations

from app.config.schema import RunConfig
from app.errors import ModelError, PlanError, UsageError
from app.jobs.child import JobChild
from app.planner import settled
from app.planner.alternatives.spend import Spending, spending
from app.planner.machine import request_on, this_machine, within_free_memory
from app.planner.parts.overhead import free_bytes
from app.planner.request import PlanRequest
from app.planner.tracing.store import with_traces
from app.training import processes

_MODE, _LAYERS = "memory.checkpointing", "memory.dequantized_layers"


def settle_spending(child: JobChild, config: RunConfig) -> RunConfig:
    """Return the config with what is bought in place of what was left open; a setting that was given stays.

    The choice is kept beside the job: a resumed run does not spend anew. It would compute the same numbers in any case.
    """
    job = child.directory.path
    if not settled.read(job).changes.keys() & {_MODE, _LAYERS}:
        bought = _bought(config, child)
        if bought is None:
            return config
        changes: dict[str, settled.Value] = {_MODE: bought.checkpointing, _LAYERS: bought.dequantized_layers}
        settled.remember(job, changes, str(bought.why))
        child.event("note", str(bought.why))
    return settled.applied(config, job)


def _bought(config: RunConfig, child: JobChild) -> Spending | None:
    here = this_machine()
    if here.kind == "mps":  # its memory is everybody's, and what a run takes of it was not measured
        return None
    try:
        request = request_on(here.device, config, workspace=child.directory.path.parents[1])
        request = with_traces(request, child.directory.path.parents[1])
        return spending(_limited(request, within_free_memory(request.changed(vram_gb=None), here)))
    except (ModelError, PlanError, UsageError):  # a model that the planner does not know is trained plainly
        return None


def _limited(request: PlanRequest, here: PlanRequest) -> PlanRequest:
    """Return the request within what is free here, and on a card within the size that the run names as well.

    Processes that share a run on a processor share its memory.
    """
    if here.free_bytes is None:  # a card's driver may not tell
        return request
    free = here.free_bytes
    if request.device == "cpu":
        return here.changed(free_bytes=free // processes.count())
    named = free_bytes(request)
    return here if named is None else here.changed(free_bytes=min(named, free))
