"""The form that says which column of a file plays which role, with a live preview, and keeps mappings under names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.data import mappings
from app.data.conversions import parse_mapping
from app.errors import UsageError, WorkbenchError
from app.ui import allowed, data_view, look, notices
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.look import Look
from app.ui.markup import Html
from app.workspace import Workspace

ROLES = ("user", "assistant", "input", "system", "reasoning", "messages", "text")
_PREVIEW_ROWS = 3


def mapping_of(columns: Sequence[Any]) -> dict[str, str]:
    """Return the mapping that the form shows: one column or nothing for each of ROLES."""
    pairs = zip(ROLES, columns, strict=True)
    return {role: column for role, column in pairs if isinstance(column, str) and column}


def preview(workspace: Workspace, seen: Look, mapping: dict[str, str], say: Speech) -> Html:
    """Return the first rows as they would be read, or what is missing."""
    if not seen.file or not mapping:
        return Html("")
    try:
        allowed.data_file(workspace, seen.file)
        parse_mapping(mapping)
        return data_view.rows_table(look.rows(replace(seen, mapping=mapping), 0, _PREVIEW_ROWS), say)
    except UsageError:
        return notices.note(say("data.map.answer_missing"))
    except WorkbenchError as error:
        return notices.problem(error)


def read_by(seen: Look, mapping: dict[str, str]) -> Look:
    """Return the look that reads rows by a mapping. Raises UsageError for one without an answer."""
    parse_mapping(mapping)
    if not mapping:
        raise UsageError("No column is chosen", "", "say at least which column is the answer")
    return replace(seen, mapping=mapping, format="auto")


@dataclass(frozen=True)
class MappingForm:
    """The controls of the form. `columns` stand in the order of ROLES."""

    saved: gr.Dropdown
    columns: list[gr.Dropdown]
    preview: gr.HTML
    use: gr.Button
    undo: gr.Button
    name: gr.Textbox
    save: gr.Button


def build(frame: Frame) -> MappingForm:
    """Build the form."""
    make = frame.wording.make
    make(gr.HTML, value=Key("data.map.title"), elem_classes="wb-heading")
    saved = make(gr.Dropdown, label=Key("data.map.saved"), choices=[], allow_custom_value=True, elem_id="wb-map-saved")
    columns = []
    with gr.Row(elem_classes="wb-map wb-pair"):
        for role in ROLES:
            made = make(
                gr.Dropdown,
                label=Key(f"data.map.{role}"),
                choices=[],
                allow_custom_value=True,
                min_width=140,
                elem_id=f"wb-map-{role}",
            )
            columns.append(made)
    shown = gr.HTML(elem_id="wb-map-preview")
    with gr.Row(elem_classes="wb-actions"):
        use = make(gr.Button, value=Key("data.map.use"), variant="primary", min_width=90, elem_id="wb-map-use")
        undo = make(gr.Button, value=Key("data.map.undo"), min_width=90, elem_id="wb-map-undo")
    with gr.Row(elem_classes="wb-actions wb-end-row"):
        name = make(gr.Textbox, label=Key("data.map.name"), max_lines=1, min_width=140, elem_id="wb-map-name")
        save = make(gr.Button, value=Key("data.map.save"), min_width=90, elem_id="wb-map-save")
    return MappingForm(saved, columns, shown, use, undo, name, save)


def wire(frame: Frame, form: MappingForm, seen: gr.BrowserState, wrong: gr.HTML) -> None:
    """Wire the form: a choice shows the preview, a button reads the rows by it."""
    workspace, language = frame.workspace, frame.language

    def show(stored: Any, said: Any, *columns: Any) -> Html:
        return preview(workspace, look.from_browser(stored), mapping_of(columns), Speech(said))

    def use(stored: Any, *columns: Any) -> list[Any]:
        try:
            return [read_by(look.from_browser(stored), mapping_of(columns)).to_browser(), Html("")]
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]

    def undo(stored: Any) -> list[Any]:
        return [replace(look.from_browser(stored), mapping={}, format="auto").to_browser(), Html("")]

    def save(name: Any, *columns: Any) -> list[Any]:
        try:
            kept = mappings.save(workspace, str(name or ""), mapping_of(columns))
            return [gr.update(choices=mappings.names(workspace), value=kept), Html("")]
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]

    def recall(stored: Any, name: Any) -> list[Any]:
        try:
            found = read_by(look.from_browser(stored), mappings.load(workspace, str(name or "")))
            return [found.to_browser(), Html("")]
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]

    outputs = [seen, wrong]
    gr.on([column.input for column in form.columns], show, [seen, language, *form.columns], form.preview, **QUIET)
    form.use.click(use, [seen, *form.columns], outputs, **QUIET)
    form.undo.click(undo, seen, outputs, **QUIET)
    form.save.click(save, [form.name, *form.columns], [form.saved, wrong], **QUIET)
    form.saved.input(recall, [seen, form.saved], outputs, **QUIET)
    refill = [form.saved, *form.columns, form.preview]
    gr.on([frame.blocks.load, seen.change], lambda stored: filled(workspace, stored), seen, refill, **QUIET)


def filled(workspace: Workspace, stored: Any) -> list[Any]:
    """Return updates that show a look: the names of saved mappings, the file's columns, its mapping, no preview."""
    seen = look.from_browser(stored)
    try:
        columns = look.columns(seen) if seen.file and allowed.data_file(workspace, seen.file) else []
    except WorkbenchError:
        columns = []
    names = ["", *columns]
    fields = [gr.update(choices=names, value=seen.mapping.get(role, "")) for role in ROLES]
    return [gr.update(choices=mappings.names(workspace)), *fields, Html("")]
