"""The models and datasets on this disk, folded on the Plan tab: what they take, one more or one less of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from app.errors import WorkbenchError
from app.files import disk_free_bytes
from app.hub import address
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.runs.on_disk import models_on_disk
from app.runs.on_disk.models_on_disk import OnDisk
from app.ui.components import messages, number_format, questions
from app.ui.components.handlers import EACH, Control, Parts, Updates, handler, text
from app.ui.components.markup import Html, element, joined
from app.ui.components.questions import Asked
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.shell.status_bar import meter, phase_name
from app.ui.tabs.plan import mirror_field
from app.workspace import Workspace

_LOOK_S = 1.0
# A download that ended longer ago is nobody's news any more.
_NEWS_S = 600.0


def listing(workspace: Workspace, t: Translator) -> Html:
    """Return the downloads, the models and the datasets of this disk, each with its size, licence and buttons."""
    found = models_on_disk.on_disk(workspace)
    recent = list(_recent(workspace))
    coming = {_name_of(job) for job in recent}
    rows = [_row(one, t, is_coming=one.id in coming) for one in sorted(found, key=lambda one: -one.bytes)]
    total = number_format.gigabytes(sum(one.bytes for one in found))
    free = number_format.gigabytes(disk_free_bytes(workspace.root))
    room = element("p", t("models.room", total=total, free=free), class_="wb-note wb-muted")
    fetches = [_fetch(job, t) for job in recent]
    listed = element("ul", *rows, class_="wb-models")
    return element("div", *fetches, listed, room, mirror_field.source(workspace, t))


def _row(model: OnDisk, t: Translator, *, is_coming: bool) -> Html:
    about = [t(f"models.kind.{model.kind}"), t.known(f"models.licence.{model.licence}", model.licence)]
    about += [] if model.complete else [t("models.in_part")]
    facts = element("span", t("planner.comma").join(about), class_="wb-muted")
    size = element("span", number_format.size(model.bytes), class_="wb-number")
    name = element("code", model.id, title=model.path, class_="wb-model-name")
    label = t("models.remove_one", name=model.id)
    buttons: list[Html] = []
    plain: dict[str, object] = {"type": "button", "class_": "wb-small"}
    if not model.complete and not is_coming and _comes_from_here(model):
        again = t("models.go_on_one", name=model.id)
        buttons.append(element("button", t("models.go_on"), data_pick=_pick_more(model), aria_label=again, **plain))
    if model.kind != "bundled":
        which = model.path if model.type == "dataset" else model.id
        buttons.append(element("button", t("models.remove"), data_pick=f"remove:{which}", aria_label=label, **plain))
    return element("li", name, facts, element("span", size, *buttons, class_="wb-models-end"))


def _comes_from_here(one: OnDisk) -> bool:
    """Tell whether this program can go on with what came in part: not with a dataset that another one fetches."""
    return one.kind == "hub" or (one.kind == "dataset" and not (Path(one.path) / "blobs").is_dir())


def _pick_more(one: OnDisk) -> str:
    return f"{'fetch' if one.type == 'model' else 'rows'}:{one.id}"


def _recent(workspace: Workspace) -> Iterator[JobDirectory]:
    """Yield the downloads that go on or have just ended, the newest first, and of each thing the newest one."""
    seen: set[str] = set()
    for job in models_on_disk.going(workspace):
        status, name = job.status(), f"{job.job['kind']} {_name_of(job)}"
        ended = time.time() - (status.ended or status.heartbeat or 0)
        if name not in seen and (not status.final or (status.state != "finished" and ended < _NEWS_S)):
            yield job
        seen.add(name)


def _name_of(job: JobDirectory) -> str:
    return str(job.config.get("model") or job.config.get("dataset"))


def _fetch(job: JobDirectory, t: Translator) -> Html:
    """Return how a download stands: how much of it is there, how fast it comes, and what stops it or goes on."""
    status, name = job.status(), _name_of(job)
    parts: list[object] = [element("code", name, class_="wb-model-name")]
    plain: dict[str, object] = {"type": "button", "class_": "wb-small"}
    if status.final:
        parts.append(element("span", t.heard_line(status.page_reason) or t("models.stopped"), class_="wb-warn"))
        verb = "fetch" if "model" in job.config else "rows"
        parts.append(element("button", t("models.go_on"), data_pick=f"{verb}:{name}", **plain))
    else:
        if status.of:
            parts.append(meter(status.step / status.of, t("strip.progress")))
        parts.append(element("span", _pace(status, t), class_="wb-number"))
        parts += _source(job, t)
        label = t("models.stop_one", name=name)
        parts.append(element("button", t("models.stop"), data_pick=f"stop:{job.id}", aria_label=label, **plain))
    return element("div", *parts, class_="wb-model-fetch", role="status")


def _source(job: JobDirectory, t: Translator) -> list[object]:
    """Return where a download comes from; nothing of a job from before there were mirrors."""
    where = address.of_config(job.config)
    return [element("span", t("models.from", host=where.host), class_="wb-muted")] if where else []


def _pace(status: Status, t: Translator) -> str:
    if not status.of:
        return phase_name(status.phase or status.state, t)
    seconds = time.time() - (status.started or time.time())
    numbers = {"done": number_format.gigabytes(status.step), "total": number_format.gigabytes(status.of)}
    pace = number_format.gigabytes(status.step / seconds) if seconds > 1 else "-"
    return t("models.coming", **numbers, pace=pace)


def remove_question(workspace: Workspace, name: str, t: Translator) -> Asked | None:
    """Ask whether a model is deleted, naming it and its size; None where it is not there."""
    found = next((one for one in models_on_disk.on_disk(workspace) if name in (one.id, one.path)), None)
    if found is None:
        return None
    size = number_format.gigabytes(found.bytes)
    return Asked(t(f"models.ask.{found.kind}", name=found.id, size=size, count=found.files), found.path)


def build(context: PageContext, model: Control) -> None:
    """Build the fold and wire it. `model` is the field whose model can be fetched."""
    make = context.translated.make
    with make(gr.Accordion, label=Key("models.title"), open=False, elem_id="wb-models") as fold:
        wrong = gr.HTML(elem_id="wb-models-error")
        listed = gr.HTML(elem_id="wb-models-list", js_on_load=CLICK_JS)
        with gr.Row(elem_classes="wb-actions"):
            get = make(gr.Button, value=Key("models.fetch"), size="sm", elem_id="wb-models-fetch", scale=0)
        question = questions.build(context, "wb-models", Key("models.remove_yes"))
        field = mirror_field.build(context)
    timer, t, workspace = gr.Timer(_LOOK_S, active=False), context.language_field, context.workspace

    def show(t: Translator) -> Updates:
        going = any(not job.status().final for job in models_on_disk.going(workspace))
        return Updates({listed: listing(workspace, t), timer: gr.Timer(active=going)})

    def said(error: WorkbenchError, t: Translator) -> Updates:
        return Updates({wrong: messages.problem(error, t), **show(t)})

    def fetch(name: str, t: Translator) -> Updates:
        try:
            models_on_disk.start(workspace, name)
        except WorkbenchError as error:
            return said(error, t)
        return Updates({wrong: Html(""), **show(t)})

    def pick(t: Translator, picked: str) -> Updates:
        verb, _, about = picked.partition(":")
        try:
            if verb == "remove":
                return question.asking(remove_question(workspace, about, t))
            if verb == "fetch":
                return Updates({**question.closed(), **fetch(about, t)})
            if verb == "rows":
                models_on_disk.go_on(workspace, about)
            if verb == "stop":
                requests.stop(workspace, jobs.find(workspace, about))
        except WorkbenchError as error:
            return said(error, t)
        return Updates({**question.closed(), **show(t)})

    def remove(about: object, t: Translator) -> Updates:
        try:
            models_on_disk.remove(workspace, str(about))
        except WorkbenchError as error:
            return said(error, t)
        return Updates({wrong: Html(""), **show(t)})

    reads: Parts = [t]
    shows = [listed, timer]
    gr.on([fold.expand, timer.tick, context.language.change], **handler(show, reads, shows))
    get.click(**handler(fetch, [text(model), t], [wrong, *shows]))
    listed.select(**handler(pick, reads, [wrong, *shows, *question.outputs], how=EACH))
    questions.answer(question, remove, reads, [wrong, *shows])
    mirror_field.wire(context, field, show, shows)


def note(hub_id: str, t: Translator) -> Html:
    """Return whether a model of the hub lies on this disk, in a few words."""
    found = models_on_disk.is_here(hub_id)
    word = element("span", t("models.here" if found else "models.not_here"), class_="wb-good" if found else "wb-muted")
    return joined([" ", word])
