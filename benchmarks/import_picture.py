"""Draw which package of app/ imports which, from the sources, into docs/pictures/imports.svg.

Run: python -m benchmarks.import_picture [--out FILE] [--source FOLDER]

A package stands above all that it imports, so every arrow points down; a cycle would have no place and is refused. An
arrow is pale where there is another way, and says its ends when the pointer rests on it. What nearly everybody imports
(errors, settings, files, the workspace) is one box at the bottom, without arrows.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "pictures" / "imports.svg"
FOUNDATION = ("config", "errors", "files", "outputs", "proxies", "reading", "redaction", "support", "workspace")
_BOX_WIDTH, _BOX_HEIGHT, _GAP, _ROW, _MARGIN = 104, 34, 36, 92, 24
_LEAST_WIDTH = 620  # for the names in the box at the bottom
_INK, _LINE, _BOX, _TINT = "#1b2430", "#3f6fb0", "#ffffff", "#e4edf9"

Edges = dict[tuple[str, str], int]


def edges(folder: Path) -> Edges:
    """Return how many modules of one package import another, by the two names; `folder` is the app folder."""
    found: Counter[tuple[str, str]] = Counter()
    rooms = {path.stem for path in folder.iterdir() if path.stem != "__init__"}
    for path in sorted(folder.rglob("*.py")):
        own = _room(path.relative_to(folder.parent).with_suffix("").parts)
        targets = {_room(name.split(".")) for name in _imported(path)} & rooms - {own}
        found.update((own, target) for target in targets if own)
    return dict(found)


def _room(parts: tuple[str, ...] | list[str]) -> str:
    return parts[1] if len(parts) > 1 and parts[0] == "app" and parts[1] != "__init__" else ""


def _imported(path: Path) -> set[str]:
    """Return the absolute names that a module imports; `from app import x` counts as app.x."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def layers(between: Edges) -> list[list[str]]:
    """Return the packages from top to bottom, each above all that it imports. Raises ValueError for a cycle."""
    below: dict[str, set[str]] = {name: set() for pair in between for name in pair}
    for above, target in between:
        below[above].add(target)
    depth: dict[str, int] = {}
    while len(depth) < len(below):
        ready = [name for name in below if name not in depth and below[name] <= depth.keys()]
        if not ready:
            raise ValueError(f"a cycle among {', '.join(sorted(below.keys() - depth.keys()))}")
        depth.update({name: 1 + max((depth[one] for one in below[name]), default=-1) for name in sorted(ready)})
    rows = [[name for name in sorted(depth) if depth[name] == level] for level in range(max(depth.values()) + 1)]
    return rows[::-1]


def direct(between: Edges) -> set[tuple[str, str]]:
    """Return the arrows that no longer way replaces."""
    below: dict[str, set[str]] = {}
    for above, target in between:
        below.setdefault(above, set()).add(target)

    def reached(start: str) -> set[str]:
        return below.get(start, set()).union(*(reached(one) for one in below.get(start, ())))

    return {(a, b) for a, b in between if not any(b in reached(one) for one in below[a] - {b})}


def picture(found: Edges) -> str:
    """Return the SVG."""
    between = {pair: count for pair, count in found.items() if not set(pair) & set(FOUNDATION)}
    rows = layers(between)
    places = _places(rows)
    width = max(_LEAST_WIDTH, max(x for x, _ in places.values()) + _BOX_WIDTH + _MARGIN)
    foot = _MARGIN + len(rows) * _ROW
    height = foot + _BOX_HEIGHT + _MARGIN
    strong = direct(between)
    order = sorted(between, key=lambda pair: (pair in strong, pair))
    arrows = [_arrow(places, pair, 0.85 if pair in strong else 0.22) for pair in order]
    boxes = [_box(x, y, _BOX_WIDTH, name, _BOX) for name, (x, y) in sorted(places.items())]
    everybody = ", ".join(name for name in FOUNDATION if any(name in pair for pair in found))
    boxes.append(_box(_MARGIN, foot, width - 2 * _MARGIN, everybody, _TINT))
    said = f"{len(rows)} rows of packages; {len(between)} arrows, all of them down"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="system-ui, sans-serif" font-size="14">',
            f"<title>{escape(said)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{_LINE}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#fbfcfe"/>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def _places(rows: list[list[str]]) -> dict[str, tuple[int, int]]:
    """Return where each box begins. Rows are shifted in turn, so that fewer arrows run through the boxes between."""
    widest = max(4, *(len(row) for row in rows))  # room for the names in the box at the bottom
    found = {}
    for level, row in enumerate(rows):
        free = (widest - len(row)) * (_BOX_WIDTH + _GAP)
        left = _MARGIN + (free * (1 + level % 2) // 3 if len(row) < widest else 0)
        for number, name in enumerate(row):
            found[name] = (left + number * (_BOX_WIDTH + _GAP), _MARGIN + level * _ROW)
    return found


def _arrow(places: Mapping[str, tuple[int, int]], pair: tuple[str, str], opacity: float) -> str:
    (x, y), (to_x, to_y) = places[pair[0]], places[pair[1]]
    x, to_x = x + _BOX_WIDTH // 2, to_x + _BOX_WIDTH // 2
    y, half = y + _BOX_HEIGHT, (to_y - y - _BOX_HEIGHT) // 2
    said = f"{pair[0]} imports {pair[1]}"
    return (
        f'<path d="M{x} {y}C{x} {y + half} {to_x} {to_y - half} {to_x} {to_y}" fill="none" stroke="{_LINE}" '
        f'stroke-opacity="{opacity}" stroke-width="1.5" marker-end="url(#tip)"><title>{escape(said)}</title></path>'
    )


def _box(x: int, y: int, width: int, text: str, fill: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{_BOX_HEIGHT}" rx="6" fill="{fill}" stroke="{_INK}" '
        f'stroke-opacity="0.35"/><text x="{x + width // 2}" y="{y + 22}" text-anchor="middle" fill="{_INK}">'
        f"{escape(text)}</text>"
    )


def main() -> int:
    """Draw, and say how many arrows there are."""
    parser = argparse.ArgumentParser(prog="benchmarks.import_picture", description=__doc__)
    parser.add_argument("--source", type=Path, default=ROOT / "app")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    found = edges(options.source)
    options.out.write_text(picture(found), encoding="utf-8")
    print(f"{options.out}: {len(found)} arrows between packages, {sum(found.values())} imports behind them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
