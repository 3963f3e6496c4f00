"""Charts: what is drawn, how much of it, and that nothing breaks them."""

from __future__ import annotations

import math
import re

import pytest

from app.runs.results.series import MOST_POINTS
from app.ui.components.axes import Span, log_span
from app.ui.components.bars import Part, histogram, stacked
from app.ui.components.charts import Line, Mark, chart, sparkline, thinned


def test_a_chart_has_at_most_the_points_a_browser_likes() -> None:
    points = [(float(step), math.sin(step / 50)) for step in range(100_000)]
    drawn = chart([Line(points)], "Loss")
    (path,) = re.findall(r' d="(M[^"]+)" class="wb-line wb-line-strong"', drawn)
    assert 400 <= len(re.findall("[ML]", path)) <= MOST_POINTS
    assert len(drawn) < 60_000


def test_a_spike_survives_thinning() -> None:
    points = [(float(step), 1.0) for step in range(50_000)]
    points[31_234] = (31_234.0, 99.0)
    kept = thinned(points)
    assert (31_234.0, 99.0) in kept and len(kept) <= MOST_POINTS
    assert kept == sorted(kept)


def test_numbers_that_are_none_leave_a_gap() -> None:
    drawn = chart([Line([(1, 2.0), (2, math.nan), (3, 1.0), (4, math.inf), (5, 1.5)])], "Loss")
    (path,) = re.findall(r' d="([^"]+)" class="wb-line wb-line-strong"', drawn)
    assert path.count("M") == 3
    assert "nan" not in drawn and "inf" not in drawn


@pytest.mark.parametrize("points", [[], [(1.0, math.nan)], [(1.0, 2.0)], [(1.0, 2.0), (2.0, 2.0)], [(0.0, 0.0)]])
def test_little_data_is_drawn_or_said(points: list[tuple[float, float]]) -> None:
    drawn = chart([Line(points)], "Loss", empty="later")
    assert ("later" in drawn) == (not points or math.isnan(points[0][1]))
    assert "height:220px" in drawn


def test_texts_of_a_chart_are_inert() -> None:
    attack = "<script>1</script>"
    drawn = chart([Line([(0, 1), (1, 2)], attack)], attack, marks=[Mark(1, attack)], limits=[Mark(2, attack)])
    assert "<script" not in drawn and drawn.count("&lt;script") >= 4


def test_the_axis_is_fixed_when_it_is_given() -> None:
    drawn = chart([Line([(0, 1.0), (10, 2.0)])], "Loss", x_span=Span(0, 100))
    (path,) = re.findall(r' d="([^"]+)" class="wb-line wb-line-strong"', drawn)
    assert [float(x) for x in re.findall(r"[ML]([\d.]+)", path)] == [0.0, 100.0]


def test_a_sparkline_is_small() -> None:
    assert len(sparkline([(step, step % 7) for step in range(10_000)], "loss")) < 2500
    assert "<svg" not in sparkline([], "loss")


def test_stacked_parts_fill_their_share() -> None:
    drawn = stacked(
        [Part("base_weights", "Base", 600), Part("logits", "Logits", 0), Part("gradients", "G", 200)], 1000, "free", "x"
    )
    widths = [float(width) for width in re.findall(r'wb-part wb-part-[a-z-]+" style="width:([\d.]+)%', drawn)]
    assert widths[0] == pytest.approx(3 * widths[1], rel=0.01) and len(widths) == 2
    assert "600 B" in drawn and "Logits" not in drawn


def test_the_reserve_is_hatched_behind_the_free_memory() -> None:
    drawn = stacked([Part("logits", "Logits", 50)], 100, "free", "parts", Part("reserve", "Reserve", 20))
    assert "wb-stack-reserve" in drawn and "Reserve" in drawn
    assert "wb-stack-reserve" not in stacked([Part("logits", "Logits", 50)], None, "", "parts")


def test_the_histogram_marks_what_is_over_the_limit() -> None:
    def make(limit: int) -> str:
        return histogram([(10, 3), (20, 0), (20, 5), (30, 1)], limit, title="t", unit="tokens", limit_label="limit")

    assert make(20).count("wb-column") == 3 and make(20).count("wb-over") == 1
    assert "wb-stack-limit" in make(60) and "wb-stack-limit" not in make(4096) and "limit" in make(4096)
    assert histogram([], 10, title="t", unit="u", limit_label="l")


def test_a_logarithmic_scale_leaves_out_what_it_cannot_show() -> None:
    drawn = chart([Line([(0, 10.0), (1, 0.0), (2, 1.0), (3, 0.1)])], "Loss", log=True)
    (path,) = re.findall(r' d="([^"]+)" class="wb-line wb-line-strong"', drawn)
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    assert path.count("M") == 2
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.05)


@pytest.mark.parametrize("values", [[2.0, 2.0], [1.51, 1.53], [1e-4, 5.0], [0.3, 7.0], [1e-9, 1e9]])
def test_a_logarithmic_axis_always_has_ticks(values: list[float]) -> None:
    span = log_span(values)
    assert len(span.ticks()) >= 2
    assert all(0 <= span.share(tick) <= 1 for tick in span.ticks())


def test_labels_of_marks_do_not_lie_on_one_another_and_quiet_ones_are_ticks() -> None:
    marks = [Mark(5, "one"), Mark(5.1, "two"), Mark(5.2, "", note="checkpoint", quiet=True)]
    drawn = chart([Line([(0, 1), (10, 2)])], "Loss", marks=marks)
    assert "top:0px" in drawn and "top:14px" in drawn
    assert drawn.count("wb-mark-foot") == 1 and 'title="checkpoint"' in drawn
