"""Tiny encoders with a decoder: random weights of the true classes, and a tokenizer as T5's, made on the spot."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

VOCAB = 320
_TEXTS = ["translate the small house by the sea", "name the capital of a country", "arr, matey, the answer be here"]
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("d_model",), 64),
    **dict.fromkeys(("d_kv",), 16),
    **dict.fromkeys(("d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 128),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_heads", "encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings",), 256),
}

# T5Gemma puts two Gemma 2 decoders together, one of which attends both ways.
_GEMMA: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "query_pre_attn_scalar"), 64),
    "intermediate_size": 128,
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_hidden_layers"), 2),
    "head_dim": 32,
    "vocab_size": VOCAB,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"],
}


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a unigram tokenizer that writes its end token behind every text and has no chat template, as T5's."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    alphabet = [chr(code) for code in range(33, 127)]
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=special, unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(_TEXTS * 5, trainer)
    end = made.token_to_id("</s>")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def save(folder: Path, kind: str = "t5", **changes: Any) -> Path:
    """Write a tiny model of a class with its tokenizer into `folder` and return it."""
    default = AutoConfig.for_model(kind)
    sizes = {name: value for name, value in _SIZES.items() if hasattr(default, name)}
    if kind == "t5gemma":
        sizes = {"encoder": dict(_GEMMA), "decoder": dict(_GEMMA)}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "bos_token_id": 1}
    config = AutoConfig.for_model(kind, **{**sizes, **tokens, "vocab_size": VOCAB, **changes})
    torch.manual_seed(1)
    model = AutoModelForSeq2SeqLM.from_config(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            middle = 1.0 if parameter.ndim == 1 and "norm" in name and "bias" not in name else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.08 + middle)
    model.generation_config.forced_eos_token_id = None
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
