"""Every view of the page and how it is opened: for pictures of all of them and for checks that hold on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Page

_SETTLE_MS = 350


@dataclass(frozen=True)
class View:
    """One view: its name, its tab, and what is done after the tab is open."""

    name: str
    tab: str
    then: Callable[[Page], None] | None = None


def open_view(page: Page, view: View) -> None:
    """Show a view."""
    page.click(f"#wb-tabs > .tab-wrapper #tab-{view.tab}-button")
    page.wait_for_timeout(_SETTLE_MS)
    if view.then is not None:
        view.then(page)
        page.wait_for_timeout(_SETTLE_MS)
    page.evaluate("document.activeElement.blur(), window.scrollTo(0, 0)")


def _folds(tab: str) -> Callable[[Page], None]:
    opened = f"document.querySelectorAll('#tab-{tab} .label-wrap:not(.open)').forEach(fold => fold.click())"
    return lambda page: page.evaluate(opened)


def _sample(page: Page) -> None:
    if page.locator("#wb-rows tbody tr").count() == 0:
        page.click("#wb-sample-0")
        page.wait_for_selector("#wb-rows tbody tr")


def _inner(tabs: str, number: int) -> Callable[[Page], None]:
    return lambda page: page.click(f"#{tabs} > .tab-wrapper [role=tab] >> nth={number}")


def _data(number: int) -> Callable[[Page], None]:
    def show(page: Page) -> None:
        _sample(page)
        _inner("wb-data-views", number)(page)

    return show


def _exports(page: Page) -> None:
    page.wait_for_selector("#tab-export :is(.wb-take-card, .wb-empty)")


# Of a workspace with a finished run, in an order in which each opens from the one before.
VIEWS = (
    View("plan", "plan"),
    View("plan-folds", "plan", _folds("plan")),
    View("data-rows", "data", _data(0)),
    View("data-tokens", "data", _data(1)),
    View("data-lengths", "data", _data(2)),
    View("data-problems", "data", _data(3)),
    View("train", "train"),
    View("train-folds", "train", _folds("train")),
    View("playground-chat", "playground", _inner("wb-play-modes", 0)),
    View("playground-folds", "playground", _folds("playground")),
    View("playground-vote", "playground", _inner("wb-play-modes", 1)),
    View("playground-suite", "playground", _inner("wb-play-modes", 2)),
    View("playground-blend", "playground", _inner("wb-play-modes", 3)),
    View("playground-inspect", "playground", _inner("wb-play-modes", 4)),
    View("export", "export", _exports),
)
# Of a fresh workspace.
EMPTY = tuple(View(f"empty-{tab}", tab) for tab in ("plan", "data", "train", "playground", "export"))
