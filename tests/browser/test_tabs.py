"""Every tab in light and dark, wide and narrow, in both languages; and strangers' text, which stays text."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config.presets import load
from app.jobs import directory, supervisor
from app.jobs.metrics import MetricsWriter
from app.workspace import open_workspace
from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

TABS = ("plan", "data", "train", "playground", "export")
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"
    "<a href='javascript:alert(4)'>link</a>${alert(5)}{{value}}\\u001b[31mred"
)
# The buttons that stand where no width of the page shows them; a box that scrolls hides them without a wider page.
_BESIDE = """() => [...document.querySelectorAll("button")].filter((one) => {
    const box = one.getBoundingClientRect(), middle = box.left + box.width / 2;
    return one.checkVisibility() && (middle >= innerWidth || middle <= 0);
}).map((one) => one.id || one.innerText)"""


@pytest.fixture(scope="module")
def with_hostile_run(served: RunningPage) -> RunningPage:
    """The page with a run whose name, events, reason and log are an attack."""
    workspace = open_workspace(served.workspace)
    with supervisor.admission(workspace):  # the page would start a run that waits
        job = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name=HOSTILE)
        metrics = MetricsWriter(job.metrics_file)
        for step in range(1, 11):
            metrics.write({"step": step, "loss": 3.0 - step / 10, "time": float(step)})
        metrics.write({"event": "resumed", "message": HOSTILE, "step": 4})
        metrics.close()
        job.log_file.write_text(HOSTILE, encoding="utf-8")
        job.write_status(directory.Status(state="failed", step=10, of=20, reason=HOSTILE))
    return served


@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    [(1440, "light", "en-US"), (1440, "dark", "zh-CN"), (390, "light", "zh-CN"), (390, "dark", "en-US")],
)
def test_every_tab_opens_in_every_look(
    with_hostile_run: RunningPage,
    open_page: Callable[..., Opened],
    tmp_path: Path,
    width: int,
    scheme: str,
    locale: str,
) -> None:
    opened = open_page(with_hostile_run, width=width, scheme=scheme, locale=locale)
    shots = Path(os.environ.get("WORKBENCH_SHOTS", str(tmp_path)))
    assert opened.page.evaluate("document.body.classList.contains('dark')") is (scheme == "dark")
    for name in TABS:
        opened.tab(name)
        opened.page.wait_for_timeout(700)
        opened.page.screenshot(path=str(shots / f"{name}-{width}-{scheme}-{locale}.png"), full_page=True)
        wider = opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{name} is {wider} px wider than the window"
        assert not opened.page.evaluate(_BESIDE), f"{name} has buttons beside the window"
    opened.watch.check()


def test_nothing_jumps_while_the_page_is_filled(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    """The score of Chromium's own layout shifts; 0.3 was measured when the page was shown while it was being filled."""
    opened = open_page(served)
    opened.page.wait_for_selector("#wb-bars .wb-stack")
    opened.page.wait_for_timeout(1500)
    # Where nothing jumped at all, the observer is never called.
    shifts = "new PerformanceObserver(list => done(list.getEntries())).observe({type: 'layout-shift', buffered: true})"
    none = "setTimeout(() => done([]), 2000)"
    score = f"new Promise(done => {{{shifts}; {none}}}).then(all => all.reduce((sum, one) => sum + one.value, 0))"
    assert opened.page.evaluate(score) < 0.1
    opened.watch.check()


