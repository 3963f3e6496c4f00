"""A dataset of the hub on the Data tab: its size and licence first, then the download, then it is data as any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import NetworkError, WorkbenchError
from app.hub import address, downloads
from app.hub.address import Address
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.runs.dataset_selection import DatasetSelection
from app.ui.components import messages, number_format
from app.ui.components.handlers import QUEUED, Parts, Updates, handler, text
from app.ui.components.markup import Html, element
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.shell.status_bar import meter
from app.workspace import Workspace

_POLL_S = 1.0
_MOST_FILES = 5


def ask(workspace: Workspace, name: str, part: str, ask_only: bool) -> JobDirectory:
    """Start to look a dataset up, or to fetch it. Raises UsageError for what is no name."""
    return downloads.start(workspace, name.strip(), part.strip(), ask_only)


def fetched(job: JobDirectory, status: Status) -> DatasetSelection:
    """Return the look at a fetched dataset: it lies in a folder among the uploads."""
    part = str(job.config.get("part") or "")
    label = str(job.config["dataset"]) + (f" ({part})" if part else "")
    return DatasetSelection(file=str(status.result["folder"]), label=label[:200])


def told(job: JobDirectory, status: Status, t: Translator) -> Html:
    """Return how a look-up or a download stands: how much came, what would come, or what went wrong."""
    if status.state == "failed":
        what, _, rest = (status.reason or f"{job.config['dataset']} cannot be fetched").rstrip(".").partition(". ")
        return messages.problem(NetworkError(what, rest), t)
    if status.state == "finished":
        return facts(status.result, t) if job.config.get("ask_only") else messages.note(t("data.hub.done"))
    if status.final:
        return messages.note(t("data.hub.stopped"))
    host = (address.of_config(job.config) or Address()).host
    if not status.of:
        return messages.note(t("data.hub.asking", name=job.config["dataset"], host=host))
    loading = t("data.hub.loading", done=_megabytes(status.step), total=_megabytes(status.of), host=host)
    return element("div", meter(status.step / status.of, loading), " ", loading, class_="wb-note wb-muted")


def facts(result: Mapping[str, Any], t: Translator) -> Html:
    """Return what would be fetched: size, licence and files."""
    files = [str(path) for path in result["files"]]
    more = t("data.hub.more_files", count=len(files) - _MOST_FILES) if len(files) > _MOST_FILES else ""
    licence = result["licence"] or t("data.hub.no_licence")
    lines = [
        t("data.hub.size", size=_megabytes(int(result["bytes"])), count=len(files)),
        t("data.hub.licence", licence=licence),
        t("data.hub.files", files=", ".join(files[:_MOST_FILES]) + (f" {more}" if more else "")),
    ]
    return element("ul", *(element("li", line) for line in lines), class_="wb-facts-list", id="wb-hub-facts")


def _megabytes(size_bytes: int) -> str:
    return number_format.gigabytes(size_bytes) if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Standing:
    """How the box stands: its job, what is said of it, which buttons there are, and the look at what has arrived."""

    job_id: str
    said: Html
    can_get: bool = False
    can_stop: bool = False
    arrived: DatasetSelection | None = None


def begin(workspace: Workspace, typed: str, part: str, t: Translator, *, ask_only: bool) -> Standing:
    """Start a look-up or a download."""
    try:
        job = ask(workspace, typed, part, ask_only)
    except WorkbenchError as error:
        return Standing("", messages.problem(error, t))
    return Standing(job.id, told(job, job.status(), t), can_stop=True)


def follow(workspace: Workspace, job_id: str, t: Translator) -> Standing | None:
    """Look at the job; None where it is no longer there."""
    try:
        job = jobs.find(workspace, job_id)
    except WorkbenchError:
        return None
    status = job.status()
    offered = status.state == "finished" and bool(job.config.get("ask_only"))
    there = status.state == "finished" and not offered and Path(str(status.result["folder"])).is_dir()
    arrived = fetched(job, status) if there else None
    return Standing(job.id, told(job, status, t), can_get=offered, can_stop=not status.final, arrived=arrived)


def halt(workspace: Workspace, job_id: str) -> None:
    """Stop the job."""
    try:
        requests.stop(workspace, jobs.find(workspace, job_id))
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


def build(context: PageContext, seen: gr.BrowserState, wrong: gr.HTML) -> None:
    """Build the box and wire it; a finished download becomes the look at the data."""
    make = context.translated.make
    with make(gr.Accordion, label=Key("data.hub"), open=False, elem_id="wb-hub"):
        name = make(
            gr.Textbox,
            label=Key("data.hub.name"),
            placeholder=Key("hub.owner_name"),
            max_lines=1,
            elem_id="wb-hub-name",
        )
        part = make(gr.Textbox, label=Key("data.hub.part"), info=Key("data.hub.part_help"), max_lines=1)
        with gr.Row(elem_classes="wb-actions"):
            look_up = make(gr.Button, value=Key("data.hub.look_up"), min_width=90, elem_id="wb-hub-look")
            get = make(gr.Button, value=Key("data.hub.get"), visible=False, min_width=90, elem_id="wb-hub-get")
            stop = make(gr.Button, value=Key("data.hub.stop"), visible=False, min_width=90, elem_id="wb-hub-stop")
        state = gr.HTML(elem_id="wb-hub-state")
    job_id, timer = gr.State(""), gr.Timer(_POLL_S, active=False)
    _wire(context, _Controls(name, part, look_up, get, stop, state, job_id, timer), seen, wrong)


def _wire(context: PageContext, box: _Controls, seen: gr.BrowserState, wrong: gr.HTML) -> None:
    workspace = context.workspace
    shows = [box.job_id, box.state, box.get, box.stop, box.timer]

    def standing(now: Standing) -> Updates:
        buttons = {box.get: gr.update(visible=now.can_get), box.stop: gr.update(visible=now.can_stop)}
        ticks = {box.timer: gr.Timer(active=now.can_stop)}
        return Updates({box.job_id: now.job_id, box.state: now.said, **buttons, **ticks})

    def start(typed: str, part: str, t: Translator, *, ask_only: bool) -> Updates:
        return standing(begin(workspace, typed, part, t, ask_only=ask_only))

    def look(job_id: str, t: Translator) -> Updates:
        now = follow(workspace, job_id, t)
        if now is None:
            return Updates({box.timer: gr.Timer(active=False)})
        found = {} if now.arrived is None else {seen: now.arrived.to_browser(), wrong: Html("")}
        return Updates({**standing(now), **found})

    def forget() -> Updates:
        return Updates({box.get: gr.update(visible=False)})

    reads: Parts = [text(box.name), text(box.part), context.language_field]
    for events, ask_only in (([box.look_up.click, box.name.submit, box.part.submit], True), ([box.get.click], False)):
        gr.on(events, **handler(partial(start, ask_only=ask_only), reads, shows, how=QUEUED))
    gr.on([box.name.input, box.part.input], **handler(forget, shows=[box.get]))
    box.stop.click(**handler(partial(halt, workspace), [text(box.job_id)]))
    box.timer.tick(**handler(look, [text(box.job_id), context.language_field], [*shows, seen, wrong]))
