"""What was traced, on disk in the workspace: under the hash of a model's config, the graph's settings and the versions.

traces/<model and versions>/counts.json     the model's counts
traces/<model and versions>/<graph>.json    what a graph trains, and its step by region of row lengths
traces/<model and versions>/<graphs>.state  how their trace stands: begun, done, or refused and why

The models of the shipped presets come with their traces (assets/traces, made by `python -m assets.build.traces`), so
that a preset is planned at once. They are copied into the workspace when a model is first looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.catalog.spec import ModelSpec
from app.files import replace_file
from app.planner.request import PlanRequest
from app.planner.tracing.costs import (
    GraphTrace,
    InferenceTrace,
    ModelCounts,
    StepTrace,
    as_json,
    counts_from_json,
    graph_from_json,
    inference_from_json,
    region,
)
from app.reading import parsed_json

SHIPPED = Path(__file__).resolve().parents[3] / "assets" / "traces"
# The form of the files; raised when what they hold means something else.
_FORM = 1
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "trl")
# A trace that says nothing for so long has died.
SILENT_S = 90.0


@dataclass(frozen=True)
class State:
    """How a trace stands: `share` of it done, or `refused` with the error's what, why and remedy."""

    state: str
    share: float = 0.0
    seconds: float = 0.0
    time: float = 0.0
    refused: tuple[str, str, str] = ("", "", "")

    @property
    def runs(self) -> bool:
        """Tell whether somebody is at it."""
        return self.state == "begun" and time.time() - self.time < SILENT_S


@lru_cache(maxsize=1)
def _versions() -> str:
    # torch's builds for processors and cards (2.13.0+cpu, 2.13.0+cu130) compute the same graph.
    return json.dumps([_FORM, *(version(name).partition("+")[0] for name in _LIBRARIES)])


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


@lru_cache(maxsize=256)
def _model_hash(spec: ModelSpec, text: str) -> str:
    return _hash(text, _versions())


def folder_of(root: Path, spec: ModelSpec) -> Path:
    """Return the folder of a model's traces."""
    return root / "traces" / _model_hash(spec, json.dumps(dict(spec.config), sort_keys=True, default=str))


_BATCHES = ("row", "rows", "packed")


def batch_of(request: PlanRequest) -> str:
    """Return what a batch is made of, which decides its mask: one plain row, padded rows, or a packed row."""
    return "packed" if request.packed else ("rows" if request.sequences > 1 else "row")


def graph_of(request: PlanRequest, recompute: bool, batch: str = "") -> str:
    """Return the name of the graph that a request makes of the layers it recomputes, or of those it does not."""
    settings: Mapping[str, Any] = {
        "method": "full" if request.method == "full" else "adapter",
        "four_bit": request.storage in ("nf4", "nf4-dq"),
        "targets": sorted(request.targets) if request.has_adapter else [],
        "dora": request.has_adapter and request.dora,
        "dropout": request.has_adapter and request.lora_dropout > 0,
        "saved": sorted(request.modules_to_save) if request.has_adapter else [],
        "dtypes": [request.dtype, request.trained_dtype, request.profile],
        "attn": request.attn,
        "loss": [request.fused, request.holds_outputs],
        "accumulates": request.method == "full" and request.gradient_accumulation > 1,
        "batch": batch or batch_of(request),
        "recompute": recompute,
    }
    return _hash(settings)


def modes_of(request: PlanRequest) -> tuple[bool, ...]:
    """Return whether the request has layers that are kept, recomputed, or both."""
    mode = request.recompute
    return {"full": (True,), "none": (False,), "every-1": (True,)}.get(mode, (True, False))


def row_length(request: PlanRequest) -> int:
    """Return the length of the rows that the model sees."""
    return request.tokens if request.packed else request.seq_len


@dataclass(frozen=True)
class Traces:
    """Hold what is on disk of one model, for the plans of one request; equal when it holds the same files."""

    root: Path
    stamp: tuple[tuple[str, int], ...] = ()

    def counts(self, spec: ModelSpec) -> ModelCounts | None:
        """Return the model's counts, None where it was never traced."""
        return _read_counts(folder_of(self.root, spec) / "counts.json", self.stamp)

    def inference(self, request: PlanRequest) -> InferenceTrace | None:
        """Return what the model holds while it answers, None where that was never traced."""
        return _read_inference(_inference_file(self.root, request), self.stamp)

    def step(self, request: PlanRequest, recompute: bool) -> tuple[GraphTrace, StepTrace, bool] | None:
        """Return a graph's trace, the step for the request's row length, and whether both are exactly the request's.

        Where they are not, it is the step of a batch with another mask, or of shorter or longer rows: good enough for a
        curve and for a remedy, which is planned exactly once it is chosen.
        """
        folder, counts = folder_of(self.root, request.model), self.counts(request.model)
        if counts is None:
            return None
        wanted = region(counts.windows, row_length(request))
        for number, batch in enumerate(dict.fromkeys((batch_of(request), *_BATCHES))):
            graph = _read_graph(folder / f"{graph_of(request, recompute, batch)}.json", self.stamp)
            if graph is not None and graph.steps:
                nearest = min(graph.steps, key=lambda one: abs(int(one) - int(wanted)))
                return graph, graph.steps[nearest], number == 0 and nearest == wanted
        return None

    def traced(self, request: PlanRequest) -> bool:
        """Tell whether the very step of a request was traced, or of one without steps what its answers hold."""
        if not request.is_training:
            return self.inference(request) is not None and self.counts(request.model) is not None
        found = [self.step(request, mode) for mode in modes_of(request)]
        return all(one is not None and one[2] for one in found)