def test_the_language_and_the_theme_are_switched_and_kept(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    page.click("#wb-language")
    page.wait_for_selector("#tab-plan-button:has-text('规划')")
    page.wait_for_selector("html[lang=zh]", state="attached")
    page.click("#wb-theme")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.wait_for_timeout(500)
    opened.reload()
    page.wait_for_selector("#tab-plan-button:has-text('规划')")
    assert page.evaluate("document.body.classList.contains('dark')")
    opened.watch.check()


def test_what_the_browser_keeps_stands_outside_of_the_tabs(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    # Inside a tab it is read only when that tab is opened: a conversation was gone after every reload on another tab.
    config = open_page(served).page.evaluate("fetch('config').then(answer => answer.json())")
    kinds = {one["id"]: one["type"] for one in config["components"]}

    def kept(node: dict[str, Any], in_tab: bool = False) -> Iterator[bool]:
        in_tab = in_tab or kinds.get(node["id"]) == "tabitem"
        if kinds.get(node["id"]) == "browserstate":
            yield in_tab
        for child in node.get("children") or []:
            yield from kept(child, in_tab)

    assert list(kept(config["layout"])) == [False] * 4  # language, draft, look, conversation


@pytest.mark.fault("A17")
def test_strangers_text_in_a_run_is_inert(with_hostile_run: RunningPage, open_page: Callable[..., Opened]) -> None:
    opened = open_page(with_hostile_run)
    page = opened.page
    opened.tab("train")
    page.click("#wb-runs .wb-card")
    page.wait_for_selector("#wb-run .wb-reason")
    assert "<script>alert(1)</script>" in page.inner_text("#wb-run")
    page.click("#tab-train .label-wrap:has-text('Log')")
    page.wait_for_selector(".wb-log:has-text('onerror')")
    page.wait_for_timeout(500)
    assert page.locator("#wb-run img, #wb-run script, #wb-runs img, .wb-log img, .wb-log a").count() == 0
    opened.watch.check()


@pytest.mark.fault("A17")
def test_strangers_text_in_data_is_inert(served: RunningPage, open_page: Callable[..., Opened], tmp_path: Path) -> None:
    opened = open_page(served)
    page = opened.page
    rows = tmp_path / "<img src=x onerror=alert(9)>.jsonl"
    text = HOSTILE.replace('"', '\\"')
    rows.write_text(f'{{"instruction": "{text}", "output": "{text}"}}\n' * 3, encoding="utf-8")
    opened.tab("data")
    page.set_input_files("#wb-drop input[type=file]", str(rows))
    page.wait_for_selector("#wb-rows table")
    assert "<script>alert(1)</script>" in page.inner_text("#wb-rows")
    assert "${alert(5)}{{value}}" in page.inner_text("#wb-rows")
    page.click("#wb-data-views button[role=tab]:has-text('Tokens')")
    page.wait_for_selector("#wb-tokens .wb-token")
    page.click("#wb-data-views button[role=tab]:has-text('Problems')")
    page.wait_for_selector("#wb-problems table")
    page.wait_for_timeout(500)
    for place in ("#wb-rows", "#wb-tokens", "#wb-problems", "#wb-data-sentence"):
        assert page.locator(f"{place} :is(img, script, svg, a)").count() == 0
    opened.watch.check()
    kept = [path for path in (served.workspace / "uploads").rglob("*.jsonl") if ".incoming" not in path.parts]
    assert len(kept) == 1 and "<" not in kept[0].name
    assert not list((served.workspace / "uploads" / ".incoming").rglob("*.jsonl"))


def test_a_wrong_setting_is_said_where_the_hand_is(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    opened = open_page(served)
    page = opened.page
    page.fill("#set-adapter-r input", "0")
    page.wait_for_selector("#wb-plan-error .wb-error:has-text('adapter.r')")
    page.fill("#set-adapter-r input", "16")
    page.wait_for_selector("#wb-plan-error .wb-error", state="detached")
    opened.watch.check()


def test_a_plan_that_does_not_fit_offers_a_remedy_that_does(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    page.fill("#wb-model input", "Qwen/Qwen3-14B")
    page.press("#wb-model input", "Enter")
    page.wait_for_selector("#wb-model-note:has-text('14')")
    page.click("#wb-card label:has-text('8 GB')")
    page.wait_for_selector("#wb-plan-sentence:has-text('Does not fit')")
    page.click("#wb-remedies .wb-remedy >> nth=0")
    page.wait_for_selector("#wb-plan-sentence:has-text('Fits.')")
    opened.watch.check()


def test_bytes_of_another_encoding_break_no_page_and_no_reload(
    served: RunningPage, open_page: Callable[..., Opened], tmp_path: Path
) -> None:
    """One foreign byte in a problem's text made every answer fail, also after a reload, for the browser kept it."""
    opened = open_page(served)
    page = opened.page
    rows = tmp_path / "Caf\u00e9 menu.csv"
    lines = [
        "instruction,output",
        "Who?,Ren\u00e9 \u0080 said \u201cno\u201d",
        'What?,"caf\u00e9',
        "When?,\u00e9t\u00e9",
        "",
    ]
    rows.write_bytes("\r\n".join(lines).encode("cp1252", "replace") + b"\x81\x8d,\xe9\x00\xff\r\n\xe9,,\xe9,\xe9\r\n")
    opened.tab("data")
    page.set_input_files("#wb-drop input[type=file]", str(rows))
    page.wait_for_function("!/Choose a sample/.test(document.querySelector('#wb-data-sentence').innerText)")
    for _ in range(2):
        opened.reload()  # the address says which tab was open, and it is again
        page.wait_for_selector("#wb-plan-sentence .wb-sentence:not(:empty)", state="attached")
        opened.tab("data")
        page.wait_for_selector("#wb-rows table, #wb-data-error .wb-error, #wb-problems table", state="attached")
    opened.tab("train")
    page.wait_for_selector("#wb-train-sentence .wb-sentence")
    opened.watch.check()


def test_a_stored_plan_of_another_version_is_set_aside_with_a_line(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    for language in ("zh", "en"):  # the browser keeps a language once one was chosen
        page.click("#wb-language")
        page.wait_for_selector(f"html[lang={language}]", state="attached")
    page.wait_for_function("!!localStorage.getItem('workbench-language')")
    page.click("#wb-use-plan")
    page.wait_for_function("!!localStorage.getItem('workbench-draft')")
    # A language is no plan: what was written by the same page, under another name.
    page.evaluate("localStorage.setItem('workbench-draft', localStorage.getItem('workbench-language'))")
    opened.reload()
    page.wait_for_selector("#wb-kept:has-text('was set aside')")
    page.wait_for_selector("#wb-plan-sentence .wb-sentence:not(:empty)", state="attached")
    opened.reload()
    page.wait_for_selector("#wb-plan-sentence .wb-sentence:not(:empty)", state="attached")
    page.wait_for_selector("#wb-strip .wb-machine")
    assert "set aside" not in page.inner_text("body")
    opened.watch.check()


def test_a_first_visit_in_chinese_shows_the_plan_that_would_be_trained(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    # The texts of the other language came behind the values, which were then left out as those of an older answer.
    opened = open_page(served, locale="zh-CN")
    opened.page.wait_for_selector("#wb-presets input:checked", state="attached")
    opened.tab("train")
    opened.page.wait_for_selector("#wb-train-sentence .wb-sentence:not(:empty)")
    opened.page.wait_for_timeout(1500)
    assert opened.page.locator("#tab-train").inner_text().count("运行将使用") == 0
    opened.watch.check()
