"""How each model family's config.json maps to architecture numbers.

Each reader follows configuration_*.py and modeling_*.py of transformers 5.23; defaults are the ones stated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.catalog.fields import LIMITS, ConfigFields, OtherLayoutError
from app.catalog.spec import Experts, LatentAttention, LayerKind

Numbers = dict[str, Any]
Reader = Callable[[ConfigFields], Numbers]


def _core(fields: ConfigFields, **defaults: Any) -> Numbers:
    """Read what all rotary, Llama-like families share; `defaults` are overrides of the result."""
    hidden = fields.integer("hidden_size", limit=LIMITS["width"])
    heads = fields.integer("num_attention_heads", limit=LIMITS["heads"])
    kv_heads = fields.integer("num_key_value_heads", limit=LIMITS["heads"], default=heads)
    head_dim = fields.optional("head_dim", limit=LIMITS["width"])
    if head_dim is None:
        if hidden % heads:
            raise fields.fail("num_attention_heads", f"{heads} does not divide hidden_size {hidden}")
        head_dim = hidden // heads
    if heads % kv_heads:
        raise fields.fail("num_key_value_heads", f"{kv_heads} does not divide num_attention_heads {heads}")
    numbers: Numbers = {
        "hidden": hidden,
        "layers": fields.integer("num_hidden_layers", limit=LIMITS["layers"]),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate": fields.integer("intermediate_size", limit=LIMITS["width"]),
        "vocab": fields.integer("vocab_size", limit=LIMITS["vocab"]),
        "tied": fields.flag("tie_word_embeddings", False),
        "max_positions": fields.positions("max_position_embeddings"),
        "activation": fields.text("hidden_act") or fields.text("hidden_activation") or "silu",
        "attention_dropout": fields.share("attention_dropout"),
        "rotary_dim": _rotary_dim(fields, head_dim),
    }
    return numbers | defaults


def _rotary_dim(fields: ConfigFields, head_dim: int) -> int:
    """Return how many features of a head are rotated."""
    parameters = fields.values.get("rope_parameters")
    nested = fields.part("partial_rotary_factor", 1.0, parameters if isinstance(parameters, dict) else {})
    return int(head_dim * fields.part("partial_rotary_factor", nested))


def _sliding(fields: ConfigFields, layers: int, every: int | None = None) -> Numbers:
    """Read which layers attend in a window; `every` is the family's period of full attention."""
    window = fields.optional("sliding_window", limit=1 << 31)
    types = fields.values.get("layer_types")
    if window is None:
        return {}
    if types is not None and not isinstance(types, list):
        raise fields.fail("layer_types", f"expected a list, found {type(types).__name__}")
    if types is not None:
        if len(types) < layers:
            raise fields.fail("layer_types", f"has {len(types)} entries for {layers} layers")
        kinds: tuple[LayerKind, ...] = tuple("sliding" if "sliding" in str(kind) else "full" for kind in types[:layers])
        return {"layer_kinds": kinds, "sliding_window": window}
    if every is None:
        return {"layer_kinds": ("sliding",) * layers, "sliding_window": window}
    return {
        "layer_kinds": tuple("full" if (index + 1) % every == 0 else "sliding" for index in range(layers)),
        "sliding_window": window,
    }


def llama(fields: ConfigFields) -> Numbers:
    """Read Llama and the models that use its class (SmolLM2, Yi, Falcon3, TinyLlama, DeepSeek-Coder)."""
    bias = fields.flag("attention_bias", False)
    return _core(fields, qkv_bias=bias, out_bias=bias, mlp_bias=fields.flag("mlp_bias", False))


def mistral(fields: ConfigFields) -> Numbers:
    """Read Mistral, and Ministral 3: its queries are scaled by position besides, which a trace shows to cost 1 %."""
    numbers = _core(fields)
    return numbers | _sliding(fields, numbers["layers"])


def qwen2(fields: ConfigFields) -> Numbers:
    """Read Qwen2 and Qwen2.5: biases on query, key and value."""
    return _core(fields, qkv_bias=True)


def qwen3(fields: ConfigFields) -> Numbers:
    """Read Qwen3: a norm on every query and key head."""
    numbers = _core(fields, qk_norm="head")
    bias = fields.flag("attention_bias", False)
    if fields.optional("head_dim", limit=LIMITS["width"]) is None:
        numbers["head_dim"] = numbers["rotary_dim"] = 128
    return numbers | {"qkv_bias": bias, "out_bias": bias}


