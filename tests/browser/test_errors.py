"""Errors on the page: at their field, in both languages, gone with their cause; and what a run would really have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config.presets import load
from app.jobs import directory as jobs
from app.workspace import open_workspace
from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

SENTENCE = "#wb-plan-sentence"
RANK, RATE = "#set-adapter-r", "#set-training-learning-rate"


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("WORKBENCH_SHOTS", str(tmp_path)))


def test_an_invalid_form_has_its_errors_at_the_fields_and_an_answer_that_is_marked(
    served: RunningPage, open_page: Callable[..., Opened], shots: Path
) -> None:
    opened = open_page(served)
    page = opened.page
    page.wait_for_selector(f"{SENTENCE}:has-text('Fits.')")
    page.click("#tab-plan .label-wrap:has-text('Training')")
    for text, said in (("", "Nothing stands here."), ("1.5", "1.5 is no whole number."), ("0", "0 is out of range.")):
        page.fill(f"{RANK} input", text)
        page.wait_for_selector(f"{RANK} .wb-field-error:has-text('{said}')")
        assert page.inner_text(f"{RANK} .wb-field-error").endswith("Write a whole number from 1 to 1,024.")
        assert "Fits" not in page.inner_text(SENTENCE) and "out of date" in page.inner_text(SENTENCE)
        assert page.get_attribute(f"{RANK} input", "aria-invalid") == "true"
    for place in ("#wb-bars", "#wb-curve"):
        assert float(page.eval_on_selector(place, "one => getComputedStyle(one).opacity")) < 0.6
    page.fill(f"{RATE} input", "1,024")
    page.wait_for_selector(f"{RATE} .wb-field-error:has-text('two ways')")
    page.fill("#set-training-max-steps input", "1000000000")
    page.wait_for_selector("#set-training-max-steps .wb-field-error:has-text('out of range')")
    page.screenshot(path=str(shots / "errors-light-en.png"), full_page=True)
    page.click("#wb-language")
    page.wait_for_selector(f"{RANK} .wb-field-error:has-text('请填写整数')")
    page.wait_for_selector(f"{SENTENCE}:has-text('已经过时')")
    page.click("#wb-theme")
    page.screenshot(path=str(shots / "errors-dark-zh.png"), full_page=True)
    page.click("#wb-theme")
    page.click("#wb-language")
    page.fill("#set-training-max-steps input", "-1")
    page.fill(f"{RATE} input", "0,0003")
    page.fill(f"{RANK} input", "16")
    page.wait_for_selector(f"{SENTENCE}:has-text('Fits.')")
    assert page.locator(".wb-field-error, [aria-invalid=true], #wb-plan-error .wb-error").count() == 0
    assert float(page.eval_on_selector("#wb-bars", "one => getComputedStyle(one).opacity")) == 1
    # An arrow key does not turn a small number into a large one.
    page.fill(f"{RATE} input", "0.0015")
    page.press(f"{RATE} input", "ArrowUp")
    assert page.input_value(f"{RATE} input") == "0.0015"
    page.press(f"{RANK} input", "ArrowUp")
    assert page.input_value(f"{RANK} input") == "17"
    # A model that is none.
    page.fill("#wb-model input", "no-such-model")
    page.press("#wb-model input", "Enter")
    page.wait_for_selector("#wb-model .wb-field-error")
    page.wait_for_selector(f"{SENTENCE}:has-text('out of date')")
    assert page.inner_text("#wb-model-note").strip() == ""
    page.screenshot(path=str(shots / "errors-model-en.png"), full_page=True)
    page.click("#wb-presets label >> nth=0")
    page.wait_for_selector("#wb-plan-error .wb-error", state="detached")
    page.wait_for_selector(f"{SENTENCE}:has-text('Peak')")
    opened.watch.check()


def test_what_is_shown_and_not_taken_over_is_said_beside_start(
    served: RunningPage, open_page: Callable[..., Opened], shots: Path
) -> None:
    opened = open_page(served)
    page = opened.page
    workspace = open_workspace(served.workspace)
    page.wait_for_selector(f"{SENTENCE}:has-text('Fits.')")
    opened.tab("train")
    page.click("#wb-start")
    page.wait_for_selector("#wb-train-error .wb-error:has-text('No training data is named')")
    opened.tab("data")
    page.click("#wb-sample-0")
    page.wait_for_selector("#wb-rows table")
    page.click("#wb-use-data")
    page.wait_for_selector("#wb-train-sentence:has-text('pirate.json')")
    page.wait_for_selector("#wb-train-error .wb-error", state="detached")
    page.wait_for_function("!document.querySelector('#wb-unplanned').innerText.trim()")
    opened.tab("plan")
    page.fill(f"{RANK} input", "4")
    page.wait_for_timeout(600)
    opened.tab("train")
    page.wait_for_selector("#wb-unplanned:has-text('4 is shown')")
    page.click("#wb-start")
    page.wait_for_selector("#wb-train-error .wb-error:has-text('Nothing was started')")
    assert jobs.all_jobs(workspace, "train") == []
    page.screenshot(path=str(shots / "unplanned-light-en.png"), full_page=True)
    page.click("#wb-language")
    page.wait_for_selector("#wb-unplanned:has-text('秩')")
    page.click("#wb-theme")
    page.screenshot(path=str(shots / "unplanned-dark-zh.png"), full_page=True)
    page.click("#wb-theme")
    page.click("#wb-language")
    page.click("#wb-take-over")
    page.wait_for_selector("#wb-train-sentence:has-text('r=4')")
    page.wait_for_function("!document.querySelector('#wb-unplanned').innerText.trim()")
    page.wait_for_selector("#wb-train-error .wb-error", state="detached")
    # The other way out: the form is put back to the run's settings.
    opened.tab("plan")
    page.fill(f"{RANK} input", "")
    page.wait_for_selector(f"{RANK} .wb-field-error")
    opened.tab("train")
    page.wait_for_selector("#wb-unplanned:has-text('cannot be used')")
    assert not page.is_visible("#wb-take-over")
    page.click("#wb-put-back")
    page.wait_for_function("!document.querySelector('#wb-unplanned').innerText.trim()")
    opened.tab("plan")
    page.wait_for_function("document.querySelector('#set-adapter-r input').value === '4'")
    page.wait_for_selector("#wb-plan-error .wb-error", state="detached")
    # Another run owns the accelerator, until it has ended.
    owner = jobs.create(workspace, "train", load("cpu-starter").config.as_dict(), name="other")
    opened.tab("train")
    page.click("#wb-start")
    page.wait_for_selector("#wb-train-error .wb-error:has-text('Another run owns the accelerator')")
    owner.write_status(jobs.Status(state="stopped", step=0, of=0))
    page.wait_for_selector("#wb-train-error .wb-error", state="detached")
    assert re.search("r=4", page.inner_text("#wb-train-sentence"))
    opened.watch.check()
