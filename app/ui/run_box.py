"""What is done with one run: name it, note something, clone it, run it again, keep its settings, remove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import presets, runs
from app.config import parse
from app.errors import UsageError, WorkbenchError
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.ui import allowed, notices
from app.ui.draft import Draft
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.look import Look
from app.ui.markup import Html
from app.workspace import Workspace

Shown = Callable[[Any], JobDirectory | None]


@dataclass(frozen=True)
class RunBox:
    """The controls that are wired elsewhere: cloning fills the forms of other tabs, a preset is offered in Plan."""

    clone: gr.Button
    kept: gr.State


def cloned(workspace: Workspace, job: JobDirectory, draft: Draft) -> tuple[Draft, Look]:
    """Return a run's settings and data as a draft and a look. Raises WorkbenchError when they cannot be used here.

    Data that the page may not open stay what they were in the draft.
    """
    config = parse(job.config, job.id)
    data = config.data
    try:
        file = str(allowed.data_file(workspace, data.file))
    except WorkbenchError:
        mine = draft.config.data
        return draft.with_config(config), Look(mine.file, draft.label, mine.format, mine.mapping)
    look = Look(file, Path(file).name, data.format, data.mapping, tuple(data.drop), tuple(data.repair))
    rows = draft.rows if draft.config.data.file == file else 0
    return Draft(config, planned=True).with_data(look, rows), look


def keep_preset(workspace: Workspace, job: JobDirectory, name: Any) -> str:
    """Save a run's settings as a preset. Raises WorkbenchError; returns its name."""
    config = parse(job.config, job.id)
    return presets.save_new(workspace, str(name or ""), config, note=f"from {job.name or job.id}").stem


def build(frame: Frame, selected: gr.State, shown: Shown, after: dict[str, Any]) -> RunBox:
    """Build the folded box of the shown run and wire it. `after` is the event that looks at everything again."""
    make = frame.wording.make
    with make(gr.Accordion, label=Key("run.box"), open=False, elem_id="wb-run-box") as box:
        said = gr.HTML(elem_id="wb-run-said")
        name = make(gr.Textbox, label=Key("run.name"), max_lines=1, elem_id="wb-run-name")
        note = make(gr.Textbox, label=Key("run.note"), lines=2, max_lines=6, elem_id="wb-run-note")
        with gr.Row(elem_classes="wb-actions"):
            save = make(gr.Button, value=Key("run.save"), scale=0, elem_id="wb-run-save")
            clone = make(gr.Button, value=Key("run.clone"), scale=0, elem_id="wb-run-clone")
            again = make(gr.Button, value=Key("run.again"), scale=0, elem_id="wb-run-again")
        with gr.Row(elem_classes="wb-actions wb-end-row"):
            wanted = make(gr.Textbox, label=Key("run.preset"), max_lines=1, min_width=160, elem_id="wb-preset-name")
            keep = make(gr.Button, value=Key("run.keep"), scale=0, elem_id="wb-preset-keep")
    kept = gr.State(0)

    def fill(chosen: Any) -> list[Any]:
        job = shown(chosen)
        return ["", "", ""] if job is None else [job.id, job.name, job.label.note]

    def rename(chosen: Any, called: Any, noted: Any, language: Any) -> Any:
        return _said(lambda job: _rename(job, called, noted), shown(chosen), Speech(language), "run.saved")

    def rerun(chosen: Any, language: Any) -> list[Any]:
        started: list[str] = []
        said = _said(
            lambda job: started.append(runs.again(frame.workspace, job, queue=True).id),
            shown(chosen),
            Speech(language),
            "run.started",
        )
        return [started[0] if started else gr.skip(), said]

    def preset(chosen: Any, called: Any, count: int, language: Any) -> list[Any]:
        made: list[str] = []
        said = _said(
            lambda job: made.append(keep_preset(frame.workspace, job, called)),
            shown(chosen),
            Speech(language),
            "run.kept",
        )
        return [count + len(made), said]

    filled = {"fn": fill, "inputs": selected, "outputs": [selected, name, note], **QUIET}
    box.expand(**filled)
    selected.change(lambda chosen: fill(chosen)[1:], selected, [name, note], **QUIET)
    selected.change(lambda: Html(""), None, said, **QUIET)
    save.click(rename, [selected, name, note, frame.language], said, **QUIET).then(**after)
    again.click(rerun, [selected, frame.language], [selected, said], **QUIET).then(**after)
    keep.click(preset, [selected, wanted, kept, frame.language], [kept, said], **QUIET)
    return RunBox(clone, kept)


def _rename(job: JobDirectory, name: Any, note: Any) -> None:
    called = str(name or "").strip()
    # The name that the run was handed in with is no label of its own.
    label = "" if called == str(job.job.get("name") or "") else called
    requests.relabel(job, label, str(note or ""))


def _said(do: Callable[[JobDirectory], object], job: JobDirectory | None, say: Speech, done: str) -> Html:
    """Do something with a run and return that it is done, or what went wrong."""
    try:
        if job is None:
            raise UsageError("There is no run", "", "start one")
        do(job)
    except WorkbenchError as error:
        return notices.problem(error)
    return notices.note(say(done))
