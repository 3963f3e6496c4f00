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
