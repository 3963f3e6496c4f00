"""llama.cpp reads what is written here and answers as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.export.gguf.adapter import write_adapter
from app.export.gguf.quality.messages import Question
from app.export.gguf.quality.proof import ask_llama_cpp
from app.export.merge.base_model import BaseModel
from app.models.adapters import AdapterFolder
from app.models.names import resolve
from tests.export.exporting import export
from tests.export.gguf import gguf_models
from tests.export.gguf.test_gguf import written
from tests.models import tiny_models

pytest.importorskip("xllamacpp", reason="llama.cpp is not here (pip install -r requirements-dev.txt)")
PROMPTS = Path(__file__).parents[3] / "assets" / "datasets" / "pirate.prompts.json"
HARD = [
    "Hello world, don't DON'T we'll 12345 3.14",
    "  two spaces\n\n\nthree\t\ttabs  \n end ",
    "naïve façade Übergröße, 今天天气很好, Привет, 🙂👩‍👩‍👧",
    "x" * 60,
    "<|im_start|>user\nhi<|im_end|>\n[INST] hey [/INST]<start_of_turn>user\nHi<end_of_turn>\n",
    "<|user|>\nHello there<|end|>\n<|assistant|>\n",
    " ",
    "",
]

# Places of a row of tokens at which predictions are compared, early and behind every window; how many tokens of each.
ROW, PLACES, MOST = list(range(3, 203)), [2, 9, 31, 40, 70, 99, 140, 170, 199], 40


def compared(file: Path, expected: torch.Tensor, lora: Path | None = None, *, routed: bool = False) -> None:
    """Hold llama.cpp's likeliest tokens at some places against logits of (tokens, vocabulary).

    A model that is `routed` may be further off at one place: 16 bits can turn a router's choice between two experts
    that are alike.
    """
    question = Question(texts=[(ROW, PLACES)], most=MOST, letter=5, lora=str(lora) if lora else "")
    answer = ask_llama_cpp(file, question)
    ours, worst = expected.log_softmax(-1), []
    for place, said in zip(PLACES, answer["predictions"][0], strict=True):
        worst.append(max(abs(float(ours[place - 1][token]) - there) for token, there in said))
    near = 0.02 * float(expected.abs().max()) + 0.01
    assert sum(one < near for one in worst) >= len(PLACES) - routed and max(worst) < 5 * near, worst


def is_routed(model: torch.nn.Module) -> bool:
    """Tell whether a model chooses experts."""
    return any(name.endswith("experts") for name, _ in model.named_modules())


@pytest.mark.parametrize("family", list(gguf_models.FAMILIES))
def test_every_family_gives_the_same_next_tokens(tmp_path: Path, family: str) -> None:
    folder = gguf_models.save(tmp_path / "model", family)
    file = written(folder, tmp_path / "model.gguf").path
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([ROW]), use_cache=False).logits[0]
    compared(file, expected, routed=is_routed(model))
    with pytest.raises(AssertionError):
        compared(file, expected.flip(0))  # other logits are seen


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen3_5_text", "lfm2", "gpt_oss", "granite", "olmo2", "glm4"])
def test_an_adapter_alone_gives_the_same_next_tokens(tmp_path: Path, family: str) -> None:
    from peft import PeftModel

    folder = gguf_models.save(tmp_path / "model", family)
    targets = {"lfm2": ["in_proj", "q_proj", "w1"], "qwen3_5_text": ["in_proj_qkv", "out_proj", "q_proj", "in_proj_z"]}
    adapter = tiny_models.save_adapter(
        tmp_path / "adapter", folder, scale=0.2, target_modules=targets.get(family, ["q_proj", "k_proj", "o_proj"])
    )
    file = written(folder, tmp_path / "model.gguf").path
    config = BaseModel("tiny", folder).config
    lora = write_adapter(AdapterFolder(adapter), config, tmp_path / "lora.gguf", name="tiny").path
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        plain = base(torch.tensor([ROW]), use_cache=False).logits[0]
        with tiny_models.quiet_peft():
            model = PeftModel.from_pretrained(base, str(adapter)).eval()
        expected = model(torch.tensor([ROW]), use_cache=False).logits[0]
    assert float((expected - plain).abs().max()) > 0.1
    compared(file, expected, lora, routed=is_routed(base))
    with pytest.raises(AssertionError):
        compared(file, expected)  # without the adapter


@pytest.mark.parametrize("dtype", ["f16", "q8_0"])
def test_the_starter_with_an_adapter_answers_the_same(tmp_path: Path, dtype: str) -> None:
    base = Path(resolve("starter"))
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, scale=0.02)
    answer = export(tmp_path / "tuned", "gguf", adapter=adapter, dtype=dtype)
    alone = export(tmp_path / "alone", "gguf", adapter=adapter, lora_only=True)
    plain = export(tmp_path / "plain", "gguf", model=base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    asked = [one["prompt"] for one in json.loads(PROMPTS.read_text())["prompts"][:20]]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in asked
    ]
    expected = greedy(base, adapter, prompts)
    files: list[tuple[Path, str | None]] = [(gguf_of(answer), None)]
    if dtype == "f16":
        files.append((gguf_of(plain), str(gguf_of(alone))))
    for file, lora in files:
        found = ask_llama_cpp(file, Question(lora=lora or "", prompts=prompts, max_tokens=48))["answers"]
        same = sum(text.strip() == other.strip() for text, other in zip(found, expected, strict=True))
        assert same >= (0.9 if dtype == "f16" else 0.6) * len(prompts)


def gguf_of(answer: dict[str, Any]) -> Path:
    (name,) = [name for name in answer["files"] if name.endswith(".gguf")]
    return Path(answer["out"]) / name


def greedy(base: Path, adapter: Path, prompts: list[list[int]]) -> list[str]:
    """Return the greedy answers of base and adapter as PEFT computes them."""
    from peft import PeftModel

    with tiny_models.quiet_peft():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(adapter))
    tokenizer, found = AutoTokenizer.from_pretrained(base), []
    for prompt in prompts:
        with torch.no_grad():
            ids = model.generate(input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=48, pad_token_id=0)
        found.append(str(tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True)))
    return found
