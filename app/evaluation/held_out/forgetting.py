"""What columns lost of what the base could: divergence, loss and flipped answers on probes that nobody trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.evaluation.answers import GreedyAnswer
from app.evaluation.held_out.cases import Case
from app.evaluation.held_out.likelihood import Likelihood
from app.evaluation.held_out.results import CurvePoint, Forgetting
from app.evaluation.metrics import answers as scorers

PROBES = Path(__file__).resolve().parents[3] / "assets" / "probes" / "general.jsonl"
# The share of the largest gain that the marked point keeps.
KEPT_SHARE = 0.95


def drift(base: Sequence[Likelihood], column: Sequence[Likelihood]) -> tuple[float, float]:
    """Return the mean divergence a token and the change of the mean loss a token, over all probes."""
    tokens = sum(one.tokens for one in column)
    if not tokens:
        return 0.0, 0.0
    divergence = sum(one.divergence for one in column) / tokens
    return divergence, (sum(one.logprob for one in base) - sum(one.logprob for one in column)) / tokens


def forgetting(
    probes: Sequence[Case],
    base: Sequence[Likelihood],
    column: Sequence[Likelihood],
    base_answers: Sequence[GreedyAnswer],
    answers: Sequence[GreedyAnswer],
) -> Forgetting:
    """Return what a column lost. All sequences go along the probes."""
    kl, change = drift(base, column)
    before = [is_right(probe, answer) for probe, answer in zip(probes, base_answers, strict=True)]
    after = [is_right(probe, answer) for probe, answer in zip(probes, answers, strict=True)]
    return Forgetting(
        kl=kl,
        loss_change=change,
        flipped=sum(was and not now for was, now in zip(before, after, strict=True)),
        known=sum(before),
        gained=sum(now and not was for was, now in zip(before, after, strict=True)),
        probes=len(probes),
    )


def is_right(probe: Case, answer: GreedyAnswer) -> bool:
    """Tell whether an answer holds what the probe's row expects, whatever else it says.

    A row with a pattern is held to it, and to words only where it names some.
    """
    if answer.error:
        return False
    own = probe.reference
    if own.pattern and scorers.matches(answer.text, own) != 1.0:
        return False
    return bool(own.pattern and not own.contains) or scorers.contains(answer.text, own) == 1.0


def best(points: Sequence[CurvePoint]) -> float | None:
    """Return the place of the point that forgot least of those that keep 95 % of the largest gain.

    None where no point gained on the base.
    """
    largest = max((point.gain for point in points), default=0.0)
    if largest <= 0:
        return None
    keeping = [point for point in points if point.gain >= KEPT_SHARE * largest]
    return min(keeping, key=lambda point: (point.kl, abs(point.at))).at
