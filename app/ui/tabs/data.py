"""Data: what exactly will be trained?"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.config import RunConfig
from app.data.formats import FORMATS
from app.errors import UsageError, WorkbenchError
from app.ui import allowed, data_view, hub_box, look, mapping_form, notices
from app.ui.draft import Draft, from_browser
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.look import Look
from app.ui.mapping_form import MappingForm
from app.ui.markup import Html

_ROWS_A_PAGE = 20
# Read and checked in about a second; a longer file says that it is being read.
_LONG_BYTES = 2_000_000


@dataclass(frozen=True)
class Shown:
    """What the right half of the Data tab shows.

    `usable` and `left_out` count rows and are None when the data could not be checked; `unknown` says that no format
    was recognised, so that columns have to be named.
    """

    sentence: Html
    rows: Html
    lengths: Html
    problems: Html
    wrong: Html
    usable: int | None = None
    left_out: int | None = None
    unknown: bool = False


def check(frame: Frame, seen: Look, config: RunConfig) -> dict[str, Any]:
    """Return the data child's answer for a look. Raises WorkbenchError."""
    path = allowed.data_file(frame.workspace, seen.file)
    folder = look.tokenizer_folder(config)
    return frame.data.check(folder, seen.options(config), config.effective_batch, path=path)


def show(frame: Frame, seen: Look, config: RunConfig, say: Speech) -> Shown:
    """Return the whole view of a look, or what is wrong with it."""
    nothing = notices.empty(say("data.empty.title"), say("data.empty.text"))
    if not seen.file:
        return Shown(notices.sentence(say("data.sentence.none")), nothing, nothing, nothing, Html(""))
    try:
        answer = check(frame, seen, config)
        table = data_view.rows_table(look.rows(seen, 0, _ROWS_A_PAGE), say)
    except WorkbenchError as error:
        wrong = notices.problem(error)
        return Shown(notices.sentence(say("data.sentence.unread", name=seen.label)), nothing, nothing, nothing, wrong)
    return Shown(
        data_view.sentence(answer, seen, say),
        table,
        data_view.lengths(answer, config, say),
        data_view.problems(answer, seen, seen.over_length or config.data.over_length, say),
        Html(""),
        usable=int(answer["check"]["usable"]),
        left_out=sum(answer["left_out"].values()),
        unknown=answer["check"]["format"] == "unknown",
    )


def row_tokens(frame: Frame, seen: Look, number: Any, config: RunConfig, say: Speech) -> Html:
    """Return the tokens of one row, exactly as they are trained."""
    if not seen.file:
        return notices.empty(say("data.empty.title"), say("data.empty.text"))
    folder = look.tokenizer_folder(config)
    if folder is None:
        return notices.empty(say("data.no_tokens.title"), say("data.no_tokens.text", model=config.model.name))
    try:
        path = allowed.data_file(frame.workspace, seen.file)
        row = int(number) if isinstance(number, (int, float)) else 1
        return data_view.tokens(frame.data.show(row, folder, seen.options(config), path=path), say)
    except WorkbenchError as error:
        return notices.problem(error)


def use(frame: Frame, seen: Look, draft: Draft) -> Draft:
    """Return the draft with this data. Raises WorkbenchError when nothing of it can be trained."""
    answer = check(frame, seen, draft.config)["check"]
    if not answer["usable"]:
        raise UsageError(f"No row of {seen.label} can be trained", answer["why"], "see the problems and their remedies")
    return draft.with_data(seen, int(answer["usable"]))


def mended(seen: Look, choice: str) -> Look:
    """Return the look after a repair was clicked; anything else than a repair changes nothing."""
    try:
        wanted = json.loads(choice)
        action, kind = wanted["action"], wanted["kind"]
    except (ValueError, KeyError, TypeError):
        return seen
    return seen.mended(str(action), str(kind))


def left_out(frame: Frame, seen: Look, config: RunConfig) -> Path:
    """Write the rows that are not trained to a file of their own, for the browser to fetch. Raises WorkbenchError."""
    path = allowed.data_file(frame.workspace, seen.file)
    out = Path(tempfile.mkdtemp(prefix="left-out-")) / "left-out.jsonl"
    frame.data.dropped(out, look.tokenizer_folder(config), seen.options(config), path=path)
    return out


