"""The five tabs as steps of one way: which are done, which no longer hold, and in one line what each has decided.

The framework draws the tabs; the page's script hangs a mark and a line on each, as this block says them. What cannot be
read is said on its own tab and is no step that is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import WorkbenchError
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.runs.current import config_of, training_runs
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.runs.on_disk import artifacts
from app.ui.components import number_format
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import job_name
from app.ui.tabs.train import unplanned
from app.workspace import Workspace

DONE, STALE, ACTIVE, OPEN, FAILED = "done", "stale", "active", "open", "failed"
_MOST_CHARS = 34
_MOST_RUNS = 40
# What an older run may have otherwise without being another run than the draft's.
_COMPARED = ("model", "adapter", "quantization", "data", "training")


@dataclass(frozen=True)
class Step:
    """One tab: its mark (one of the five above) and the line below its name."""

    name: str
    mark: str
    line: str


def steps(workspace: Workspace, draft: Draft, seen: DatasetSelection, t: Translator) -> list[Step]:
    """Return the steps as they stand on disk and in the draft."""
    runs = training_runs(workspace)
    run = runs[0] if runs else None
    return [
        _plan(draft, t),
        _data(draft, seen, t),
        _train(draft, run, t),
        _playground(workspace, run, t),
        _export(workspace, t),
    ]


def said(workspace: Workspace, draft: Draft, seen: DatasetSelection, t: Translator) -> Html:
    """Return the block that the page's script reads."""
    return markup(steps(workspace, draft, seen, t), training_runs(workspace), t)


def markup(found: Sequence[Step], runs: Sequence[JobDirectory], t: Translator) -> Html:
    """Return the steps for the page's script: unseen, each with its mark, its line and the mark in words; and the runs.

    The runs are there to be found by name.
    """
    items = [
        element("li", one.line, data_step=one.name, data_mark=one.mark, data_said=t(f"step.mark.{one.mark}"))
        for one in found
    ]
    named = [element("li", job_name(job, t), data_run=job.id) for job in runs[:_MOST_RUNS]]
    return element("ol", *items, *named, class_="wb-steps-said", hidden=True)


def _plan(draft: Draft, t: Translator) -> Step:
    if not draft.planned:
        return Step("plan", OPEN, t("step.plan.open"))
    config = draft.config
    model = config.model.name.rpartition("/")[2]
    rank = "" if config.adapter.method == "full" else f" r={config.adapter.r}"
    method = t(f"step.method.{config.method}")
    return Step("plan", DONE, _short(f"{model}, {method}{rank}"))


def _data(draft: Draft, seen: DatasetSelection, t: Translator) -> Step:
    if not draft.config.data.file:
        return Step("data", OPEN, t("step.data.open"))
    rows = t("step.data.rows", count=draft.rows, rows=number_format.count(draft.rows)) if draft.rows else ""
    line = _short(", ".join(part for part in (draft.label or t("step.data.file"), rows) if part))
    same = not seen.file or unplanned.is_same_data(seen, draft.config)
    return Step("data", DONE if same else STALE, line)


def _train(draft: Draft, run: JobDirectory | None, t: Translator) -> Step:
    if run is None:
        return Step("train", OPEN, t("step.train.open"))
    status, name = run.status(), job_name(run, t)
    if not status.final:
        return Step("train", ACTIVE, _short(f"{name}: {t.known(f'state.{status.state}', status.state)}"))
    if status.state == "failed":
        return Step("train", FAILED, _short(f"{name}: {t('state.failed')}"))
    if draft.planned and draft.config.data.file and _differs(draft, run):
        return Step("train", STALE, t("step.train.stale"))
    return Step("train", DONE if status.state == "finished" else STALE, _short(f"{name}: {t(f'state.{status.state}')}"))


def _differs(draft: Draft, run: JobDirectory) -> bool:
    """Tell whether the draft would train something else than a run has trained."""
    trained = config_of(run)
    if trained is None:
        return True
    shown, other = unplanned.as_shown(draft.config), unplanned.as_shown(trained)
    return any(getattr(shown, section) != getattr(other, section) for section in _COMPARED)


def _playground(workspace: Workspace, run: JobDirectory | None, t: Translator) -> Step:
    try:
        offered = artifacts.choices(workspace)
    except WorkbenchError:
        offered = []
    if not offered or run is None:
        return Step("playground", OPEN, t("step.playground.open"))
    return Step("playground", DONE, _short(t("step.playground.ready", count=len(offered), name=offered[0][0])))


def _export(workspace: Workspace, t: Translator) -> Step:
    made = [*jobs.all_jobs(workspace, "merge"), *jobs.all_jobs(workspace, "export")]
    states = [job.recorded_status() for job in made]
    if any(status.live for status in states):
        return Step("export", ACTIVE, t("step.export.busy"))
    done = sum(status.state == "finished" for status in states)
    return (
        Step("export", DONE, t("step.export.done", count=done)) if done else Step("export", OPEN, t("step.export.open"))
    )


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1].rstrip() + "…"
