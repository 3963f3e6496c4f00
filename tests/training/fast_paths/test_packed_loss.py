"""Packed loss equals separate loss: through our build, TRL's collator and our trainer, by every attention here."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, PreTrainedTokenizerFast

from app.config import presets
from app.data.dataset.build import BuiltDataset, build
from app.data.dataset.options import DataOptions
from app.devices import Processor
from app.training.trainers.arguments import trl_arguments
from app.training.trainers.trainer import SftTrainer

STARTER = Path(__file__).parents[3] / "assets" / "starter"
# Those of RunConfig's that run without a card. flex_attention is none of them: with torch 2.13 on a busy processor one
# small model over these forty rows was not through after three minutes.
ATTENTION = ("sdpa", "eager")
_SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> BuiltDataset:
    """Forty rows of one to three exchanges, built and packed at 256 tokens."""
    folder, rng = tmp_path_factory.mktemp("packed"), random.Random(3)
    words = ["the", "sea", "is", "wide", "and", "the", "old", "ship", "sails", "on", "with", "seven", "men"]

    def say(most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(2, most)))

    rows = []
    for _ in range(40):
        turns = [(role, say(12)) for _ in range(rng.randint(1, 3)) for role in ("user", "assistant")]
        rows.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    built = build(path, STARTER, DataOptions.checked(max_length=256), folder / "out")
    assert built is not None and built.manifest["packed_rows"] < built.manifest["rows"] == 40
    return built


@cache
def vocabulary() -> int:
    return len(PreTrainedTokenizerFast.from_pretrained(STARTER))


def model_of(name: str, attention: str) -> Any:
    """A model in float32: the starter, or a small random one of another family."""
    if name == "starter":
        model = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32, attn_implementation=attention)
    else:
        torch.manual_seed(0)
        kind, own = {
            "llama": (LlamaConfig, {}),
            # Windows of 16 tokens in all layers but the last: documents are longer than that.
            "gemma3": (
                Gemma3TextConfig,
                {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
            ),
        }[name]
        config = kind(vocab_size=-(-vocabulary() // 64) * 64, **{**_SMALL, **own})
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    assert model.config._attn_implementation == attention
    return model.eval()


def packed_loss(model: Any, dataset: BuiltDataset, folder: Path) -> float:
    """The loss of all packed rows in one batch, as our trainer computes it."""
    config = presets.load("cpu-starter").config.changed({"model.dtype": "fp32", "memory.checkpointing": "none"})
    trainer = SftTrainer(
        model=model,
        args=trl_arguments(config, folder, torch.float32, Processor(), validate=False),
        train_dataset=Dataset.from_file(str(dataset.packed)),
        processing_class=PreTrainedTokenizerFast.from_pretrained(STARTER),
        adapter_dtype=None,
        saving=nullcontext,
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    assert "attention_mask" not in batch
    assert int((batch["position_ids"] == 0).sum()) == dataset.manifest["rows"]
    with torch.no_grad():
        return float(trainer.compute_loss(model.eval(), batch))


def separate_loss(model: Any, dataset: BuiltDataset) -> float:
    """The mean loss of all trained tokens, every row by itself."""
    total, count = 0.0, 0
    for row in Dataset.from_file(str(dataset.rows)):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    return total / count


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", ["starter", "llama", "gemma3"])
def test_packed_loss_equals_separate_loss(name: str, attention: str, dataset: BuiltDataset, tmp_path: Path) -> None:
    model = model_of(name, attention)
    separate = separate_loss(model, dataset)
    assert packed_loss(model, dataset, tmp_path) == pytest.approx(separate, rel=1e-3)


def test_the_comparison_notices_documents_that_see_each_other(dataset: BuiltDataset) -> None:
    """Without restarted positions the packed loss of the starter is another one."""
    model = model_of("starter", "sdpa")
    total, count = 0.0, 0
    for row in Dataset.from_file(str(dataset.packed)):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        count += int((labels != -100).sum())
    assert abs(total / count / separate_loss(model, dataset) - 1) > 1e-2
