"""Data: what exactly will be trained?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gradio as gr

from app.config.schema import RunConfig
from app.data.formats.detection import FORMATS
from app.data.messages import CheckAnswer
from app.errors import UsageError, WorkbenchError, keyed
from app.planner import packing
from app.reading import parsed_json
from app.runs import dataset_selection, request_paths, row_edits
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.ui.components import messages, numbers
from app.ui.components.handlers import EACH, QUEUED, Updates, handler, raw, text
from app.ui.components.markup import Html
from app.ui.components.numbers import Misread
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs.data import hub_panel, mapping_form
from app.ui.tabs.data import view as data_view
from app.ui.tabs.data.mapping_form import MappingForm
from app.workspace import Workspace

_MOST_ROWS = 10**12
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


def check(context: PageContext, seen: DatasetSelection, config: RunConfig) -> CheckAnswer:
    """Return the data child's answer for a look. Raises WorkbenchError."""
    path = request_paths.data_file(context.workspace, seen.file)
    folder = dataset_selection.tokenizer_folder(config)
    return context.data.check(folder, seen.options(config), config.effective_batch, path=path)


def _nothing(t: Translator) -> Html:
    action = messages.Action(t("data.empty.action"), "#wb-sample-0")
    return messages.empty(t("data.empty.title"), t("data.empty.text"), "data", action)


def show(context: PageContext, seen: DatasetSelection, config: RunConfig, t: Translator) -> Shown:
    """Return the whole view of a look, or what is wrong with it."""
    nothing = _nothing(t)
    if not seen.file:
        return Shown(messages.sentence(t("data.sentence.none")), nothing, nothing, nothing, Html(""))
    try:
        answer = check(context, seen, config)
        page = dataset_selection.page(seen, 0, data_view.ROWS_A_PAGE, total=answer.check.rows)
        table = data_view.rows_page(page, t, is_changed=row_edits.is_changed(seen))
    except WorkbenchError as error:
        wrong = messages.problem(error, t)
        return Shown(messages.sentence(t("data.sentence.unread", name=seen.label)), nothing, nothing, nothing, wrong)
    return Shown(
        data_view.sentence(answer, seen, t),
        table,
        data_view.lengths(answer, config, t, packing.note_of_run(config, context.workspace.root)),
        data_view.problems(answer, seen, seen.over_length or config.data.over_length, t),
        Html(""),
        usable=answer.check.usable,
        left_out=sum(answer.left_out.values()),
        unknown=answer.check.format == "unknown",
    )


def row_tokens(context: PageContext, seen: DatasetSelection, number: object, config: RunConfig, t: Translator) -> Html:
    """Return the tokens of one row, exactly as they are trained."""
    if not seen.file:
        return _nothing(t)
    folder = dataset_selection.tokenizer_folder(config)
    if folder is None:
        return messages.empty(t("data.no_tokens.title"), t("data.no_tokens.text", model=config.model.name))
    if fault := row_number_fault(number, t):
        return messages.fault(fault)
    try:
        path = request_paths.data_file(context.workspace, seen.file)
        return data_view.tokens(context.data.show(numbers.whole(number), folder, seen.options(config), path=path), t)
    except WorkbenchError as error:
        return messages.problem(error, t)


