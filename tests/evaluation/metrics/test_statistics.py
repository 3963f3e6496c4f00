"""Intervals that cover as often as they say, and the sign test against its textbook figures."""

from __future__ import annotations

import numpy as np
import pytest

from app.evaluation.held_out.results import PairedResult
from app.evaluation.metrics import statistics


def _cover(draw: str, rows: int, sets: int = 200) -> float:
    """Return how often the interval of a simulated set covers the truth."""
    inside = 0
    for seed in range(5000, 5000 + sets):
        rng = np.random.default_rng(seed)
        if draw == "loss":
            tokens = rng.integers(5, 40, rows)
            found = statistics.ratio_interval(rng.gamma(2.0, 0.5, rows) * tokens, tokens.astype(float), seed=seed)
            inside += found.low <= 1.0 <= found.high
        elif draw == "f1":
            scores = np.where(rng.random(rows) < 0.4, 1.0, rng.beta(2, 3, rows))
            found = statistics.share_interval(scores, seed=seed)
            inside += found.low <= 0.64 <= found.high
        else:
            found = statistics.share_interval((rng.random(rows) < float(draw)).astype(float), seed=seed)
            inside += found.low <= float(draw) <= found.high
    return inside / sets


@pytest.mark.parametrize("case", ["0.5", "0.7", "0.9", "f1", "loss"])
def test_intervals_cover_in_93_to_97_of_100_simulated_sets(case: str) -> None:
    assert 0.93 <= _cover(case, 100) <= 0.97


def test_intervals_are_seeded_and_know_that_all_right_is_not_certain() -> None:
    first = statistics.share_interval([1.0] * 20, seed=3)
    assert first == statistics.share_interval([1.0] * 20, seed=3)
    assert 0.8 < first.low < 0.95 and first.high > 0.99
    assert statistics.share_interval([50.0, 100.0] * 20, 100.0).low == pytest.approx(66, abs=5)
    assert statistics.ratio_interval([3.0], [2.0]) == statistics.Interval(1.5, 1.5)


def test_student_t_is_the_tables() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980}
    assert all(statistics.student_t(n) == pytest.approx(t, rel=2e-3) for n, t in table.items())


def test_the_sign_test_is_exact() -> None:
    assert statistics.sign_test(31, 9) == pytest.approx(0.000680, rel=1e-3)  # R: binom.test(31, 40)
    assert statistics.sign_test(9, 31) == statistics.sign_test(31, 9)
    assert statistics.sign_test(5, 0) == pytest.approx(2 / 32) and statistics.sign_test(4, 4) == 1.0
    assert statistics.sign_test(0, 0) == 1.0 and statistics.sign_test(5000, 4000) < 1e-20


def test_rows_are_compared_one_by_one() -> None:
    found = statistics.compare([1, 0, 1, 1], [0, 1, 1, 0])
    assert (found.better, found.worse, found.same) == (2, 1, 1)
    lower = statistics.compare([1.0, 2.0], [2.0, 2.0 + 1e-9], lower_is_better=True)
    assert (lower.better, lower.worse, lower.same) == (1, 0, 1)
    said = PairedResult("a", "base", "f1", 31, 9, 80, statistics.sign_test(31, 9)).words
    assert said == "better on 31, worse on 9, of 120 (p = 0.00068)"
