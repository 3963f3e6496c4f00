"""How sure a figure is: intervals by bootstrap, and a comparison row by row. numpy alone, seeded.

Scores with a lowest and a highest value get the Bayesian bootstrap (Rubin, Annals of Statistics 9, 1981): the weights
of the rows are drawn from a Dirichlet distribution. Half a row of each extreme is added, which for scores of 0 and 1 is
Jeffreys' interval; a plain bootstrap would call 20 right answers of 20 certain (Brown, Cai, DasGupta 2001).

Losses have no highest value and are skewed. They get the studentised bootstrap (bootstrap-t; Efron & Tibshirani 1993,
section 12.5) over rows of the ratio sum of losses / sum of tokens; of very few rows, Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
_RESAMPLES = 4000
# Of fewer rows many resamples hold one row alone, whose error is 0.
_FEW_ROWS = 8
# Numbers that are drawn at once: 64 MB.
_MOST_DRAWN = 8_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def share_interval(scores: Sequence[float], highest: float = 1.0, *, seed: int = 0) -> Interval:
    """Return the interval of the mean of scores between 0 and `highest`. Raises ValueError for no score."""
    if not len(scores):
        raise ValueError("no score")
    values, counts = np.unique(np.asarray(scores, np.float64) / highest, return_counts=True)
    # Rows with the same score share their weights, whose sum is Gamma-distributed by their number.
    values, counts = np.append(values, (0.0, 1.0)), np.append(counts.astype(np.float64), (0.5, 0.5))
    rng = np.random.default_rng(seed)
    means = []
    for size in _portions(len(values)):
        weights = rng.standard_gamma(counts, size=(size, len(values)))
        means.append(weights @ values / weights.sum(axis=1))
    low, high = np.quantile(np.concatenate(means), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low) * highest, float(high) * highest)


def ratio_interval(sums: Sequence[float], counts: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the interval of sum(sums) / sum(counts) over rows. One row gives no width.

    Raises ValueError for no row.
    """
    total, count = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    rows = len(total)
    if not rows:
        raise ValueError("no row")
    ratio = float(total.sum() / count.sum())
    if rows == 1:
        return Interval(ratio, ratio)
    error = float(_error(rows, total @ total, total @ count, count @ count, ratio) / count.sum())
    if rows < _FEW_ROWS or error == 0:
        reach = student_t(rows - 1) * error
        return Interval(ratio - reach, ratio + reach)
    rng = np.random.default_rng(seed)
    columns = np.stack([total, count, total**2, total * count, count**2], axis=1)
    studentised = []
    for size in _portions(rows):
        times = rng.multinomial(rows, np.full(rows, 1 / rows), size=size)
        sums, tokens, squared, products, tokens_squared = (times @ columns).T
        errors = _error(rows, squared, products, tokens_squared, sums / tokens) / tokens
        spread = errors > 0
        studentised.append((sums[spread] / tokens[spread] - ratio) / errors[spread])
    low, high = np.quantile(np.concatenate(studentised), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(ratio - float(high) * error, ratio - float(low) * error)


def _error(rows: int, sums_squared: Any, products: Any, counts_squared: Any, ratio: Any) -> Any:
    """Return the standard error of a ratio of sums, times the sum of the counts (Cochran 1977, section 6.3)."""
    residual = sums_squared - 2 * ratio * products + ratio**2 * counts_squared
    return np.sqrt(np.maximum(residual, 0.0) * rows / (rows - 1))


def _portions(width: int) -> list[int]:
    """Return how many resamples are drawn at once, so that memory stays bounded."""
    size = max(1, min(_RESAMPLES, _MOST_DRAWN // max(1, width)))
    return [min(size, _RESAMPLES - start) for start in range(0, _RESAMPLES, size)]


def student_t(freedom: int) -> float:
    """Return the 97.5 % point of Student's t.

    For 1 and 2 degrees of freedom from its closed form, above by the expansion of Abramowitz & Stegun 26.7.5, which is
    within 0.5 % from 3 on.
    """
    if freedom == 1:
        return 12.706205
    if freedom == 2:
        return 4.302653
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / math.pow(freedom, power + 1) for power, term in enumerate(terms))


@dataclass(frozen=True)
class Comparison:
    """One column held against another, row by row. `p` is the two-sided p-value of the exact sign test."""

    better: int
    worse: int
    same: int
    p: float


# Losses of two columns that differ by less are the same number in another order of sums.
_SAME = 1e-6


def compare(mine: Sequence[float], others: Sequence[float], *, lower_is_better: bool = False) -> Comparison:
    """Count on how many rows the first scores are better than the second, worse, and the same."""
    difference = np.asarray(mine, np.float64) - np.asarray(others, np.float64)
    if lower_is_better:
        difference = -difference
    better, worse = int((difference > _SAME).sum()), int((difference < -_SAME).sum())
    return Comparison(better, worse, len(difference) - better - worse, sign_test(better, worse))


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value of the exact sign test (Dixon & Mood 1946): ties are left out.

    How likely so uneven a split, or a more uneven one, is where neither is better: a fair coin for each row.
    """
    trials, most = better + worse, max(better, worse)
    if better == worse:
        return 1.0
    tail = sum(math.comb(trials, heads) for heads in range(most, trials + 1))
    # Whole numbers of thousands of digits: their quotient is a float, they are not.
    return min(1.0, float(2 * tail / (1 << trials)))
