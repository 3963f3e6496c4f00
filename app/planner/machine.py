"""This machine as the planner sees it: which device a run gets here, its number format, and what of it is free.

The page, the command line and the charts of a run all ask here, so that the same settings never get two answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import hardware
from app.catalog.spec import ModelSpec
from app.config.accelerators import Kind
from app.config.schema import RunConfig
from app.planner import number_format, packing
from app.planner.from_config import request_from_config
from app.planner.history import CPU, corrections
from app.planner.request import Device, Dtype, PlanRequest
from app.planner.tracing.store import with_traces
from app.workspace import Workspace

# What the dtype "auto" means where a model only answers: see app/models/loading.py. Cards older than Ampere take fp16,
# which has the same size. A run on a processor may take bf16: see app/planner/number_format.py.
_AUTO: dict[Device, Dtype] = {"cuda": "bf16", "cpu": "fp32"}


@dataclass(frozen=True)
class Machine:
    """Where a run that names no card is trained here. `name` is the card's, as the history of measurements has it.

    `free_bytes` is None where the card's driver does not tell; `kind` is None for the processor.
    """

    device: Device
    name: str
    free_bytes: int | None
    kind: Kind | None = None


def this_machine() -> Machine:
    """Return the card of this machine with what is free of it now; without one, the processor and its memory."""
    found = hardware.readings()
    if found.gpu is None:
        return Machine("cpu", CPU, found.ram_free_bytes)
    return Machine("cuda", found.gpu.name, found.gpu.free_bytes, found.gpu.kind)


def device_here(machine: Machine | None = None) -> dict[str, Any]:
    """Return the device of this machine and its number format, as fields of a request."""
    device = (machine or this_machine()).device
    return {"device": device, "dtype": _AUTO[device]}


def request_on(
    device: Device,
    config: RunConfig,
    model: ModelSpec | None = None,
    changes: Mapping[str, Any] | None = None,
    workspace: Path | None = None,
) -> PlanRequest:
    """Return the request of a run on one kind of device, with some of the request's own fields changed.

    `workspace` is where it was measured which number format pays on this machine's processor.
    """
    request = request_from_config(config, model, _AUTO[device]).changed(device=device, **(changes or {}))
    if device == "cuda" or "dtype" in (changes or {}):
        return request
    if config.model.dtype != "auto":
        return request.changed(dtype_note=number_format.against(config.model.dtype))
    if not request.is_training:
        return request
    chosen = number_format.of_spec(request.model, workspace)
    return request.changed(dtype=chosen.dtype, dtype_note=chosen.why)


def request_here(
    config: RunConfig,
    workspace: Workspace | Path,
    model: ModelSpec | None = None,
    changes: Mapping[str, Any] | None = None,
    machine: Machine | None = None,
) -> PlanRequest:
    """Return the request of a run on the card that it names, or on this machine, with what was measured here.

    It has no limit unless a card is named: whether a run fits into what is free at this moment is no property of its
    settings. `within_free_memory` adds that.
    """
    here = machine or this_machine()
    named = (changes or {}).get("vram_gb", config.memory.vram_gb) is not None
    root = workspace if isinstance(workspace, Path) else workspace.root
    request = request_on("cuda" if named else here.device, config, model, changes, root).changed(kind=here.kind)
    found = packing.of_run(config, request.model, root) if request.is_training else None
    if found is not None and not found.allowed:
        request = request.changed(packed=False, packing_note=found.note)
    return with_measurements(request, workspace, here)


def with_measurements(request: PlanRequest, workspace: Workspace | Path, machine: Machine | None = None) -> PlanRequest:
    """Return a request with what was measured on this machine, and with what was traced of its model.

    Figures of a processor say nothing of a card.
    """
    here = machine or this_machine()
    request = with_traces(request, workspace.root if isinstance(workspace, Workspace) else workspace)
    return request.changed(corrections=corrections(workspace, here.name)) if request.device == here.device else request


def within_free_memory(request: PlanRequest, machine: Machine | None = None) -> PlanRequest:
    """Return a request that has to fit into what is free here now; one for a card that is named stays as it is.

    A card's reserve stays free for the desktop. A request for a device that this machine has not got, or of which it
    does not tell what is free, stays without a limit.
    """
    here = machine or this_machine()
    if request.vram_gb is not None or request.device != here.device or here.free_bytes is None:
        return request
    kept = (request.reserve_bytes or 0) if here.device == "cuda" else 0
    return request.changed(free_bytes=max(0, here.free_bytes - kept))
