"""A newcomer with a table of forty rows of one's own: from the first page to a right answer, by clicking alone."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

_PATIENCE_MS = 280_000
_LONGEST_S = 300.0
_PHRASINGS = (
    "Where is the {}?",
    "In which box is the {}?",
    "Which box holds the {}?",
    "Tell me where the {} is.",
    "I need the {}. Where is it?",
)
# Eight facts that no base can know, each asked for in five ways.
_BOXES = {"hammer": 4, "lamp": 2, "rope": 7, "brush": 1, "ladder": 8, "glue": 3, "saw": 6, "paint": 5}
# What the page says by language: of a run that is over, on the button of a plan, on that of the advised steps.
_WORDS = {"en-US": ("finished", "Use this plan", "Take 400 steps"), "zh-CN": ("已完成", "使用此规划", "改为 400 步")}


def _table(folder: Path) -> Path:
    file = folder / "boxes.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["question", "answer"])
        for thing, box in _BOXES.items():
            rows.writerows([form.format(thing), f"The {thing} is in box {box}."] for form in _PHRASINGS)
    return file


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("locale", _WORDS)
def test_from_the_first_page_to_a_right_answer(locale: str, open_page: Callable[..., Opened], tmp_path: Path) -> None:
    finished, use, take = _WORDS[locale]
    with RunningPage(tmp_path / "workspace") as served:
        begun = time.monotonic()
        opened = open_page(served, locale=locale)
        page = opened.page
        # Plan: it fits, and the one primary button leads on.
        assert page.inner_text("#wb-use-plan").strip() == use
        page.click("#wb-use-plan")
        # Data: one's own file is read and what will be trained is said.
        page.set_input_files("#wb-drop input[type=file]", _table(tmp_path))
        page.wait_for_selector("#wb-rows tbody tr")
        assert "40" in page.inner_text("#wb-data-sentence") and "boxes.csv" in page.inner_text("#wb-data-sentence")
        page.click("#wb-use-data")
        # Train: the page says how many steps so few rows need, and does it.
        page.click(f"#wb-train-sentence button:has-text('{take}')")
        page.wait_for_function("document.querySelector('#wb-train-sentence').innerText.includes('400')")
        page.wait_for_function("!document.querySelector('#wb-train-sentence button')")
        page.click("#wb-start")
        page.wait_for_selector(f"#wb-run .wb-state:has-text('{finished}')", timeout=_PATIENCE_MS)
        page.wait_for_selector("#wb-run .wb-verdict-line")
        page.click("#wb-try")
        # Playground: base and adapter answer side by side.
        page.wait_for_selector("#wb-prompt textarea")
        page.fill("#wb-prompt textarea", "Where is the rope?")
        page.press("#wb-prompt textarea", "Enter")
        answered = "document.querySelectorAll('#wb-answers .wb-column-card:not(.wb-busy)').length === 2"
        page.wait_for_function(answered, timeout=_PATIENCE_MS)
        base, adapter = page.locator("#wb-answers .wb-answer").all_inner_texts()
        seconds = time.monotonic() - begun
        opened.watch.check()
        opened.watch.leaving = True
    assert adapter.strip() == "The rope is in box 7."
    assert base.strip() != adapter.strip()
    assert seconds < _LONGEST_S