def _is_long(seen: Look) -> bool:
    """Say whether reading the file takes long enough to say so."""
    try:
        return bool(seen.file) and Path(seen.file).stat().st_size > _LONG_BYTES
    except OSError:
        return False


@dataclass(frozen=True)
class _Controls:
    """The controls of the tab that handlers speak of."""

    seen: gr.BrowserState
    drop: gr.File
    pasted: gr.Textbox
    keep: gr.Button
    samples: list[gr.Button]
    format: gr.Dropdown
    reading: gr.Accordion
    mapping: MappingForm
    line: gr.HTML
    wrong: gr.HTML
    rows: gr.HTML
    number: gr.Number
    tokens: gr.HTML
    lengths: gr.HTML
    problems: gr.HTML
    write: gr.Button
    fetch: gr.DownloadButton
    onward: gr.Button


def build(frame: Frame, tab: gr.Tab) -> gr.BrowserState:
    """Build the tab, wire it, and return where the look at the data is kept."""
    seen = frame.look
    line, wrong = gr.HTML(elem_id="wb-data-sentence"), gr.HTML(elem_id="wb-data-error")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=4, min_width=300):
            sources = _sources(frame, seen, wrong)
        with gr.Column(scale=7, min_width=320):
            views = _views(frame)
            onward = frame.wording.make(gr.Button, value=Key("data.use"), variant="primary", elem_id="wb-use-data")
    controls = _Controls(seen=seen, line=line, wrong=wrong, onward=onward, **sources, **views)
    _wire_sources(frame, controls)
    _wire_views(frame, controls, tab)
    return seen


