"""Small random models of every family that GGUF files are written for, with tokenizers of the families' own kinds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from app.export.gguf.vocabulary import _LLAMA3, _QWEN2

CORPUS = [
    "The small house by the sea, and the man who lives there; he's 42 years old and says: don't go!",
    "Les élèves naïfs ont mangé des crêpes. Übergröße, façade, niño. 今天天气很好。 Привет, мир!",
    "def f(x):\n    return x ** 2  # comment\n\n\tindented\n",
] * 4
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
        "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
        "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for message in turns %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "phi3": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
}
_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "long_factor": [1.0 + i for i in range(8)],
    "short_factor": [1.0 + i / 8 for i in range(8)],
    "original_max_position_embeddings": 256,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_GRANITE = {
    "attention_multiplier": 0.2,
    "embedding_multiplier": 1.5,
    "residual_multiplier": 0.7,
    "logits_scaling": 2.0,
}
_LINEAR = {
    "num_hidden_layers": 8,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 128,
}
# Families of newer models, made from the registry's configurations.
NEWER: dict[str, dict[str, Any]] = {
    "mixtral": _LOCAL_EXPERTS,
    "qwen2_moe": {**_EXPERTS, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 96, "head_dim": 16},
    "qwen3_moe": {**_EXPERTS, "moe_intermediate_size": 64, "norm_topk_prob": True},
    "qwen3_5_text": {**_LINEAR, "tie_word_embeddings": True},
    "qwen3_5_moe_text": {
        **_LINEAR,
        **_EXPERTS,
        "num_hidden_layers": 4,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 96,
    },
    "glm4_moe": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "moe_intermediate_size": 64,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 1.5,
        "use_qk_norm": True,
    },
    "gpt_oss": {**_LOCAL_EXPERTS, "sliding_window": 32, "rope_parameters": _YARN},
    "lfm2": {
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention"] * 2,
        "block_auto_adjust_ff_dim": False,
        "head_dim": 16,
    },
    "granite": _GRANITE,
    "granitemoe": {**_GRANITE, **_LOCAL_EXPERTS},
    "olmo2": {"head_dim": 16},
    "olmo3": {"num_hidden_layers": 4, "sliding_window": 32, "head_dim": 16},
    "olmoe": {**_EXPERTS, "head_dim": 16, "num_key_value_heads": 4},
    "glm4": {},
    "smollm3": {"num_hidden_layers": 4, "head_dim": 16},
    "seed_oss": {},
    "ernie4_5": {},
}
FAMILIES: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "llama": (LlamaConfig, "llama3", "llama3", {"rope_parameters": _LLAMA3_ROPE, "attention_bias": True}),
    "qwen2": (Qwen2Config, "qwen2", "chatml", {"tie_word_embeddings": True, "head_dim": 16}),
    "qwen3": (Qwen3Config, "qwen2", "chatml", {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, "sentencepiece", "mistral", {"sliding_window": None}),
    "gemma": (GemmaConfig, "gemma", "gemma", {}),
    "gemma2": (Gemma2Config, "gemma", "gemma", {"query_pre_attn_scalar": 32, "sliding_window": 32}),
    "gemma3": (
        Gemma3TextConfig,
        "gemma",
        "gemma",
        {
            "num_hidden_layers": 6,
            "query_pre_attn_scalar": 32,
            "sliding_window": 32,
            "rope_parameters": _GEMMA3_ROPE,
        },
    ),
    "phi3": (Phi3Config, "sentencepiece", "phi3", {"num_attention_heads": 4, "head_dim": 16, "rope_parameters": _LONG}),
}


FAMILIES |= {name: (partial(AutoConfig.for_model, name), "qwen2", "chatml", changes) for name, changes in NEWER.items()}


def save(folder: Path, family: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """Write a random model with its tokenizer and template into `folder` and return it."""
    made, kind, template, settings = FAMILIES[family]
    tokenizer = {"llama3": _llama3, "qwen2": _qwen2, "sentencepiece": _sentencepiece, "gemma": _gemma}[kind](template)
    rows = -(-len(tokenizer) // 64) * 64
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = made(**{**_COMMON, "vocab_size": rows, **ids, **settings, **changes})
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if parameter.ndim > 1 else 0.3))
            if parameter.ndim == 1 and not family.startswith("gemma"):
                parameter.add_(1.0)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _byte_level(regex: str, specials: list[str], *, ignore_merges: bool) -> Tokenizer:
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(regex), "isolated", invert=False)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    made.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in specials])
    return made


def _llama3(template: str) -> PreTrainedTokenizerFast:
    names = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"]
    made = _byte_level(_LLAMA3, names, ignore_merges=True)
    made.normalizer = None
    begin = made.token_to_id(names[0])
    made.post_processor = processors.TemplateProcessing(
        single=f"{names[0]} $A", pair=f"{names[0]} $A $B", special_tokens=[(names[0], begin)]
    )
    return _wrapped(made, template, bos_token=names[0], eos_token=names[4], pad_token=names[4])


def _qwen2(template: str) -> PreTrainedTokenizerFast:
    made = _byte_level(_QWEN2, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ignore_merges=False)
    made.add_tokens([AddedToken("<think>", normalized=False, special=False)])
    return _wrapped(made, template, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _sentencepiece(template: str, *, prefix: bool = True) -> PreTrainedTokenizerFast:
    """Return a byte-fallback BPE as transformers makes them from SentencePiece models, with every possible merge."""
    specials = ["<unk>", "<s>", "</s>"] if prefix else ["<pad>", "<eos>", "<bos>", "<unk>"]
    words = {piece for text in CORPUS for word in text.split() for piece in _starts(f"\u2581{word}")}
    pieces = sorted({*words, *("".join(CORPUS)), "\u2581"}, key=lambda piece: (len(piece), piece))
    names = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *(p for p in pieces if p.strip())]
    vocabulary = {piece: number for number, piece in enumerate(names)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "\u2581")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace]) if prefix else replace
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(
        [AddedToken(text, normalized=False, special=True, rstrip=text == "</s>") for text in specials]
    )
    if template == "phi3":
        made.add_special_tokens([AddedToken("<|endoftext|>", normalized=False, special=True)])
        extra = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
        made.add_special_tokens([AddedToken(text, rstrip=True, normalized=False, special=True) for text in extra])
    begin = "<s>" if prefix else "<bos>"
    if template != "phi3":
        made.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, vocabulary[begin])]
        )
    end = "<|endoftext|>" if template == "phi3" else "</s>" if prefix else "<eos>"
    return _wrapped(made, template, bos_token=begin, eos_token=end, unk_token="<unk>", pad_token=specials[0])


def _gemma(template: str) -> PreTrainedTokenizerFast:
    made = _sentencepiece(template, prefix=False)
    made.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    return made


def _starts(word: str) -> list[str]:
    return [word[:end] for end in range(1, min(len(word), 6) + 1)]


def _wrapped(made: Tokenizer, template: str, **names: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **names)
    wrapped.chat_template = TEMPLATES[template]
    return wrapped
