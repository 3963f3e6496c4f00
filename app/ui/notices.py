"""What went wrong, said where the hand is: what, why, what to do."""

from __future__ import annotations

from app.errors import ConfigError, WorkbenchError
from app.ui.markup import Html, element


def problem(error: WorkbenchError) -> Html:
    """Return an error as a box of its three parts."""
    if isinstance(error, ConfigError):
        lines = [element("li", one.line()) for one in error.problems]
        return element("div", element("b", error.what + "."), element("ul", *lines), class_="wb-error", role="alert")
    rest = [f" {part[:1].upper()}{part[1:]}." for part in (error.why, error.page_remedy) if part]
    return element("div", element("b", error.what + "."), *rest, class_="wb-error", role="alert")


def note(text: str) -> Html:
    """Return a quiet line."""
    return element("div", text, class_="wb-note wb-muted")


def empty(title: str, text: str) -> Html:
    """Return what stands where something will appear."""
    return element("div", element("b", title), element("p", text), class_="wb-empty")


def sentence(text: object) -> Html:
    """Return a tab's answer in one sentence."""
    return element("p", text, class_="wb-sentence")
