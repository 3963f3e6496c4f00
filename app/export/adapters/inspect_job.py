"""The inspection's job: the figures of every layer that an adapter changes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from app.errors import ExportError, ModelError, NetworkError
from app.export.adapter_kinds import refuse_for_inspection
from app.export.adapters.inspect import KEPT, measure
from app.export.merge.base_model import BaseModel, find_base
from app.export.requests import INSPECTION_FILE, InspectAnswer, Inspection, InspectRequest, LayerFigures
from app.files import replace_file
from app.jobs.child import JobChild, Outcome, Result
from app.models.adapters import AdapterFolder


def run(child: JobChild) -> tuple[Outcome, Result]:
    """Measure layer after layer and write result/inspection.json."""
    request = child.request(InspectRequest)
    adapter = AdapterFolder(Path(request.adapter))
    refuse_for_inspection(adapter)
    base, note = _base_here(adapter, request.base)
    notes = [note] if note else []
    if adapter.whole_tensors:
        notes.append(f"{len(adapter.whole_tensors)} whole tensors (embeddings, biases, heads) are not shown")
    sizes: list[LayerFigures] = []
    modules = [module for module, parts in adapter.layers.items() if "lora_A.weight" in parts]
    for number, module in enumerate(modules):
        if child.stop_requested():
            return "stopped", {}
        weight = base.tensor(f"{module}.weight") if base else None
        sizes.append(measure(adapter.update(module), weight))
        child.progress(number + 1, len(modules), "inspecting")
    found = Inspection(adapter.hash, KEPT, notes, sizes)
    child.directory.result.mkdir(exist_ok=True)
    replace_file(child.directory.result / INSPECTION_FILE, json.dumps(asdict(found)))
    return "finished", asdict(summary(sizes, notes))


def summary(sizes: list[LayerFigures], notes: list[str]) -> InspectAnswer:
    """Return the figures of the whole adapter."""
    relative = [one.relative for one in sizes if one.relative is not None]
    return InspectAnswer(
        layers=len(sizes),
        rank=max((one.rank for one in sizes), default=0),
        kept_rank=max((one.kept_rank for one in sizes), default=0),
        largest_relative=max(relative, default=None),
        notes=notes,
    )


def _base_here(adapter: AdapterFolder, named: str | None) -> tuple[BaseModel | None, str]:
    """Return the base when it lies on this machine, and why not; nothing is fetched for an inspection."""
    try:
        return find_base(adapter, named, fetch=False), ""
    except (ExportError, ModelError, NetworkError) as error:
        return None, f"sizes against the weights are missing: {error.what}"
