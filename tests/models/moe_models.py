"""Tiny mixtures of experts with random weights, stored as they are published: by expert, stacked, and as MXFP4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from app.models.moe.mxfp4 import dequantise
from tests.models.tiny_models import VOCAB, tokenizer

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}
# What each kind has of its own; `num_local_experts` and `num_experts` by the names of their configurations.
KINDS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 48, "head_dim": 16, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "head_dim": 16},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 16, "sliding_window": 128},
    "granitemoe": {"num_local_experts": 4},
    "glm4_moe": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "moe_intermediate_size": 48,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "head_dim": 16,
    },
    "qwen3_5_moe_text": {
        "num_experts": 4,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 48,
        "head_dim": 16,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
    },
}


def moe_config(kind: str, **changes: Any) -> Any:
    """Return the configuration of a tiny mixture of experts."""
    return AutoConfig.for_model(kind, **{**_COMMON, **KINDS[kind], **changes})


def moe_model(kind: str, **changes: Any) -> PreTrainedModel:
    """Return a tiny mixture of experts with random weights in float32."""
    torch.manual_seed(1)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(moe_config(kind, **changes), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kept = 1.0 if parameter.ndim == 1 and "norm" in name else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.08 + kept)
    return model.eval()


def save_moe(folder: Path, kind: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """Write a tiny mixture of experts with its tokenizer into `folder` and return it."""
    moe_model(kind, **changes).to(dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_mxfp4(folder: Path, **changes: Any) -> Path:
    """Write a tiny gpt-oss as it is published, its experts in MXFP4 and the rest in bfloat16."""
    save_moe(folder, "gpt_oss", dtype=torch.bfloat16, **changes)
    tensors, stored = load_file(folder / "model.safetensors"), {}
    for name, tensor in tensors.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            # The file keeps each output's inputs together, the model in memory (inputs, outputs).
            blocks, scales = to_mxfp4(tensor.transpose(1, 2).float())
            stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        else:
            stored[name] = tensor
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"],
    }
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def to_mxfp4(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise weights (..., 32 * groups) to blocks (..., groups, 16) and scales (..., groups).

    By the rule of the OCP specification, section 6.3: the scale is the power of two of the largest number, over that of
    the largest E2M1, which is 4; each weight becomes the nearest number of those that E2M1 has.
    """
    groups = weights.unflatten(-1, (-1, 32))
    largest = groups.abs().amax(-1)
    exponents = torch.where(largest > 0, torch.floor(torch.log2(largest.clamp(min=1e-30))) - 2, torch.zeros(()))
    bits = torch.arange(16, dtype=torch.uint8).unsqueeze(-1)  # the lower half of a byte, which comes first
    ones = torch.full((16, 1), 127, dtype=torch.uint8)
    table = dequantise(bits.unsqueeze(1).expand(16, 1, 16), ones, torch.float32)[:, 0]
    scaled = groups / torch.exp2(exponents).unsqueeze(-1)
    nearest = (scaled.unsqueeze(-1) - table).abs().argmin(-1).to(torch.uint8)
    blocks = nearest[..., 0::2] | (nearest[..., 1::2] << 4)
    return blocks, (exponents + 127).to(torch.uint8)
