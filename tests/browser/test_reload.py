"""A page comes to rest: after it was loaded again it asks for no more than at first, and after a click no longer."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

# Until a page has asked for all that it asks for by itself.
_SETTLE_MS = 4000
_SOME_MORE = 8


def _asked(page: Page, load: Callable[[], object]) -> int:
    """Return how many questions a page asks of the server while it opens and a moment longer."""
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if re.search("gradio_api/(run|queue/join)", one.url) else None)
    load()
    page.wait_for_selector("#wb-plan-sentence .wb-sentence:not(:empty)", state="attached")
    page.wait_for_timeout(_SETTLE_MS)
    return len(asked)


def test_what_the_browser_kept_is_no_change(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    opened = open_page(served)
    page = opened.page
    page.wait_for_timeout(_SETTLE_MS)
    first = _asked(page, opened.reload)
    for word in ("规划", "Plan"):
        page.click("#wb-language")
        page.wait_for_function(f"document.querySelector('#tab-plan-button').innerText.includes('{word}')")
    page.click("#wb-use-plan")
    page.wait_for_selector("#tab-plan-button[data-mark=done]")
    page.wait_for_timeout(_SETTLE_MS)
    again = _asked(page, opened.reload)
    assert again <= first + _SOME_MORE, f"{again} questions where the first opening asked {first}"
    page.wait_for_selector("#tab-plan-button[data-mark=done]")
    opened.watch.check()


def test_changes_in_quick_succession_come_to_rest(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    """Each handler of a change that came while it worked runs once more; none may set the others going again."""
    opened = open_page(served)
    page = opened.page
    page.wait_for_timeout(_SETTLE_MS)
    for _ in range(4):
        page.click("#wb-language")
    page.wait_for_timeout(2 * _SETTLE_MS)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if re.search("gradio_api/(run|queue/join)", one.url) else None)
    page.wait_for_timeout(_SETTLE_MS)
    assert len(asked) <= _SOME_MORE, f"{len(asked)} questions of a page that nobody touches"
    opened.watch.check()
