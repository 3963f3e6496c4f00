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
from app.models.adapter_files import AdapterHeader
from app.models.adapters import AdapterFolder

LAYER = "base_model.model.model.layers.0.q_proj"
Tensors = dict[str, torch.Tensor]
Read = Callable[[Path], None]


def adapter(folder: Path, change: Callable[[Tensors], Tensors] = lambda t: t, **config: Any) -> Path:
    folder.mkdir()
    tensors = {f"{LAYER}.lora_A.weight": torch.randn(4, 8), f"{LAYER}.lora_B.weight": torch.randn(6, 4)}
    save_file(change(tensors), folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def load(folder: Path) -> None:
    list(AdapterFolder(folder).updates())


def refuse_damaged(folder: Path) -> None:
    AdapterHeader(folder).refuse_damaged()


@pytest.fixture(params=[load, refuse_damaged])
def read(request: pytest.FixtureRequest) -> Read:
    """Both readers of an adapter: the one that loads it, and the one that looks before a process starts."""
    reader: Read = request.param
    return reader


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
def test_damaged_weights_are_refused(
    tmp_path: Path, read: Read, change: Callable[[Tensors], Tensors], reason: str
) -> None:
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
def test_a_damaged_configuration_is_refused(tmp_path: Path, read: Read, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read(adapter(tmp_path / "a", **config))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\x00"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, read: Read, text: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError):
        read(folder)


@pytest.mark.parametrize("kept", [0, 5, 60, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, read: Read, kept: int) -> None:
    folder = adapter(tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="damaged" if kept else "is damaged. The file is empty"):
        read(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "largest"])
def test_values_are_looked_at_in_every_format_without_torch(tmp_path: Path, dtype: torch.dtype, value: str) -> None:
    def changed(tensors: Tensors) -> Tensors:
        found = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        last = found[f"{LAYER}.lora_B.weight"].view(-1)[-1:]
        last.copy_(torch.tensor([torch.finfo(dtype).min if value == "largest" else float(value)], dtype=dtype))
        return found

    folder = adapter(tmp_path / "a", changed)
    if value == "largest":
        refuse_damaged(folder)
    else:
        with pytest.raises(ModelError, match=r"lora_B.weight of model.layers.0.q_proj holds values that are not"):
            refuse_damaged(folder)


@pytest.mark.parametrize("settings", [{"target_parameters": ["experts.up"]}, {"use_bdlora": {"nblocks": 2}}])
def test_shapes_that_only_the_model_knows_are_left_to_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    def grown(tensors: Tensors) -> Tensors:
        return {name: torch.cat([one] * 2, 0 if "_A" in name else 1) for name, one in tensors.items()}

    refuse_damaged(adapter(tmp_path / "a", grown, **settings))
    with pytest.raises(ModelError, match="has rank 8"):
        refuse_damaged(adapter(tmp_path / "b", grown))
