"""The form that says which column of a file plays which role, with a live preview, and keeps mappings under names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import gradio as gr

from app.data.formats import mappings
from app.data.formats.conversions import parse_mapping
from app.errors import TakenError, UsageError, WorkbenchError, keyed
from app.runs import dataset_selection, request_paths
from app.runs.dataset_selection import DatasetSelection
from app.ui.components import messages, questions
from app.ui.components.handlers import Control, Updates, handler, text
from app.ui.components.markup import Html
from app.ui.components.questions import Question, Saving
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.data import view
from app.workspace import Workspace

ROLES = ("user", "assistant", "input", "system", "reasoning", "messages", "text")
_PREVIEW_ROWS = 3


def preview(workspace: Workspace, seen: DatasetSelection, mapping: dict[str, str], t: Translator) -> Html:
    """Return the first rows as they would be read, or what is missing."""
    if not seen.file or not mapping:
        return Html("")
    try:
        request_paths.data_file(workspace, seen.file)
        parse_mapping(mapping)
        return view.rows_table(dataset_selection.rows(replace(seen, mapping=mapping), 0, _PREVIEW_ROWS), t)
    except UsageError:
        return messages.note(t("data.map.answer_missing"))
    except WorkbenchError as error:
        return messages.problem(error, t)


def read_by(seen: DatasetSelection, mapping: dict[str, str]) -> DatasetSelection:
    """Return the look that reads rows by a mapping. Raises UsageError for one without an answer."""
    parse_mapping(mapping)
    if not mapping:
        raise UsageError(
            keyed("no_column_is_chosen", "No column is chosen"),
            "",
            keyed("say_at_least_which_column_is", "say at least which column is the answer"),
        )
    return replace(seen, mapping=mapping, format="auto")


@dataclass(frozen=True)
class NamedMapping:
    """A mapping and the name it is to be saved under."""

    name: str
    mapping: dict[str, str]


def saved_or_asked(workspace: Workspace, wanted: NamedMapping, t: Translator, *, replace: bool = False) -> Saving:
    """Save a mapping, or ask where another has the name."""
    try:
        return Saving(mappings.save(workspace, wanted.name, wanted.mapping, replace=replace))
    except TakenError:
        return Saving(asked=questions.replacing(wanted.name, wanted, t))
    except WorkbenchError as error:
        return Saving(wrong=messages.problem(error, t))


@dataclass(frozen=True)
class MappingForm:
    """The controls of the form. `columns` has one for each of ROLES."""

    saved: gr.Dropdown
    columns: Mapping[str, gr.Dropdown]
    preview: gr.HTML
    use: gr.Button
    undo: gr.Button
    name: gr.Textbox
    save: gr.Button
    question: Question

    def inputs(self) -> list[Control]:
        """Return the controls that hold the mapping."""
        return list(self.columns.values())

    def read(self, values: Sequence[object]) -> dict[str, str]:
        """Return the mapping that they show: column by role, without the roles that have none."""
        return mapping_of(dict(zip(self.columns, values, strict=True)))


def mapping_of(chosen: Mapping[str, object]) -> dict[str, str]:
    """Return a mapping without the roles for which no column is chosen."""
    return {role: column for role, column in chosen.items() if isinstance(column, str) and column}


def build(context: PageContext) -> MappingForm:
    """Build the form."""
    make = context.translated.make
    make(gr.HTML, value=Key("data.map.title"), elem_classes="wb-heading")
    saved = make(gr.Dropdown, label=Key("data.map.saved"), choices=[], allow_custom_value=True, elem_id="wb-map-saved")
    columns = {}
    with gr.Row(elem_classes="wb-map wb-pair"):
        for role in ROLES:
            columns[role] = make(
                gr.Dropdown,
                label=Key(f"data.map.{role}"),
                choices=[],
                allow_custom_value=True,
                min_width=140,
                elem_id=f"wb-map-{role}",
            )
    shown = gr.HTML(elem_id="wb-map-preview")
    with gr.Row(elem_classes="wb-actions"):
        use = make(gr.Button, value=Key("data.map.use"), variant="primary", min_width=90, elem_id="wb-map-use")
        undo = make(gr.Button, value=Key("data.map.undo"), min_width=90, elem_id="wb-map-undo")
    with gr.Row(elem_classes="wb-actions wb-end-row"):
        name = make(gr.Textbox, label=Key("data.map.name"), max_lines=1, min_width=140, elem_id="wb-map-name")
        save = make(gr.Button, value=Key("data.map.save"), min_width=90, elem_id="wb-map-save")
    question = questions.build(context, "wb-map-replace", Key("ask.replace_yes"))
    return MappingForm(saved, columns, shown, use, undo, name, save, question)


def wire(context: PageContext, form: MappingForm, seen: gr.BrowserState, wrong: gr.HTML) -> None:
    """Wire the form: a choice shows the preview, a button reads the rows by it."""
    workspace = context.workspace

    def read_as(do: Callable[[], DatasetSelection], t: Translator) -> Updates:
        try:
            return Updates({seen: do().to_browser(), wrong: Html("")})
        except WorkbenchError as error:
            return Updates({wrong: messages.problem(error, t)})

    def show(stored: DatasetSelection, t: Translator, mapping: dict[str, str]) -> Html:
        return preview(workspace, stored, mapping, t)

    def use(stored: DatasetSelection, t: Translator, mapping: dict[str, str]) -> Updates:
        return read_as(lambda: read_by(stored, mapping), t)

    def undo(stored: DatasetSelection, t: Translator) -> Updates:
        return read_as(lambda: replace(stored, mapping={}, format="auto"), t)

    def recall(stored: DatasetSelection, t: Translator, name: str) -> Updates:
        return read_as(lambda: read_by(stored, mappings.load(workspace, name)), t)

    def keep(found: Saving) -> Updates:
        listed = {form.saved: gr.update(choices=mappings.names(workspace), value=found.name)} if found.name else {}
        return Updates({**listed, wrong: found.wrong, **form.question.asking(found.asked)})

    def save(t: Translator, name: str, mapping: dict[str, str]) -> Updates:
        return keep(saved_or_asked(workspace, NamedMapping(name, mapping), t))

    def replace_mapping(wanted: NamedMapping, t: Translator) -> Updates:
        return keep(saved_or_asked(workspace, wanted, t, replace=True))

    def fill(stored: DatasetSelection) -> Updates:
        found = filled(workspace, stored)
        offered = ["", *found.columns]
        columns = {
            form.columns[role]: gr.update(choices=offered, value=found.mapping.get(role, "")) for role in form.columns
        }
        return Updates({**columns, form.saved: gr.update(choices=found.names), form.preview: Html("")})

    look = context.selection_field
    chosen = [column.input for column in form.inputs()]
    gr.on(chosen, **handler(show, [look, context.language_field, form], [form.preview]))
    form.use.click(**handler(use, [look, context.language_field, form], [seen, wrong]))
    form.undo.click(**handler(undo, [look, context.language_field], [seen, wrong]))
    question, shows = form.question, [form.saved, wrong]
    form.save.click(**handler(save, [context.language_field, text(form.name), form], [*shows, *question.outputs]))
    questions.answer(question, replace_mapping, [context.language_field], shows)
    changed = [control.input for control in (form.name, *form.inputs())]
    gr.on(changed, **handler(question.closed, shows=question.outputs))
    form.saved.input(**handler(recall, [look, context.language_field, text(form.saved)], [seen, wrong]))
    gr.on([context.blocks.load, seen.change], **handler(fill, [look], [form.saved, *form.inputs(), form.preview]))


@dataclass(frozen=True)
class Offered:
    """What the form offers for a look: the names of saved mappings, the file's columns, and the look's mapping."""

    names: list[str]
    columns: list[str]
    mapping: Mapping[str, str]


def filled(workspace: Workspace, seen: DatasetSelection) -> Offered:
    """Return what the form offers for a look; a file that the page may not open has no columns."""
    try:
        columns = dataset_selection.columns(seen) if seen.file and request_paths.data_file(workspace, seen.file) else []
    except WorkbenchError:
        columns = []
    return Offered(mappings.names(workspace), columns, seen.mapping)
