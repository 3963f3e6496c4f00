"""A curve that grows: thinned without losing a spike or a gap, smoothed without starting again."""

from __future__ import annotations

import math

import pytest

from app.runs.results.series import MOST_POINTS, Series
from tests.pace import at_most


def test_thinning_keeps_spikes_gaps_and_the_order() -> None:
    series = Series.of((float(step), math.nan if step == 20_000 else 1.0) for step in range(50_000))
    series.add(50_000.0, 99.0)
    kept = series.thinned()
    assert (50_000.0, 99.0) in kept and len(kept) <= MOST_POINTS + 1
    assert [step for step, value in kept if math.isnan(value)] == [20_000.0]
    assert [step for step, _ in kept] == sorted(step for step, _ in kept)


def test_a_range_is_cut_out() -> None:
    series = Series.of((float(step), float(step)) for step in range(100))
    assert series.thinned(1000, 10, 12) == [(10, 10), (11, 11), (12, 12)]
    assert series.smoothed(1000, 10, 12)[0][0] == 10
    assert series.thinned(1000, 200, 300) == []


def test_the_average_starts_at_the_first_value_and_follows() -> None:
    assert all(value == pytest.approx(5.0) for _, value in Series.of((s, 5.0) for s in range(50)).smoothed())
    falling = Series.of((step, 10.0 - step) for step in range(10)).smoothed()
    assert falling[0][1] == pytest.approx(10.0) and 1.0 < falling[-1][1] < 5.0
    assert Series.of([(1, math.nan), (2, 3.0)]).smoothed()[0][1] == pytest.approx(3.0)


@pytest.mark.parametrize("looks", [1, 3, 1000])
def test_the_average_is_the_same_however_often_it_was_looked_at(looks: int) -> None:
    values = [math.sin(step) for step in range(1000)]
    watched = Series()
    for step, value in enumerate(values):
        watched.add(float(step), value)
        if step % (1000 // looks) == 0:
            watched.smoothed()
    fresh = Series.of(enumerate(values))
    assert [y for _, y in watched.smoothed()] == pytest.approx([y for _, y in fresh.smoothed()])


def test_steps_that_come_again_replace_the_first_attempt() -> None:
    series = Series.of((float(step), 1.0) for step in range(1, 11))
    series.smoothed()
    series.add(6.0, 2.0)
    assert series.points()[-2:] == [(5.0, 1.0), (6.0, 2.0)]
    assert len(series.smoothed()) == 6


def test_the_newest_value_at_or_before_a_step() -> None:
    series = Series.of([(10.0, 1.0), (20.0, 2.0)])
    assert [series.at(step) for step in (0, 10, 15, 20, 99)] == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert Series().at(3) is None


def test_a_look_at_a_long_curve_takes_milliseconds() -> None:
    series = Series.of((float(step), math.sin(step)) for step in range(100_000))
    series.smoothed()
    with at_most(0.1):
        series.thinned()
        series.smoothed()


def test_a_curve_thinned_as_it_grows_is_the_one_thinned_at_once() -> None:
    series = Series()
    for step in range(30_000):
        series.add(float(step), math.sin(step) + 50 * (step % 7001 == 7000))
        if step % 700 == 0:
            series.thinned()
    kept = series.thinned()
    assert kept == Series.of((float(step), value) for step, value in series.points()).thinned()
    assert MOST_POINTS / 2 <= len(kept) <= MOST_POINTS
    assert {7000.0, 14001.0, 21002.0} <= {step for step, _ in kept}
    assert kept[-1][0] > 29_900


def test_a_growing_curve_is_thinned_from_its_new_points() -> None:
    series = Series.of((float(step), math.sin(step)) for step in range(100_000))
    series.thinned(), series.smoothed(), series.totals()
    with at_most(0.1):  # thinned anew, it takes ten times as long
        for step in range(100_000, 100_020):
            series.add(float(step), math.sin(step))
            series.thinned(), series.smoothed(), series.totals()


def test_what_a_curve_has_come_to_is_kept_and_taken_back_with_it() -> None:
    series = Series.of([(1.0, 3.0), (2.0, math.nan), (3.0, 1.0)])
    first = series.totals()
    assert first is not None and (first.lowest, first.highest, first.mean) == (1.0, 3.0, 2.0)
    series.add(3.0, 6.0)
    again = series.totals()
    assert again is not None and (again.lowest, again.highest, again.mean) == (3.0, 6.0, 4.5)
    assert Series().totals() is None


def test_a_chosen_smoothing_is_a_corrected_average_of_all_values() -> None:
    series = Series.of([(1, 4.0), (2, 2.0), (3, 0.0)])
    # 0.5: 4; (0.5*4 + 2)/1.5; (0.25*4 + 0.5*2 + 0)/1.75
    shown = series.smoothed(weight=0.5)
    assert [step for step, _ in shown] == [1, 2, 3]
    assert [round(value, 6) for _, value in shown] == [4.0, round(4 / 1.5, 6), round(2 / 1.75, 6)]
    assert series.smoothed(10, 2, 3, 0.5) == shown[1:]
    assert series.smoothed(weight=0.0) == [(1, 4.0), (2, 2.0), (3, 0.0)]
