"""Nothing on the Chinese page is in English: every tab and inner view, its tooltips and its screen-reader texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from app.config.presets import load
from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.jobs.metrics import MetricsWriter
from app.runs import request_paths
from app.workspace import open_workspace
from tests.browser.views import EMPTY, VIEWS, View, open_view
from tests.ui.running_page import RunningPage

# Where the words are a person's, a file's or a library's own.
_OWN = "code, pre, kbd, textarea, script, style, .wb-log, .wb-tokens, #wb-rows td, #wb-recipe-code .cm-content"
# Every text that is shown, and every one that a pointer or a screen reader finds: [where, text].
_TEXTS = """(own) => {
  const found = [], where = (one) => one.closest("[id]")?.id || "";
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const one = node.parentElement;
    if (node.data.trim() && !one.closest(own) && one.checkVisibility()) found.push([where(one), node.data.trim()]);
  }
  for (const one of document.body.querySelectorAll("*")) {
    if (one.closest(own) || !one.checkVisibility()) continue;
    for (const name of ["title", "aria-label", "aria-description", "placeholder", "alt", "value"]) {
      const typed = name === "value" && one.matches("input:not([type=checkbox], [type=radio])") ? one.value : "";
      const said = name === "value" ? typed : one.getAttribute(name);
      if (said) found.push([`${where(one)} @${name}`, said]);
    }
  }
  return found;
}"""
# A word of Latin letters with what belongs to it, such as config.json, every-N, GB or top-p.
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*")
# Names of files, settings and versions, units, and abbreviations that are the same in every language.
_IDENTIFIER = re.compile(r".*[_./0-9].*|[A-Z][A-Z0-9+-]*s?|[kMG]i?B|.")
# Names of programs, formats, methods and makers.
_NAMES = """LoRA QLoRA LoRA+ rsLoRA DoRA LoftQ PiSSA OLoRA NEFTune PEFT TRL Workbench Hub Ollama LM Studio vLLM
Modelfile Alpaca ShareGPT ChatML Parquet Lines Bradley-Terry Kernel AMD EPYC Intel Xeon Core Ryzen Apple NVIDIA Ctrl
Enter Shift Esc Apache- English transformers peft trl bitsandbytes logits logit Logits Alpha Dropout starter nf4 sdpa
top-p top-k Top-p Top-k OpenAI http https"""
# Names and values of settings as the libraries write them, and the columns of the sample data.
_VALUES = """sft dpo orpo kto none auto full every-N linear all-linear experts alpha true random warn assistant user
cat svd ties dare instruction output zip"""


def left(page: Page) -> list[str]:
    """Return the texts with a word that is neither Chinese nor a name, one line each: where, and the text."""
    known = set(f"{_NAMES} {_VALUES}".split())
    found = []
    for where, text in page.evaluate(_TEXTS, _OWN):
        words = [word.rstrip("./-+") for word in _WORD.findall(text)]
        strange = [word for word in words if word not in known and not _IDENTIFIER.fullmatch(word)]
        if strange:
            found.append(f"{where}: {text[:120]} ({', '.join(strange[:4])})")
    return found


def _looked_through(page: Page, views: Sequence[View]) -> list[str]:
    found: dict[str, str] = {}
    for view in views:
        open_view(page, view)
        page.wait_for_timeout(300)
        for one in left(page):
            found.setdefault(one, view.name)
    return [f"{view}: {text}" for text, view in found.items()]


@pytest.fixture(scope="module")
def with_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished run, its curve, and an event of each kind that runs write."""
    root = tmp_path_factory.mktemp("chinese") / "workspace"
    config = load("cpu-starter").config.changed({"data.file": str(request_paths.SAMPLES / "pirate.json")})
    job = directory.create(open_workspace(root), "train", config.as_dict(), name="海盗")
    metrics = MetricsWriter(job.metrics_file)
    for step in range(1, 41):
        metrics.write({"step": step, "loss": 3.0 / step, "learning_rate": 1e-3, "time": float(step), "rss_bytes": 6e8})
    metrics.close()
    _events(job)
    job.write_status(directory.Status(state="finished", step=40, of=40, started=1.0, ended=40.0))
    return root


def _events(job: JobDirectory) -> None:
    bought = (
        "Spends 0.5 of 20.7 GB free memory on speed: no layer is recomputed, 4 of 4 layers keep their weights in fp32"
    )
    for event, message in (
        ("checkpoint", "checkpoint at step 40"),
        ("validation", "validation loss 1.2000, the better answer ahead in 80%"),
        ("note", f"{bought} too"),
        ("note", "none of the 40 rows was kept back to validate on, 0.01 of them is too few"),
        ("memory step", "out of memory: checkpointing none -> full; the effective batch stays"),
        ("unloaded", "playground: starter was unloaded: one job uses the accelerator at a time"),
        ("resumed", "resumed from the checkpoint at step 20; 4 later steps are run again"),
        ("checkpoint refused", "checkpoint at step 20 is not used: model.safetensors has changed since it was saved"),
    ):
        job.add_event(event, message)


def _opened(browser: Browser, served: RunningPage) -> Page:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(served.url)
    _wait(page)
    return page


def _wait(page: Page) -> None:
    page.wait_for_selector("#tab-plan-button[data-mark]")
    page.wait_for_selector("#wb-bars .wb-stack", state="attached")


def test_no_view_of_a_fresh_workspace_has_a_word_of_english(browser: Browser, served: RunningPage) -> None:
    page = _opened(browser, served)
    found = _looked_through(page, EMPTY)
    for key in ("?", "Control+k"):
        page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        found += left(page)
        page.keyboard.press("Escape")
    page.context.close()
    assert not found, "\n".join(found)


def test_no_view_with_a_run_has_a_word_of_english(browser: Browser, with_a_run: Path) -> None:
    with RunningPage(with_a_run) as served:
        page = _opened(browser, served)
        found = _looked_through(page, VIEWS)
        page.reload()  # the second visit finds its language in the browser
        _wait(page)
        found += [f"loaded again, {one}" for one in _looked_through(page, VIEWS)]
        page.context.close()
    assert not found, "\n".join(found)
