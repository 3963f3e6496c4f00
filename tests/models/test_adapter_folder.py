"""Damaged adapters: each is refused with the one reason, before anything is computed with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app.errors import ModelError
from app.models.adapters import AdapterFolder

LAYER = "base_model.model.model.layers.0.q_proj"
Tensors = dict[str, torch.Tensor]


def adapter(folder: Path, change: Callable[[Tensors], Tensors] = lambda t: t, **config: Any) -> Path:
    folder.mkdir()
    tensors = {f"{LAYER}.lora_A.weight": torch.randn(4, 8), f"{LAYER}.lora_B.weight": torch.randn(6, 4)}
    save_file(change(tensors), folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def read(folder: Path) -> None:
    list(AdapterFolder(folder).updates())


def test_a_sound_adapter_is_read(tmp_path: Path) -> None:
    found = AdapterFolder(adapter(tmp_path / "a", colour="blue", lora_dropout=0.1))
    (update,) = found.updates()
    assert (update.rank, update.scaling, found.rank, found.unknown) == (4, 2.0, 4, ["colour"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {n: v.fill_(float("inf")) for n, v in t.items()}, "not numbers"),
        (lambda t: {n: v.to(torch.int8) for n, v in t.items()}, "made of int8"),
        (lambda t: {n: v[:2] if "_A" in n else v[:, :2].contiguous() for n, v in t.items()}, "has rank 2"),
        (lambda t: {n: v[:3] if "_A" in n else v for n, v in t.items()}, "do not fit"),
        (lambda t: {"other": torch.zeros(1)}, "no LoRA weights"),
        (lambda t: {n: v for n, v in t.items() if "_A" in n}, "lacks A or B"),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, change: Callable[[Tensors], Tensors], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read(adapter(tmp_path / "a", change))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"r": "4"}, "rank is no"),
        ({"r": 0}, "rank is no"),
        ({"lora_alpha": None}, "alpha is no"),
        ({"lora_alpha": float("nan")}, "alpha is no"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"peft_type": "IA3"}, "no LoRA"),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path is no text: 5"),
        ({"base_model_name_or_path": ["a/b"]}, "base_model_name_or_path is no text"),
    ],
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read(adapter(tmp_path / "a", **config))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError):
        read(folder)


@pytest.mark.parametrize("kept", [0, 5, 60, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    folder = adapter(tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="damaged" if kept else "is damaged. The file is empty"):
        read(folder)
