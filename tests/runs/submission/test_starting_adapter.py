"""An adapter to go on from fits the base in every layer, or is refused in one line before anything starts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app import catalog
from app.config.presets import load
from app.config.schema import RunConfig
from app.errors import ModelError
from app.runs.submission import submit
from app.runs.submission.starting_adapter import with_start
from app.training.assembly import build_model
from app.workspace import Workspace, open_workspace

HOUSE = Path(__file__).resolve().parents[3]
STARTER = catalog.find("starter")
QUERY, OUT = "model.layers.{}.self_attn.q_proj", STARTER.heads * STARTER.head_dim


def written(
    folder: Path,
    targets: Any,
    modules: Iterable[str],
    inputs: int = STARTER.hidden,
    outputs: int = OUT,
    **settings: Any,
) -> Path:
    """Write an adapter of rank 4 on these modules."""
    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    tensors = {}
    for name in modules:
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.full((4, inputs), 0.01)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.zeros(outputs, 4)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def going_on(start: Path) -> RunConfig:
    """Return a run of the starter that goes on from an adapter."""
    data = str(HOUSE / "assets" / "datasets" / "pirate.json")
    return load("cpu-starter").config.changed({"data.file": data, "adapter.start_from": str(start)})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path / "workspace")


def every_layer(layers: int = STARTER.layers) -> list[str]:
    return [QUERY.format(index) for index in range(layers)]


@pytest.mark.parametrize(
    ("targets", "modules", "inputs", "outputs", "said"),
    [
        (["c_attn", "c_proj"], ["transformer.h.0.attn.c_attn"], 768, 2304, "adapts c_attn, which starter does not"),
        (["q_proj"], every_layer(), 4096, 4096, "q_proj takes 4,096 inputs, that of starter 256"),
        (["q_proj"], every_layer(), STARTER.hidden, 2048, "q_proj has 2,048 outputs, that of starter 256"),
        (["q_proj"], every_layer(6), STARTER.hidden, OUT, "adapts 6 layers, starter has 4"),
    ],
)
def test_one_of_another_base_is_one_line(
    workspace: Workspace, tmp_path: Path, targets: list[str], modules: list[str], inputs: int, outputs: int, said: str
) -> None:
    folder = written(tmp_path / "other", targets, modules, inputs, outputs, base_model_name_or_path="some/base")
    with pytest.raises(ModelError) as caught:
        submit.check(workspace, going_on(folder))
    assert caught.value.what == "The adapter other does not fit starter"
    assert said in caught.value.why
    assert caught.value.remedy == "train on its own base: some/base"


@pytest.mark.parametrize("targets", [r".*\.self_attn\.q_proj", every_layer()])
def test_the_plan_takes_the_modules_from_the_weights(
    workspace: Workspace, tmp_path: Path, targets: str | list[str]
) -> None:
    folder = written(tmp_path / "queries", targets, every_layer())
    config = going_on(folder)
    assert submit.check(workspace, config).name == "pirate.json"
    assert with_start(workspace, config).adapter.target_modules == ["q_proj"]


def test_a_damaged_one_is_one_line(workspace: Workspace, tmp_path: Path) -> None:
    folder = written(tmp_path / "cut", ["q_proj"], every_layer())
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        submit.check(workspace, going_on(folder))


@pytest.mark.parametrize(
    ("targets", "modules", "said"),
    [
        (["q_proj", "v_proj"], every_layer(), "not whole"),  # PEFT would begin v_proj anew
        (["q_proj"], [*every_layer(), "model.layers.0.self_attn.q_norm"], "would ignore"),
    ],
)
def test_the_worker_takes_none_that_peft_reads_in_part(
    tmp_path: Path, targets: list[str], modules: list[str], said: str
) -> None:
    folder = written(tmp_path / "partial", targets, modules)
    with pytest.raises(ModelError) as caught:
        build_model(going_on(folder), str(HOUSE / "assets" / "starter"), folder)
    assert said in caught.value.what + caught.value.why
