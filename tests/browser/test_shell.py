"""The frame of the page in a browser: the bar that stays, the steps, the address."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from app.config.presets import load
from app.jobs import directory, supervisor
from app.jobs.lock import FileLock
from app.workspace import open_workspace
from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage


@pytest.fixture(scope="module")
def with_runs(served: RunningPage) -> list[str]:
    """Two finished runs; return their ids in the order of the page's, the older first."""
    workspace = open_workspace(served.workspace)
    found = []
    for name in ("first", "second"):
        with supervisor.admission(workspace):  # the page would start a run that waits
            job = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name=name)
            job.write_status(directory.Status(state="finished", step=20, of=20))
        found.append(job.id)
    return sorted(found)


@pytest.mark.parametrize("width", [1440, 768, 390])
def test_the_bar_stays_and_the_answer_of_the_plan_beside_its_form(
    served: RunningPage, open_page: Callable[..., Opened], width: int
) -> None:
    page = open_page(served, width=width).page
    page.wait_for_selector("#wb-bars .wb-stack")
    page.evaluate("document.querySelectorAll('#tab-plan .label-wrap').forEach(fold => fold.click())")
    page.wait_for_function("document.documentElement.scrollHeight > 2200")
    page.evaluate("window.scrollTo(0, 1500)")
    page.wait_for_timeout(200)
    place = "document.querySelector('{}').getBoundingClientRect()"
    assert page.evaluate(place.format("#wb-strip-row") + ".top") == 0
    assert 0 < page.evaluate(place.format("#wb-plan-sentence .wb-sentence") + ".top") < 200
    if width >= 900:
        assert page.evaluate(place.format("#wb-use-plan") + ".bottom") <= 900


# How many pixels of each part of the machine's readings are in sight, and how many it has.
_MACHINE_PARTS = """() => {
  const box = document.querySelector('.wb-machine').getBoundingClientRect();
  return [...document.querySelectorAll('.wb-machine > *')].map(part => {
    const own = part.getBoundingClientRect(), inside = own.top < box.bottom - 1;
    const cut = part.scrollWidth > part.clientWidth || own.left < box.left - 1 || own.right > box.right + 1;
    return [part.className, own.width > 0 && inside, cut];
  });
}"""


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_machine_is_named_whole_or_not_at_all(
    served: RunningPage, open_page: Callable[..., Opened], locale: str
) -> None:
    page = open_page(served, locale=locale).page
    page.wait_for_selector(".wb-machine")
    named = {}
    for width in (1440, 1000, 900, 768, 700, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        parts = page.evaluate(_MACHINE_PARTS)
        assert [name for name, shown, cut in parts if shown and cut] == [], width
        assert any("wb-number" in name and shown for name, shown, _ in parts), width
        named[width] = any("wb-number" not in name and shown for name, shown, _ in parts)
    assert named[1440]


# A run in the bar, and how many pixels of its name and of its figures are cut off.
_RUN_CUT = """() => {
  const job = document.querySelector('.wb-job');
  job.dataset.job = "x";
  const figures = ["52/80", "loss 0.311", "00:15 left"].map((one) => `<span class="wb-number">${one}</span>`);
  job.innerHTML = '<span class="wb-job-name">boxes on starter</span><span class="wb-meter"></span>' + figures.join("");
  document.querySelector('#wb-stop-place').innerHTML =
    '<button class="wb-stop">Stop <span class="wb-stop-name">boxes on starter</span></button>';
  return [job.firstChild, job].map((one) => one.scrollWidth - one.clientWidth);
}"""


def test_a_run_is_named_in_the_bar_while_there_is_room(served: RunningPage, open_page: Callable[..., Opened]) -> None:
    # The machine kept the room of what it no longer showed, and at 1280 the name was gone and the time left cut off.
    page = open_page(served).page
    for width in (1440, 1280, 768):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert max(page.evaluate(_RUN_CUT)) <= 1, width


def test_the_address_names_the_tab_and_the_run(
    served: RunningPage, with_runs: list[str], open_page: Callable[..., Opened]
) -> None:
    older, newer = with_runs
    opened = open_page(served)
    page = opened.page
    page.set_default_timeout(15_000)
    page.wait_for_selector("#tab-train-button[data-mark=done]")
    assert page.get_attribute("#tab-train-button", "data-note") in ("first: finished", "second: finished")
    opened.tab("train")
    page.wait_for_function(f"location.hash === '#/train/{newer}'")
    page.click(f"[data-pick='show:{older}']")
    page.wait_for_function(f"location.hash === '#/train/{older}'")
    opened.reload()
    page.wait_for_selector(f"#wb-run [data-run='{older}']")
    assert page.get_attribute("#tab-train-button", "aria-selected") == "true"
    opened.tab("export")
    page.wait_for_function("location.hash === '#/export'")
    page.go_back()
    page.wait_for_function(f"location.hash === '#/train/{older}'")
    page.wait_for_selector("#tab-train-button[aria-selected=true]")
    opened.watch.check()


# Notes what the page shows by the system instead of showing it; nobody looks at this page.
_NOTICES = """() => {
  window.notices = [];
  window.Notification = class { constructor(text, more) { notices.push([text, more.body]); } };
  Notification.permission = "granted";
  document.hasFocus = () => false;
}"""


def test_the_title_follows_a_run_and_says_that_it_has_ended_until_somebody_looks(
    served: RunningPage, open_page: Callable[..., Opened]
) -> None:
    workspace = open_workspace(served.workspace)
    with supervisor.admission(workspace):
        job = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name="third")
        lock = FileLock(job.lock_file)
        assert lock.acquire()
        running = directory.Status(state="running", step=5, of=20, started=time.time()).with_heartbeat()
        job.write_status(running)
    page = open_page(served).page
    page.evaluate(_NOTICES)
    page.wait_for_function("document.title.startsWith('25 % · third · ')")
    job.write_status(directory.Status(state="finished", step=20, of=20))
    lock.release()
    page.wait_for_function("document.title.startsWith('✓ third · ')", timeout=20_000)
    ((text, how),) = page.evaluate("window.notices")
    assert text == "Ended: third" and "third: finished" in how
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    assert page.title() == "Plan · LoRA Workbench"
