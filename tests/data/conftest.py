"""Tiny tokenizers, made in milliseconds, and the chat templates that the installed TRL ships."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.data.chat_template.templates import ChatTemplate
from app.data.chat_template.tokenizer import ModelTokenizer, load_tokenizer

MakeTokenizer = Callable[..., ModelTokenizer]
_SPECIAL = re.compile(
    r"<\|[^|<>\s'{}]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|<(?:start|end)_of_turn>|<end_of_utterance>|<turn\|>|<\|turn>"
    r"|<\|[a-z_]+>|<[a-z_]+\|>|</?think>|</?tool_call>|</s>|\[/?[A-Z_]{4,16}\]"
)
_CORPUS = [
    "You are a helpful assistant. What is the weather? The answer is four. I think about it step by step.",
    json.dumps({"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}),
    "hello world system user assistant tool first second again 指令 输入 输出 你好，世界",
]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def trl_template_paths() -> list[Path]:
    """The chat templates of the installed TRL."""
    spec = find_spec("trl")
    assert spec is not None and spec.origin is not None
    return sorted((Path(spec.origin).parent / "chat_templates").glob("*.jinja"))


def own_template_paths() -> list[Path]:
    """Chat templates written for the tests, of models whose template TRL does not ship."""
    return sorted((Path(__file__).parent / "chat_template" / "templates").glob("*.jinja"))


def save_tokenizer(folder: Path, template: str | None, eos: str, special: set[str]) -> Path:
    """Train and save a byte-level BPE with a few hundred tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=sorted({*special, eos, "<s>"}),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS * 10, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chatml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a ChatML tokenizer."""
    special = {"<|im_start|>", "<|im_end|>", "<think>", "</think>"}
    return save_tokenizer(tmp_path_factory.mktemp("chatml"), CHATML, "<|im_end|>", special)


@pytest.fixture(scope="session")
def chatml(chatml_folder: Path) -> ModelTokenizer:
    """The ChatML tokenizer, loaded."""
    return load_tokenizer(chatml_folder)


@pytest.fixture(scope="session")
def make_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> MakeTokenizer:
    """Return tokenizers for any template: one vocabulary that knows the special tokens of all of them."""
    paths = [*trl_template_paths(), *own_template_paths()]
    special = {token for path in paths for token in _SPECIAL.findall(path.read_text("utf-8"))}
    folder = save_tokenizer(tmp_path_factory.mktemp("universal"), CHATML, "</s>", special)
    base = load_tokenizer(folder)

    def make(template: str, eos: str = "</s>") -> ModelTokenizer:
        tokens = {"bos_token": "<s>", "eos_token": eos}
        return replace(base, template=ChatTemplate(template, "test", tokens), eos_token=eos, end_tokens=(eos,))

    return make
