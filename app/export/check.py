"""Measure a merged model against what it was made of: the adapter on its base, and on the base in 4 bits.

The adapter's own greedy answers to fixed prompts are read by every model, and the predictions at each token of the
answers are compared: how often the likeliest token is the same, the mean KL divergence, the largest logit difference.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from app.data.templates import PLAIN_TEMPLATES, render_limit
from app.models.loading import Quant, load_base, load_config, load_tokenizer
from app.models.prompts import Prompts

PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colours.",
    "Explain in a few words what a computer does.",
    "How many days are there in a week?",
    "Give me advice for a rainy day.",
    "Translate to German: good morning.",
    "Who are you?",
)
ANSWER_TOKENS = 24
# Activations, the interpreter's own growth and allocator slack on top of the weights, measured as at most a third.
_OVERHEAD = 1.4


@dataclass(frozen=True)
class Gap:
    """How far two models are apart on the same tokens. KL in nats, of the second from the first."""

    greedy_agreement: float
    mean_kl: float
    max_logit_diff: float

    def as_dict(self) -> dict[str, float]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """The outcome of a check: merged against adapter, and 4-bit base against 16-bit base with and without adapter."""

    dtype: str
    tokens: int
    merged: Gap
    nf4_base: Gap | None
    nf4_adapter: Gap | None


def fitting_dtype(parameters: int, vocabulary: int, max_ram_bytes: int) -> str | None:
    """Return the number format in which a model can be checked within the memory, None when in neither."""
    logits_bytes = 3 * len(PROMPTS) * ANSWER_TOKENS * vocabulary * 4
    for name, width in (("fp32", 4), ("bf16", 2)):
        if parameters * width * _OVERHEAD + logits_bytes <= max_ram_bytes:
            return name
    return None


def measure(base: Path, adapter: Path, merged: Path, dtype: str, *, nf4: bool) -> Measurement:
    """Load one model after another on the CPU and compare them."""
    tokens = load_config(str(merged)).get_text_config(decoder=True).vocab_size
    with _loaded(base, adapter, "none", dtype, tokens) as model:
        texts = _answers(model, merged)
        with_adapter = _logits(model, texts)
        with model.disable_adapter():
            plain = _logits(model, texts)
    with _loaded(merged, None, "none", dtype) as model:
        gap = compare(with_adapter, _logits(model, texts))
    nf4_base = nf4_adapter = None
    if nf4:
        with _loaded(base, adapter, "nf4", dtype, tokens) as model:
            nf4_adapter = compare(with_adapter, _logits(model, texts))
            with model.disable_adapter():
                nf4_base = compare(plain, _logits(model, texts))
    return Measurement(dtype, sum(len(logits) for logits in plain), gap, nf4_base, nf4_adapter)


def compare(expected: list[torch.Tensor], found: list[torch.Tensor]) -> Gap:
    """Compare logits, (tokens, vocabulary) for each text."""
    same = total = 0
    kl = largest = 0.0
    for one, other in zip(expected, found, strict=True):
        same += int((one.argmax(-1) == other.argmax(-1)).sum())
        total += len(one)
        ours, theirs = one.log_softmax(-1), other.log_softmax(-1)
        kl += float((ours.exp() * (ours - theirs)).sum(-1).clamp_(min=0).sum())
        largest = max(largest, float((one - other).abs().max()))
    return Gap(same / total, kl / total, largest)


@contextmanager
def _loaded(folder: Path, adapter: Path | None, quant: Quant, dtype: str, tokens: int | None = None) -> Iterator[Any]:
    """Load a model for a while; with `tokens` it gets a vocabulary of this size, as it had in training."""
    model: Any = load_base(str(folder), quant=quant, dtype=dtype)
    if tokens is not None and tokens != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    try:
        yield model
    finally:
        del model
        gc.collect()


def _answers(model: Any, tokenizer_folder: Path) -> list[tuple[torch.Tensor, int]]:
    """Return each prompt with the model's greedy answer (1, length), and where the answer begins."""
    tokenizer = load_tokenizer(str(tokenizer_folder))
    prompts = Prompts(_plain(model), tokenizer, PLAIN_TEMPLATES, render_limit)
    texts = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompts.encode("", [{"role": "user", "content": prompt}], {})])
        with torch.no_grad():
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts.append((found, ids.shape[1]))
    return texts


def _plain(model: Any) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _logits(model: Any, texts: list[tuple[torch.Tensor, int]]) -> list[torch.Tensor]:
    """Return the logits that predict the tokens of each answer, (tokens, vocabulary) in float32."""
    with torch.no_grad():
        return [model(input_ids=ids, use_cache=False).logits[0, begin - 1 : -1].float().clone() for ids, begin in texts]
