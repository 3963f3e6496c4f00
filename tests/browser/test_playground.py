"""The playground in a browser: a blind vote that names nobody before it, and a suite that is a table and a file."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.conftest import Opened
from tests.browser.finished_runs import finished_run
from tests.models import tiny_models
from tests.ui.running_page import RunningPage

pytestmark = tiny_models.PEFT_WARNING
NAME = "Odd Answers"


@pytest.fixture(scope="module")
def adapter(served: RunningPage) -> Path:
    return finished_run(served.workspace, NAME)


def test_a_blind_vote_and_a_suite(
    served: RunningPage, adapter: Path, open_page: Callable[..., Opened], tmp_path: Path
) -> None:
    opened = open_page(served)
    page = opened.page
    opened.tab("playground")
    page.wait_for_selector(f"#wb-adapters :text('{NAME}')")
    page.locator("#wb-play-modes button[role=tab]").nth(1).click()
    page.fill("#wb-vote-prompt textarea", "What colour is grass?")
    page.click("#wb-ask-blind")
    page.wait_for_selector("[data-pick=none]")
    blind = page.inner_html("#wb-ballot")
    assert page.locator("#wb-ballot .wb-vote").count() == 4 and page.locator("#wb-ballot article").count() == 2
    assert not [word for word in (NAME, "starter", "Odd", 'data-column="base"', "wb-mono", "rank") if word in blind]
    page.click("[data-pick=A]")
    page.wait_for_selector("#wb-ballot .wb-good")
    told = page.inner_text("#wb-ballot")
    assert NAME in told and "Base" in told and page.locator("#wb-ballot .wb-vote").count() == 0
    assert page.locator("#wb-scores tbody tr").count() == 2

    page.locator("#wb-play-modes button[role=tab]").nth(2).click()
    page.fill("#wb-suite-name input, #wb-suite-name textarea", "facts")
    page.fill("#wb-suite-prompts textarea", "What colour is grass? => green\nWhat is the capital of Spain? => Madrid")
    page.click("#wb-suite-run")
    page.wait_for_selector("#wb-suite-table tbody tr:nth-child(2)")
    assert "Madrid" in page.inner_text("#wb-suite-table")
    with page.expect_download() as saved:
        page.click("#wb-suite-table [data-save$='.csv']")
    saved.value.save_as(tmp_path / "facts.csv")
    with (tmp_path / "facts.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["prompt", "expected", "base", NAME]
    assert [row[0] for row in rows[1:]] == ["What colour is grass?", "What is the capital of Spain?"]
    opened.watch.check()


def test_a_column_s_menu_and_earlier_conversations(
    served: RunningPage, adapter: Path, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    opened.tab("playground")
    page.wait_for_selector(f"#wb-adapters :text('{NAME}')")
    page.fill("#wb-prompt textarea", "What colour is grass?")
    page.click("#wb-ask")
    page.wait_for_selector("#wb-answers .wb-menu")
    page.wait_for_selector("#wb-answers .wb-busy", state="detached")

    menus = page.locator("#wb-answers .wb-menu")
    assert menus.count() == 2  # the base can only be left out
    assert menus.nth(0).locator("button").count() == 1 and menus.nth(1).locator("button").count() == 3
    menus.nth(0).locator("summary").click()
    menus.nth(1).locator("summary").click()
    assert page.locator("#wb-answers .wb-menu[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#wb-answers .wb-menu[open]").count() == 0
    menus.nth(1).locator("summary").click()
    page.click("#wb-answers .wb-menu[open] [data-pick^=inspect]")
    page.wait_for_selector("#wb-inspect:visible")
    assert NAME in page.input_value("#wb-inspected input")
    page.locator("#wb-play-modes button[role=tab]").nth(0).click()
    page.locator("#wb-answers .wb-menu").nth(1).locator("summary").click()
    page.click("#wb-answers .wb-menu[open] [data-pick^=export]")
    page.wait_for_selector("#wb-take-run:visible")
    page.wait_for_function(f"document.querySelector('#wb-take-run input').value.includes('{NAME}')")

    # Another conversation loses nothing: the first one is found by its words, and goes on.
    opened.tab("playground")
    page.click("#wb-clear")
    page.wait_for_selector("#wb-answers .wb-asked", state="detached")
    page.click("#wb-history > button")
    page.wait_for_selector("#wb-history-list [data-pick^=open]")
    page.fill("#wb-history-search input, #wb-history-search textarea", "no such word")
    page.wait_for_selector("#wb-history-list li", state="detached")
    page.fill("#wb-history-search input, #wb-history-search textarea", "GRASS")
    page.click("#wb-history-list [data-pick^=open]")
    page.wait_for_selector("#wb-answers .wb-asked")
    assert not page.is_visible("#wb-history-search")
    page.fill("#wb-prompt textarea", "And the sky?")
    page.click("#wb-ask")
    page.wait_for_selector("#wb-answers .wb-asked >> nth=1")
    page.wait_for_selector("#wb-answers .wb-busy", state="detached")

    page.locator("#wb-answers .wb-menu").nth(0).locator("summary").click()
    page.click("#wb-answers .wb-menu[open] [data-pick='remove:base']")
    page.wait_for_function("!document.querySelector('#wb-with-base input').checked")

    page.click("#wb-history > button")
    page.wait_for_selector("#wb-history-list [data-pick^=delete]")
    assert "2 turns" in page.inner_text("#wb-history-list")
    page.click("#wb-history-list [data-pick^=delete]")
    page.wait_for_selector("#wb-history-question:visible")
    assert "2 turns" in page.inner_text("#wb-history-question") and "grass" in page.inner_text("#wb-history-question")
    page.click("#wb-history-yes")
    page.wait_for_selector("#wb-history-list li", state="detached")
    assert page.locator("#wb-answers .wb-asked").count() == 2  # the open one stays on the page
    opened.watch.check()