def _sources(frame: Frame, seen: gr.BrowserState, wrong: gr.HTML) -> dict[str, Any]:
    """Build where data come from: samples, a file, pasted text, the hub; and how rows are read."""
    make = frame.wording.make
    make(gr.HTML, value=Key("data.samples"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-actions"):
        samples = [
            make(
                gr.Button,
                value=Key(f"data.sample.{name.partition('.')[0]}"),
                elem_id=f"wb-sample-{index}",
                min_width=90,
            )
            for index, name in enumerate(look.SAMPLES)
        ]
    drop = make(gr.File, label=Key("data.drop"), file_types=look.accepted(), height=170, elem_id="wb-drop")
    with make(gr.Accordion, label=Key("data.paste"), open=False):
        pasted = make(gr.Textbox, label=Key("data.pasted"), info=Key("data.pasted_help"), lines=6, max_lines=12)
        keep = make(gr.Button, value=Key("data.keep"))
    hub_box.build(frame, seen, wrong)
    with make(gr.Accordion, label=Key("data.reading"), open=False, elem_id="wb-reading") as reading:
        kinds = [
            (Key("format.auto"), "auto"),
            *((Key(f"format.{n}"), n) for n in FORMATS if n not in ("mixed", "unknown")),
        ]
        format_ = make(gr.Dropdown, label=Key("data.format"), choices=kinds, value="auto")
        mapping = mapping_form.build(frame)
    made = {"samples": samples, "drop": drop, "pasted": pasted, "keep": keep}
    return {**made, "format": format_, "reading": reading, "mapping": mapping}


def _views(frame: Frame) -> dict[str, Any]:
    make = frame.wording.make
    with gr.Tabs(elem_id="wb-data-views"):
        with make(gr.Tab, label=Key("data.view.rows")):
            rows = gr.HTML(elem_id="wb-rows")
        with make(gr.Tab, label=Key("data.view.tokens"), elem_id="wb-view-tokens"):
            number = make(gr.Number, label=Key("data.row"), value=1, precision=0, minimum=1, elem_id="wb-row-number")
            tokens = gr.HTML(elem_id="wb-tokens")
        with make(gr.Tab, label=Key("data.view.lengths")):
            lengths = gr.HTML(elem_id="wb-lengths")
        with make(gr.Tab, label=Key("data.view.problems")):
            problems = gr.HTML(elem_id="wb-problems", js_on_load=PICK)
            with gr.Row(elem_classes="wb-actions"):
                write = make(gr.Button, value=Key("data.write_left_out"), visible=False, elem_id="wb-write-left-out")
                fetch = make(
                    gr.DownloadButton, label=Key("data.fetch_left_out"), visible=False, elem_id="wb-fetch-left-out"
                )
    made = {"rows": rows, "number": number, "tokens": tokens, "lengths": lengths, "problems": problems}
    return {**made, "write": write, "fetch": fetch}


def _wire_sources(frame: Frame, c: _Controls) -> None:
    """Each source ends in a new look; the look's change shows it."""

    def taken(found: Any) -> list[Any]:
        try:
            return [found().to_browser(), Html("")]
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]

    def upload(path: Any) -> list[Any]:
        return [*taken(lambda: look.keep_upload(frame.workspace, str(path or ""))), None]

    def paste(text: Any) -> list[Any]:
        return taken(lambda: look.keep_pasted(frame.workspace, str(text or "")))

    def reread(stored: Any, kind: Any) -> list[Any]:
        known = str(kind) if kind in FORMATS else "auto"
        return taken(lambda: replace(look.from_browser(stored), format=known, mapping={}))

    outputs = [c.seen, c.wrong]
    c.drop.upload(upload, c.drop, [*outputs, c.drop], **QUIET)
    c.keep.click(paste, c.pasted, outputs, **QUIET)
    for name, button in zip(look.SAMPLES, c.samples, strict=True):
        button.click(lambda name=name: taken(lambda: look.sample(name)), None, outputs, **QUIET)
    c.format.input(reread, [c.seen, c.format], outputs, **QUIET)
    mapping_form.wire(frame, c.mapping, c.seen, c.wrong)


def _wire_views(frame: Frame, c: _Controls, tab: gr.Tab) -> None:
    def view(stored: Any, draft: Any, language: Any) -> list[Any]:
        config, say = from_browser(draft).config, Speech(language)
        found = show(frame, look.from_browser(stored), config, say)
        views = [found.sentence, found.rows, found.lengths, found.problems, found.wrong]
        opened = gr.update(open=True) if found.unknown else gr.skip()
        return [*views, opened, gr.update(visible=bool(found.left_out)), gr.update(visible=False, value=None)]

    def waiting(stored: Any, language: Any) -> Any:
        seen = look.from_browser(stored)
        return (
            notices.sentence(Speech(language)("data.sentence.reading", name=seen.label))
            if _is_long(seen)
            else gr.skip()
        )

    def write(stored: Any, draft: Any) -> list[Any]:
        try:
            path = left_out(frame, look.from_browser(stored), from_browser(draft).config)
        except WorkbenchError as error:
            return [gr.skip(), gr.skip(), notices.problem(error)]
        return [gr.update(visible=False), gr.update(visible=True, value=str(path)), Html("")]

    def one(stored: Any, number: Any, draft: Any, language: Any) -> Html:
        return row_tokens(frame, look.from_browser(stored), number, from_browser(draft).config, Speech(language))

    def repair(stored: Any, event: gr.EventData) -> Any:
        return mended(look.from_browser(stored), picked(event)).to_browser()

    def proceed(stored: Any, draft: Any) -> list[Any]:
        try:
            chosen = use(frame, look.from_browser(stored), from_browser(draft))
        except WorkbenchError as error:
            return [gr.skip(), gr.skip(), notices.problem(error)]
        return [chosen.to_browser(), gr.update(selected="train"), Html("")]

    shown = [c.line, c.rows, c.lengths, c.problems, c.wrong, c.reading, c.write, c.fetch]
    c.seen.change(waiting, [c.seen, frame.language], c.line, **QUIET)
    gr.on(
        [frame.blocks.load, c.seen.change, frame.draft.change, frame.language.change],
        view,
        [c.seen, frame.draft, frame.language],
        shown,
        **QUIET,
    ).then(one, [c.seen, c.number, frame.draft, frame.language], c.tokens, **QUIET)
    c.number.input(one, [c.seen, c.number, frame.draft, frame.language], c.tokens, **QUIET)
    c.problems.select(repair, c.seen, c.seen, **QUIET)
    c.write.click(write, [c.seen, frame.draft], [c.write, c.fetch, c.wrong], **QUIET)
    tab.select(frame.data.warm_up, None, None, **QUIET)
    c.onward.click(proceed, [c.seen, frame.draft], [frame.draft, frame.tabs, c.wrong], **QUIET)
