"""Tune the starter model by real QLoRA in a plain loop, to find and prove the recipe of preset `cpu-starter`.

NF4 with double quantisation and float32 compute, LoRA on every linear layer, packed documents kept apart by their
positions. The product trains through TRL; this loop is its independent cross-check.
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen3ForCausalLM, get_scheduler

from assets.build import samples
from assets.build.corpus import Conversation
from assets.build.pretrain import IGNORED, Encoder, loss_of
from assets.build.styles import has_fact, shows_style
from assets.build.tokenizer import END, START

ANSWER_TOKENS = 48  # enough for the longest styled answer of the world


@dataclass(frozen=True)
class Recipe:
    """The settings of one tuning run, named as the libraries name them."""

    r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    learning_rate: float = 1.5e-3
    lr_scheduler_type: str = "linear"
    warmup_steps: int = 10
    max_steps: int = 80
    per_device_train_batch_size: int = 2
    max_length: int = 256
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 1


@dataclass(frozen=True)
class Score:
    """What one run gave: shares of held-out prompts in style and right, losses, time."""

    styled: float
    right: float
    first_loss: float
    last_loss: float
    seconds: float


def load(folder: Path, four_bit: bool = True) -> Qwen3ForCausalLM:
    """Load the model in NF4; the repacking for AVX512-BF16 inference, which breaks later training, is off."""
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=quantised if four_bit else None
    )
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def answers(model: Any, tokenizer: Tokenizer, prompts: list[str], system: str = "") -> list[str]:
    """Return greedy answers to prompts asked one by one, computed in batches with padding on the left."""
    said: list[str] = []
    head = f"{START}system\n{system}{END}\n" if system else ""
    for first in range(0, len(prompts), 75):
        texts = [f"{head}{START}user\n{prompt}{END}\n{START}assistant\n" for prompt in prompts[first : first + 75]]
        rows = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.no_grad():
            made = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=ANSWER_TOKENS, do_sample=False, use_cache=True
            )
        said += [tokenizer.decode(row[longest:].tolist()) for row in made]
    return said


def judge(model: Any, tokenizer: Tokenizer, style: str, prompts: list[samples.Prompt]) -> tuple[float, float]:
    """Return the shares of prompts answered in the style and with the right fact."""
    said = answers(model, tokenizer, [prompt.prompt for prompt in prompts])
    styled = sum(shows_style(style, text) for text in said)
    right = sum(has_fact(text, prompt.keys) for text, prompt in zip(said, prompts, strict=True))
    return styled / len(prompts), right / len(prompts)


def packed(encoder: Encoder, pairs: list[tuple[str, str]], recipe: Recipe) -> list[list[tuple[list[int], list[int]]]]:
    """Return rows of at most max_length tokens, each a list of documents (best fit, longest first)."""
    documents = [encoder.encode(Conversation("", (pair,))) for pair in pairs]
    rows: list[list[tuple[list[int], list[int]]]] = []
    used: list[int] = []
    for document in sorted(documents, key=lambda document: -len(document[0])):
        size = len(document[0])
        fitting = [index for index, total in enumerate(used) if total + size <= recipe.max_length]
        if fitting:
            best = max(fitting, key=lambda index: used[index])
            rows[best].append(document)
            used[best] += size
        else:
            rows.append([document])
            used.append(size)
    return rows


def _tensors(documents: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flatten documents into one row: ids, labels (the first of each masked) and restarting positions."""
    ids = [token for document, _ in documents for token in document]
    labels = [label for _, marks in documents for label in (IGNORED, *marks[1:])]
    positions = [place for document, _ in documents for place in range(len(document))]
    return torch.tensor([ids]), torch.tensor([labels]), torch.tensor([positions])


def tune(folder: Path, tokenizer: Tokenizer, pairs: list[tuple[str, str]], recipe: Recipe) -> tuple[Any, list[float]]:
    """Train an adapter; return the model with it and the loss of each step."""
    torch.manual_seed(recipe.seed)
    lora = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(load(folder), lora)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    worker = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    plan = get_scheduler(recipe.lr_scheduler_type, worker, recipe.warmup_steps, recipe.max_steps)
    rows = packed(Encoder(tokenizer), pairs, recipe)
    rng = random.Random(recipe.seed)
    order: list[int] = []
    losses: list[float] = []
    model.train()
    for _ in range(recipe.max_steps):
        if len(order) < recipe.per_device_train_batch_size:
            order = rng.sample(range(len(rows)), len(rows))
        chosen = [document for _ in range(recipe.per_device_train_batch_size) for document in rows[order.pop()]]
        loss = loss_of(model.get_base_model(), *_tensors(chosen))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
        worker.step()
        plan.step()
        worker.zero_grad()
        losses.append(loss.item())
    model.eval()
    return model, losses


def prove(folder: Path, sample: samples.Sample, recipe: Recipe) -> Score:
    """Tune on a sample dataset and judge the adapter on its held-out prompts."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pairs, prompts = samples.build(sample)
    began = time.monotonic()
    model, losses = tune(folder, tokenizer, pairs, recipe)
    seconds = time.monotonic() - began
    styled, right = judge(model, tokenizer, sample.style, prompts)
    tail = losses[-10:]
    return Score(styled, right, losses[0], sum(tail) / len(tail), seconds)


def report(folder: Path, recipe: Recipe, seeds: list[int], styles: list[str]) -> None:
    """Print the base's and the adapters' shares for each style and seed."""
    print({key: value for key, value in asdict(recipe).items() if key != "seed"})
    base = load(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for sample in samples.SAMPLES:
        if sample.style not in styles:
            continue
        styled, right = judge(base, tokenizer, sample.style, samples.build(sample)[1])
        print(f"{sample.style:10} base    styled {styled:6.1%} right {right:6.1%}", flush=True)
        for seed in seeds:
            score = prove(folder, sample, replace(recipe, seed=seed))
            print(
                f"{sample.style:10} seed {seed:2} styled {score.styled:6.1%} right {score.right:6.1%} "
                f"loss {score.first_loss:.2f} -> {score.last_loss:.3f} in {score.seconds:.0f} s",
                flush=True,
            )