def traces_of(root: Path, spec: ModelSpec) -> Traces:
    """Return what is on disk of a model now."""
    folder = folder_of(root, spec)
    if not folder.is_dir():
        _take_shipped(folder)
    found = sorted((one.name, one.stat().st_mtime_ns) for one in folder.glob("*.json")) if folder.is_dir() else []
    return Traces(root, tuple(found))


def _take_shipped(folder: Path) -> None:
    """Copy the shipped traces of a model into its folder, whole or not at all."""
    shipped, copied = SHIPPED / folder.name, folder.with_name(f".{folder.name}-{os.getpid()}")
    if not shipped.is_dir():
        return
    with suppress(OSError):  # without room the model is simulated, or says what is missing, as any other
        shutil.copytree(shipped, copied, dirs_exist_ok=True)
        copied.replace(folder)
    shutil.rmtree(copied, ignore_errors=True)


def with_traces(request: PlanRequest, root: Path) -> PlanRequest:
    """Return a request with what is on disk of its model, where its model is planned by traces."""
    return request.changed(traces=traces_of(root, request.model)) if request.model.simulated else request


@lru_cache(maxsize=256)
def _read_counts(path: Path, _stamp: tuple[tuple[str, int], ...]) -> ModelCounts | None:
    try:
        return counts_from_json(parsed_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=256)
def _read_graph(path: Path, _stamp: tuple[tuple[str, int], ...]) -> GraphTrace | None:
    try:
        return graph_from_json(parsed_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=256)
def _read_inference(path: Path, _stamp: tuple[tuple[str, int], ...]) -> InferenceTrace | None:
    try:
        return inference_from_json(parsed_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _inference_file(root: Path, request: PlanRequest) -> Path:
    adapted = graph_of(request.changed(method="lora", quant="none"), recompute=False)
    name = _hash([adapted, request.storage])
    return folder_of(root, request.model) / f"inference-{name}.json"


def keep_inference(root: Path, request: PlanRequest, found: InferenceTrace) -> None:
    """Write what a model holds while it answers."""
    replace_file(_inference_file(root, request), json.dumps(as_json(found)))


def keep_counts(root: Path, spec: ModelSpec, counts: ModelCounts) -> None:
    """Write a model's counts."""
    folder = folder_of(root, spec)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "counts.json", json.dumps(as_json(counts)))


def keep_graph(root: Path, request: PlanRequest, recompute: bool, graph: GraphTrace) -> None:
    """Write a graph's trace, beside the regions that the file holds already."""
    path = folder_of(root, request.model) / f"{graph_of(request, recompute)}.json"
    try:
        before = graph_from_json(parsed_json(path.read_text(encoding="utf-8")))
        graph = replace(graph, steps={**before.steps, **graph.steps})
    except (OSError, ValueError, KeyError, TypeError):
        pass
    replace_file(path, json.dumps(as_json(graph)))


def state_of(root: Path, request: PlanRequest) -> State | None:
    """Return how the trace for a request stands, None where none was begun."""
    return read_state(_state_file(root, request))


def state_file(root: Path, request: PlanRequest) -> Path:
    """Return where the trace for a request says how it stands; its folder is made."""
    path = _state_file(root, request)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _state_file(root: Path, request: PlanRequest) -> Path:
    if not request.is_training:
        return _inference_file(root, request).with_suffix(".state")
    names = _hash([graph_of(request, mode) for mode in modes_of(request)])
    return folder_of(root, request.model) / f"{names}.state"


def read_state(path: Path) -> State | None:
    """Return a state that `write_state` wrote."""
    try:
        found = parsed_json(path.read_text(encoding="utf-8"))
        what, why, remedy = (str(part) for part in found["refused"])
        share, seconds, when = (float(found[name]) for name in ("share", "seconds", "time"))
        return State(str(found["state"]), share, seconds, when, (what, why, remedy))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_state(path: Path, state: State) -> None:
    """Write how a trace stands."""
    replace_file(path, json.dumps(as_json(replace(state, time=time.time()))))