def turned(seen: DatasetSelection, picked: str, t: Translator) -> Html | None:
    """Return the page of rows that was asked for; None where what came is no such wish."""
    try:
        wanted = parsed_json(picked)
        start, words, total = int(wanted["start"]), str(wanted["words"])[:200], wanted["total"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    if not seen.file or not 0 <= start < _MOST_ROWS:
        return None
    try:
        known = total if isinstance(total, int) and total > 0 else None
        page = dataset_selection.page(seen, start, data_view.ROWS_A_PAGE, words, known)
        return data_view.rows_page(page, t, is_changed=row_edits.is_changed(seen))
    except WorkbenchError as error:
        return messages.problem(error, t)


def changed_rows(workspace: Workspace, seen: DatasetSelection, picked: str) -> DatasetSelection | None:
    """Return the look after a row was changed, dropped or put back; None where what came is no such wish."""
    try:
        wanted = parsed_json(picked)
        act, row, texts = wanted["act"], wanted.get("row"), wanted.get("texts")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if act == "undo":
        return row_edits.before(workspace, seen)
    if not isinstance(row, int) or not 1 <= row < _MOST_ROWS:
        return None
    if act == "drop":
        return row_edits.changed(workspace, seen, row, None)
    if act == "edit" and isinstance(texts, dict):
        return row_edits.changed(workspace, seen, row, {str(name): str(text) for name, text in texts.items()})
    return None


def row_number_fault(number: object, t: Translator) -> str:
    """Return what is wrong with the number of a row, empty for nothing."""
    try:
        usable = 1 <= numbers.whole(number) < _MOST_ROWS
    except Misread as misread:
        return t(misread.key, given=misread.given)
    return "" if usable else t("wrong.outside", given=numbers.brief(number))


def use(context: PageContext, seen: DatasetSelection, draft: Draft) -> Draft:
    """Return the draft with this data. Raises WorkbenchError when nothing of it can be trained."""
    found = check(context, seen, draft.config).check
    if not found.usable:
        raise UsageError(
            keyed("no_row", "No row of {name} can be trained", name=seen.label),
            found.why,
            keyed("see_problems", "see the problems and their remedies"),
        )
    return draft.with_data(seen, found.usable)


def with_repair(seen: DatasetSelection, choice: str) -> DatasetSelection:
    """Return the look after a repair was clicked; anything else than a repair changes nothing."""
    try:
        wanted = parsed_json(choice)
        action, kind = wanted["action"], wanted["kind"]
    except (ValueError, KeyError, TypeError):
        return seen
    return seen.with_repair(str(action), str(kind))


def left_out(context: PageContext, seen: DatasetSelection, config: RunConfig) -> Path:
    """Write the rows that are not trained to a file of their own, for the browser to fetch. Raises WorkbenchError."""
    path = request_paths.data_file(context.workspace, seen.file)
    out = Path(tempfile.mkdtemp(prefix="left-out-")) / "left-out.jsonl"
    context.data.rejected(out, dataset_selection.tokenizer_folder(config), seen.options(config), path=path)
    return out


def _is_long(seen: DatasetSelection) -> bool:
    """Say whether reading the file takes long enough to say so."""
    try:
        return bool(seen.file) and Path(seen.file).stat().st_size > _LONG_BYTES
    except OSError:
        return False


@dataclass(frozen=True)
class SourceControls:
    """Where data come from, and how rows are read."""

    samples: Mapping[str, gr.Button]
    drop: gr.File
    pasted: gr.Textbox
    keep: gr.Button
    format: gr.Dropdown
    reading: gr.Accordion
    mapping: MappingForm


@dataclass(frozen=True)
class ViewControls:
    """What is seen of the data, by view."""

    rows: gr.HTML
    number: gr.Number
    tokens: gr.HTML
    lengths: gr.HTML
    problems: gr.HTML
    write: gr.Button
    fetch: gr.DownloadButton


@dataclass(frozen=True)
class _Controls:
    """The controls of the tab that handlers speak of."""

    seen: gr.BrowserState
    sources: SourceControls
    views: ViewControls
    line: gr.HTML
    wrong: gr.HTML
    onward: gr.Button


def build(context: PageContext, tab: gr.Tab) -> gr.BrowserState:
    """Build the tab, wire it, and return where the look at the data is kept."""
    seen = context.selection
    line, wrong = gr.HTML(elem_id="wb-data-sentence"), gr.HTML(elem_id="wb-data-error")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=4, min_width=300):
            sources = _sources(context, seen, wrong)
        with gr.Column(scale=7, min_width=320):
            views = _views(context)
            onward = context.translated.make(gr.Button, value=Key("data.use"), variant="primary", elem_id="wb-use-data")
    controls = _Controls(seen, sources, views, line, wrong, onward)
    _wire_views(context, controls)  # first: what a new look changes is asked for in the order of the wiring
    _wire_sources(context, controls)
    _wire_rows(context, controls, tab)
    return seen


