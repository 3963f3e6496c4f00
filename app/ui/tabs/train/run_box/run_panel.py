"""What is done with one run: name it, tag it, note something, clone it, run it again, keep its settings, remove it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gradio as gr

from app import support
from app.config import presets
from app.config.schema import parse
from app.errors import UsageError, WorkbenchError, keyed
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.runs import current, request_paths
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.runs.submission import submit
from app.ui.components import messages
from app.ui.components.handlers import Updates, Wiring, handler, held, text
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.train import unplanned
from app.workspace import Workspace


@dataclass(frozen=True)
class RunBox:
    """The controls that are wired elsewhere: cloning fills the forms of other tabs, a preset is offered in Plan."""

    clone: gr.Button
    kept: gr.State


def cloned(workspace: Workspace, job: JobDirectory, draft: Draft) -> tuple[Draft, DatasetSelection]:
    """Return a run's settings and data as a draft and a look. Raises WorkbenchError when they cannot be used here.

    Data that the page may not open stay what they were in the draft.
    """
    config = parse(job.config, job.id)
    data = config.data
    try:
        file = str(request_paths.data_file(workspace, data.file))
    except WorkbenchError:
        return draft.with_config(config), unplanned.look_of(draft)
    look = DatasetSelection(file, Path(file).name, data.format, data.mapping, tuple(data.drop), tuple(data.repair))
    rows = draft.rows if draft.config.data.file == file else 0
    return Draft(config, planned=True).with_data(look, rows), look


def keep_preset(workspace: Workspace, job: JobDirectory, name: str) -> str:
    """Save a run's settings as a preset. Raises WorkbenchError; returns its name."""
    config = parse(job.config, job.id)
    return presets.save_new(workspace, name, config, note=f"from {job.name or job.id}").stem


def save_bundle(workspace: Workspace, job: JobDirectory) -> tuple[str, Path]:
    """Write a run's support bundle for the browser to fetch; return its whole text and the file."""
    made = support.collect(job, workspace.root)
    out = Path(tempfile.mkdtemp(prefix="bundle-")) / f"support-{job.id}.zip"
    made.save(out)
    return made.text(), out


@dataclass(frozen=True)
class _Controls:
    box: gr.Accordion
    said: gr.HTML
    name: gr.Textbox
    tags: gr.Textbox
    note: gr.Textbox
    save: gr.Button
    clone: gr.Button
    again: gr.Button
    wanted: gr.Textbox
    keep: gr.Button
    kept: gr.State


def build(context: PageContext, selected: gr.State, after: Wiring) -> RunBox:
    """Build the folded box of the shown run and wire it. `after` is the event that looks at everything again."""
    make = context.translated.make
    with make(gr.Accordion, label=Key("run.box"), open=False, elem_id="wb-run-box") as box:
        said = gr.HTML(elem_id="wb-run-said")
        name = make(gr.Textbox, label=Key("run.name"), max_lines=1, elem_id="wb-run-name")
        hint = Key("run.tags_hint")
        tags = make(gr.Textbox, label=Key("run.tags"), placeholder=hint, max_lines=1, elem_id="wb-run-tags")
        note = make(gr.Textbox, label=Key("run.note"), lines=2, max_lines=6, elem_id="wb-run-note")
        with gr.Row(elem_classes="wb-actions"):
            save = make(gr.Button, value=Key("run.save"), scale=0, elem_id="wb-run-save")
            clone = make(gr.Button, value=Key("run.clone"), scale=0, elem_id="wb-run-clone")
            again = make(gr.Button, value=Key("run.again"), scale=0, elem_id="wb-run-again")
        with gr.Row(elem_classes="wb-actions wb-end-row"):
            wanted = make(gr.Textbox, label=Key("run.preset"), max_lines=1, min_width=160, elem_id="wb-preset-name")
            keep = make(gr.Button, value=Key("run.keep"), scale=0, elem_id="wb-preset-keep")
        _build_bundle(context, selected, said)
    controls = _Controls(box, said, name, tags, note, save, clone, again, wanted, keep, gr.State(0))
    _wire_label(context, controls, selected, after)
    _wire_copies(context, controls, selected, after)
    return RunBox(clone, controls.kept)


