"""A run's losses as one small SVG picture for a model card; it stands by itself on white and on black."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[int, float]]
_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 28, 36
# A grey and two hues that are readable on light and dark pages alike (3:1 or better on both).
_GREY, _BLUE, _ORANGE = "#7a7f87", "#3b82d6", "#d9730d"


def draw(losses: Points, eval_losses: Points) -> str:
    """Return the picture. `losses` has at least one point."""
    points = [*losses, *eval_losses]
    last = max(1, *(step for step, _ in points))
    values = [value for _, value in points]
    low, high = min(values), max(values)
    high = high if high > low else low + 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last
        return across, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [_text(_LEFT, 16, "loss", _BLUE)]
    for value in (low, (low + high) / 2, high):
        _, y = place(0, value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{_GREY}" stroke-opacity="0.35"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.2f}", _GREY, "end"))
    for step in (0, last // 2, last):
        parts.append(_text(place(step, low)[0], _HEIGHT - 12, f"{step:,}", _GREY, "middle"))
    parts.append(_line([place(*point) for point in losses], _BLUE))
    if eval_losses:
        parts.append(_text(_LEFT + 48, 16, "validation loss", _ORANGE))
        parts.append(_line([place(*point) for point in eval_losses], _ORANGE, dashes="5 4"))
    title = f"<title>Loss over {last:,} steps</title>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="12">{title}{"".join(parts)}</svg>\n'
    )


def _line(places: Sequence[tuple[float, float]], colour: str, dashes: str = "none") -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'


def _text(x: float, y: float, words: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