def _sources(context: PageContext, seen: gr.BrowserState, wrong: gr.HTML) -> SourceControls:
    """Build where data come from: samples, a file, pasted text, the hub; and how rows are read."""
    make = context.translated.make
    make(gr.HTML, value=Key("data.samples"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-actions"):
        samples = {
            name: make(
                gr.Button,
                value=Key(f"data.sample.{name.partition('.')[0]}"),
                elem_id=f"wb-sample-{index}",
                min_width=90,
            )
            for index, name in enumerate(dataset_selection.SAMPLES)
        }
    drop = make(gr.File, label=Key("data.drop"), height=170, elem_id="wb-drop")
    with make(gr.Accordion, label=Key("data.paste"), open=False):
        pasted = make(gr.Textbox, label=Key("data.pasted"), info=Key("data.pasted_help"), lines=6, max_lines=12)
        keep = make(gr.Button, value=Key("data.keep"))
    hub_panel.build(context, seen, wrong)
    with make(gr.Accordion, label=Key("data.reading"), open=False, elem_id="wb-reading") as reading:
        kinds = [
            (Key("format.auto"), "auto"),
            *((Key(f"format.{n}"), n) for n in FORMATS if n not in ("mixed", "unknown")),
        ]
        format_ = make(gr.Dropdown, label=Key("data.format"), choices=kinds, value="auto")
        mapping = mapping_form.build(context)
    return SourceControls(samples, drop, pasted, keep, format_, reading, mapping)


def _views(context: PageContext) -> ViewControls:
    make = context.translated.make
    with gr.Tabs(elem_id="wb-data-views"):
        with make(gr.Tab, label=Key("data.view.rows")):
            rows = gr.HTML(elem_id="wb-rows", js_on_load=CLICK_JS + data_view.FIND_JS + data_view.EDIT_JS)
        with make(gr.Tab, label=Key("data.view.tokens"), elem_id="wb-view-tokens"):
            number = make(gr.Number, label=Key("data.row"), value=1, step=1, elem_id="wb-row-number")
            tokens = gr.HTML(elem_id="wb-tokens")
        with make(gr.Tab, label=Key("data.view.lengths")):
            lengths = gr.HTML(elem_id="wb-lengths")
        with make(gr.Tab, label=Key("data.view.problems")):
            problems = gr.HTML(elem_id="wb-problems", js_on_load=CLICK_JS)
            with gr.Row(elem_classes="wb-actions"):
                write = make(gr.Button, value=Key("data.write_left_out"), visible=False, elem_id="wb-write-left-out")
                fetch = make(
                    gr.DownloadButton, label=Key("data.fetch_left_out"), visible=False, elem_id="wb-fetch-left-out"
                )
    return ViewControls(rows, number, tokens, lengths, problems, write, fetch)


def _wire_sources(context: PageContext, c: _Controls) -> None:
    """Each source ends in a new look; the look's change shows it."""
    workspace, sources = context.workspace, c.sources

    def taken(found: Callable[[], DatasetSelection], t: Translator) -> Updates:
        try:
            return Updates({c.seen: found().to_browser(), c.wrong: Html("")})
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})

    def upload(t: Translator, path: str) -> Updates:
        kept = taken(lambda: dataset_selection.keep_upload(workspace, path), t)
        return Updates({**kept, sources.drop: None})

    def paste(t: Translator, rows: str) -> Updates:
        return taken(lambda: dataset_selection.keep_pasted(workspace, rows), t)

    def choose(t: Translator, *, name: str) -> Updates:
        return taken(lambda: dataset_selection.sample(name), t)

    def reread(seen: DatasetSelection, t: Translator, kind: str) -> Updates:
        known = kind if kind in FORMATS else "auto"
        return taken(lambda: replace(seen, format=known, mapping={}), t)

    shows, t = [c.seen, c.wrong], context.language_field
    sources.drop.upload(**handler(upload, [t, text(sources.drop)], [*shows, sources.drop]))
    sources.keep.click(**handler(paste, [t, text(sources.pasted)], shows))
    for name, button in sources.samples.items():
        button.click(**handler(partial(choose, name=name), [t], shows))
    sources.format.input(**handler(reread, [context.selection_field, t, text(sources.format)], shows))
    mapping_form.wire(context, sources.mapping, c.seen, c.wrong)


