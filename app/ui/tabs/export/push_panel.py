"""The Hub card's own button: the prepared folder is pushed by a job, after a question; the token is this machine's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app.errors import NetworkError, UsageError, WorkbenchError, keyed
from app.files import folder_bytes
from app.hub import address, push
from app.hub.push import PushRequest
from app.runs.on_disk import exports
from app.ui.components import messages, number_format, questions
from app.ui.components.handlers import Parts, Updates, Wiring, handler, raw, text, ticked
from app.ui.components.markup import Html, element
from app.ui.components.questions import Asked
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.shell.status_bar import meter
from app.workspace import Workspace


def prepared(workspace: Workspace, value: object) -> Path | None:
    """Return the newest folder that was made for the hub of what is chosen, None where there is none."""
    try:
        job = exports.newest_jobs(workspace, exports.find(workspace, value)).get("hub")
    except WorkbenchError:
        return None
    if job is None or job.recorded_status().state != "finished":
        return None
    folder = Path(str(job.config.get("out")))
    return folder if folder.is_dir() else None


def ask(workspace: Workspace, value: object, repo: str, private: bool, t: Translator) -> Asked:
    """Ask whether the prepared folder is pushed, naming size, place and who will see it.

    Raises UsageError for what is no repository, and where no folder was prepared.
    """
    folder, repo = prepared(workspace, value), push.checked(repo.strip())
    if folder is None:
        raise UsageError(
            keyed("there_is_no_folder_for_the_hub", "There is no folder for the hub yet"),
            "",
            keyed("create_it_first", "create it first"),
        )
    where = address.of(workspace)
    push.refuse_mirror(where)
    place = f"{where.host}/{repo}" if where.is_mirror else repo
    size = number_format.gigabytes(folder_bytes(folder))
    words = t("take.push.ask_private" if private else "take.push.ask_public", name=folder.name, size=size, repo=place)
    return Asked(words, PushRequest(str(folder), repo, private))


def standing(workspace: Workspace, value: object, t: Translator) -> Html:
    """Return how the newest push of the prepared folder stands; nothing where there was none."""
    folder = prepared(workspace, value)
    job = push.newest(workspace, folder) if folder else None
    if job is None:
        return Html("")
    status = job.status()
    if status.state == "failed":
        what, _, rest = status.reason.rstrip(".").partition(". ")
        return messages.problem(NetworkError(what, rest), t)
    if status.state == "finished":
        return messages.note(t("take.push.done", url=status.result.get("url") or job.config.get("repo")))
    if status.final:
        return messages.note(t("take.push.stopped"))
    bar = meter(status.step / status.of, t("strip.progress")) if status.of else ""
    return element("div", bar, " ", t("take.push.under_way", repo=job.config.get("repo")), class_="wb-note wb-muted")


@dataclass(frozen=True)
class Panel:
    """The controls below the card."""

    repo: gr.Textbox
    private: gr.Checkbox
    button: gr.Button
    question: questions.Question
    said: gr.HTML


def build(context: PageContext) -> Panel:
    """Build the repository, the button and the question; they are placed in the card."""
    made = context.translated.make
    repo = made(
        gr.Textbox, label=Key("take.push.repo"), placeholder=Key("hub.owner_name"), max_lines=1, elem_id="wb-push-repo"
    )
    private = made(gr.Checkbox, label=Key("take.push.private"), value=True, elem_id="wb-push-private")
    button = made(gr.Button, value=Key("take.push"), scale=0, elem_id="wb-push")
    question = questions.build(context, "wb-push", Key("take.push.yes"))
    return Panel(repo, private, button, question, gr.HTML(elem_id="wb-push-said"))


def wire(context: PageContext, panel: Panel, chosen: gr.Dropdown, wrong: gr.HTML, looked: Wiring) -> None:
    """Wire the button: it asks, and a yes hands the push in."""
    workspace, t, question = context.workspace, context.language_field, panel.question

    def asks(value: object, repo: str, private: bool, t: Translator) -> Updates:
        try:
            return Updates({**question.asking(ask(workspace, value, repo, private, t)), wrong: Html("")})
        except WorkbenchError as error:
            return Updates({**question.closed(), wrong: messages.problem(error, t)})

    def do(about: object, t: Translator) -> Updates:
        assert isinstance(about, PushRequest)
        try:
            push.start(workspace, about)
        except WorkbenchError as error:
            return Updates({wrong: messages.problem(error, t)})
        return Updates({wrong: Html("")})

    reads: Parts = [raw(chosen), text(panel.repo), ticked(panel.private), t]
    panel.button.click(**handler(asks, reads, [*question.outputs, wrong]))
    questions.answer(question, do, [t], [wrong]).then(**looked)
    chosen.change(**handler(question.closed, shows=question.outputs))
