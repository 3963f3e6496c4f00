"""A flame picture of a profile: one SVG file, without scripts, that any browser shows."""

from __future__ import annotations

import zlib
from xml.sax.saxutils import escape

from app.planner.step_profile import Scope, StepProfile

_WIDTH, _ROW, _TOP = 1200, 18, 30
# Scopes narrower than this many pixels are left out: nobody can see them.
_LEAST_WIDTH = 0.3
_LETTER = 6.2


def svg(profile: StepProfile) -> str:
    """Return the picture: the step on top, what runs within it below, as wide as it takes of the step."""
    boxes: list[str] = []
    deepest = _draw(profile.scopes, 0.0, 0, _WIDTH / max(profile.scopes.seconds, 1e-9), boxes)
    height = _TOP + _ROW * (deepest + 1) + 8
    title = f"{profile.model}, {profile.device}, {profile.dtype}: {profile.seconds:.3f} s a step"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="monospace" '
            'font-size="11">',
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text x="6" y="19" font-size="13">{escape(title)}</text>',
            *boxes,
            "</svg>",
            "",
        ]
    )


def _draw(scope: Scope, left: float, depth: int, scale: float, boxes: list[str]) -> int:
    """Draw a scope and what runs within it; return the deepest row."""
    width = scope.seconds * scale
    if width < _LEAST_WIDTH:
        return depth
    y = _TOP + _ROW * depth
    said = f"{scope.name}: {scope.seconds:.4f} s, {100 * width / _WIDTH:.1f} %"
    room = int((width - 6) / _LETTER)
    label = scope.name if len(scope.name) <= room else f"{scope.name[: room - 1]}…" if room > 2 else ""
    boxes.append(
        f'<g><title>{escape(said)}</title><rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 1}" '
        f'fill="{_colour(scope.name)}"/><text x="{left + 3:.1f}" y="{y + 12}">{escape(label)}</text></g>'
    )
    deepest = depth
    for part in scope.parts:
        deepest = max(deepest, _draw(part, left, depth + 1, scale, boxes))
        left += part.seconds * scale
    return deepest


def _colour(name: str) -> str:
    """Return a warm light colour that a name always has."""
    found = zlib.crc32(name.encode())
    return f"hsl({found % 55}, 80%, {66 + found // 55 % 14}%)"
