"""Modules found in models of other families: trained, counted, saved and loaded again."""

import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GPTBigCodeConfig

from app import catalog
from app.catalog.modules import attention_names
from app.config.schema import RunConfig
from app.jobs.metrics import tail_rows
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.reading import read_object
from app.runs.submission import submit
from app.runs.training_script import recipe
from app.workspace import Workspace
from tests.models import tiny_models
from tests.training.in_process import run, small

pytestmark = pytest.mark.filterwarnings("ignore")


def model_of(kind: str, folder: Path) -> Path:
    """Write a tiny random model; StarCoder's first family is gpt_bigcode."""
    if kind != "gpt_bigcode":
        return tiny_models.save_model(folder, kind)
    config = GPTBigCodeConfig(
        vocab_size=tiny_models.VOCAB, n_embd=128, n_layer=2, n_head=4, n_positions=512, eos_token_id=2, pad_token_id=0
    )
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


def settings(model: Path, targets: list[str], *, in_4bit: bool) -> RunConfig:
    """Return a short run; a model of random weights learns slowly, but it learns."""
    return small(
        model__name=str(model),
        adapter__target_modules=targets,
        quantization__load_in_4bit=in_4bit,
        data__max_length=256,
        data__packing=False,
        training__max_steps=4,
        training__eval_steps=4,
        training__learning_rate=1e-2,
    )


@pytest.mark.parametrize(
    ("kind", "targets", "adapted", "in_4bit"),
    [
        ("gpt2", ["c_attn", "attn.c_proj"], 4, False),
        ("gpt2", ["c_attn"], 2, True),
        ("bloom", ["query_key_value", "dense"], 4, True),
        ("gpt_bigcode", ["c_proj"], 4, False),
    ],
)
def test_names_of_other_families_train_save_and_load(
    kind: str, targets: list[str], adapted: int, in_4bit: bool, workspace: Workspace, tmp_path: Path
) -> None:
    folder = model_of(kind, tmp_path / kind)
    config = settings(folder, targets, in_4bit=in_4bit)
    submit.refuse(config)
    job = run(workspace, config)
    status = job.status()
    assert status.state == "finished", status.reason
    assert status.result["last_loss"] < status.result["first_loss"]
    assert status.result["trainable_params"] == estimate(request_from_config(config)).trainable_params
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(job.result / "adapter"))
    parts = {name: value for name, value in loaded.named_parameters() if "lora_B" in name}
    assert len(parts) == adapted and all(bool(value.any()) for value in parts.values())
    assert (
        sum(p.numel() for name, p in loaded.named_parameters() if "lora_" in name) == status.result["trainable_params"]
    )


def test_the_attention_alone_is_named_in_each_family(tmp_path: Path) -> None:
    named = {
        kind: attention_names(catalog.find(str(model_of(kind, tmp_path / kind))))
        for kind in ("gpt2", "bloom", "gpt_bigcode", "llama")
    }
    assert named == {
        "gpt2": ("c_attn", "attn.c_proj"),
        "bloom": ("query_key_value", "dense"),
        "gpt_bigcode": ("c_attn", "attn.c_proj"),
        "llama": ("q_proj", "k_proj", "v_proj", "o_proj"),
    }


@pytest.mark.filterwarnings("ignore")
def test_rows_are_grouped_where_packed_ones_would_see_each_other(tmp_path: Path, workspace: Workspace) -> None:
    config = settings(model_of("bloom", tmp_path / "bloom"), ["query_key_value"], in_4bit=False)
    config = config.changed({"data.packing": True, "training.per_device_train_batch_size": 4})
    submit.refuse(config)
    job = run(workspace, config)
    assert job.status().state == "finished", job.status().reason
    notes = [row["message"] for row in tail_rows(job.metrics_file) if row.get("event") == "note"]
    assert any("see each other" in note for note in notes), notes
    assert read_object(job.path / "dataset.json")["packed"] is False
    script = recipe(job)
    assert re.search(r"train_sampling_strategy\W+group_by_length", script)
    assert re.search(r"padding_free\W+False", script)
