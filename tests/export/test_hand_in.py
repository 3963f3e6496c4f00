"""What an adapter's files tell of damage and kind is said when work is handed in: no process starts for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.config.schema import RunConfig
from app.engine.requests import EngineRequest, start_engine
from app.errors import ExportError, ModelError, UsageError
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


def export_to(target: str, *, lora_only: bool = False) -> Callable[[Place], object]:
    return lambda at: start_export(
        at.workspace, ExportRequest(target, str(at.out), str(at.adapter), lora_only=lora_only)
    )


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


def copied(sound: Path, folder: Path) -> Place:
    adapter = Path(shutil.copytree(sound, folder / "adapter"))
    return Place(open_workspace(folder / "workspace"), adapter, folder / "out")


@pytest.mark.parametrize("damage", [cut, poison])
@pytest.mark.parametrize("kind", HAND_IN)
def test_no_process_starts_for_a_damaged_adapter(
    tmp_path: Path, sound: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    place = copied(sound, tmp_path)
    damage(place.adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is damaged"):
        HAND_IN[kind](place)
    assert not list(place.workspace.jobs.iterdir())


@pytest.mark.parametrize(
    ("setting", "hand_in", "reason"),
    [
        ({"use_dora": True}, export_to("gguf", lora_only=True), "It is a DoRA adapter. Leave --lora-only out"),
        ({"lora_bias": True}, export_to("gguf", lora_only=True), "more than A and B .* Serve it beside its base"),
        ({"use_dora": True}, export_to("vllm"), "It is a DoRA adapter. Merge it"),
        ({"use_dora": True}, HAND_IN["blend"], "DoRA's magnitudes .* Merge it into its base"),
        ({"use_dora": True}, HAND_IN["inspect"], "cannot be inspected. A DoRA update"),
        ({"alora_invocation_tokens": [1]}, HAND_IN["merge"], "cannot be merged. It uses alora_invocation_tokens"),
        ({"alora_invocation_tokens": [1]}, export_to("lmstudio"), "cannot be merged"),
        ({"init_lora_weights": "pissa"}, HAND_IN["export"], "It began with pissa"),
        ({"init_lora_weights": "pissa"}, export_to("ollama"), "It began with pissa"),
    ],
)
def test_no_process_starts_for_a_kind_that_cannot_go_there(
    tmp_path: Path, sound: Path, setting: dict[str, object], hand_in: Callable[[Place], object], reason: str
) -> None:
    place = copied(sound, tmp_path)
    settings = place.adapter / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | setting))
    with pytest.raises((ExportError, ModelError), match=reason):
        hand_in(place)
    assert not list(place.workspace.jobs.iterdir())


@pytest.mark.parametrize(
    ("text", "smallest", "reason"),
    [
        ("", "", "It has no prompt"),
        ("[1, 2]", "", "lists no prompts"),
        ("Who are you?\n", "suite=0.9", "says of no prompt what a good answer holds"),
    ],
)
def test_no_process_starts_for_a_suite_that_cannot_be_judged(
    tmp_path: Path, sound: Path, text: str, smallest: str, reason: str
) -> None:
    place, suite = copied(sound, tmp_path), tmp_path / "suite.txt"
    suite.write_text(text)
    request = ExportRequest("gguf", str(place.out), str(place.adapter), suite=str(suite), smallest=smallest)
    with pytest.raises(UsageError, match=reason):
        start_export(place.workspace, request)
    assert not list(place.workspace.jobs.iterdir())
