"""The traces that come with the presets: there for every one, and what a simulation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import planner
from app.config import presets
from app.planner.machine import request_on
from app.planner.request import PlanRequest
from app.planner.tracing import client, store


def simulated() -> list[PlanRequest]:
    found = [request_on("cuda", preset.config) for preset in presets.all_presets()]
    return [request for request in found if request.model.simulated]


@pytest.mark.parametrize("packed", [False, True])
def test_a_preset_is_planned_at_once(tmp_path: Path, packed: bool) -> None:
    assert simulated()
    for request in simulated():
        asked = request.changed(packed=packed)
        assert not client.needs_trace(asked, tmp_path), f"{asked.model.name}: run python -m assets.build.traces"
        assert planner.estimate(store.with_traces(asked, tmp_path)).fits


def test_what_a_workspace_has_is_not_overwritten(tmp_path: Path) -> None:
    request = simulated()[0]
    folder = store.folder_of(tmp_path, request.model)
    folder.mkdir(parents=True)
    assert client.needs_trace(request, tmp_path) and not list(folder.iterdir())


@pytest.mark.slow
def test_what_is_shipped_is_what_a_simulation_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = simulated()[0]
    shipped = planner.estimate(store.with_traces(request, tmp_path / "shipped"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "nothing")
    made = planner.estimate(client.traced(request, tmp_path / "made"))
    assert made.parts == shipped.parts
