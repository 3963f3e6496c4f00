"""Tiny models with random weights, a byte-level tokenizer and a ChatML template, made on the spot."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

# PEFT 0.21.2 asks transformers 5.23 for a name that it deprecates.
PEFT_WARNING = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCAB = 320  # 256 bytes, the special tokens, a few merges, and room up to a multiple of 64


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a ChatML template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(["the small house by the sea, and the man who lives there"] * 3, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None
    )
    made.chat_template = CHATML
    return made


def config(kind: str, **changes: Any) -> Any:
    """Return the configuration of a tiny llama, qwen3, gpt2, bloom or opt."""
    common: dict[str, Any] = {"vocab_size": VOCAB, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None}
    if kind == "gpt2":
        return GPT2Config(**{**common, "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512, **changes})
    if kind == "bloom":
        return BloomConfig(**{**common, "hidden_size": 128, "n_layer": 2, "n_head": 4, **changes})
    if kind == "opt":
        sizes = {"hidden_size": 128, "ffn_dim": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
        return OPTConfig(**{**common, **sizes, "word_embed_proj_dim": 128, "max_position_embeddings": 512, **changes})
    decoder = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": kind == "qwen3",
    }
    made = {"llama": LlamaConfig, "qwen3": Qwen3Config}[kind]
    return made(**{**common, **decoder, **changes})


def save_model(folder: Path, kind: str = "qwen3", *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """Write a tiny model with its tokenizer into `folder` and return it."""
    torch.manual_seed(1)
    made = AutoModelForCausalLM.from_config(config(kind, **changes)).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            # Larger than the usual start, so that greedy choices are clear and adapters show.
            parameter.copy_(torch.randn_like(parameter) * 0.08 + (1.0 if parameter.ndim == 1 else 0.0))
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, model: Path, *, seed: int = 0, scale: float = 0.08, **settings: Any) -> Path:
    """Write a LoRA adapter with random weights, B included, into `folder` and return it."""
    base = AutoModelForCausalLM.from_pretrained(model)
    wanted: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    with quiet_peft():
        peft = get_peft_model(base, LoraConfig(**{**wanted, **settings}))
        randomise(peft, seed, scale)
        peft.save_pretrained(str(folder))
    return folder


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Let PEFT warn about tied weights, Conv1D and embeddings unheard: these adapters are meant to be odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def randomise(peft: PeftModel, seed: int, scale: float = 0.08) -> None:
    """Give every trainable weight of an adapter random values; a fresh adapter has B = 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * scale
                if "magnitude" in name or "modules_to_save" in name or name.endswith("bias"):
                    parameter.add_(noise)
                else:
                    parameter.copy_(noise)