def smollm3(fields: ConfigFields) -> Numbers:
    """Read SmolLM3: Llama with rotary embeddings left out in every fourth layer; tied by default."""
    return llama(fields) | {"tied": fields.flag("tie_word_embeddings", True)}


def _gemma_core(fields: ConfigFields) -> Numbers:
    numbers = _core(fields, tied=fields.flag("tie_word_embeddings", True))
    numbers["activation"] = fields.text("hidden_activation") or fields.text("hidden_act") or "gelu_pytorch_tanh"
    if fields.optional("head_dim", limit=LIMITS["width"]) is None:
        numbers["head_dim"] = numbers["rotary_dim"] = 256
    bias = fields.flag("attention_bias", False)
    return numbers | {"qkv_bias": bias, "out_bias": bias}


def gemma(fields: ConfigFields) -> Numbers:
    """Read Gemma 1."""
    return _gemma_core(fields)


def gemma2(fields: ConfigFields) -> Numbers:
    """Read Gemma 2: four norms a layer, every other layer in a window, capped scores and logits."""
    numbers = _gemma_core(fields) | {"norms": 4}
    caps = {
        "attention_softcap": fields.values.get("attn_logit_softcapping", 50.0) is not None,
        "logit_softcap": fields.values.get("final_logit_softcapping", 30.0) is not None,
    }
    return numbers | caps | _sliding(fields, numbers["layers"], every=2)


def gemma3(fields: ConfigFields) -> Numbers:
    """Read the text part of Gemma 3: four norms a layer, norms on heads, five windowed layers for each full one."""
    numbers = _gemma_core(fields) | {"norms": 4, "qk_norm": "head"}
    pattern = fields.optional("sliding_window_pattern", limit=LIMITS["layers"]) or 6
    return numbers | _sliding(fields, numbers["layers"], every=pattern)


def phi(fields: ConfigFields) -> Numbers:
    """Read Phi-1.5 and Phi-2: attention and MLP in parallel, biases everywhere."""
    numbers = _core(fields, norm="layer", norms=1, gated_mlp=False, parallel=True)
    biases = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "head_bias": True}
    drops = {"hidden_dropout": fields.share("resid_pdrop"), "embedding_dropout": fields.share("embd_pdrop")}
    return numbers | biases | drops


def phi3(fields: ConfigFields) -> Numbers:
    """Read Phi-3, 3.5 and 4: fused query-key-value and gate-up modules."""
    return _core(
        fields,
        fused_qkv=True,
        fused_gate_up=True,
        hidden_dropout=fields.share("resid_pdrop"),
    )


def glm(fields: ConfigFields) -> Numbers:
    """Read GLM-4 (model type glm): fused gate-up, biases on query, key and value."""
    numbers = _core(fields, fused_gate_up=True, qkv_bias=fields.flag("attention_bias", True))
    if fields.values.get("partial_rotary_factor") is None:
        numbers["rotary_dim"] = numbers["head_dim"] // 2
    return numbers


def glm4(fields: ConfigFields) -> Numbers:
    """Read GLM-4-0414 (model type glm4): as GLM with four norms a layer."""
    return glm(fields) | {"norms": 4}


def granite(fields: ConfigFields) -> Numbers:
    """Read Granite: Llama with scaled residuals."""
    return llama(fields)


def olmo(fields: ConfigFields) -> Numbers:
    """Read OLMo: norms without parameters."""
    return _core(fields, norm="plain")


def olmo2(fields: ConfigFields) -> Numbers:
    """Read OLMo 2: norms after attention and MLP, norms over whole query and key."""
    return _core(fields, qk_norm="full")


def stablelm(fields: ConfigFields) -> Numbers:
    """Read StableLM: LayerNorm with bias, a quarter of each head rotated."""
    parallel = fields.flag("use_parallel_residual", False)
    return _core(
        fields,
        norm="layer",
        norms=1 if parallel else 2,
        parallel=parallel,
        qkv_bias=fields.flag("use_qkv_bias", False),
        hidden_dropout=fields.share("hidden_dropout"),
    )


