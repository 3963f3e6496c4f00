from __future__ import annotations

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from app.engine.batching.sampling import Chooser, Sampling, choose_all, kept, penalised

LOGITS = torch.randn(200, generator=torch.Generator().manual_seed(0)) * 3


def dense(scores: torch.Tensor, rules: Sampling) -> torch.Tensor:
    """Return what `kept` leaves, in the order of the vocabulary."""
    probabilities, ids = kept(scores, rules)
    out = torch.zeros_like(scores)
    out[ids if ids is not None else slice(None)] = probabilities
    return out / out.sum()


@pytest.mark.parametrize(
    ("rules", "warper"),
    [
        (Sampling(top_k=7), TopKLogitsWarper(7)),
        (Sampling(top_p=0.8), TopPLogitsWarper(0.8)),
        (Sampling(min_p=0.05), MinPLogitsWarper(0.05)),
        (Sampling(), lambda ids, scores: scores),
    ],
)
def test_the_cuts_are_those_of_transformers(rules: Sampling, warper: object) -> None:
    expected = warper(None, LOGITS[None])[0].softmax(0)  # type: ignore[operator]
    torch.testing.assert_close(dense(LOGITS, rules), expected)


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[3, 9, 150]]), LOGITS[None].clone())[0]
    torch.testing.assert_close(penalised(LOGITS, {3, 9, 150}, 1.3), expected)


def test_drawn_tokens_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    chooser = Chooser(Sampling(seed=5))
    drawn = torch.tensor([chooser.choose(logits).token for _ in range(8000)])
    frequencies = torch.bincount(drawn, minlength=4) / len(drawn)
    assert (frequencies - logits.softmax(0)).abs().max() < 0.02


def test_a_row_draws_the_same_alone_and_in_a_batch() -> None:
    batch = LOGITS.view(4, 50)
    rules = [Sampling(seed=1), Sampling(temperature=0), Sampling(seed=2, top_p=0.9), Sampling(seed=1, top_k=5)]
    together = [choice.token for choice in choose_all(batch, [Chooser(rule) for rule in rules])]
    alone = [choose_all(batch[row : row + 1], [Chooser(rule)])[0].token for row, rule in enumerate(rules)]
    assert together == alone
    assert together[1] == int(batch[1].argmax())


def test_logprobs_are_those_of_the_model_not_of_the_cut() -> None:
    choice = Chooser(Sampling(seed=1, top_k=1, temperature=0.1, top_logprobs=2)).choose(LOGITS)
    expected = LOGITS.log_softmax(0)
    assert choice.token == int(LOGITS.argmax())
    assert choice.logprob == pytest.approx(float(expected.max()))
    assert [token for token, _ in choice.likeliest] == expected.topk(2).indices.tolist()


def test_the_smallest_temperatures_are_greedy_and_no_overflow() -> None:
    logits = torch.tensor([1.0, 30.0, 2.0])
    for temperature in (1e-45, 1e-12, 1e-5):
        assert Chooser(Sampling(temperature=temperature, seed=1)).choose(logits).token == 1
