"""What the families' settings are called in GGUF files, and the models that llama.cpp would compute otherwise.

Where llama.cpp computes something from the architecture alone (Gemma's attention scale, which layers have a window, how
a router weighs its experts), a model with another value is refused: its file would load and answer wrongly.
"""

from __future__ import annotations

from gguf import ExpertGatingFuncType, GGUFWriter
from transformers import PreTrainedConfig

from app.errors import ExportError


def windowed(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Tell of a sliding window that llama.cpp does not have for this architecture."""
    window = getattr(config, "sliding_window", None)
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if window and sliding and window < config.max_position_embeddings:
        return [f"The model attends to the last {window} tokens; llama.cpp attends to all, so longer texts differ."]
    return []


def gemma2(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the soft caps and the window of every other layer."""
    _check_scale(config, widest_layers=46)
    _check_sliding(config, every=2)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)
    return []


def gemma3(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the window of five layers of six."""
    _check_scale(config, widest_layers=62)
    _check_sliding(config, every=6)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)
    return []


def phi3(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the window, or that there is none."""
    # llama.cpp looks for this key in Phi-3 files and takes zero as "no window".
    writer.add_sliding_window(config.sliding_window or 0)
    return windowed(config, writer)


def _check_scale(config: PreTrainedConfig, *, widest_layers: int) -> None:
    """Refuse a Gemma whose attention scale is not the one that llama.cpp computes from the number of layers."""
    widest = config.num_hidden_layers == widest_layers
    expected = config.hidden_size / config.num_attention_heads if widest else config.head_dim
    if abs(config.query_pre_attn_scalar - expected) > 1e-6 * expected:
        raise ExportError(
            "This Gemma cannot be written as GGUF",
            f"its attention scale comes from {config.query_pre_attn_scalar}, llama.cpp always takes {expected:g}",
            "use the merged model with transformers or vLLM",
        )


def _check_sliding(config: PreTrainedConfig, *, every: int) -> None:
    """Refuse a Gemma whose layers attend in another order than the one that llama.cpp takes for the architecture."""
    expected = [
        "full_attention" if number % every == every - 1 else "sliding_attention"
        for number in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != expected:
        raise ExportError(
            "This Gemma cannot be written as GGUF",
            f"llama.cpp takes each layer but every {every}th as sliding, and its layers are ordered otherwise",
            "use the merged model with transformers or vLLM",
        )


def olmo3(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Olmo 3 is Olmo 2 with three layers of four looking through a window."""
    _check_sliding(config, every=4)
    writer.add_sliding_window(config.sliding_window)
    return []


def mixtral(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the experts; each is as wide as the model says of its feed-forward layers."""
    _experts(writer, config.num_local_experts, config.num_experts_per_tok)
    return windowed(config, writer)


def qwen_moe(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the experts of Qwen2 and Qwen3, whose weights are made to add up to one in Qwen3 alone."""
    normed = config.model_type == "qwen3_moe"
    if bool(config.norm_topk_prob) != normed:
        raise _refused(f"llama.cpp takes norm_topk_prob as {str(normed).lower()} for it")
    if config.mlp_only_layers or config.decoder_sparse_step != 1:
        raise _refused("some of its layers have no experts, and llama.cpp looks for them in all")
    _experts(writer, config.num_experts, config.num_experts_per_tok)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if getattr(config, "shared_expert_intermediate_size", None):
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    return windowed(config, writer)


def olmoe(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the experts of OlMoE."""
    if config.norm_topk_prob or config.clip_qkv:
        raise _refused("llama.cpp knows neither its norm_topk_prob nor its clip_qkv")
    if config.num_key_value_heads != config.num_attention_heads:
        raise _refused("it has fewer key heads than query heads, and llama.cpp takes them to be as many")
    _experts(writer, config.num_experts, config.num_experts_per_tok)
    return []


def granite(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write Granite's four scales, and its experts where it has any."""
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)
    if config.model_type == "granitemoe":
        _experts(writer, config.num_local_experts, config.num_experts_per_tok)
    return []


def lfm2(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write which layers attend and which are short convolutions: those have no key heads."""
    kinds = config.layer_types
    writer.add_uint32(f"{writer.arch}.shortconv.l_cache", config.conv_L_cache)
    if config.conv_bias:
        raise _refused("its convolutions have biases")
    keys = [config.num_key_value_heads if kind == "full_attention" else 0 for kind in kinds]
    writer.kv_data[0].pop(f"{writer.arch}.attention.head_count_kv")
    writer.add_head_count_kv(keys)
    return []


def gpt_oss(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the experts and the window of every other layer."""
    expected = ["sliding_attention", "full_attention"] * config.num_hidden_layers
    if list(config.layer_types) != expected[: config.num_hidden_layers]:
        raise _refused("llama.cpp takes every other layer as sliding, and its layers are ordered otherwise")
    writer.add_sliding_window(config.sliding_window)
    _experts(writer, config.num_local_experts, config.num_experts_per_tok)
    writer.add_expert_feed_forward_length(config.intermediate_size)
    return []


def qwen35(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the linear attention of Qwen3.5, and by which interval a layer attends in full."""
    every = config.layer_types.index("full_attention") + 1
    expected = ["linear_attention"] * (every - 1) + ["full_attention"]
    if list(config.layer_types) != (expected * config.num_hidden_layers)[: config.num_hidden_layers]:
        raise _refused("its layers of full attention do not come at one interval")
    writer.add_uint32(f"{writer.arch}.full_attention_interval", every)
    writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    writer.add_ssm_state_size(config.linear_key_head_dim)
    writer.add_uint32(f"{writer.arch}.ssm.group_count", config.linear_num_key_heads)
    writer.add_ssm_time_step_rank(config.linear_num_value_heads)
    writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
    # Pairs of rotated dimensions for time, height and width by turns; text has the same position in all three.
    pairs = int(config.head_dim * float(config.rope_parameters.get("partial_rotary_factor") or 1.0)) // 2
    writer.add_array(f"{writer.arch}.rope.dimension_sections", [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0])
    if getattr(config, "num_experts", None):
        _experts(writer, config.num_experts, config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    return []


def glm4_moe(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Write the experts of GLM-4.5 and later; the first layers are dense."""
    if (config.n_group or 1) != 1 or (config.topk_group or 1) != 1:
        raise _refused("its router chooses among groups of experts")
    _experts(writer, config.n_routed_experts, config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_gating_func(ExpertGatingFuncType.SIGMOID)
    return []


def smollm3(config: PreTrainedConfig, writer: GGUFWriter) -> list[str]:
    """Refuse a SmolLM3 whose layers without positions are not every fourth."""
    rotated = [int(number % 4 != 3) for number in range(config.num_hidden_layers)]
    if list(config.no_rope_layers) != rotated:
        raise _refused("llama.cpp takes every fourth layer as one without positions")
    return windowed(config, writer)


def _experts(writer: GGUFWriter, count: int, used: int) -> None:
    writer.add_expert_count(count)
    writer.add_expert_used_count(used)


def _refused(why: str) -> ExportError:
    return ExportError("This model cannot be written as GGUF", why, "use the merged model with transformers or vLLM")
