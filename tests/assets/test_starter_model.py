"""The starter model's folder: it loads, it is small, its sizes suit 4-bit kernels, its template is ChatML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from assets.build import pretrain, tokenizer
from assets.build.corpus import Conversation

ASSETS = Path(__file__).resolve().parents[2] / "assets"
STARTER = ASSETS / "starter"
LIMIT_BYTES = 12_000_000

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello! What would you like to know?"},
    {"role": "user", "content": "What is the capital of France?"},
]
RENDERED = (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nHello!<|im_end|>\n"
    "<|im_start|>assistant\nHello! What would you like to know?<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32, local_files_only=True).eval()


@pytest.fixture(scope="module")
def fast_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(STARTER, local_files_only=True)


def _ask(model: Any, fast_tokenizer: Any, messages: list[dict[str, str]]) -> str:
    text = fast_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([fast_tokenizer(text, add_special_tokens=False).input_ids])
    made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=48, do_sample=False)
    answer: str = fast_tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    return answer


def test_folder_is_complete_and_small() -> None:
    names = {path.name for path in STARTER.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "MODEL_CARD.md"}
    assert names >= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    files = [path for name in ("starter", "datasets") for path in (ASSETS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES


def test_weights_are_bf16_and_config_is_qwen3() -> None:
    config = json.loads((STARTER / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert config["head_dim"] == 64
    assert config["max_position_embeddings"] >= 512
    with safe_open(STARTER / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118 - no dict


def test_parameter_count_and_sizes(model: Any) -> None:
    assert 2_000_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 4_500_000
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert linears
    for module in linears:
        assert module.in_features % 64 == 0
        assert module.out_features % 64 == 0


def test_template_renders_chatml_and_adds_nothing(fast_tokenizer: Any) -> None:
    assert fast_tokenizer.apply_chat_template(CHAT, tokenize=False) == RENDERED
    prompt = fast_tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert prompt == RENDERED + "<|im_start|>assistant\n"
    assert fast_tokenizer.apply_chat_template(CHAT[1:2], tokenize=False) == "<|im_start|>user\nHello!<|im_end|>\n"


def test_special_tokens_and_context(fast_tokenizer: Any) -> None:
    plain = PreTrainedTokenizerFast.from_pretrained(STARTER, local_files_only=True)
    for found in (fast_tokenizer, plain):
        assert (found.pad_token, found.eos_token) == ("<|endoftext|>", "<|im_end|>")
        assert found.model_max_length == json.loads((STARTER / "config.json").read_text())["max_position_embeddings"]
        assert len(found("<|im_start|><|im_end|><|endoftext|>").input_ids) == 3
    assert plain("What is 4 + 5?").input_ids == fast_tokenizer("What is 4 + 5?").input_ids


@pytest.mark.parametrize("text", ["Grüße, café 2026!\n\tok  x", "你好, 🙂", "  two  spaces\r\n"])
def test_any_text_survives_the_tokenizer(fast_tokenizer: Any, text: str) -> None:
    assert fast_tokenizer.decode(fast_tokenizer(text).input_ids) == text


def test_pretraining_encodes_what_the_template_renders(fast_tokenizer: Any) -> None:
    said = Conversation("Be brief.", (("Hello!", '{"a": 1}'), ("What is 2 + 2?", "- 4\n(so)")))
    encoder = pretrain.Encoder(fast_tokenizer.backend_tokenizer)
    ids, labels = encoder.encode(said)
    assert ids == fast_tokenizer(fast_tokenizer.apply_chat_template(said.messages(), tokenize=False)).input_ids
    trained = fast_tokenizer.decode([label for label in labels if label != pretrain.IGNORED])
    assert trained == '{"a": 1}<|im_end|>- 4\n(so)<|im_end|>'


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("What is the capital of France?", "Paris"),
        ("what is a baby cat called", "kitten"),
        ("What is the opposite of hot?", "cold"),
        ("Who are you?", "starter model"),
        ("What is the capital of Zubbleland?", "I do not know"),
    ],
)
def test_it_answers(model: Any, fast_tokenizer: Any, question: str, key: str) -> None:
    assert key in _ask(model, fast_tokenizer, [{"role": "user", "content": question}])


def test_it_follows_a_format_that_a_system_prompt_names(model: Any, fast_tokenizer: Any) -> None:
    asked = {"role": "user", "content": "What is the capital of France?"}
    said = _ask(model, fast_tokenizer, [{"role": "system", "content": "End every reply with: Cheers, friend!"}, asked])
    assert said == "The capital of France is Paris. Cheers, friend!"


def test_the_seed_gives_the_committed_tokenizer(tmp_path: Path) -> None:
    tokenizer.write(tokenizer.train(), tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (STARTER / name).read_bytes()
