"""The page's own icons: strokes on a grid of 24 units, in the colour of the text around them.

An icon never stands alone for a word: it is hidden from screen readers, and what it
means is written beside it or is its button's name.
"""

from __future__ import annotations

from urllib.parse import quote

from app.ui.components.markup import Html, element

# One path each, drawn with a line of 1.75 units and round ends.
PATHS = {
    "plan": "M4 19V9m5 10V5m5 14v-7m5 7V8M3 21h18",
    "data": "M4 6c0-4 16-4 16 0s-16 4-16 0Zm0 0v12c0 4 16 4 16 0V6M4 12c0 4 16 4 16 0",
    "train": "M3 4v16h18M6 8c3 0 3 8 7 8 3 0 4-2 8-2",
    "playground": "M4 5h16v11H11l-5 4v-4H4Zm4 4h8m-8 3h5",
    "export": "M12 3v12m0-12 4 4m-4-4L8 7M5 13v7h14v-7",
    "check": "m5 12.5 4.5 4.5L19 7.5",
    "stale": "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
    "search": "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13Zm5-1.5L21 21",
    "theme": "M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9Z",
    "tour": "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Zm3.5-12.5-2 5-5 2 2-5Z",
    "language": "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM3.5 12h17M12 3c5 5 5 13 0 18-5-5-5-13 0-18Z",
    "stop": "M7 7h10v10H7Z",
    "fold": "m9 6 6 6-6 6",
    "close": "m6 6 12 12M18 6 6 18",
    "folder": "M3 6h6l2 2h10v11H3Z",
    "merge": "M6 4v5c0 4 6 3 6 8v3m6-16v5c0 4-6 3-6 8",
    "file": "M6 3h8l5 5v13H6Zm8 0v5h5",
    "llama": "M8 21v-6c-2-1-3-3-3-5V4l3 3h3c5 0 8 3 8 7v7m-7 0v-5m-4-6h.01",
    "screen": "M3 5h18v11H3Zm6 15h6m-3-4v4",
    "server": "M4 4h16v6H4Zm0 10h16v6H4Zm4-7h.01M8 17h.01",
    "cloud": "M7 18a4 4 0 0 1 0-8 5 5 0 0 1 9.6-1.5A4.8 4.8 0 0 1 17 18Z",
    "copy": "M8 8h12v12H8ZM4 16V4h12",
    "chart": "M3 4v16h18M7 15l4-5 3 3 5-7",
    "more": "M5 12h.01M12 12h.01M19 12h.01",
    "keyboard": "M3 6h18v12H3Zm4 4h.01M11 10h.01M15 10h.01M7 14h10",
}
# The mark of the project: a large matrix and the two thin ones that are trained beside it.
LOGO = "M3 3h12v18H3Zm16 0h2v18h-2ZM3 8h12M8 3v18"


def icon(name: str, size_px: int = 18) -> Html:
    """Return an icon as inline SVG."""
    return _svg(PATHS[name], f"wb-icon wb-icon-{name}", size_px)


def logo() -> Html:
    """Return the project's mark."""
    return _svg(LOGO, "wb-logo", 22)


def _svg(path: str, kind: str, size_px: int) -> Html:
    drawn = element("path", d=path)
    return element(
        "svg", drawn, viewBox="0 0 24 24", width=size_px, height=size_px, class_=kind, aria_hidden="true",
        focusable="false",
    )  # fmt: skip


def variables() -> str:
    """Return the icons as CSS variables, `--wb-icon-plan` and so on, for masks on controls of the framework."""
    return ":root{" + "".join(f"--wb-icon-{name}:{_url(path)};" for name, path in PATHS.items()) + "}\n"


def _url(path: str) -> str:
    drawn = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#000' stroke-width='1.75' "
        f"stroke-linecap='round' stroke-linejoin='round'><path d='{path}'/></svg>"
    )
    return f'url("data:image/svg+xml,{quote(drawn, safe=" /:=")}")'
