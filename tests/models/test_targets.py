"""Modules that look like any linear layer and are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.utils.save_and_load import get_peft_model_state_dict
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from app.models.loading import load_base
from app.models.targets import kept_whole, name_backbone, not_adapted, not_read_back, read_past
from tests.export.merging import merge
from tests.models import encoder_decoders, todays_models
from tests.models.tiny_models import randomise


def _empty(kind: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(todays_models.config(kind))
    return model


def test_routers_and_layers_whose_weights_are_read_past_them_are_left_out() -> None:
    routers = not_adapted(_empty("phimoe"))
    assert routers
    assert all(name.endswith("router") for name in routers)
    read = read_past(_empty("mamba"))
    assert read
    assert {name.rpartition(".")[2] for name in read} == {"x_proj", "dt_proj"}
    assert "out_proj" in not_adapted(_empty("falcon_h1")), "PEFT refuses it"
    assert not_adapted(_empty("falcon")) == [] == not_adapted(_empty("qwen3"))


def test_a_backbone_is_found_where_the_class_names_it_wrongly() -> None:
    model = _empty("llama4_text")
    assert model.base_model is model
    name_backbone(model)
    assert model.base_model is model.model
    plain = _empty("qwen3")
    name_backbone(plain)
    assert plain.base_model is plain.model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "lost"), [("laguna", 6), ("inkling2_text", 4), ("qwen3", 0), ("qwen3_moe", 0)])
def test_what_peft_would_not_read_back_is_known_before_it_is_adapted(kind: str, lost: int) -> None:
    model = _empty(kind)
    named = not_read_back(model)
    assert len(named) * 2 == lost and set(named) <= set(not_adapted(model))
    for excluded, left in ((None, lost), (not_adapted(model), 0)):
        settings = LoraConfig(r=2, target_modules="all-linear", exclude_modules=excluded, task_type="CAUSAL_LM")
        adapted = get_peft_model(_empty(kind), settings)
        state = get_peft_model_state_dict(adapted)
        assert len(set_peft_model_state_dict(adapted, state).unexpected_keys) == left


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["longt5", "switch_transformers", "t5"])
def test_layers_that_give_others_their_format_stay_out_of_4_bits(tmp_path: Path, kind: str) -> None:
    base = encoder_decoders.save(tmp_path / kind, kind)
    tokens = {"input_ids": torch.arange(5, 25)[None], "decoder_input_ids": torch.arange(5, 17)[None]}
    found = []
    for quant in ("none", "nf4"):
        model = load_base(str(base), quant=quant, dtype="fp32").eval()
        assert all(name.rpartition(".")[2] == "wo" for name in kept_whole(model)) and kept_whole(model)
        with torch.no_grad():
            found.append(model(**tokens).logits)
    # NF4's own error moves the logits of so small a model by a fifth; activations cast to bytes by as much as they are.
    assert float((found[0] - found[1]).norm()) < 0.45 * float(found[0].norm())


def test_hybrids_indexers_keep_their_format() -> None:
    kept = kept_whole(_empty("hy_v4"))
    assert kept and all(name.endswith(("weights_proj", "lm_head")) for name in kept)
    assert kept_whole(_empty("qwen3")) == []


@pytest.mark.filterwarnings("ignore")
def test_a_base_with_a_parameter_under_several_names_is_merged(tmp_path: Path) -> None:
    base = encoder_decoders.save(tmp_path / "base", "marian")
    settings = LoraConfig(r=2, target_modules=["q_proj", "fc1"], task_type="SEQ_2_SEQ_LM")
    adapted = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(base), settings)
    randomise(adapted, 0)
    adapter = tmp_path / "adapter"
    adapted.save_pretrained(str(adapter))
    merged = merge(adapter, tmp_path / "merged", base=str(base))
    tokens = {"input_ids": torch.arange(5, 25)[None], "decoder_input_ids": torch.arange(5, 17)[None]}
    with torch.no_grad():
        found = AutoModelForSeq2SeqLM.from_pretrained(merged, dtype=torch.float32)(**tokens).logits
        torch.testing.assert_close(found, adapted.eval()(**tokens).logits, rtol=1e-4, atol=1e-4)
