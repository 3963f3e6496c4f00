"""The tabs as steps: which are done, which no longer hold, what each has decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.config.presets import load
from app.jobs import directory
from app.runs import dataset_selection
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.ui.shell import steps
from app.ui.shell.language import Translator
from app.workspace import Workspace, open_workspace

_CONFIG = load("cpu-starter").config


def _marks(workspace: Workspace, draft: Draft, seen: DatasetSelection) -> dict[str, str]:
    return {one.name: one.mark for one in steps.steps(workspace, draft, seen, Translator())}


def test_a_fresh_workspace_has_decided_nothing(tmp_path: Path) -> None:
    found = steps.steps(open_workspace(tmp_path), Draft(_CONFIG), DatasetSelection(), Translator())
    assert [one.mark for one in found] == [steps.OPEN] * 5
    assert all(one.line for one in found)


def test_plan_and_data_say_what_they_decided_and_when_it_no_longer_holds(tmp_path: Path) -> None:
    workspace, pirate = open_workspace(tmp_path), dataset_selection.sample("pirate.json")
    draft = Draft(_CONFIG, planned=True).with_data(pirate, 300)
    plan, data, *_ = steps.steps(workspace, draft, pirate, Translator())
    assert (plan.mark, plan.line) == (steps.DONE, "starter, QLoRA r=8")
    assert data.mark == steps.DONE
    assert "300 rows" in data.line
    other = dataset_selection.sample("teacher.json")
    assert _marks(workspace, draft, other)["data"] == steps.STALE


def test_a_run_of_another_plan_is_marked(tmp_path: Path) -> None:
    workspace, pirate = open_workspace(tmp_path), dataset_selection.sample("pirate.json")
    draft = Draft(_CONFIG, planned=True).with_data(pirate, 300)
    job = directory.create(workspace, "train", draft.config.as_dict(), name="first")
    job.write_status(directory.Status(state="finished", step=80, of=80))
    assert _marks(workspace, draft, pirate)["train"] == steps.DONE
    wider = replace(draft, config=draft.config.changed({"adapter.r": 32}))
    assert _marks(workspace, wider, pirate)["train"] == steps.STALE
    job.write_status(directory.Status(state="failed", step=3, of=80, reason="no memory"))
    assert _marks(workspace, wider, pirate)["train"] == steps.FAILED


def test_the_lines_are_inert() -> None:
    said = steps.markup([steps.Step("plan", steps.DONE, "<img src=x>")], [], Translator("zh"))
    assert "<img" not in said
    assert 'data-said="已完成"' in said
