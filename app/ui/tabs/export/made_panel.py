"""Every export that lies on this disk: size, date, report; remove it, show its folder, fetch it as a file."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.errors import WorkbenchError
from app.runs.on_disk import made_exports
from app.runs.on_disk.made_exports import MadeExport
from app.ui.components import messages, number_format, questions
from app.ui.components.handlers import QUEUED, Updates, handler
from app.ui.components.markup import Html, element
from app.ui.components.questions import Asked
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.workspace import Workspace

_COLUMNS = ("what", "size", "date", "report", "place")
_THIS_MACHINE = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Panel:
    """The list, and what came of a click."""

    table: gr.HTML
    said: gr.HTML


def table(workspace: Workspace, t: Translator) -> Html:
    """Return the exports, newest first."""
    found = made_exports.listed(workspace)
    if not found:
        return element("p", t("take.made.none"), class_="wb-note wb-muted")
    heads = [element("th", t(f"take.made.{name}"), scope="col") for name in _COLUMNS]
    rows = [_row(one, t) for one in found]
    body = element("table", element("thead", element("tr", *heads, element("th"))), element("tbody", *rows))
    return element("div", body, class_="wb-table", tabindex="0")


def _row(one: MadeExport, t: Translator) -> Html:
    title = t(f"take.card.{one.target}") + (f" {one.dtype.upper()}" if one.dtype else "")
    colour = "wb-good" if one.verdict == "pass" else "wb-warn"
    word = element("span", t.known(f"take.verdict.{one.verdict}", one.verdict), class_=colour) if one.verdict else "-"
    gone = element("p", t("take.made.gone", name=one.missing[0]), class_="wb-warn") if one.missing else ""
    verbs = ["show"] + (["fetch"] if one.bytes <= made_exports.MOST_PACKED_BYTES else [])
    verbs += ["remove"] if one.can_be_removed else []
    buttons = [
        element("button", t(f"take.made.{verb}"), type="button", class_="wb-small", data_pick=f"{verb}:{one.job.id}")
        for verb in verbs
    ]
    return element(
        "tr",
        element("td", title),
        element("td", number_format.size(one.bytes)),
        element("td", number_format.moment(one.ended, t), class_="wb-number"),
        element("td", word, gone, title=one.receipt),
        element("td", element("code", one.place)),
        element("td", *buttons),
    )


def remove_question(workspace: Workspace, job_id: str, t: Translator) -> Asked:
    """Ask whether an export is deleted, naming it and its size. Raises UsageError when it is not there."""
    one = made_exports.find(workspace, job_id)
    return Asked(t("take.made.ask", name=one.place, size=number_format.gigabytes(one.bytes)), job_id)


def shown(workspace: Workspace, job_id: str, t: Translator, *, is_local: bool) -> Html:
    """Open an export's folder where browser and server are one machine, and say where it lies.

    Raises UsageError when it is not there.
    """
    place = made_exports.find(workspace, job_id).place
    if is_local and made_exports.show(workspace, job_id):
        return messages.note(t("take.made.opened", place=place))
    return messages.note(t("take.made.lies", place=place))


def is_local(request: gr.Request | None) -> bool:
    """Tell whether a request came from this machine itself, and through nothing that says to have passed it on."""
    client = getattr(request, "client", None)
    headers = {name.lower() for name in (getattr(request, "headers", None) or {})}
    passed_on = {"forwarded", "x-forwarded-for", "x-forwarded-host", "via"} & headers
    return getattr(client, "host", None) in _THIS_MACHINE and not passed_on


def build(context: PageContext) -> Panel:
    """Build the list and wire what is clicked in it."""
    make, workspace, t = context.translated.make, context.workspace, context.language_field
    make(gr.HTML, value=Key("take.made"), elem_classes="wb-heading")
    listed = gr.HTML(elem_id="wb-made", js_on_load=CLICK_JS)
    question = questions.build(context, "wb-made", Key("take.made.remove"))
    said = gr.HTML(elem_id="wb-made-said")
    fetch = make(gr.DownloadButton, label=Key("take.made.save"), visible=False, elem_id="wb-made-save")

    def pick(t: Translator, picked: str, request: gr.Request) -> Updates:
        verb, _, job_id = picked.partition(":")
        quiet = Updates({**question.closed(), fetch: gr.update(visible=False, value=None), said: Html("")})
        try:
            if verb == "remove":
                return Updates({**quiet, **question.asking(remove_question(workspace, job_id, t))})
            if verb == "show":
                return Updates({**quiet, said: shown(workspace, job_id, t, is_local=is_local(request))})
            if verb == "fetch":
                file = str(made_exports.packed(workspace, job_id))
                return Updates({**quiet, fetch: gr.update(visible=True, value=file)})
        except WorkbenchError as error:
            return Updates({**quiet, said: messages.problem(error, t)})
        return quiet

    def remove(about: object, t: Translator) -> Updates:
        try:
            made_exports.remove(workspace, str(about))
        except WorkbenchError as error:
            return Updates({said: messages.problem(error, t)})
        return Updates({listed: table(workspace, t), said: Html("")})

    listed.select(**handler(pick, [t], [*question.outputs, fetch, said], how=QUEUED))
    questions.answer(question, remove, [t], [listed, said])
    return Panel(listed, said)
