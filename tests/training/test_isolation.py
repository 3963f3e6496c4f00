"""Packed documents do not see each other, in every family of the catalogue, or packing is refused for it."""

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from app.catalog.families import FAMILIES
from app.catalog.modules import SEES_PACKED

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
    "mixtral": _EXPERTS,
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {**_EXPERTS, "head_dim": 16},
    "gpt_oss": {**_EXPERTS, "head_dim": 16},
    "deepseek_v2": _DEEPSEEK,
    "stablelm": {"num_key_value_heads": 4},
}


def first_document_matters(family: str) -> float:
    """Return how much a packed row's second document changes with its first, relative to its logits."""
    settings = {**_LLAMA, **_OWN.get(family, {})}
    model = AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **settings)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.08)
    first, other, second = (torch.randint(5, 300, (1, count), generator=generator) for count in (12, 12, 9))
    positions = torch.cat([torch.arange(12), torch.arange(9)])[None]
    with torch.no_grad():
        rows = [
            model(input_ids=torch.cat([start, second], 1), position_ids=positions, use_cache=False).logits[:, 12:]
            for start in (first, other)
        ]
    return float((rows[0] - rows[1]).abs().max() / rows[0].abs().max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_packed_documents_do_not_see_each_other_or_packing_is_refused(family: str) -> None:
    seen = first_document_matters(family)
    assert (seen > 1e-5) == (family in SEES_PACKED), seen
