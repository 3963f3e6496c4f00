"""The model families that can be written as GGUF, and how llama.cpp names and reads their settings.

The keys and what they mean: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gguf import GGUFWriter
from transformers import PreTrainedConfig

from app.errors import ExportError
from app.export.gguf.architecture import settings


@dataclass(frozen=True)
class Family:
    """How one model_type of transformers becomes a llama.cpp architecture.

    arch: llama.cpp's name. names: what tensors are called beyond the gguf package's table, by the end of their name in
    a layer or by their whole name. permuted: whether rows of q and k stand in the order of interleaved rotary pairs.
    norm_shift: what is added to each RMS norm's weight, where the model itself computes 1 + weight. square: whether
    llama.cpp takes all query heads together to be as wide as the model.
    """

    arch: str
    names: Mapping[str, str] = field(default_factory=dict)
    permuted: bool = False
    norm_shift: float = 0.0
    always_tied: bool = False
    square: bool = False
    describe: Callable[[PreTrainedConfig, GGUFWriter], list[str]] = lambda config, writer: []


_DENSE = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LATE_NORM = {**_DENSE, "post_attention_layernorm": "post_attention_norm"}
_GPT_OSS = {**_LATE_NORM, "self_attn.sinks": "attn_sinks.weight", "mlp.router": "ffn_gate_inp"}
_QWEN35 = {
    **_LATE_NORM,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.A_log": "ssm_a",
    "linear_attn.dt_bias": "ssm_dt.bias",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
}
_QWEN35_EXPERTS = {
    **_QWEN35,
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
}
_GLM4_EXPERTS = {
    **_LATE_NORM,
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
_LFM2 = {
    **_DENSE,
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "conv.conv": "shortconv.conv",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "model.embedding_norm": "token_embd_norm",
}
FAMILIES = {
    "llama": Family("llama", permuted=True),
    "mistral": Family("llama", permuted=True, describe=settings.windowed),
    "mixtral": Family("llama", permuted=True, describe=settings.mixtral),
    "qwen2": Family("qwen2", square=True, describe=settings.windowed),
    "qwen2_moe": Family("qwen2moe", square=True, describe=settings.qwen_moe),
    "qwen3": Family("qwen3", describe=settings.windowed),
    "qwen3_moe": Family("qwen3moe", describe=settings.qwen_moe),
    "qwen3_5_text": Family("qwen35", _QWEN35, norm_shift=1.0, describe=settings.qwen35),
    "qwen3_5_moe_text": Family("qwen35moe", _QWEN35_EXPERTS, norm_shift=1.0, describe=settings.qwen35),
    "gemma": Family("gemma", norm_shift=1.0, always_tied=True),
    "gemma2": Family("gemma2", norm_shift=1.0, always_tied=True, describe=settings.gemma2),
    "gemma3_text": Family("gemma3", norm_shift=1.0, describe=settings.gemma3),
    "phi3": Family("phi3", describe=settings.phi3),
    "gpt_oss": Family("gpt-oss", _GPT_OSS, describe=settings.gpt_oss),
    "lfm2": Family("lfm2", _LFM2, square=True, describe=settings.lfm2),
    "granite": Family("granite", permuted=True, describe=settings.granite),
    "granitemoe": Family("granitemoe", permuted=True, describe=settings.granite),
    "olmo2": Family("olmo2", square=True),
    "olmo3": Family("olmo2", square=True, describe=settings.olmo3),
    "olmoe": Family("olmoe", square=True, describe=settings.olmoe),
    "glm4": Family("glm4"),
    "glm4_moe": Family("glm4moe", _GLM4_EXPERTS, describe=settings.glm4_moe),
    "smollm3": Family("smollm3", _DENSE, permuted=True, describe=settings.smollm3),
    "seed_oss": Family("seed_oss", _LATE_NORM),
    "ernie4_5": Family("ernie4_5", _DENSE),
}
_NAMES = (
    "Llama, Mistral, Mixtral, Qwen2, Qwen3, Qwen3.5, Gemma, Gemma 2, Gemma 3, Phi-3, gpt-oss, LFM2, Granite, Olmo 2, "
    "Olmo 3, OlMoE, GLM-4, SmolLM3, Seed-OSS, ERNIE 4.5 and the mixtures of experts of Qwen, GLM and Granite"
)


def family_of(config: PreTrainedConfig) -> Family:
    """Return the family of a model's configuration. Raises ExportError that names the supported ones."""
    kind = str(config.get_text_config(decoder=True).model_type)
    if kind not in FAMILIES:
        raise ExportError(
            f"A {kind} model cannot be written as GGUF here",
            f"supported are {_NAMES}",
            "use the merged model with transformers or vLLM",
        )
    return FAMILIES[kind]


def describe(config: PreTrainedConfig, family: Family, writer: GGUFWriter) -> list[str]:
    """Write the settings of a model's text part and return notes for people."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    if family.square and heads * head_dim != config.hidden_size:
        raise ExportError(
            "This model cannot be written as GGUF",
            f"its {heads} heads of {head_dim} are not as wide as the model, and llama.cpp takes them to be",
            "use the merged model with transformers or vLLM",
        )
    # A mixture without dense layers may leave it out.
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.moe_intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(getattr(config, "rms_norm_eps", None) or config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    return family.describe(config, writer)
