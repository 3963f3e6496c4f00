"""A model's configuration made small: the same class and the same kinds of layers, in widths that run in a blink.

What a class does with its rows does not depend on how wide it is. A question about the code, such as whether packed
rows see each other, is therefore put to a model of some thousand weights with every kind of layer of the large one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.catalog.fields import LIMITS

WIDTH, HEADS, HEAD_WIDTH, VOCABULARY, POSITIONS = 64, 4, 16, 320, 512
# Windows are made shorter than the documents of a test, so that they matter in it.
WINDOW = 8
_MOST_LAYERS = 24
_PLAIN_LAYERS = 4

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
# Names of configurations of transformers 5.23 by what they measure.
_SIZES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        WIDTH,
        (
            *(
                "hidden_size",
                "n_embd",
                "d_model",
                "dim",
                "block_dim",
                "conv_dim",
                "conv_dim_out",
                "word_embed_proj_dim",
            ),
            *("lru_width", "embedding_size", "emb_dim", "attention_hidden_size", "backbone_hidden_size"),
        ),
    ),
    (
        HEADS,
        (
            *("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "linear_num_value_heads"),
            *("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "mamba_dt_rank"),
            *("time_step_rank", "moe_num_primary_experts", "swa_num_attention_heads"),
        ),
    ),
    (
        HEAD_WIDTH,
        (
            *("head_dim", "v_head_dim", "attention_head_dim", "mamba_headdim", "kv_channels", "linear_key_head_dim"),
            *("linear_value_head_dim", "mamba_d_head", "mamba_head_dim", "ssm_state_size", "mamba_d_state"),
            *("state_size", "mamba_chunk_size", "chunk_size", "kv_lora_rank", "swa_head_dim", "qk_head_dim", "d_head"),
            *("index_head_dim", "swa_v_head_dim", "mamba_state_size", "rotary_dim"),
        ),
    ),
    (
        2 * WIDTH,
        (
            *("intermediate_size", "ffn_dim", "n_inner", "block_ff_dim", "ffn_hidden_size", "mamba_d_ssm"),
            *("mamba_intermediate_size", "dense_intermediate_size"),
        ),
    ),
    (
        WIDTH // 2,
        (
            *("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size", "q_lora_rank"),
            *("shared_intermediate_size", "moe_shared_expert_intermediate_size", "intermediate_size_mlp"),
        ),
    ),
    (8, ("qk_rope_head_dim", "qk_nope_head_dim", "hidden_size_per_layer_input", "mamba_n_heads", "mamba_num_heads")),
    (2, ("linear_num_key_heads", "index_n_heads")),
    (1, ("n_group", "topk_group", "n_groups", "mamba_n_groups", "mamba_ngroups", "num_expert_group")),
    (VOCABULARY, ("vocab_size", "vocab_size_per_layer_input")),
    (POSITIONS, ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")),
    (WINDOW, ("sliding_window", "attention_chunk_size", "attention_window_size", "sliding_window_size")),
)
_SMALL = {name: size for size, names in _SIZES for name in names}
# No more than this, but less where the model has less.
_AT_MOST = {
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"), 0),
    **dict.fromkeys(("conv_kernel", "conv_L_cache"), 4),
    "global_head_dim": 2 * HEAD_WIDTH,
    "index_topk": 64,
}
_KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_head_kv",
    "num_global_key_value_heads",
    "swa_num_key_value_heads",
)
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
# What a rotary embedding holds for one width of heads, or one length.
_ROPE_TABLES = ("long_factor", "short_factor")
_ROPE_KEPT = ("rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved")


def small(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration (its fields, `text_config` opened) in small widths and with few layers.

    The first layers are kept, as many as it takes to have one of every kind. Fields that are not known here stay; a
    model that is still large then is for the caller to refuse.
    """
    named = [values[name] for name in _DEPTHS if isinstance(values.get(name), int)]
    layers = min(named[0], LIMITS["layers"]) if named else 0
    depth = min(_depth(values, layers), layers or _PLAIN_LAYERS)
    sharing = values.get("num_kv_shared_layers")
    # As many layers more for those at the end that read the keys of layers before them.
    shared = depth if isinstance(sharing, int) and sharing > 0 else 0
    depth += shared
    made: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (list, tuple)):
            made[name] = _cut(value, layers, depth)
        elif name == "per_layer_config" and isinstance(value, Mapping):
            made[name] = {layer: _own(each, values) for layer, each in value.items() if int(layer) < depth}
        else:
            made[name] = _scaled(name, value, values)
    for name in _DEPTHS:
        if name in made:
            made[name] = depth
    if shared:
        made["num_kv_shared_layers"] = shared
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(made.get(name), Mapping):
            made[name] = _rope(made[name], made)
    return made


def _depth(values: Mapping[str, Any], layers: int) -> int:
    """Return how many of the first layers have one of every kind, in each list that tells of layers."""
    depth = 1
    for value in values.values():
        # A pattern such as nemotron_h's is a string of one letter a layer.
        if isinstance(value, (list, tuple, str)) and len(value) == layers > 1:
            depth = max(depth, _until_all(value))
    listed = any(isinstance(value, (list, tuple)) and len(value) == layers > 1 for value in values.values())
    return min(max(depth, 2 if listed else _PLAIN_LAYERS), _MOST_LAYERS)


def _until_all(kinds: Any) -> int:
    names = [str(kind) for kind in kinds]
    return max(names.index(kind) for kind in set(names)) + 1


def _cut(value: Any, layers: int, depth: int) -> list[Any]:
    """Return a list that tells of each layer for the first ones, widths in it made small."""
    kept = list(value)[:depth] if len(value) == layers > 1 else list(value)
    return [2 * WIDTH if isinstance(each, int) and each > 2 * WIDTH else each for each in kept]


def _scaled(name: str, value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if name in _TOKENS:
        return _TOKENS[name]
    if isinstance(value, str):
        return value
    if name == "head_dim" and value == values.get("qk_rope_head_dim"):
        return _SMALL["qk_rope_head_dim"]
    if name in _KV_HEADS and isinstance(value, int):
        heads = next((values[each] for each in ("num_attention_heads", "n_head", "n_heads") if each in values), value)
        return HEADS if value == heads else 1 if value == 1 else 2
    if name in _AT_MOST and isinstance(value, int):
        return min(value, _AT_MOST[name])
    return _SMALL.get(name, value) if isinstance(value, int) and value > 0 else value


def _own(fields: Any, values: Mapping[str, Any]) -> Any:
    """Return what one layer has of its own; heads that are wider than the others' stay so."""
    if not isinstance(fields, Mapping):
        return fields
    made = {name: _scaled(name, value, values) for name, value in fields.items()}
    head, others = fields.get("head_dim"), values.get("head_dim")
    if isinstance(head, int) and isinstance(others, int) and head > others:
        made["head_dim"] = 2 * HEAD_WIDTH
    return made


def _rope(parameters: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary embedding's settings for small heads: without tables of factors, sections rescaled."""
    inner = {name: _rope(each, values) if isinstance(each, Mapping) else each for name, each in parameters.items()}
    if any(name in inner for name in _ROPE_TABLES):
        inner = {"rope_type": "default", **{name: inner[name] for name in _ROPE_KEPT if name in inner}}
    if isinstance(inner.get("mrope_section"), list):
        head = values.get("head_dim") or HEAD_WIDTH
        half = max(3, int(head * float(str(inner.get("partial_rotary_factor", 1.0)))) // 2)
        third = half // 3
        inner["mrope_section"] = [half - 2 * third, third, third]
    return inner
