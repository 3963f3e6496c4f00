"""Evaluate in a browser: held-out rows, the table and the picture, and a click that keeps the marked weight."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from app.evaluation.held_out import results
from app.jobs import directory
from app.runs.on_disk import artifacts
from app.workspace import open_workspace, source_sha256
from tests.browser.conftest import Opened
from tests.models import tiny_models
from tests.training.in_process import DATA, go, small
from tests.ui.running_page import RunningPage

pytestmark = [tiny_models.PEFT_WARNING, pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
NAME = "Learned A Little"
_PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    """The page on a workspace with a run that learned some of the pirate's style, a tenth of its rows kept back.

    The run ends before the page starts, whose supervisor would take one in this process for a crashed one.
    """
    folder = tmp_path_factory.mktemp("browser") / "workspace"
    settings = small(training__max_steps=24, training__learning_rate=4e-3, training__save_steps=12)
    sha256 = source_sha256(DATA)
    job = directory.create(open_workspace(folder), "train", settings.as_dict(), name=NAME, data_sha256=sha256)
    assert go(job).status().state == "finished"
    with RunningPage(folder) as page:
        yield page


def chosen(page: Page, box: str, label: str) -> None:
    """Choose an entry of a drop-down list."""
    page.click(f"{box} input")
    page.locator(f"{box} [role=option]:has-text('{label}')").first.click()


def test_an_evaluation_with_its_picture_and_the_weight_that_is_kept(
    served: RunningPage, open_page: Callable[..., Opened], tmp_path: Path
) -> None:
    opened = open_page(served)
    page, workspace = opened.page, open_workspace(served.workspace)
    opened.tab("playground")
    page.wait_for_selector(f"#wb-adapters :text('{NAME}')")
    page.locator("#wb-play-modes button[role=tab]").nth(5).click()
    page.wait_for_selector("#wb-evaluate-result .wb-empty")

    rows = tmp_path / "none.jsonl"
    rows.write_text('{"weight": 3}\n', encoding="utf-8")
    with page.expect_file_chooser() as opening:
        page.click("#wb-evaluate-upload")
    opening.value.set_files(rows)
    page.wait_for_function("document.querySelector('#wb-evaluate-data input').value === 'none.jsonl'")
    page.click("#wb-evaluate-run")
    page.wait_for_selector("#wb-evaluate-line .wb-reason", timeout=_PATIENCE_MS)
    assert "Nothing can be evaluated" in page.inner_text("#wb-evaluate-line")

    chosen(page, "#wb-evaluate-data", "held")
    chosen(page, "#wb-evaluate-metrics", "Loss")
    page.keyboard.press("Escape")
    page.locator("#wb-evaluate-curves input[type=checkbox]").first.check()
    page.click("#wb-evaluate-run")
    page.wait_for_selector("#wb-evaluate-result tbody tr:nth-child(2)", timeout=_PATIENCE_MS)
    told = page.inner_text("#wb-evaluate-result")
    assert NAME in told and "Left out: 2" in told and f"{NAME} was trained" not in told
    job = directory.all_jobs(workspace, "evaluate")[-1]
    page.wait_for_selector("#wb-evaluate-result .wb-keep-weight", timeout=_PATIENCE_MS)
    found = results.read(job)
    assert found is not None and not found.contamination[0].rows and found.left_out["trained"] > 200
    base, mine = found.columns
    assert base.loss is not None and mine.loss is not None and mine.loss < base.loss
    assert mine.forgetting is not None and mine.forgetting.kl > 0 and mine.forgetting.known > 0

    with page.expect_download() as saved:
        page.click("#wb-evaluate-result [data-save$='.csv'] >> nth=0")
    saved.value.save_as(tmp_path / "figures.csv")
    table = list(csv.reader((tmp_path / "figures.csv").open(encoding="utf-8")))
    assert table[0] == ["column", "metric", "value", "low", "high", "n"]
    assert [float(row[2]) for row in table if row[:2] == [NAME, "loss"]] == [pytest.approx(mine.loss)]

    page.click("#wb-evaluate-result .wb-keep-weight")
    best = found.curves[0].best or 0.0
    page.wait_for_selector(f"#wb-adapters :text('{NAME} at {best:g}')", timeout=_PATIENCE_MS)
    made = next(one for one in artifacts.all_artifacts(workspace) if f"{NAME} at {best:g}" in one.name)
    kept = json.loads((made.folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert 0 < best < 1.5 and kept["r"] == 8
    opened.watch.check()