def starcoder2(fields: ConfigFields) -> Numbers:
    """Read StarCoder2: LayerNorm, biases everywhere, an MLP without gate; tied by default."""
    bias = fields.flag("use_bias", True)
    numbers = _core(fields, norm="layer", gated_mlp=False, qkv_bias=bias, out_bias=bias, mlp_bias=bias)
    drops = {
        "hidden_dropout": fields.share("residual_dropout"),
        "embedding_dropout": fields.share("embedding_dropout"),
    }
    tied = {"tied": fields.flag("tie_word_embeddings", True)}
    return numbers | drops | tied | _sliding(fields, numbers["layers"])


def _gpt(fields: ConfigFields) -> Numbers:
    """Read the names that GPT-2 and GPT-BigCode share."""
    hidden = fields.integer("n_embd", "hidden_size", limit=LIMITS["width"])
    heads = fields.integer("n_head", "num_attention_heads", limit=LIMITS["heads"])
    if hidden % heads:
        raise fields.fail("n_head", f"{heads} does not divide n_embd {hidden}")
    positions = fields.integer("n_positions", "max_position_embeddings", limit=1 << 24, default=1024)
    return {
        "hidden": hidden,
        "layers": fields.integer("n_layer", "num_hidden_layers", limit=LIMITS["layers"]),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate": fields.integer("n_inner", limit=LIMITS["width"], default=4 * hidden),
        "vocab": fields.integer("vocab_size", limit=LIMITS["vocab"]),
        "tied": fields.flag("tie_word_embeddings", True),
        "max_positions": positions,
        "positions": positions,
        "norm": "layer",
        "gated_mlp": False,
        "fused_qkv": True,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "activation": fields.text("activation_function", "gelu_new"),
        "hidden_dropout": fields.share("resid_pdrop", default=0.1),
        "attention_dropout": fields.share("attn_pdrop", default=0.1),
        "embedding_dropout": fields.share("embd_pdrop", default=0.1),
    }


def gpt2(fields: ConfigFields) -> Numbers:
    """Read GPT-2: Conv1D modules, learned positions."""
    return _gpt(fields) | {"linear_class": "conv1d"}


def gpt_bigcode(fields: ConfigFields) -> Numbers:
    """Read GPT-BigCode (StarCoder, SantaCoder): one key-value head."""
    numbers = _gpt(fields) | {"activation": fields.text("activation_function", "gelu_pytorch_tanh")}
    return numbers | {"kv_heads": 1 if fields.flag("multi_query", True) else numbers["heads"]}


def bloom(fields: ConfigFields) -> Numbers:
    """Read BLOOM: ALiBi, a norm on the embeddings."""
    hidden = fields.integer("hidden_size", "n_embed", limit=LIMITS["width"])
    heads = fields.integer("n_head", "num_attention_heads", limit=LIMITS["heads"])
    if hidden % heads:
        raise fields.fail("n_head", f"{heads} does not divide hidden_size {hidden}")
    return {
        "hidden": hidden,
        "layers": fields.integer("n_layer", "num_hidden_layers", limit=LIMITS["layers"]),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate": 4 * hidden,
        "vocab": fields.integer("vocab_size", limit=LIMITS["vocab"]),
        "tied": fields.flag("tie_word_embeddings", True),
        "max_positions": fields.positions("seq_length"),
        "norm": "layer",
        "gated_mlp": False,
        "fused_qkv": True,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
        "activation": "bloom_gelu",
        "embedding_norm": True,
        "alibi": True,
        "hidden_dropout": fields.share("hidden_dropout"),
        "attention_dropout": fields.share("attention_dropout"),
    }