def _wire_views(context: PageContext, c: _Controls) -> None:
    """Show a look whenever it, or what it is looked at for, is another."""
    views = c.views

    def view(seen: DatasetSelection, mine: Draft, t: Translator) -> Updates:
        found = show(context, seen, mine.config, t)
        drawn = {views.rows: found.rows, views.lengths: found.lengths, views.problems: found.problems}
        told = {c.line: found.sentence, c.wrong: found.wrong}
        offered = {
            views.write: gr.update(visible=bool(found.left_out)),
            views.fetch: gr.update(visible=False, value=None),
        }
        opened = {c.sources.reading: gr.update(open=True)} if found.unknown else {}
        return Updates({**told, **drawn, **offered, **opened})

    def waiting(seen: DatasetSelection, t: Translator) -> Updates:
        reading = messages.sentence(t("data.sentence.reading", name=seen.label))
        return Updates({c.line: reading} if _is_long(seen) else {})

    def one(seen: DatasetSelection, number: object, mine: Draft, t: Translator) -> Html:
        return row_tokens(context, seen, number, mine.config, t)

    look, draft, language = context.selection_field, context.draft_field, context.language_field
    shows = [c.line, views.rows, views.lengths, views.problems, c.wrong, c.sources.reading, views.write, views.fetch]
    c.seen.change(**handler(waiting, [look, language], [c.line]))
    row = handler(one, [look, raw(views.number), draft, language], [views.tokens], how=QUEUED)
    events = [context.blocks.load, c.seen.change, context.draft.change, context.language.change]
    gr.on(events, **handler(view, [look, draft, language], shows, how=QUEUED)).then(**row)
    views.number.input(**row)

    def turn(seen: DatasetSelection, t: Translator, picked: str) -> Updates:
        page = turned(seen, picked, t)
        return Updates() if page is None else Updates({views.rows: page})

    def change(seen: DatasetSelection, t: Translator, picked: str) -> Updates:
        try:
            found = changed_rows(context.workspace, seen, picked)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        return Updates() if found is None else Updates({c.seen: found.to_browser(), c.wrong: Html("")})

    views.rows.select(**handler(turn, [look, language], [views.rows], how=QUEUED))
    views.rows.select(**handler(change, [look, language], [c.seen, c.wrong], how=EACH))


def _wire_rows(context: PageContext, c: _Controls, tab: gr.Tab) -> None:
    """Wire what is done with the rows: repaired, written apart, taken for the run."""
    views = c.views

    def repair(seen: DatasetSelection, picked: str) -> object:
        return with_repair(seen, picked).to_browser()

    def write(seen: DatasetSelection, mine: Draft, t: Translator) -> Updates:
        try:
            path = left_out(context, seen, mine.config)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        fetched = gr.update(visible=True, value=str(path))
        return Updates({views.write: gr.update(visible=False), views.fetch: fetched, c.wrong: Html("")})

    def proceed(seen: DatasetSelection, mine: Draft, t: Translator) -> Updates:
        try:
            chosen = use(context, seen, mine).to_browser()
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        return Updates({context.draft: chosen, context.tabs: gr.update(selected="train"), c.wrong: Html("")})

    look, draft = context.selection_field, context.draft_field
    views.problems.select(**handler(repair, [look], [c.seen]))
    views.write.click(
        **handler(write, [look, draft, context.language_field], [views.write, views.fetch, c.wrong], how=QUEUED)
    )
    tab.select(**handler(context.data.warm_up, how=QUEUED))
    c.onward.click(
        **handler(proceed, [look, draft, context.language_field], [context.draft, context.tabs, c.wrong], how=QUEUED)
    )
