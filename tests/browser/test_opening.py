"""A page that opens asks what its first view needs at once and once, and the other tabs when that is there."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

_READY = "#wb-plan-sentence .wb-sentence:not(:empty)"
_SETTLE_MS = 3000


def _first_questions(page: Page, load: Callable[[], object]) -> list[tuple[int, str, str]]:
    """Return of each question that a page's load asks its handler, its session and the document's state at the time."""
    page.add_init_script(
        """window.asked = []; const ask = window.fetch;
        window.fetch = function (what, options) {
          if (options && String(options.body).includes("fn_index")) {
            window.asked.push([options.body, document.readyState]);
          }
          return ask.apply(this, arguments);
        };"""
    )
    load()
    page.wait_for_selector(_READY)
    page.wait_for_timeout(_SETTLE_MS)
    made = [(json.loads(body), state) for body, state in page.evaluate("window.asked")]
    by_load = page.evaluate(
        """window.gradio_config.dependencies.flatMap((one) => one.targets).find(([, event]) => event === "load")[0]"""
    )
    found = [(body, state) for body, state in made if body["trigger_id"] == by_load]
    return [(body["fn_index"], body["session_hash"], state) for body, state in found]


def test_the_first_view_is_asked_while_the_scripts_are_on_their_way(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    page.evaluate("localStorage.clear()")
    made = _first_questions(page, opened.reload)
    early = [handler for handler, _, state in made if state == "loading"]
    loads = [handler for handler, _, _ in made]
    assert 5 < len(early) < len(loads)
    assert len(loads) == len(set(loads)), "asked twice"
    assert len({session for _, session, _ in made}) == 1, "answers of another session"
    opened.watch.check()


def test_what_the_browser_kept_is_waited_for(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    """With something kept from an earlier visit nothing is asked before it has been read."""
    opened = open_page(served)
    page = opened.page
    page.click("#wb-language")
    page.wait_for_function("document.querySelector('#tab-plan-button').innerText.includes('规划')")
    assert page.evaluate("localStorage.getItem('workbench-language')")
    made = _first_questions(page, opened.reload)
    assert made and all(state != "loading" for _, _, state in made)
    assert "规划" in page.inner_text("#tab-plan-button")
    opened.watch.check()


def test_a_click_does_not_wait_for_the_first_view(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    """Who goes to another tab at once finds it filled."""
    opened = open_page(served)
    page = opened.page
    opened.reload()
    page.wait_for_selector(_READY)
    page.click("#tab-export-button")
    page.wait_for_selector("#wb-take-adapter .wb-empty")
    opened.watch.check()
