"""Vote, learn from the vote by DPO, and vote again: the whole loop, clicked through in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from app.jobs import directory, requests
from app.jobs.directory import JobDirectory
from app.jobs.metrics import read_rows, steps_of
from app.workspace import Workspace, open_workspace
from tests.browser.conftest import Opened
from tests.browser.finished_runs import finished_run
from tests.models import tiny_models
from tests.ui.running_page import RunningPage

pytestmark = [tiny_models.PEFT_WARNING, pytest.mark.slow]
NAME = "First Answers"
_PATIENCE_MS = 300_000


@pytest.fixture(scope="module")
def first(served: RunningPage) -> Path:
    return finished_run(served.workspace, NAME)


def vote(page: Page, prompt: str) -> None:
    page.locator("#wb-play-modes button[role=tab]").nth(1).click()
    page.fill("#wb-vote-prompt textarea", prompt)
    page.click("#wb-ask-blind")
    page.wait_for_selector("[data-pick=none]", timeout=_PATIENCE_MS)
    page.click("[data-pick=A]")
    page.wait_for_selector("#wb-ballot .wb-good")


def appeared(page: Page, workspace: Workspace, before: set[str]) -> JobDirectory:
    """Return the run that was started, once it is there."""
    for _ in range(240):
        for job in directory.all_jobs(workspace, "train"):
            if job.id not in before:
                return job
        page.wait_for_timeout(500)
    raise AssertionError(page.inner_text("#wb-train-error"))


def test_vote_learn_and_vote_again(served: RunningPage, first: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(served)
    page, workspace = opened.page, open_workspace(served.workspace)
    opened.tab("playground")
    page.wait_for_selector(f"#wb-adapters :text('{NAME}')")
    page.locator("#wb-play-modes button[role=tab]").nth(1).click()
    page.click("#wb-learn-votes")
    page.wait_for_selector("#wb-learn-error .wb-error")  # nothing was preferred yet
    vote(page, "What colour is grass?")
    cast = json.loads(workspace.votes_file.read_text().splitlines()[-1])
    assert len(cast["answers"]) == 2 and len(set(cast["answers"].values())) == 2

    page.click("#wb-learn-votes")
    page.wait_for_selector("#wb-start", state="visible")
    page.wait_for_function("document.querySelector('#wb-train-sentence').innerText.includes('votes.jsonl')")
    before = {job.id for job in directory.all_jobs(workspace, "train")}
    page.click("#wb-start")
    job = appeared(page, workspace, before)
    assert requests.wait(job, timeout_s=300).state == "finished", job.status().reason
    settings = job.config
    assert settings["training"]["objective"] == "dpo" and settings["adapter"]["start_from"] == str(first)
    steps = steps_of(read_rows(job.metrics_file))
    assert steps[0]["rewards_margin"] == 0 and steps[-1]["rewards_margin"] > 0
    (pair,) = [json.loads(line) for line in Path(settings["data"]["file"]).read_text().splitlines()]
    assert pair["prompt"] == "What colour is grass?" and pair["source"].startswith("vote ")
    assert {pair["chosen"], pair["rejected"]} == {text.strip() for text in cast["answers"].values()}
    page.wait_for_function("document.querySelector('#wb-charts').innerText.includes('Reward margin')")

    page.click("#wb-try")
    page.wait_for_selector("#wb-adapters :text('votes')")
    vote(page, "What is the capital of Spain?")
    again = json.loads(workspace.votes_file.read_text().splitlines()[-1])
    assert any("votes" in one["name"] for one in again["candidates"])
    opened.watch.check()
