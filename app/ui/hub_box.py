"""A dataset of the hub on the Data tab: its size and licence first, then the download, then it is data as any other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app import downloads
from app.errors import NetworkError, WorkbenchError
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.ui import figures, notices
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.look import Look
from app.ui.markup import Html, element
from app.ui.strip import meter
from app.workspace import Workspace

_POLL_S = 1.0
_MOST_FILES = 5


def ask(workspace: Workspace, name: Any, part: Any, ask_only: bool) -> JobDirectory:
    """Start to look a dataset up, or to fetch it. Raises UsageError for what is no name."""
    return downloads.start(workspace, str(name or "").strip(), str(part or "").strip(), ask_only)


def fetched(job: JobDirectory, status: Status) -> Look:
    """Return the look at a fetched dataset: it lies in a folder among the uploads."""
    part = str(job.config.get("part") or "")
    label = str(job.config["dataset"]) + (f" ({part})" if part else "")
    return Look(file=str(status.result["folder"]), label=label[:200])


def told(job: JobDirectory, status: Status, say: Speech) -> Html:
    """Return how a look-up or a download stands: how much came, what would come, or what went wrong."""
    if status.state == "failed":
        what, _, rest = (status.reason or f"{job.config['dataset']} cannot be fetched").rstrip(".").partition(". ")
        return notices.problem(NetworkError(what, rest))
    if status.state == "finished":
        return facts(status.result, say) if job.config.get("ask_only") else notices.note(say("data.hub.done"))
    if status.final:
        return notices.note(say("data.hub.stopped"))
    if not status.of:
        return notices.note(say("data.hub.asking", name=job.config["dataset"]))
    loading = say("data.hub.loading", done=_megabytes(status.step), total=_megabytes(status.of))
    return element("div", meter(status.step / status.of, loading), " ", loading, class_="wb-note wb-muted")


def facts(result: dict[str, Any], say: Speech) -> Html:
    """Return what would be fetched: size, licence and files."""
    files = [str(path) for path in result["files"]]
    more = say("data.hub.more_files", count=len(files) - _MOST_FILES) if len(files) > _MOST_FILES else ""
    licence = result["licence"] or say("data.hub.no_licence")
    lines = [
        say("data.hub.size", size=_megabytes(int(result["bytes"])), count=len(files)),
        say("data.hub.licence", licence=licence),
        say("data.hub.files", files=", ".join(files[:_MOST_FILES]) + (f" {more}" if more else "")),
    ]
    return element("ul", *(element("li", line) for line in lines), class_="wb-facts-list", id="wb-hub-facts")


def _megabytes(size_bytes: int) -> str:
    return figures.gigabytes(size_bytes) if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"


def begin(workspace: Workspace, typed: Any, wanted: Any, language: Any, *, ask_only: bool) -> list[Any]:
    """Start a look-up or a download; return the job, what is said of it, the two buttons and the ticking."""
    hidden = gr.update(visible=False)
    try:
        job = ask(workspace, typed, wanted, ask_only)
    except WorkbenchError as error:
        return ["", notices.problem(error), hidden, hidden, gr.Timer(active=False)]
    return [job.id, told(job, job.status(), Speech(language)), hidden, gr.update(visible=True), gr.Timer(active=True)]


def follow(workspace: Workspace, current: Any, language: Any) -> list[Any]:
    """Look at the job; return what `begin` does, the look at the data once it is there, and no error then."""
    try:
        job = jobs.find(workspace, str(current or ""))
    except WorkbenchError:
        return [*[gr.skip()] * 4, gr.Timer(active=False), gr.skip(), gr.skip()]
    status = job.status()
    offered = status.state == "finished" and bool(job.config.get("ask_only"))
    arrived = status.state == "finished" and not offered and Path(str(status.result["folder"])).is_dir()
    found = [fetched(job, status).to_browser(), Html("")] if arrived else [gr.skip(), gr.skip()]
    buttons = [gr.update(visible=offered), gr.update(visible=not status.final)]
    said = told(job, status, Speech(language))
    return [gr.skip(), said, *buttons, gr.Timer(active=not status.final), *found]


def halt(workspace: Workspace, current: Any) -> None:
    """Stop the job."""
    try:
        requests.stop(workspace, jobs.find(workspace, str(current or "")))
    except WorkbenchError:
        return  # it is gone already, and the next look says so


@dataclass(frozen=True)
class _Controls:
    name: gr.Textbox
    part: gr.Textbox
    look_up: gr.Button
    get: gr.Button
    stop: gr.Button
    state: gr.HTML
    job_id: gr.State
    timer: gr.Timer


def build(frame: Frame, seen: gr.BrowserState, wrong: gr.HTML) -> None:
    """Build the box and wire it; a finished download becomes the look at the data."""
    make = frame.wording.make
    with make(gr.Accordion, label=Key("data.hub"), open=False, elem_id="wb-hub"):
        name = make(
            gr.Textbox, label=Key("data.hub.name"), placeholder="owner/name", max_lines=1, elem_id="wb-hub-name"
        )
        part = make(gr.Textbox, label=Key("data.hub.part"), info=Key("data.hub.part_help"), max_lines=1)
        with gr.Row(elem_classes="wb-actions"):
            look_up = make(gr.Button, value=Key("data.hub.look_up"), min_width=90, elem_id="wb-hub-look")
            get = make(gr.Button, value=Key("data.hub.get"), visible=False, min_width=90, elem_id="wb-hub-get")
            stop = make(gr.Button, value=Key("data.hub.stop"), visible=False, min_width=90, elem_id="wb-hub-stop")
        state = gr.HTML(elem_id="wb-hub-state")
    job_id, timer = gr.State(""), gr.Timer(_POLL_S, active=False)
    _wire(frame, _Controls(name, part, look_up, get, stop, state, job_id, timer), seen, wrong)


def _wire(frame: Frame, box: _Controls, seen: gr.BrowserState, wrong: gr.HTML) -> None:
    # What a look renews: the job, what is said of it, the buttons, the ticking.
    shown = [box.job_id, box.state, box.get, box.stop, box.timer]
    inputs = [box.name, box.part, frame.language]
    for events, ask_only in (([box.look_up.click, box.name.submit, box.part.submit], True), ([box.get.click], False)):
        gr.on(events, partial(begin, frame.workspace, ask_only=ask_only), inputs, shown, **QUIET)
    gr.on([box.name.input, box.part.input], lambda: gr.update(visible=False), None, box.get, **QUIET)
    box.stop.click(partial(halt, frame.workspace), box.job_id, None, **QUIET)
    box.timer.tick(partial(follow, frame.workspace), [box.job_id, frame.language], [*shown, seen, wrong], **QUIET)
