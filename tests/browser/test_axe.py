"""axe-core finds nothing serious on any view: folds open, light, dark and forced colours, both languages."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from app.config.presets import load
from app.evaluation import history
from app.evaluation.conversation import Answer, Column, Conversation
from app.jobs import directory
from app.jobs.metrics import MetricsWriter
from app.planner.step_profile import PARTS, Part, Product, Scope, StepProfile
from app.workspace import open_workspace
from tests.browser.views import EMPTY, VIEWS, View, open_view
from tests.ui.running_page import RunningPage

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is in requirements-dev.txt")

LOOKS = (("light", "en-US", "none"), ("dark", "zh-CN", "none"), ("light", "en-US", "active"))
_SERIOUS = ("serious", "critical")
# What is dimmed while its answer is on its way is not what is looked at for long: the view is judged at rest.
_AT_REST = """() => !document.querySelector("[data-asking]") && document.getAnimations().every(
    (one) => one.playState !== "running" || one.effect.getComputedTiming().endTime === Infinity
)"""


@pytest.fixture(scope="module")
def with_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished run, its curve, its events and the profile of its steps, and a conversation."""
    root = tmp_path_factory.mktemp("axe") / "workspace"
    workspace = open_workspace(root)
    job = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name="demo")
    metrics = MetricsWriter(job.metrics_file)
    for step in range(1, 41):
        metrics.write({"step": step, "loss": 3.0 / step, "learning_rate": 1e-3, "time": float(step)})
    metrics.write({"event": "checkpoint", "message": "checkpoint at step 40", "step": 40})
    metrics.close()
    job.log_file.write_text("step 1\nstep 2\n", encoding="utf-8")
    job.write_status(directory.Status(state="finished", step=40, of=40, started=1.0, ended=40.0))
    profile = directory.create(workspace, "profile", job.config, run=job.id)
    profile.result.mkdir()
    parts = [Part(name, 0.05, 0.1) for name in PARTS]
    found = StepProfile(
        device="cpu", dtype="float32", model="starter", steps=3, seconds=0.5, least_seconds=0.4, most_seconds=0.6,
        tokens=1000.0, parts=parts, scopes=Scope("step", 0.5, [Scope("forward", 0.3)]), share_of_limit=0.3,
        products=[Product(64, 128, 128, 4.0, 10.0)], products_seconds=0.2,
    )  # fmt: skip
    (profile.result / "profile.json").write_text(json.dumps(asdict(found)), encoding="utf-8")
    profile.write_status(directory.Status(state="finished", step=3, of=3, started=1.0, ended=9.0))
    talk = Conversation([Column("base", "Base")])
    talk.ask("What colour is grass?").answers["base"] = Answer("Green.", done=True)
    history.keep(workspace, talk)
    return root


def _opened(browser: Browser, served: RunningPage, look: tuple[str, str, str]) -> Page:
    scheme, locale, forced = look
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme=scheme, locale=locale, forced_colors=forced
    )  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(served.url)
    page.wait_for_selector("#tab-plan-button[data-mark]")
    page.wait_for_selector("#wb-bars .wb-stack")
    return page


def _faults(page: Page, view: View) -> list[str]:
    """Return what axe calls serious on a view, one line each."""
    page.wait_for_function(_AT_REST)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{view.name}: {one['id']} ({len(one['nodes'])}): {node['html'][:160]}"
        for one in found
        if one["impact"] in _SERIOUS
        for node in one["nodes"][:3]
    ]


def _check(browser: Browser, root: Path, views: tuple[View, ...], looks: tuple[tuple[str, str, str], ...]) -> None:
    faults: list[str] = []
    with RunningPage(root) as served:
        for look in looks:
            page = _opened(browser, served, look)
            for view in views:
                open_view(page, view)
                faults += [f"{'/'.join(look)} {line}" for line in _faults(page, view)]
            page.context.close()
    if "WORKBENCH_SHOTS" in os.environ:
        (Path(os.environ["WORKBENCH_SHOTS"]) / "axe.txt").write_text("\n".join(faults), encoding="utf-8")
    assert faults == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_view_with_a_run_has_a_serious_fault(browser: Browser, with_a_run: Path) -> None:
    assert len(VIEWS) * len(LOOKS) >= 40
    _check(browser, with_a_run, VIEWS, LOOKS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_view_of_a_fresh_workspace_has_a_serious_fault(browser: Browser, tmp_path: Path) -> None:
    _check(browser, tmp_path / "workspace", EMPTY, LOOKS[:2])
