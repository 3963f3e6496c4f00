"""Tiny models of today's decoders: the classes of transformers in small widths, with every kind of their layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from app.catalog.small import small
from tests.models import tiny_models

# What the defaults of a class lack, or have in another form than what is published.
_SETTINGS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2, "num_hidden_layers": 8},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
    "mamba2": {"num_heads": 8, "head_dim": 16, "hidden_size": 64, "expand": 2},
    "bamba": {"attn_layer_indices": [1, 3], "num_hidden_layers": 4},
    "granitemoehybrid": {
        "layer_types": ["mamba", "mamba", "attention", "mamba"] * 2,
        "num_hidden_layers": 8,
        "num_local_experts": 0,
    },
}
# Classes whose configuration wants a number for the token that texts begin with.
_BEGIN = ("cwm", "mllama", "modernbert-decoder")
# Settings that the defaults of some classes leave open and every published model has.
_LEFT_OPEN = {"head_dim": 16, "num_experts_per_tok": 2, "num_key_value_heads": 2}
_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
_SECTIONS = {"qwen2_vl": _MROPE, "qwen2_5_vl": _MROPE, "glm4v": _MROPE}
_TOWER = {
    **dict.fromkeys(("hidden_size", "embed_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "depth"), 1),
    **dict.fromkeys(("num_attention_heads", "num_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "global_head_dim", "num_position_embeddings", "position_embedding_size"), 16),
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
    "out_hidden_size": 64,
}
_NOT_SET = ("transformers_version", "architectures", "dtype", "_name_or_path", "model_type")


def config(kind: str) -> PreTrainedConfig:
    """Return the small configuration of a decoder, or of a base that sees with a small tower."""
    whole = AutoConfig.for_model(kind, **_SETTINGS.get(kind, {}))
    text = whole.get_text_config(decoder=True)
    given = text.to_dict()
    given |= {name: value for name, value in _LEFT_OPEN.items() if name in given and given[name] is None}
    fields = {name: value for name, value in small(given).items() if name not in _NOT_SET}
    fields |= {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1 if kind in _BEGIN else None}
    if text is whole:
        return type(whole)(**fields)
    own = whole.to_dict()
    tower = dict(own["vision_config"] or AutoConfig.for_model(f"{kind}_vision").to_dict())
    tower |= {name: size for name, size in _TOWER.items() if tower.get(name) is not None}
    if kind == "qwen2_vl":
        tower["hidden_size"] = 64
    if "deepstack_visual_indexes" in tower:
        tower["deepstack_visual_indexes"] = [0]
    tokens = {name: 310 for name in own if "_token_i" in name and name.split("_")[0] not in ("pad", "bos", "eos")}
    if "mm_tokens_per_image" in own:
        tokens["mm_tokens_per_image"] = 4
    tied = bool(own.get("tie_word_embeddings"))
    text_fields = {**fields, **_SECTIONS.get(kind, {}), "tie_word_embeddings": tied}
    parts = {"text_config": {**text_fields, "model_type": text.model_type}, "vision_config": tower}
    return type(whole)(**parts, **tokens, **({"audio_config": None} if "audio_config" in own else {}))


def save(folder: Path, kind: str) -> Path:
    """Write a tiny model, whole where its base sees, with its tokenizer, and return the folder."""
    made = config(kind)
    sees = type(made) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and hasattr(made, "text_config")
    torch.manual_seed(1)
    model = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_config(made).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            middle = 1.0 if parameter.ndim == 1 and "norm" in name else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.08 + middle)
    model.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder
