"""Scores against the cases that are known: two players, a circle, a simulation."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from app.evaluation.bradley_terry import Pair, fit, probability


def test_two_players_are_the_logarithm_of_their_odds() -> None:
    found = fit({("a", "b"): 30, ("b", "a"): 10}, prior=0)
    assert [score.name for score in found] == ["a", "b"]
    assert found[0].strength - found[1].strength == pytest.approx(math.log(30 / 10))
    assert probability(found[0], found[1]) == pytest.approx(0.75)
    # The difference has variance 1/30 + 1/10; each strength against the mean of both has half the deviation.
    assert found[0].standard_error == pytest.approx(math.sqrt(1 / 30 + 1 / 10) / 2)
    assert found[0].points == pytest.approx(400 * math.log10(3) / 2)


def test_a_circle_and_an_even_match_are_ties() -> None:
    circle: dict[Pair, float] = {("a", "b"): 7, ("b", "c"): 7, ("c", "a"): 7}
    assert all(score.strength == pytest.approx(0, abs=1e-9) for score in fit(circle, prior=0))
    assert all(score.strength == pytest.approx(0, abs=1e-9) for score in fit({("a", "b"): 1, ("b", "a"): 1}))


def test_the_gradient_is_zero_at_the_maximum() -> None:
    wins: dict[Pair, float] = {("a", "b"): 9, ("b", "a"): 4, ("b", "c"): 5, ("c", "a"): 2, ("a", "c"): 6.5}
    found = {score.name: score.strength for score in fit(wins, prior=0)}
    for name in found:
        expected = sum(
            (wins.get((name, other), 0) + wins.get((other, name), 0)) / (1 + math.exp(found[other] - found[name]))
            for other in found
            if other != name
        )
        assert sum(count for (winner, _), count in wins.items() if winner == name) == pytest.approx(expected)


def test_one_that_never_lost_is_finite_and_its_uncertainty_shrinks() -> None:
    few, many = fit({("a", "b"): 2}), fit({("a", "b"): 200, ("b", "a"): 100})
    assert math.isfinite(few[0].strength) and few[0].name == "a"
    assert few[0].standard_error > 3 * many[0].standard_error > 0
    assert fit({}) == []


def test_intervals_hold_the_truth_of_a_simulation() -> None:
    generator = np.random.default_rng(5)
    truth = {"a": 0.9, "b": 0.3, "c": -0.2, "d": -1.0}
    inside = total = 0
    for _ in range(60):
        wins: Counter[Pair] = Counter()
        for _ in range(240):
            one, other = generator.choice(list(truth), 2, replace=False)
            first = generator.random() < 1 / (1 + math.exp(truth[other] - truth[one]))
            wins[(one, other) if first else (other, one)] += 1
        for score in fit(wins, prior=0):
            inside += abs(score.strength - truth[score.name]) < 1.96 * score.standard_error
            total += 1
    assert 0.90 < inside / total < 0.99
