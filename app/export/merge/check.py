"""Measure a merged model against what it was made of: the adapter on its base, and on the base in 4 bits.

The adapter's own greedy answers to fixed prompts are read by every model, and the predictions at each token of the
answers are compared: how often the likeliest token is the same, the mean KL divergence, the largest logit difference.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.export.merge.wide_products import widen_products
from app.models.encoder_decoder import has_encoder, start_token
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
Model: TypeAlias = "PreTrainedModel | PeftModel"
# KL at which two ways to the same sum differ: adapter beside its base, and added to it. Measured on the starter.
NOISE_KL = {"fp32": 1e-8, "bf16": 1e-3}
# KL goes with the square of the distance: a merge at half strength keeps a quarter of the base's.
MOST_OF_BASE_KL = 0.05
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
    """The outcome of a check: merged model and bare base against the adapter, 4-bit base against 16-bit base.

    `base` tells what the adapter does at all: a merged model that is no nearer to the adapter than the base is was not
    merged, however small the distance.
    """

    dtype: str
    tokens: int
    merged: Gap
    base: Gap
    nf4_base: Gap | None
    nf4_adapter: Gap | None

    @property
    def changes_nothing(self) -> bool:
        """Tell whether the adapter's effect is within the arithmetic's own noise, so that nothing can be told."""
        return self.base.mean_kl <= NOISE_KL[self.dtype]

    @property
    def is_nearer(self) -> bool:
        """Tell whether the merged model is clearly nearer to the adapter than the base is."""
        return self.merged.mean_kl <= MOST_OF_BASE_KL * self.base.mean_kl


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
    with loaded(base, adapter, "none", dtype, tokens) as model:
        texts = answers(model, merged)
        with_adapter = logits_of(model, texts)
        with model.disable_adapter():
            plain = logits_of(model, texts)
    with loaded(merged, None, "none", dtype) as model:
        gap = compare(with_adapter, logits_of(model, texts))
    nf4_base = nf4_adapter = None
    if nf4:
        with loaded(base, adapter, "nf4", dtype, tokens) as model:
            nf4_adapter = compare(with_adapter, logits_of(model, texts))
            with model.disable_adapter():
                nf4_base = compare(plain, logits_of(model, texts))
    return Measurement(
        dtype, sum(len(logits) for logits in plain), gap, compare(with_adapter, plain), nf4_base, nf4_adapter
    )


def compare(expected: list[torch.Tensor], found: list[torch.Tensor]) -> Gap:
    """Compare logits, (tokens, vocabulary) for each text."""
    same = total = 0
    kl, largest = 0.0, torch.zeros(())
    for one, other in zip(expected, found, strict=True):
        same += int((one.argmax(-1) == other.argmax(-1)).sum())
        total += len(one)
        ours, theirs = one.double().log_softmax(-1), other.double().log_softmax(-1)
        kl += float((ours.exp() * (ours - theirs)).sum(-1).clamp_(min=0).sum())
        largest = torch.maximum(largest, (one - other).abs().max())  # unlike max(), keeps what is no number
    return Gap(same / total, kl / total, float(largest))


@contextmanager
def loaded(folder: Path, adapter: Path | None, quant: Quant, dtype: str, tokens: int | None = None) -> Iterator[Model]:
    """Load a model for a while; with `tokens` it gets a vocabulary of this size, as it had in training."""
    model: Model = load_base(str(folder), quant=quant, dtype=dtype)
    widen_products(model)
    if tokens is not None and tokens != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(tokens, mean_resizing=False)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    try:
        yield model
    finally:
        del model
        gc.collect()


def answers(
    model: Model, tokenizer_folder: Path, prompts: Sequence[str] = PROMPTS, most_tokens: int = ANSWER_TOKENS
) -> list[tuple[torch.Tensor, int]]:
    """Return each prompt with the model's greedy answer (1, length), and where the answer begins."""
    tokenizer = load_tokenizer(str(tokenizer_folder))
    encoder = Prompts(_plain(model), tokenizer, PLAIN_TEMPLATES, render_limit)
    texts, encodes = [], has_encoder(_plain(model))
    for prompt in prompts:
        ids = torch.tensor([encoder.encode("", [{"role": "user", "content": prompt}], {})])
        with torch.no_grad():
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=most_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        # What a decoder beside an encoder writes begins with its start token, and not with the prompt.
        texts.append((torch.cat([ids, found[:, 1:]], 1) if encodes else found, ids.shape[1]))
    return texts


def _plain(model: Model) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def logits_of(model: Model, texts: list[tuple[torch.Tensor, int]]) -> list[torch.Tensor]:
    """Return the logits that predict the tokens of each answer, (tokens, vocabulary) in float32."""
    with torch.no_grad():
        if has_encoder(_plain(model)):
            return [_written(model, ids[:, :begin], ids[:, begin:]) for ids, begin in texts]
        return [model(input_ids=ids, use_cache=False).logits[0, begin - 1 : -1].float().clone() for ids, begin in texts]


def _written(model: Model, prompt: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Return the logits of an answer's tokens by a decoder beside an encoder that reads the prompt."""
    before = torch.cat([torch.full((1, 1), start_token(_plain(model))), answer[:, :-1]], 1)
    logits: torch.Tensor = model(input_ids=prompt, decoder_input_ids=before, use_cache=False).logits
    return logits[0].float().clone()
