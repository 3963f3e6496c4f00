"""The runs of the Train tab: those that wait, the filter, the cards, the events, the trash."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from app.errors import WorkbenchError
from app.files import folder_bytes
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory
from app.runs.current import STATES, Filter
from app.ui.components import messages, number_format, questions
from app.ui.components.handlers import EACH, Control, Updates, Wiring, handler, held
from app.ui.components.markup import Html
from app.ui.components.questions import Asked
from app.ui.shell import status_bar
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs.train import compare_panel, run_cards
from app.workspace import Workspace


@dataclass(frozen=True)
class FilterFields:
    """Which runs are shown as cards."""

    words: gr.Textbox
    states: gr.Dropdown

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [self.words, self.states]

    def read(self, values: Sequence[object]) -> Filter:
        """Return the filter that they ask for."""
        words, states = values
        return Filter.of(words, states)


@dataclass(frozen=True)
class HistoryPanel:
    """The controls of the runs. `restored` is the event that brings one back from the trash."""

    waiting: gr.HTML
    filter: FilterFields
    cards: gr.HTML
    table: gr.HTML
    events: gr.HTML
    restored: Dependency


def build(context: PageContext) -> HistoryPanel:
    """Build the runs: those that wait, the filter, the cards, the events, the trash."""
    make = context.translated.make
    waiting = gr.HTML(elem_id="wb-waiting", js_on_load=CLICK_JS)
    make(gr.HTML, value=Key("train.runs"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-filter"):
        plain: dict[str, object] = {"show_label": False, "container": False}
        words = make(
            gr.Textbox, label=Key("train.filter"), placeholder=Key("train.filter"), max_lines=1, min_width=120, **plain
        )
        kinds = [(Key(f"train.filter.{kind}"), kind) for kind in STATES]
        states = make(gr.Dropdown, label=Key("train.table.state"), choices=kinds, value="all", min_width=110, **plain)
    cards = gr.HTML(elem_id="wb-runs", js_on_load=CLICK_JS)
    events = gr.HTML()
    # As wide as the page: it is rendered below both columns.
    table = gr.HTML(elem_id="wb-run-table", render=False)
    return HistoryPanel(waiting, FilterFields(words, states), cards, table, events, _trash(context))


def _trash(context: PageContext) -> Dependency:
    """Build the trash: what is in it is read when it is opened. Return the event that restores."""
    make, t, workspace = context.translated.make, context.language_field, context.workspace
    with make(gr.Accordion, label=Key("train.bin"), open=False, elem_id="wb-bin") as box:
        listed = gr.HTML(elem_id="wb-bin-list", js_on_load=CLICK_JS)
        empty = make(gr.Button, value=Key("train.empty_bin"), size="sm", variant="stop", elem_id="wb-bin-empty")
        question = questions.build(context, "wb-bin", Key("train.delete_yes"))

    def show(t: Translator) -> Updates:
        return Updates({listed: run_cards.bin_list(workspace, t)})

    def pick(t: Translator, picked: str) -> Updates:
        verb, _, job_id = picked.partition(":")
        if verb == "delete":
            return question.asking(delete_question(workspace, [job_id], t))
        try:
            removed.restore(workspace, job_id)
        except WorkbenchError as error:
            return Updates({**question.closed(), listed: messages.problem(error, t)})
        return Updates({**question.closed(), **show(t)})

    def ask_all(t: Translator) -> Updates:
        every = [job.id for job in removed.trashed(workspace)]
        return question.asking(delete_question(workspace, every, t))

    def delete(about: object, t: Translator) -> Updates:
        return Updates({listed: delete_for_good(workspace, about, t)})

    gr.on([box.expand, context.language.change], **handler(show, [t], [listed]))
    gr.on([box.collapse, context.language.change], **handler(question.closed, shows=question.outputs))
    empty.click(**handler(ask_all, [t], question.outputs))
    questions.answer(question, delete, [t], [listed])
    return listed.select(**handler(pick, [t], [listed, *question.outputs]))


def delete_question(workspace: Workspace, job_ids: Collection[str], t: Translator) -> Asked | None:
    """Ask whether these jobs of the trash are deleted, naming which or how many, and how much room they take.

    Returns None where none of them is there.
    """
    found = [job for job in removed.trashed(workspace) if job.id in job_ids]
    if not found:
        return None
    size = number_format.gigabytes(sum(folder_bytes(job.path) for job in found))
    name = status_bar.job_name(found[0], t)
    text = t("train.ask_delete", count=len(found), size=size, name=name)
    return Asked(text, [job.id for job in found])


def delete_for_good(workspace: Workspace, about: object, t: Translator) -> Html:
    """Delete the jobs that were asked about and return what is left in the trash, or what went wrong."""
    try:
        removed.purge(workspace, [one for one in about if isinstance(one, str)] if isinstance(about, list) else [])
    except WorkbenchError as error:
        return messages.problem(error, t)
    return run_cards.bin_list(workspace, t)


def remove_question(workspace: Workspace, job: JobDirectory, t: Translator) -> Asked:
    """Ask whether a run is moved to the trash, naming it and its size."""
    size = number_format.gigabytes(folder_bytes(job.path))
    return Asked(t("train.ask_remove", name=status_bar.job_name(job, t), size=size), job.id)


def wire(
    context: PageContext, panel: HistoryPanel, selected: gr.State, ticked: gr.State, wrong: gr.HTML, after: Wiring
) -> None:
    """Wire what is clicked in the lists: a card, its tick, a sweep, a place in the queue, a removed run."""

    def pick(ticks: object, picked: str) -> Updates:
        verb, _, rest = picked.partition(":")
        if verb == "show":
            return Updates({selected: rest})
        if verb == "tick":
            return Updates({ticked: compare_panel.toggled(ticks, rest)})
        return Updates({ticked: compare_panel.members_of(context.workspace, rest)} if verb == "sweep" else {})

    def shift(t: Translator, picked: str) -> Updates:
        verb, _, job_id = picked.partition(":")
        return Updates({wrong: queue_action(context.workspace, verb, job_id, t)})

    panel.cards.select(**handler(pick, [held(ticked)], [selected, ticked], how=EACH))
    panel.waiting.select(**handler(shift, [context.language_field], [wrong], how=EACH)).then(**after)
    panel.restored.then(**after)  # where nothing runs, no tick would show it


def queue_action(workspace: Workspace, verb: str, job_id: str, t: Translator) -> Html:
    """Move a waiting job, of whatever kind, or take it out; return nothing or what went wrong."""
    try:
        job = jobs.find(workspace, job_id)
        if verb in ("up", "down"):
            requests.move(workspace, job, -1 if verb == "up" else 1)
        elif verb == "out" and job.status().state == "queued":
            requests.stop(workspace, job)
    except WorkbenchError as error:
        return messages.problem(error, t)
    return Html("")
