"""A damaged adapter is refused when the work is handed in, wherever adapters are named: no process starts for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.config.schema import RunConfig
from app.engine.requests import EngineRequest, start_engine
from app.errors import ModelError
from app.evaluation.held_out.requests import EvaluationRequest, start_evaluation
from app.export.requests import (
    BlendRequest,
    ExportRequest,
    InspectRequest,
    MergeRequest,
    WeightedAdapter,
    start_blend,
    start_export,
    start_inspect,
    start_merge,
)
from app.runs.submission import submit
from app.workspace import Workspace, open_workspace
from tests.models import tiny_models

ROWS = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.json"


@dataclass(frozen=True)
class Place:
    """Where a test works."""

    workspace: Workspace
    adapter: Path
    out: Path


def train(place: Place) -> object:
    changes = {"model.name": "starter", "data.file": str(ROWS), "adapter.start_from": str(place.adapter)}
    return submit.start(place.workspace, RunConfig().changed(changes, "the test"))


HAND_IN: dict[str, Callable[[Place], object]] = {
    "merge": lambda at: start_merge(at.workspace, MergeRequest(str(at.adapter), str(at.out))),
    "export": lambda at: start_export(at.workspace, ExportRequest("adapter", str(at.out), str(at.adapter))),
    "blend": lambda at: start_blend(at.workspace, BlendRequest([WeightedAdapter(str(at.adapter))], str(at.out))),
    "inspect": lambda at: start_inspect(at.workspace, InspectRequest(str(at.adapter))),
    "engine": lambda at: start_engine(at.workspace, EngineRequest("starter", {"mine": str(at.adapter)})),
    "evaluate": lambda at: start_evaluation(
        at.workspace, EvaluationRequest("starter", str(ROWS), {"mine": str(at.adapter)})
    ),
    "train": train,
}


def cut(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])


def poison(weights: Path) -> None:
    tensors = load_file(weights)
    next(iter(tensors.values()))[0] = torch.nan
    save_file(tensors, weights)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from app.models.names import resolve

    folder = tmp_path_factory.mktemp("sound") / "adapter"
    return tiny_models.save_adapter(folder, Path(resolve("starter")), target_modules=["q_proj"])


@pytest.mark.parametrize("damage", [cut, poison])
@pytest.mark.parametrize("kind", HAND_IN)
def test_no_process_starts_for_a_damaged_adapter(
    tmp_path: Path, sound: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for path in sound.iterdir():
        (adapter / path.name).write_bytes(path.read_bytes())
    damage(adapter / "adapter_model.safetensors")
    place = Place(open_workspace(tmp_path / "workspace"), adapter, tmp_path / "out")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is damaged"):
        HAND_IN[kind](place)
    assert not list(place.workspace.jobs.iterdir())