def _wire_label(context: PageContext, c: _Controls, selected: gr.State, after: Wiring) -> None:
    """Wire the name, the tags and the note of the shown run."""
    workspace = context.workspace

    def label(chosen: object) -> Updates:
        job = current.shown_run(workspace, chosen)
        if job is None:
            return Updates({c.name: "", c.tags: "", c.note: ""})
        label = job.label
        return Updates({c.name: job.name, c.tags: ", ".join(label.tags), c.note: label.note})

    def fill(chosen: object) -> Updates:
        job = current.shown_run(workspace, chosen)
        return Updates({**label(chosen), selected: "" if job is None else job.id})

    def rename(chosen: object, called: str, tagged: str, noted: str, t: Translator) -> Updates:
        label = partial(_rename, name=called, tags=tagged, note=noted)
        return Updates({c.said: _said(label, workspace, chosen, t, "run.saved")})

    c.box.expand(**handler(fill, [held(selected)], [selected, c.name, c.tags, c.note]))
    selected.change(**handler(label, [held(selected)], [c.name, c.tags, c.note]))
    selected.change(**handler(lambda: Html(""), shows=[c.said]))
    reads = [held(selected), text(c.name), text(c.tags), text(c.note), context.language_field]
    c.save.click(**handler(rename, reads, [c.said])).then(**after)


def _wire_copies(context: PageContext, c: _Controls, selected: gr.State, after: Wiring) -> None:
    """Wire what is made of the shown run: the same run again, and a preset of its settings."""
    workspace = context.workspace

    def rerun(chosen: object, t: Translator) -> Updates:
        started: list[str] = []

        def start(job: JobDirectory) -> None:
            started.append(submit.again(workspace, job, queue=True).id)

        said = _said(start, workspace, chosen, t, "run.started")
        return Updates({c.said: said, **({selected: started[0]} if started else {})})

    def preset(chosen: object, called: str, count: int, t: Translator) -> Updates:
        made: list[str] = []
        said = _said(lambda job: made.append(keep_preset(workspace, job, called)), workspace, chosen, t, "run.kept")
        return Updates({c.kept: count + len(made), c.said: said})

    t = context.language_field
    c.again.click(**handler(rerun, [held(selected), t], [selected, c.said])).then(**after)
    c.keep.click(**handler(preset, [held(selected), text(c.wanted), held(c.kept), t], [c.kept, c.said]))


def _build_bundle(context: PageContext, selected: gr.State, said: gr.HTML) -> None:
    """Build what shows the support bundle of the shown run and then offers it as a file, and wire it."""
    make = context.translated.make
    with gr.Row(elem_classes="wb-actions"):
        show = make(gr.Button, value=Key("run.bundle"), scale=0, elem_id="wb-bundle-show")
        fetch = make(gr.DownloadButton, label=Key("run.bundle.save"), visible=False, scale=0, elem_id="wb-bundle-save")
    bundled = make(
        gr.Textbox,
        label=Key("run.bundle.text"),
        lines=8,
        max_lines=16,
        interactive=False,
        visible=False,
        elem_id="wb-bundle-text",
    )

    def bundle(chosen: object, t: Translator) -> Updates:
        try:
            job = current.picked_run(context.workspace, chosen)
            if job is None:
                hidden = {bundled: gr.update(visible=False, value=""), fetch: gr.update(visible=False, value=None)}
                return Updates({**hidden, said: Html("")})
            words, out = save_bundle(context.workspace, job)
        except WorkbenchError as error:
            return Updates({said: messages.problem(error, t)})
        made = {bundled: gr.update(visible=True, value=words), fetch: gr.update(visible=True, value=str(out))}
        return Updates({**made, said: Html("")})

    def hide() -> Updates:
        return Updates({control: gr.update(visible=False, value=None) for control in (bundled, fetch)})

    show.click(**handler(bundle, [held(selected), context.language_field], [bundled, fetch, said]))
    selected.change(**handler(hide, shows=[bundled, fetch]))


def _rename(job: JobDirectory, name: str, tags: str, note: str) -> None:
    called = name.strip()
    # The name that the run was handed in with is no label of its own.
    label = "" if called == str(job.job.get("name") or "") else called
    requests.relabel(job, label, note, tags)


def _said(do: Callable[[JobDirectory], object], workspace: Workspace, chosen: object, t: Translator, done: str) -> Html:
    """Do something with the picked run and return that it is done, or what went wrong."""
    try:
        job = current.picked_run(workspace, chosen)
        if job is None:
            raise UsageError(keyed("there_is_no_run", "There is no run"), "", keyed("start_one", "start one"))
        do(job)
    except WorkbenchError as error:
        return messages.problem(error, t)
    return messages.note(t(done))
