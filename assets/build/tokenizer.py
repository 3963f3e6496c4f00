"""Train the starter model's byte-level BPE and write its files.

The arrangement is the one of Qwen2 (NFC, the split pattern below, ByteLevel without its own pattern), so that
llama.cpp's `qwen2` pre-tokeniser applies to an exported GGUF file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from assets.build import corpus, formats, world

VOCAB_SIZE = 2048
CONTEXT_TOKENS = 1024
SEED = 11
CORPUS_CONVERSATIONS = 4_000  # few, so that made-up words take no room from real ones
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# The pre-tokeniser pattern of Qwen2, as published in its tokenizer.json (Apache-2.0).
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def _texts() -> Iterator[str]:
    """Yield every phrasing and answer of the world, the format words, and some whole conversations with their roles."""
    for fact in world.facts():
        yield from fact.questions
        yield from [fact.answer] * len(fact.questions)
        yield from [f" {fact.key}"] * 4
    yield from [formats.LEXICON] * 20
    rng = random.Random(SEED)
    for _ in range(CORPUS_CONVERSATIONS):
        for message in corpus.conversation(rng).messages():
            yield f"{message['role']}\n{message['content']}"


def train() -> Tokenizer:
    """Train the tokenizer on conversations of the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template into a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "eos_token": END,
        "bos_token": None,
        "unk_token": None,
        "additional_special_tokens": [START, END],
        "model_max_length": CONTEXT_TOKENS,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
