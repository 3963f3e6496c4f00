"""Choose the next token of each row, every row by its own rules and its own random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

# Below this the second likeliest token is never drawn, and float32 overflows when it divides by the temperature.
_GREEDY_BELOW = 1e-6


@dataclass(frozen=True)
class Sampling:
    """How one row chooses. temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 cut nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Tell whether the most likely token is taken."""
        return self.temperature < _GREEDY_BELOW


@dataclass(frozen=True)
class Choice:
    """A chosen token, its log-probability under the model, and the likeliest ones (id, log-probability)."""

    token: int
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass
class Chooser:
    """The rules of one row with its own random numbers, so that a seed gives the same text in any batch."""

    sampling: Sampling
    seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.sampling.seed)

    def choose(self, logits: torch.Tensor) -> Choice:
        """Choose from the logits (vocabulary) of one row."""
        scores = logits.float()
        rules = self.sampling
        if rules.repetition_penalty != 1.0 and self.seen:
            scores = penalised(scores, self.seen, rules.repetition_penalty)
        token = int(scores.argmax()) if rules.greedy else self._draw(scores / rules.temperature)
        self.seen.add(token)
        if rules.top_logprobs is None:
            return Choice(token)
        logprobs = logits.float().log_softmax(0)
        values, ids = logprobs.topk(min(rules.top_logprobs, len(logprobs)))
        likeliest = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        return Choice(token, float(logprobs[token]), likeliest)

    def _draw(self, scores: torch.Tensor) -> int:
        """Draw by the inverse of the cumulative distribution: one random number a token, on any device."""
        probabilities, ids = kept(scores, self.sampling)
        cumulative = probabilities.double().cumsum(0)
        point = self.random.random() * float(cumulative[-1])
        place = int(torch.searchsorted(cumulative, point, right=True).clamp_(max=len(cumulative) - 1))
        return int(ids[place]) if ids is not None else place


def choose_all(logits: torch.Tensor, choosers: Sequence[Chooser]) -> list[Choice]:
    """Choose for every row of a batch; plain greedy rows are answered together. logits: (rows, vocabulary)."""
    plain = [
        chooser.sampling.greedy and chooser.sampling.repetition_penalty == 1.0 and chooser.sampling.top_logprobs is None
        for chooser in choosers
    ]
    best = logits.float().argmax(-1).tolist() if any(plain) else []
    return [Choice(best[row]) if plain[row] else chooser.choose(logits[row]) for row, chooser in enumerate(choosers)]


def penalised(scores: torch.Tensor, seen: set[int], penalty: float) -> torch.Tensor:
    """Make tokens that occurred less likely, as in CTRL (arXiv:1909.05858): positive / p, negative * p."""
    ids = torch.tensor(sorted(seen), device=scores.device)
    found = scores[ids]
    return scores.index_put((ids,), torch.where(found > 0, found / penalty, found * penalty))


def kept(scores: torch.Tensor, rules: Sampling) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the probabilities that top_k, top_p and min_p leave, and their ids where these are not in order.

    The cuts apply one after another: top_k, then the smallest set that reaches top_p, then min_p of the likeliest.
    """
    ids: torch.Tensor | None = None
    if 0 < rules.top_k < len(scores):
        scores, ids = scores.topk(rules.top_k)
    elif rules.top_p < 1.0:
        scores, ids = scores.sort(descending=True)
    probabilities = scores.softmax(0)
    if rules.top_p < 1.0:
        before = probabilities.cumsum(0) - probabilities
        probabilities = probabilities.masked_fill(before >= rules.top_p, 0.0)
        probabilities = probabilities / probabilities.sum()
    if rules.min_p > 0.0:
        probabilities = probabilities.masked_fill(probabilities < rules.min_p * probabilities.max(), 0.0)
    return probabilities, ids
