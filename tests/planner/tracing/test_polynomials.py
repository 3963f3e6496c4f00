"""Polynomials of a step's sizes: found exactly where a step is the same everywhere, by operation where it loops."""

import pytest

from app.planner.tracing.polynomials import Fit, Point, Terms, highest, points_for, undominated, value

TERMS: Terms = (1000.0, 12.0, 3.0, 40.0, 2.0, 0.0)


@pytest.mark.parametrize(("rows", "span"), [(1, (0, 1 << 20)), (4, (0, 1 << 20)), (1, (4096, 1 << 20)), (2, (0, 511))])
def test_sizes_at_the_points_give_the_polynomial_back(rows: int, span: tuple[int, int]) -> None:
    points = points_for(rows, span)
    assert all(max(1, span[0]) <= one.length <= span[1] for one in points)
    wanted = (*TERMS[:5], 7.0 if rows > 1 else 0.0)
    terms = Fit(points).terms([int(value(wanted, one.tokens, one.length, one.rank)) for one in points])
    assert terms == pytest.approx(wanted)


def test_points_that_tell_too_little_are_refused() -> None:
    with pytest.raises(ValueError, match="determine"):
        Fit([Point(1, 256, 8)] * 5)
    with pytest.raises(ValueError, match="between"):
        points_for(1, (5, 6))


def test_of_equal_steps_every_moment_that_can_be_the_highest_stays() -> None:
    points = points_for(1, (0, 4096))
    flat, steep, low = (9e6, 0, 0, 0, 0, 0), (0, 4096, 0, 0, 0, 0), (0, 4000, 0, 0, 0, 0)
    heights = [[int(value(one, p.tokens, p.length, p.rank)) for one in (flat, low, steep)] for p in points]
    found = Fit(points).highest(heights, [["a", "b", "c"]] * 5)
    assert len(found) == 2
    assert highest(found, 100, 100, 8) == pytest.approx(9e6)
    assert highest(found, 8192, 8192, 8) == pytest.approx(4096 * 8192)


def test_a_loop_is_fitted_by_its_operations() -> None:
    """A loop over chunks of 64 adds 100 bytes a round above what grows with the tokens; its last round is highest."""
    points = points_for(1, (0, 4096))
    heights, names = [], []
    for one in points:
        rounds = one.tokens // 64
        heights.append([10, *(8 * one.tokens + 100 * (i + 1) for i in range(rounds)), 20])
        names.append(["first", *["round"] * rounds, "last"])
    found = Fit(points).highest(heights, names)
    assert highest(found, 6400, 6400, 8) == pytest.approx(8 * 6400 + 100 * 100)


def test_what_is_reached_everywhere_by_another_goes() -> None:
    assert undominated([TERMS, (999.0, *TERMS[1:]), TERMS]) == (TERMS,)
