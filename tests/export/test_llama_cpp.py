"""llama.cpp reads what is written here and answers as transformers does.

Needs a Python that has llama_cpp (pip install llama-cpp-python), named in WORKBENCH_LLAMA_PYTHON; skipped without.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.models.names import resolve
from tests.export import gguf_models
from tests.export.exporting import export
from tests.export.test_gguf import written
from tests.models import tiny_models

PYTHON = os.environ.get("WORKBENCH_LLAMA_PYTHON", "")
READER = Path(__file__).with_name("llama_cpp_reader.py")
PROMPTS = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.prompts.json"
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

pytestmark = pytest.mark.skipif(not PYTHON, reason="WORKBENCH_LLAMA_PYTHON names no Python with llama_cpp")


def read_by_llama_cpp(path: Path, **request: Any) -> dict[str, Any]:
    asked = json.dumps({"model": str(path), **request})
    done = subprocess.run([PYTHON, str(READER)], input=asked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("family", list(gguf_models.FAMILIES))
def test_every_family_gives_the_same_logits_and_tokens(tmp_path: Path, family: str) -> None:
    folder = gguf_models.save(tmp_path / "model", family)
    row = list(range(3, 203))
    answer = read_by_llama_cpp(written(folder, tmp_path / "model.gguf").path, rows=[row], texts=HARD)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([row])).logits[0]
    found = torch.tensor(answer["rows"][0])
    assert float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())
    assert float((found.argmax(-1) == expected.argmax(-1)).float().mean()) >= 0.98
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert answer["texts"] == [tokenizer(text)["input_ids"] for text in HARD]


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
    expected = greedy(tmp_path, base, adapter, prompts)
    files: list[tuple[Path, str | None]] = [(gguf_of(answer), None)]
    if dtype == "f16":
        files.append((gguf_of(plain), str(gguf_of(alone))))
    for file, lora in files:
        found = read_by_llama_cpp(file, lora=lora, prompts=prompts)["prompts"]
        least = 0.95 if dtype == "f16" else 0.7
        assert agreement(expected, [one["tokens"] for one in found]) >= least


def gguf_of(answer: dict[str, Any]) -> Path:
    (name,) = [name for name in answer["files"] if name.endswith(".gguf")]
    return Path(answer["out"]) / name


def greedy(tmp_path: Path, base: Path, adapter: Path, prompts: list[list[int]]) -> list[list[int]]:
    """Return the greedy answers of base and adapter as PEFT computes them, without the end token."""
    from peft import PeftModel

    with tiny_models.quiet_peft():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(adapter))
    found = []
    for prompt in prompts:
        with torch.no_grad():
            ids = model.generate(input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=48, pad_token_id=0)
        found.append([token for token in ids[0, len(prompt) :].tolist() if token not in (0, 2)])
    return found


def agreement(expected: list[list[int]], found: list[list[int]]) -> float:
    same = sum(a == b for one, other in zip(expected, found, strict=True) for a, b in zip(one, other, strict=False))
    return same / sum(max(len(one), len(other)) for one, other in zip(expected, found, strict=True))