def falcon(fields: ConfigFields) -> Numbers:
    """Read Falcon in its three layouts: multi-query, grouped with two norms, and ALiBi (RefinedWeb 1B)."""
    hidden = fields.integer("hidden_size", limit=LIMITS["width"])
    heads = fields.integer("num_attention_heads", "n_head", limit=LIMITS["heads"])
    if hidden % heads:
        raise fields.fail("num_attention_heads", f"{heads} does not divide hidden_size {hidden}")
    grouped = fields.flag("new_decoder_architecture", False)
    kv_heads = heads
    if grouped:
        kv_heads = fields.integer("num_kv_heads", "n_head_kv", limit=LIMITS["heads"], default=heads)
    elif fields.flag("multi_query", True):
        kv_heads = 1
    parallel = grouped or fields.flag("parallel_attn", True)
    two_norms = grouped and (fields.optional("num_ln_in_parallel_attn", limit=2) or 2) == 2
    bias = fields.flag("bias", False)
    return {
        "hidden": hidden,
        "layers": fields.integer("num_hidden_layers", "n_layer", limit=LIMITS["layers"]),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": hidden // heads,
        "intermediate": fields.integer("ffn_hidden_size", limit=LIMITS["width"], default=4 * hidden),
        "vocab": fields.integer("vocab_size", limit=LIMITS["vocab"]),
        "tied": fields.flag("tie_word_embeddings", True),
        "max_positions": fields.positions("max_position_embeddings"),
        "norm": "layer",
        "norms": 2 if two_norms or not parallel else 1,
        "gated_mlp": False,
        "fused_qkv": True,
        "parallel": parallel,
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bias,
        "activation": fields.text("activation", "gelu"),
        "alibi": fields.flag("alibi", False),
        "rotary_dim": 0 if fields.flag("alibi", False) else hidden // heads,
        # FalconLinear is a subclass of nn.Linear; bitsandbytes integration converts plain nn.Linear only.
        "linear_class": "own",
        "hidden_dropout": fields.share("hidden_dropout"),
        "attention_dropout": fields.share("attention_dropout"),
    }


def gpt_neox(fields: ConfigFields) -> Numbers:
    """Read GPT-NeoX (Pythia): parallel attention and MLP with a norm each, rotary on a part of each head."""
    bias = fields.flag("attention_bias", True)
    numbers = _core(fields, norm="layer", gated_mlp=False, fused_qkv=True, parallel=True)
    numbers["rotary_dim"] = int(numbers["head_dim"] * fields.part("rotary_pct", 0.25))
    return numbers | {
        "parallel": fields.flag("use_parallel_residual", True),
        "activation": fields.text("hidden_act", "gelu"),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": True,
        "hidden_dropout": fields.share("hidden_dropout"),
        "embedding_dropout": fields.share("hidden_dropout"),
    }


def opt(fields: ConfigFields) -> Numbers:
    """Read OPT with pre-norm layers; the 350M model differs. Raises OtherLayoutError."""
    values = dict(fields.values)
    hidden = fields.integer("hidden_size", limit=LIMITS["width"])
    if fields.integer("word_embed_proj_dim", limit=LIMITS["width"], default=hidden) != hidden:
        raise OtherLayoutError("", "the embedding is projected")
    if not fields.flag("do_layer_norm_before", True):
        raise OtherLayoutError("", "the norms stand behind the layers")
    values["intermediate_size"] = fields.integer("ffn_dim", "intermediate_size", limit=LIMITS["width"])
    numbers = _core(ConfigFields(values, fields.source), norm="layer", gated_mlp=False)
    positions = fields.integer("max_position_embeddings", limit=1 << 24, default=2048)
    bias = fields.flag("enable_bias", True)
    return numbers | {
        "tied": fields.flag("tie_word_embeddings", True),
        "positions": positions,
        "rotary_dim": 0,
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": bias,
        "activation": fields.text("activation_function", "relu"),
        "hidden_dropout": fields.share("dropout", default=0.1),
    }


def _experts(fields: ConfigFields, count: tuple[str, ...], width: tuple[str, ...], **more: Any) -> Experts:
    number = fields.integer(*count, limit=LIMITS["experts"])
    per_token = fields.integer("num_experts_per_tok", limit=LIMITS["experts"])
    if per_token > number:
        raise fields.fail("num_experts_per_tok", f"{per_token} are more than the {number} experts")
    return Experts(
        count=number,
        per_token=per_token,
        intermediate=fields.integer(*width, limit=LIMITS["width"]),
        **more,
    )


def mixtral(fields: ConfigFields) -> Numbers:
    """Read Mixtral."""
    numbers = _core(fields)
    experts = _experts(fields, ("num_local_experts", "num_experts"), ("intermediate_size",), adaptable=True)
    return numbers | {"experts": experts} | _sliding(fields, numbers["layers"])


def _every_layer_routes(fields: ConfigFields) -> None:
    """Raise OtherLayoutError for layouts in which dense and routed layers alternate."""
    if fields.integer("decoder_sparse_step", limit=LIMITS["layers"], default=1) != 1:
        raise OtherLayoutError("", "not every layer routes")
    if fields.values.get("mlp_only_layers"):
        raise OtherLayoutError("", "not every layer routes")


