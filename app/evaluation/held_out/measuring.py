"""Measure columns, and mixes of them, on cases: likelihoods, answers and choices, all columns in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from app.engine.variants import VariantSet
from app.evaluation.answers import GreedyAnswer, Question, Source, answer_all
from app.evaluation.held_out.cases import Case
from app.evaluation.held_out.likelihood import Likelihood, likelihoods
from app.evaluation.metrics.answers import SCORERS
from app.evaluation.metrics.catalogue import METRICS, answered
from app.models.prompts import Prompts

Found = TypeVar("Found")


class Stopped(Exception):
    """The job was asked to end."""


@dataclass(frozen=True)
class Measured:
    """What one source came to on every case: its likelihood and answer, and its scores by metric.

    A case without trained tokens has a likelihood of no tokens, one that asks nothing an answer without text.
    """

    likelihoods: list[Likelihood]
    answers: list[GreedyAnswer]
    scores: list[dict[str, float]]

    def of(self, metric: str) -> list[float | None]:
        """Return the score of each case, None where the metric does not apply to it."""
        return [one.get(metric) for one in self.scores]

    @property
    def loss(self) -> float | None:
        """Return the mean loss a trained token of all cases."""
        tokens = sum(one.tokens for one in self.likelihoods)
        return -sum(one.logprob for one in self.likelihoods) / tokens if tokens else None

    def mean(self, metric: str) -> float | None:
        """Return a metric over all cases; for the loss, over their tokens."""
        if metric == "loss":
            return self.loss
        scores = [score for score in self.of(metric) if score is not None]
        return sum(scores) / len(scores) if scores else None


class Measurer:
    """Measures sources on one model. `went_on` is told of each step and says whether to go on."""

    def __init__(
        self, columns: VariantSet, prompts: Prompts, max_tokens: int, went_on: Callable[[str, int, int], bool]
    ) -> None:
        self.columns, self.prompts = columns, prompts
        self._max_tokens, self._went_on = max_tokens, went_on

    def measure(
        self, cases: Sequence[Case], sources: Sequence[Source], metrics: Sequence[str], *, divergence: bool = False
    ) -> list[Measured]:
        """Return what each source came to. Raises Stopped."""
        likely = self._likely(cases, sources, divergence)
        said = self._said(cases, sources) if answered(metrics) else [[GreedyAnswer()] * len(cases) for _ in sources]
        chosen = [name for name in metrics if METRICS[name].source == "choices"]
        picked = self._picked(cases, sources, chosen) if chosen else [[{} for _ in cases] for _ in sources]
        found = []
        for place in range(len(sources)):
            scores = []
            for number, case in enumerate(cases):
                own = dict(picked[place][number])
                if case.passage is not None:
                    own["loss"] = likely[place][number].loss
                if case.question is not None:
                    own |= _scored(case, said[place][number], metrics)
                scores.append({name: own[name] for name in metrics if name in own})
            found.append(Measured(likely[place], said[place], scores))
        return found

    def _likely(self, cases: Sequence[Case], sources: Sequence[Source], divergence: bool) -> list[list[Likelihood]]:
        """Return the likelihoods by source, then by case."""
        with_tokens = [place for place, case in enumerate(cases) if case.passage is not None]
        passages = [case.passage for case in cases if case.passage is not None]
        found = [[Likelihood() for _ in cases] for _ in sources]
        if passages:
            measured = likelihoods(
                self.columns, passages, sources, divergence=divergence, measured=self._steps("loss", len(passages))
            )
            for place, row in zip(with_tokens, _unless_stopped(measured), strict=True):
                for number, one in enumerate(row):
                    found[number][place] = one
        return found

    def _said(self, cases: Sequence[Case], sources: Sequence[Source]) -> list[list[GreedyAnswer]]:
        """Return the answers by source, then by case."""
        asking = [place for place, case in enumerate(cases) if case.question is not None]
        questions = [case.question or Question(()) for case in cases if case.question is not None]
        told = self._steps("answers", len(questions) * len(sources))
        answers = answer_all(self.columns, self.prompts, questions, sources, self._max_tokens, answered=told)
        found = [[GreedyAnswer()] * len(cases) for _ in sources]
        for place, line in zip(asking, _unless_stopped(answers), strict=True):
            for number, one in enumerate(line):
                found[number][place] = one
        return found

    def _picked(
        self, cases: Sequence[Case], sources: Sequence[Source], metrics: Sequence[str]
    ) -> list[list[dict[str, float]]]:
        """Return whether each source finds the right choice the likeliest, by source, then by case."""
        passages = [passage for case in cases for passage in case.candidates]
        steps = self._steps("choices", len(passages))
        measured = _unless_stopped(likelihoods(self.columns, passages, sources, measured=steps))
        found: list[list[dict[str, float]]] = [[{} for _ in cases] for _ in sources]
        first = 0
        for place, case in enumerate(cases):
            mine = measured[first : first + len(case.candidates)]
            first += len(case.candidates)
            for number in range(len(sources)) if mine else ():
                logprobs = [one[number].logprob for one in mine]
                found[number][place] = {name: _right(name, logprobs, case) for name in metrics}
        return found

    def _steps(self, phase: str, of: int) -> Callable[[int], bool]:
        return lambda done: self._went_on(phase, done, of)


def _right(metric: str, logprobs: Sequence[float], case: Case) -> float:
    """Return 1 where the right choice is the likeliest; `choice_norm` divides by its length in bytes."""
    lengths = [max(1, len(choice.encode())) for choice in case.reference.choices]
    rated = [one / length for one, length in zip(logprobs, lengths, strict=True)]
    rated = rated if metric == "choice_norm" else list(logprobs)
    return float(rated.index(max(rated)) == case.reference.correct)


def _scored(case: Case, answer: GreedyAnswer, metrics: Sequence[str]) -> dict[str, float]:
    """Return the scores of an answer; one that could not be written scores 0 wherever the metric applies."""
    found = {}
    for name in metrics:
        if name in SCORERS:
            score = SCORERS[name]("" if answer.error else answer.text, case.reference)
            if score is not None:
                found[name] = 0.0 if answer.error else score
    return found


def _unless_stopped(found: Found | None) -> Found:
    if found is None:
        raise Stopped
    return found
