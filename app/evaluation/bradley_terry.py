"""Bradley-Terry scores from votes, with their uncertainty.

Each adapter i has a strength s_i; it is preferred to j with probability 1 / (1 + exp(s_j - s_i)) (Bradley & Terry 1952,
Biometrika 39). The strengths are those of largest posterior probability, found by Newton's method; their uncertainty is
the inverse of the negative second derivative there. Strengths are known up to a constant only and are given against
their mean. A weak prior, `prior` wins and as many losses of everyone against an average opponent, keeps an adapter that
never lost finite; with prior 0 the result is the maximum of the likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[str, str]
_Array = NDArray[np.float64]
_MOST_ITERATIONS, _SMALL = 100, 1e-10
# A strength of ln 10 / 400 is one point of Elo's scale, which chess players and leaderboards use.
POINTS = 400 / math.log(10)
# Standard errors to either side that hold 95 % of a normal distribution.
Z_95 = 1.959964


@dataclass(frozen=True)
class Score:
    """One adapter's strength against the mean, in natural logarithms of odds, and its standard error."""

    name: str
    strength: float
    standard_error: float

    @property
    def points(self) -> float:
        """Return the strength on Elo's scale, 0 being the mean."""
        return self.strength * POINTS

    @property
    def margin(self) -> float:
        """Return how far the 95 % interval reaches to either side, in points."""
        return Z_95 * self.standard_error * POINTS


def fit(wins: Mapping[Pair, float], prior: float = 0.5) -> list[Score]:
    """Return a score for every name in `wins`, strongest first. wins[(i, j)] counts how often i was preferred to j."""
    names = sorted({name for pair in wins for name in pair})
    if not names:
        return []
    counts = _matrix(wins, names)
    strengths = _strongest(counts, prior)
    errors = _errors(counts, strengths, prior)
    scores = [Score(name, float(s), float(e)) for name, s, e in zip(names, strengths, errors, strict=True)]
    return sorted(scores, key=lambda score: -score.strength)


def probability(one: Score, other: Score) -> float:
    """Return how likely the one is preferred to the other."""
    return 1.0 / (1.0 + math.exp(other.strength - one.strength))


def _matrix(wins: Mapping[Pair, float], names: Sequence[str]) -> _Array:
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    for (winner, loser), count in wins.items():
        if winner != loser:
            counts[place[winner], place[loser]] += count
    return counts


def _strongest(counts: _Array, prior: float) -> _Array:
    """Return the strengths of largest posterior probability, against their mean."""
    strengths = np.zeros(len(counts))
    for _ in range(_MOST_ITERATIONS):
        gradient, curvature = _slopes(counts, strengths, prior)
        step = np.linalg.pinv(curvature) @ gradient
        # Far from the maximum a whole step may overshoot; two units of strength are e^2 in odds.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), _SMALL))
        strengths = strengths + step
        if float(np.abs(step).max()) < _SMALL:
            break
    return np.asarray(strengths - strengths.mean())


def _slopes(counts: _Array, strengths: _Array, prior: float) -> tuple[_Array, _Array]:
    """Return the gradient of the log-posterior and its negative second derivative."""
    preferred = 1.0 / (1.0 + np.exp(strengths[None, :] - strengths[:, None]))
    played = counts + counts.T
    average = 1.0 / (1.0 + np.exp(-strengths))
    gradient = (counts - played * preferred).sum(axis=1) + prior * (1.0 - 2.0 * average)
    information = played * preferred * (1.0 - preferred)
    curvature = np.diag(information.sum(axis=1) + 2.0 * prior * average * (1.0 - average)) - information
    return gradient, curvature


def _errors(counts: _Array, strengths: _Array, prior: float) -> _Array:
    """Return the standard error of each strength against the mean of all."""
    covariance = np.linalg.pinv(_slopes(counts, strengths, prior)[1])
    centring = np.eye(len(counts)) - 1.0 / len(counts)
    variances: _Array = np.diag(centring @ covariance @ centring)
    return np.sqrt(np.maximum(variances, 0.0))
