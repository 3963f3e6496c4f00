"""Model folders with random weights at true shapes, and rows of an exact length.

Memory and speed follow from shapes, not from values: such a model needs what the published one needs, and nothing is
downloaded. Weights beyond a limit are holes in the file, which read as zeros and take no disk. The tokenizer is the
starter's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM

from app.training.rows import TrainingRows

STARTER = Path(__file__).resolve().parents[1] / "assets" / "starter"
_BLOCK_NUMBERS = 1 << 24
_NUMBER_BYTES = 2
# What a shape is cut down to for a dry run, wherever a family's configuration has the field.
_TINY = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 4,
}


def tiny(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration of the same family that a processor trains in a moment."""
    small = {name: _TINY.get(name, value) for name, value in config.items()}
    if config.get("num_key_value_heads") == config.get("num_attention_heads", 0):
        small["num_key_value_heads"] = _TINY["num_attention_heads"]
    if isinstance(small.get("layer_types"), list):
        small["layer_types"] = small["layer_types"][: _TINY["num_hidden_layers"]]
    return small


def write_model(folder: Path, config: Mapping[str, Any], filled_bytes: int) -> int:
    """Write a folder that the worker loads as any model and return its parameters; random up to `filled_bytes`."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(STARTER / name, folder)
    (folder / "config.json").write_text(json.dumps(dict(config) | {"dtype": "bfloat16"}), encoding="utf-8")
    shapes = _shapes(config)
    _write_weights(folder / "model.safetensors", shapes, filled_bytes)
    return sum(shape.numel() for shape in shapes.values())


def _shapes(config: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Return name and shape of every weight, tied ones once."""
    values = {name: value for name, value in config.items() if name not in ("dtype", "torch_dtype")}
    settings = AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings)
    parameters = {name: parameter.shape for name, parameter in model.named_parameters()}
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return parameters | {name: each.shape for name, each in model.state_dict().items() if name not in known}


def _write_weights(path: Path, shapes: Mapping[str, torch.Size], filled_bytes: int) -> None:
    """Write one safetensors file in bf16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + _NUMBER_BYTES * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    torch.manual_seed(0)
    block = (0.02 * torch.randn(_BLOCK_NUMBERS)).bfloat16().view(torch.uint8).numpy().tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = min(end, filled_bytes)
        while left > 0:
            left -= file.write(block[:left])
        file.truncate(8 + len(text) + end)


def exact_rows(length: int, count: int, packed: bool) -> TrainingRows:
    """Return `count` rows of `length` tokens, all trained on."""
    ids = torch.randint(10, 1000, (count, length), generator=torch.Generator().manual_seed(1)).tolist()
    columns = {"input_ids": ids, "labels": ids} | ({"seq_lengths": [[length]] * count} if packed else {})
    return TrainingRows(Dataset.from_dict(columns), None, count, "", Path())