def qwen2_moe(fields: ConfigFields) -> Numbers:
    """Read Qwen1.5-MoE and Qwen2-MoE: routed experts and one gated shared expert."""
    _every_layer_routes(fields)
    shared = fields.integer("shared_expert_intermediate_size", limit=LIMITS["width"])
    experts = _experts(
        fields,
        ("num_experts", "num_local_experts"),
        ("moe_intermediate_size",),
        shared_intermediate=shared,
        shared_gate=True,
    )
    return _core(fields, qkv_bias=fields.flag("qkv_bias", True), experts=experts)


def qwen3_moe(fields: ConfigFields) -> Numbers:
    """Read Qwen3-MoE."""
    _every_layer_routes(fields)
    experts = _experts(fields, ("num_experts", "num_local_experts"), ("moe_intermediate_size",), adaptable=True)
    bias = fields.flag("attention_bias", False)
    return _core(fields, qk_norm="head", experts=experts, qkv_bias=bias, out_bias=bias)


def gpt_oss(fields: ConfigFields) -> Numbers:
    """Read gpt-oss: experts with biases, attention sinks, every other layer in a window."""
    experts = _experts(
        fields, ("num_local_experts", "num_experts"), ("intermediate_size",), bias=True, router_bias=True
    )
    bias = fields.flag("attention_bias", True)
    numbers = _core(fields, experts=experts, qkv_bias=bias, out_bias=bias, sinks=True)
    return numbers | _sliding(fields, numbers["layers"], every=2)


def deepseek_v2(fields: ConfigFields) -> Numbers:
    """Read DeepSeek V2 and V3: latent attention, routed and shared experts after the first dense layers."""
    rope = fields.integer("qk_rope_head_dim", limit=LIMITS["width"])
    latent = LatentAttention(
        q_rank=fields.optional("q_lora_rank", limit=LIMITS["width"]),
        kv_rank=fields.integer("kv_lora_rank", limit=LIMITS["width"]),
        rope_dim=rope,
        nope_dim=fields.integer("qk_nope_head_dim", limit=LIMITS["width"]),
        value_dim=fields.integer("v_head_dim", limit=LIMITS["width"]),
    )
    width = fields.integer("moe_intermediate_size", limit=LIMITS["width"])
    dense = fields.values.get("first_k_dense_replace", 0)
    if isinstance(dense, bool) or not isinstance(dense, int) or dense < 0:
        raise fields.fail("first_k_dense_replace", "expected a whole number of at least 0")
    experts = _experts(
        fields,
        ("n_routed_experts",),
        ("moe_intermediate_size",),
        shared_intermediate=width * (fields.optional("n_shared_experts", limit=LIMITS["experts"]) or 0),
        dense_layers=dense,
        adaptable=True,
    )
    numbers = _core(fields, experts=experts, latent=latent, rotary_dim=rope)
    return numbers | {
        "qkv_bias": fields.flag("attention_bias", False),
        "out_bias": fields.flag("attention_bias", False),
    }


def ernie(fields: ConfigFields) -> Numbers:
    """Read ERNIE 4.5 (dense)."""
    bias = fields.flag("use_bias", False)
    tied = fields.flag("tie_word_embeddings", True)
    return _core(fields, tied=tied, qkv_bias=bias, out_bias=bias, mlp_bias=bias)


FAMILIES: dict[str, Reader] = {
    "llama": llama,
    "mistral": mistral,
    "ministral3": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "smollm3": smollm3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "phi": phi,
    "phi3": phi3,
    "glm": glm,
    "glm4": glm4,
    "granite": granite,
    "olmo": olmo,
    "olmo2": olmo2,
    "stablelm": stablelm,
    "starcoder2": starcoder2,
    "gpt2": gpt2,
    "gpt_bigcode": gpt_bigcode,
    "bloom": bloom,
    "falcon": falcon,
    "gpt_neox": gpt_neox,
    "opt": opt,
    "mixtral": mixtral,
    "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe,
    "gpt_oss": gpt_oss,
    "deepseek_v2": deepseek_v2,
    "ernie4_5": ernie,
}
"""Readers by config.json's `model_type`."""
