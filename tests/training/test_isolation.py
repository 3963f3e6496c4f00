"""Packed rows do not see each other, in every family of the catalogue and in hybrids, or they are not packed."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from app.catalog.families import FAMILIES
from app.catalog.modules import SEES_PACKED
from app.models import packed_rows
from app.models.packed_rows import TOLERANCE, packed_difference, shown_by
from app.models.small_model import small_config, small_model
from app.planner import packing

_LLAMA: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DEEPSEEK = {
    **_EXPERTS,
    "n_routed_experts": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "n_shared_experts": 1,
}
_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
# What a family's configuration needs besides, or calls otherwise.
_OWN: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"n_layer": 2, "n_head": 4},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16},
    "glm": {"head_dim": 16},
    "glm4": {"head_dim": 16},
    "ministral3": {"head_dim": 16},
    "mixtral": _EXPERTS,
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {**_EXPERTS, "head_dim": 16},
    "gpt_oss": {**_EXPERTS, "head_dim": 16},
    "deepseek_v2": _DEEPSEEK,
    "stablelm": {"num_key_value_heads": 4},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_holds_for_a_family_is_what_its_small_model_shows(family: str, attn: str) -> None:
    found = shown_by({**_LLAMA, **_OWN.get(family, {}), "model_type": family}, attn)
    assert found.outcome == packing.of_family(family).outcome, found
    assert (found.outcome == "apart") == (family not in SEES_PACKED)


# Layers that carry a state past the end of a row. Without causal_conv1d transformers refuses where rows begin anew.
_HYBRIDS = {"qwen3_5_text": {}, "lfm2": {}, "granitemoehybrid": {}, "falcon_h1": {}, "qwen3_next": {}, "jamba": {}}
_LFM2 = {"layer_types": ["conv", "conv", "full_attention"] * 3, "num_hidden_layers": 9}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", sorted(_HYBRIDS))
def test_hybrids_are_not_packed_here(family: str) -> None:
    values = AutoConfig.for_model(family, **(_LFM2 if family == "lfm2" else {})).to_dict()
    found = shown_by(values, "sdpa")
    assert found.outcome in ("refused", "leak"), found
    note = packing.Packing(*found).note
    assert note is not None and "grouped by length" in note


@pytest.mark.filterwarnings("ignore")
def test_an_attention_only_lfm2_may_be_packed() -> None:
    """The kinds of layers decide, not the name of the family."""
    assert shown_by(AutoConfig.for_model("lfm2").to_dict(), "sdpa").outcome == "apart"


@pytest.mark.filterwarnings("ignore")
def test_the_measure_sees_a_leak_that_positions_alone_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told only where positions begin anew, a layer with a state carries it from row to row; LFM2 least of all."""
    collate = packed_rows.DataCollatorForLanguageModeling.torch_call

    def positions_alone(self: Any, examples: Any) -> Any:
        return {name: value for name, value in collate(self, examples).items() if name[:3] in ("inp", "pos", "lab")}

    monkeypatch.setattr(packed_rows.DataCollatorForLanguageModeling, "torch_call", positions_alone)
    for family, settings in (("qwen3_5_text", {}), ("lfm2", _LFM2)):
        model = small_model(small_config(AutoConfig.for_model(family, **settings).to_dict()), "sdpa")
        assert packed_difference(model) > 10 * TOLERANCE


def test_what_cannot_be_tested_is_not_packed() -> None:
    assert shown_by({"model_type": "no-such-class"}, "sdpa").outcome == "untested"
    assert shown_by({**_LLAMA, "model_type": "llama"}, "flash_attention_2").outcome == "untested"
    state = torch.get_rng_state()
    assert shown_by({**_LLAMA, "model_type": "llama", "hidden_act": "none"}, "sdpa").outcome == "untested"
    assert torch.equal(state, torch.get_rng_state())
