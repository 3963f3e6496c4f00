"""Adapters that bring another vocabulary, or single rows of the embeddings, against PEFT's own forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from app.errors import ExportError, ModelError
from app.export.merge.check import measure
from app.models.tensors import read_checkpoint
from tests.export.merging import merge
from tests.models import tiny_models

GROWN = tiny_models.VOCAB + 64
IDS = torch.arange(3, 67)[None]
NEW_IDS = torch.arange(GROWN - 64, GROWN)[None]
RESIZED: dict[str, dict[str, Any]] = {
    "untrained": {},
    "saved-both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saved-embedding": {"modules_to_save": ["embed_tokens"]},
    "saved-head": {"modules_to_save": ["lm_head"]},
    "lora-both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "rows": {"trainable_token_indices": [1, GROWN - 3, GROWN - 2]},
}
ROWS: dict[str, Any] = {
    "list": [1, 5, 300],
    "both-alike": {"embed_tokens": [1, 5], "lm_head": [1, 5]},
    "both-apart": {"embed_tokens": [1, 5], "lm_head": [2, 3]},
    "head": {"lm_head": [2, 3]},
}


@pytest.fixture(scope="module", params=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary") / str(request.param)
    return tiny_models.save_model(folder, "llama", tie_word_embeddings=request.param == "tied")


def resized_adapter(folder: Path, base: Path, size: int, **settings: Any) -> Path:
    """Train-like: the base's vocabulary is resized before the adapter is put on."""
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(size)
    wanted: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    with tiny_models.quiet_peft():
        peft = get_peft_model(model, LoraConfig(**{**wanted, **settings}))
        tiny_models.randomise(peft, 0)
        peft.save_pretrained(str(folder))
    return folder


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(ids).logits
        return found


def compared(base: Path, adapter: Path, out: Path, ids: torch.Tensor, size: int | None = None) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if size is not None:
        model.resize_token_embeddings(size)
    with tiny_models.quiet_peft():
        expected = logits(PeftModel.from_pretrained(model, str(adapter)), ids)
    merged, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    torch.testing.assert_close(logits(merged, ids), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", list(RESIZED))
def test_a_resized_vocabulary_is_merged_as_the_adapter_brings_it(tmp_path: Path, base: Path, kind: str) -> None:
    adapter = resized_adapter(tmp_path / "adapter", base, GROWN, **RESIZED[kind])
    out = merge(adapter, tmp_path / "out")
    for ids in (IDS, NEW_IDS):
        compared(base, adapter, out, ids, GROWN)
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == GROWN
    parted = base.name == "tied" and ("saved" in kind or "lora" in kind)
    assert config["tie_word_embeddings"] is (base.name == "tied" and not parted)
    assert ("lm_head.weight" in read_checkpoint(out)) is not config["tie_word_embeddings"]


def test_the_receipt_compares_at_the_new_size(tmp_path: Path, base: Path) -> None:
    adapter = resized_adapter(tmp_path / "adapter", base, GROWN, modules_to_save=["embed_tokens", "lm_head"])
    out = merge(adapter, tmp_path / "out")
    with tiny_models.quiet_peft():
        found = measure(base, adapter, out, "fp32", nf4=False)
    assert found.merged.greedy_agreement == 1.0 and found.merged.max_logit_diff < 1e-3


def test_a_smaller_vocabulary_and_one_with_a_missing_end(tmp_path: Path, base: Path) -> None:
    adapter = resized_adapter(tmp_path / "adapter", base, 304, modules_to_save=["embed_tokens", "lm_head"])
    compared(base, adapter, merge(adapter, tmp_path / "out"), IDS, 304)
    tensors = load_file(adapter / "adapter_model.safetensors")
    one = {name: tensor for name, tensor in tensors.items() if "lm_head" not in name}
    save_file(one, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"304 tokens, but only in part.*lm_head"):
        merge(adapter, tmp_path / "other")


@pytest.mark.parametrize("kind", list(ROWS))
def test_single_rows_are_replaced(tmp_path: Path, base: Path, kind: str) -> None:
    settings = {"target_modules": ["q_proj"], "trainable_token_indices": ROWS[kind]}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    compared(base, adapter, merge(adapter, tmp_path / "out"), torch.arange(24)[None])
    tied = base.name == "tied" and kind in ("list", "both-alike")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is tied


def test_rows_that_are_not_there_or_no_numbers_are_refused(tmp_path: Path, base: Path) -> None:
    settings = {"target_modules": ["q_proj"], "trainable_token_indices": [1, 5]}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    config = json.loads((adapter / "adapter_config.json").read_text())
    for wrong in ([1, tiny_models.VOCAB], [1], [1, -1], {"embed_tokens": "all"}):
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "trainable_token_indices": wrong}))
        with pytest.raises(ExportError, match="rows"):
            merge(adapter, tmp_path / "out")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(adapter / "adapter_model.safetensors")
    rows = next(name for name in tensors if "trainable_tokens" in name)
    tensors[rows][0, 0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not numbers"):
        merge(adapter, tmp_path / "out")
