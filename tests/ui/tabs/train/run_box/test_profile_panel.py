"""Where a step's time goes, as the page shows it: measured by a real job of the starter, in both languages."""

from __future__ import annotations

import pytest

from app.config.presets import load
from app.errors import BusyError
from app.jobs import directory, requests, supervisor
from app.jobs.directory import Status
from app.planner.step_profile import PARTS, Part, Scope, StepProfile
from app.runs import request_paths
from app.runs.submission import profiling
from app.ui.shell.language import Translator
from app.ui.tabs.train.run_box import profile_panel
from app.workspace import Workspace

T, ZH = Translator("en"), Translator("zh")


def run_of(workspace: Workspace, state: str = "finished") -> directory.JobDirectory:
    settings = {"data.file": str(request_paths.SAMPLES / "pirate.json")}
    with supervisor.admission(workspace):
        job = directory.create(workspace, "train", load("cpu-starter").config.changed(settings).as_dict(), name="mine")
        job.write_status(Status(state=state))  # type: ignore[arg-type]
    return job


def profile(share: float | None = 0.4) -> StepProfile:
    parts = [Part(name, 0.25 if name in ("backward", "other", "forward: other") else 0.0, 0.25) for name in PARTS]
    scopes = Scope("step", 1.0, [Scope("<backward>", 0.6)])
    return StepProfile(
        device="cpu", dtype="bf16", model="starter", steps=3, seconds=1.0, least_seconds=0.9, most_seconds=1.1,
        tokens=1234.0, parts=parts, scopes=scopes, products=[], products_seconds=0.4, share_of_limit=share,
    )  # fmt: skip


def test_each_part_that_takes_time_is_a_row_with_its_own_name() -> None:
    said = profile_panel.found(profile(), T)
    assert said.count("<tr>") == 1 + 3
    for name in ("Backward", "Forward: other", "Other"):
        assert f'<th scope="row">{name}</th><td>0.2500 s</td>' in said
    assert "25.0 %" in said and "1,234 tokens a step, bf16 on cpu" in said
    assert "40 % of this machine" in said and "limit" not in profile_panel.found(profile(None), T)


@pytest.mark.parametrize("t", [T, ZH])
def test_every_part_has_a_name_in_the_page_s_language(t: Translator) -> None:
    for name in PARTS:
        key = f"profile.part.{name.replace(': ', '_').replace(' ', '_')}"
        assert t(key) != key


def test_the_picture_is_drawn_and_can_be_saved_and_no_name_becomes_markup() -> None:
    said = profile_panel.found(profile(), T)
    assert "<svg" in said and "&lt;backward&gt;" in said and "<backward>" not in said
    assert 'data-save="profile.svg"' in said


def test_nothing_is_shown_before_a_profile_was_asked_for(workspace: Workspace) -> None:
    run = run_of(workspace)
    assert profiling.newest(workspace, run.id) is None and profile_panel.shown(None, T) == ""


def test_while_a_run_has_the_accelerator_none_is_measured(workspace: Workspace) -> None:
    run = run_of(workspace)
    with supervisor.admission(workspace):
        directory.create(workspace, "train", run.config, name="other")
    with pytest.raises(BusyError):
        profile_panel.start(workspace, run)
    assert profiling.newest(workspace, run.id) is None


@pytest.mark.slow
def test_a_run_s_own_steps_are_measured(workspace: Workspace) -> None:
    run, other = run_of(workspace), run_of(workspace)
    job = profile_panel.start(workspace, run)
    assert profiling.newest(workspace, run.id).id == job.id  # type: ignore[union-attr]
    assert profiling.newest(workspace, other.id) is None
    requests.wait(job, timeout_s=300)
    said = profile_panel.shown(job, T)
    assert "Backward" in said and "<svg" in said and "starter" in said
